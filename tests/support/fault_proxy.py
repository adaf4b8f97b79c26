"""A TCP proxy in front of a real server that cuts, holds, delays and refuses on command."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, Protocol

WAIT_S: Final = 30.0
"""After this long a test that waits for traffic fails."""

_CHUNK_BYTES: Final = 65536


class Source(Protocol):
    """What a connection's bytes are read from."""

    async def read(self, n: int = -1) -> bytes:
        """Return some bytes, nothing at the end."""
        ...


class FaultProxy:
    """Forwards every connection to one server; all switches act at once on all connections.

    Attributes:
        port: where it listens on loopback.
        requests: chunks that clients sent, as they came from the socket.
        accepted: connections so far.
        delay_s: how long each chunk of the server's is held back.
    """

    def __init__(self, server: tuple[str, int] | str) -> None:
        self._server = server
        self.port = 0
        self.requests: list[bytes] = []
        self.accepted = 0
        self.delay_s = 0.0
        self._flowing = {"requests": asyncio.Event(), "replies": asyncio.Event()}
        self._listener: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._happened = asyncio.Condition()
        self.thaw()

    @property
    def url(self) -> str:
        """Where a store behind this proxy is."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def listen(self) -> None:
        """Accept connections, on the same port as before."""
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Refuse new connections and cut those that are there."""
        assert self._listener is not None, "not listening"
        self._listener.close()
        self.cut()
        await self._listener.wait_closed()

    def cut(self) -> None:
        """Break every connection, with a reset."""
        for writer in self._writers:
            writer.transport.abort()

    def freeze(self) -> None:
        """Let nothing through in either direction, and say nothing: a black hole."""
        for flowing in self._flowing.values():
            flowing.clear()

    def hold_replies(self) -> None:
        """Let requests through and keep the replies: a slow server, or a lost reply."""
        self._flowing["replies"].clear()

    def thaw(self) -> None:
        """Let everything through again, what was held first."""
        for flowing in self._flowing.values():
            flowing.set()

    def replace_server(self, server: tuple[str, int] | str) -> None:
        """Lead new connections to another server."""
        self._server = server

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return once `holds()`, asked again whenever a client connects or sends."""
        async with asyncio.timeout(WAIT_S), self._happened:
            await self._happened.wait_for(holds)

    async def close(self) -> None:
        """End everything."""
        await self.refuse()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None, "a connection is served by a task"
        self._tasks.add(task)
        self._writers.add(writer)
        upstream: asyncio.StreamWriter | None = None
        try:
            with suppress(OSError):
                replies, upstream = await self._connect()
                self._writers.add(upstream)
                await self._tell()
                await asyncio.gather(
                    self._forward(reader, upstream, "requests"),
                    self._forward(replies, writer, "replies"),
                )
        except asyncio.CancelledError:
            pass  # `close` ends us; nobody waits for this task's result
        finally:
            self._tasks.discard(task)
            for each in (writer, upstream):
                if each is not None:
                    self._writers.discard(each)
                    each.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._server, str):
            return await asyncio.open_unix_connection(self._server)
        return await asyncio.open_connection(*self._server)

    async def _forward(self, source: Source, target: asyncio.StreamWriter, kind: str) -> None:
        while chunk := await source.read(_CHUNK_BYTES):
            if kind == "requests":
                self.requests.append(chunk)
                await self._tell()
            elif self.delay_s:
                await asyncio.sleep(self.delay_s)
            await self._flowing[kind].wait()
            target.write(chunk)
            await target.drain()
        target.transport.abort()

    async def _tell(self) -> None:
        async with self._happened:
            self._happened.notify_all()


@asynccontextmanager
async def fault_proxy(server: tuple[str, int] | str) -> AsyncIterator[FaultProxy]:
    """Run a proxy in front of `server` while the block runs."""
    proxy = FaultProxy(server)
    await proxy.listen()
    try:
        yield proxy
    finally:
        await proxy.close()
