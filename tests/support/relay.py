"""A TCP relay that can turn into a black hole, for a network that drops everything."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self


class Relay:
    """Forwards connections to a port of loopback; use as `async with`.

    Args:
        port: where to.

    While `swallowing` is set, what comes is read and thrown away, on old and new connections. A
    connection that lost something so stays silent for good: no network loses bytes from the midst
    of a stream and delivers those behind them.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._tasks: set[asyncio.Task[None]] = set()
        self.swallowing = False

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Break every connection."""
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.close()
            return
        silent = asyncio.Event()
        for source, target in ((reader, back), (there, writer)):
            task = asyncio.get_running_loop().create_task(self._pump(source, target, silent))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, silent: asyncio.Event
    ) -> None:
        with suppress(OSError):
            try:
                while piece := await source.read(65536):
                    if self.swallowing:
                        silent.set()
                    if not silent.is_set():
                        target.write(piece)
                        await target.drain()
            finally:
                target.close()
