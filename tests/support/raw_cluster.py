"""`RawStore` for a cluster: each command goes to the primary that has its record."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from redis.crc import key_slot

from tests.support.raw_store import RawStore, Word


class RawCluster:
    """One blocking connection to each primary, as one of them names them."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._stack = ExitStack()
        with RawStore(address) as first:
            ranges = first.run("CLUSTER", "SLOTS")
        self._nodes = [
            (low, high, self._stack.enter_context(RawStore((host.decode(), port))))
            for low, high, (host, port, *_), *_ in ranges
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def node_of(self, cache_key: bytes) -> RawStore:
        """Return the connection to a record's node."""
        slot = key_slot(cache_key)
        return next(node for low, high, node in self._nodes if low <= slot <= high)

    def run(self, *words: Word) -> Any:
        """Send one command about one record, or about none to all, and return a reply."""
        if len(words) > 1 and isinstance(words[1], bytes):
            return self.node_of(words[1]).run(*words)
        replies = [node.run(*words) for _, _, node in self._nodes]
        return replies[0]

    def pipeline(self, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Send commands one after the other and return one reply each."""
        return [self.run(*each) for each in commands]

    def now_ms(self) -> int:
        """Return the nodes' clock: they share a machine."""
        return self._nodes[0][2].now_ms()
