"""One blocking connection to a store, for tests that look at bytes or send many commands."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

import hiredis

Word = bytes | str | int | float


class RawStore:
    """Commands in, replies out; an error reply is returned as an exception object."""

    def __init__(self, address: tuple[str, int] | str) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self._socket = socket.socket(family)
        self._socket.settimeout(30.0)
        self._socket.connect(address)
        self._reader = hiredis.Reader()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()

    def run(self, *words: Word) -> Any:
        """Send one command and return its reply."""
        return self.pipeline([words])[0]

    def pipeline(self, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Send commands at once and return one reply each."""
        packed = [hiredis.pack_command(each) for each in commands]
        self._socket.sendall(b"".join(packed))
        replies: list[Any] = []
        while len(replies) < len(packed):
            reply = self._reader.gets()
            if reply is False:
                self._reader.feed(self._socket.recv(65536))
            else:
                replies.append(reply)
        return replies

    def now_ms(self) -> int:
        """Return the store's clock, as scripts see it."""
        seconds, microseconds = self.run("TIME")
        return int(seconds) * 1000 + int(microseconds) // 1000
