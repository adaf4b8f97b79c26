"""A client of a data server without a socket: what it sends arrives at once, piece by piece."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import Any, Final

from proxy.edge.http_server import DataServer

TURNS: Final = 40
"""Turns of the event loop in which any request that waits for nothing outside is answered."""

_VARIES: Final = re.compile(rb"(x-amzn-RequestId: )[0-9A-Z]{52}|(Date: )[^\r]{29}")


class MemoryTransport(asyncio.Transport):
    """A transport that keeps what is written, and tells the protocol when it was closed."""

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        self.written = b""
        self.closing = False
        self.pieces = 0
        self.reading = True
        self._protocol = protocol

    def write(self, data: Any) -> None:
        """Keep data; what is written after the end is lost."""
        if not self.closing:
            self.pieces += 1
            self.written += bytes(data)

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        """Keep data."""
        self.write(b"".join(list_of_data))

    def is_closing(self) -> bool:
        """Whether it ends."""
        return self.closing

    def close(self) -> None:
        """End; the protocol hears of it in the next turn, as with a real one."""
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    def pause_reading(self) -> None:
        """Note it; what a test sends arrives all the same."""
        self.reading = False

    def resume_reading(self) -> None:
        """Note it."""
        self.reading = True

    def get_write_buffer_size(self) -> int:
        """Nothing waits to be written."""
        return 0


class MemoryPeer:
    """One connection."""

    def __init__(self, server: DataServer) -> None:
        self.connection: Any = server()
        self.transport = MemoryTransport(self.connection)
        self.connection.connection_made(self.transport)

    def send(self, data: bytes) -> bytes:
        """Let bytes arrive, and return what was answered before anything else could happen."""
        before = len(self.transport.written)
        if not self.transport.closing:
            self.connection.data_received(data)
        return self.transport.written[before:]

    async def ask(self, data: bytes) -> bytes:
        """Let bytes arrive, and return what was answered in the end."""
        before = len(self.transport.written)
        self.send(data)
        await turns()
        return self.transport.written[before:]

    @property
    def received(self) -> bytes:
        """All that was answered, request ids and dates left out."""
        return without_varying(self.transport.written)

    async def hang_up(self) -> None:
        """End the connection from this side."""
        self.transport.close()
        await turns()


def without_varying(raw: bytes) -> bytes:
    """Return answers without what is another one in each: request id and date."""
    return _VARIES.sub(rb"\1\2", raw)


async def turns(count: int = TURNS) -> None:
    """Let everybody run who has something to do."""
    for _ in range(count):
        await asyncio.sleep(0)
