"""Claims about `proxy.edge.upstream_pool`, over real sockets to a server that is told all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from proxy.edge import upstream_pool
from proxy.edge.upstream_connection import UpstreamConnection
from proxy.edge.upstream_dialer import Dialer, Origin
from proxy.edge.upstream_pool import UpstreamPool
from tests.support.raw_upstream import Peer, RawUpstream, raw_upstream
from tests.support.serving import until

REQUEST = b"GET / HTTP/1.1\r\n\r\n"


@dataclass
class Line:
    """A pool and the server behind it, under two names; `queued` is what callers were told."""

    pool: UpstreamPool
    upstream: RawUpstream
    queued: list[bool] = field(default_factory=list)

    @property
    def origin(self) -> Origin:
        """The server."""
        return Origin(False, "127.0.0.1", self.upstream.port)

    @property
    def other(self) -> Origin:
        """The same server by another address: connections to it are others."""
        return Origin(False, "127.0.0.2", self.upstream.port)

    async def open(self, origin: Origin | None = None) -> UpstreamConnection:
        """Open a connection."""
        return await self.pool.open(origin or self.origin, queued=self.queued.append)

    def opening(self, origin: Origin | None = None) -> asyncio.Task[UpstreamConnection]:
        """Open a connection in the background."""
        return asyncio.create_task(self.open(origin))

    async def used(self, origin: Origin | None = None) -> tuple[UpstreamConnection, Peer]:
        """Open a connection, have one request answered on it, and return both ends."""
        connection = await self.open(origin)
        peer = await self.upstream.peer()
        await self.asked(connection, peer)
        return connection, peer

    async def asked(self, connection: UpstreamConnection, peer: Peer) -> None:
        """Have one request answered."""
        answering = asyncio.create_task(peer.answer(b"\r\n\r\n"))
        await connection.exchange("GET", REQUEST, b"")
        await answering


@asynccontextmanager
async def pooled(*, connections_max: int = 1, idle_s: float = 60.0) -> AsyncIterator[Line]:
    """Give a pool."""
    dialer = Dialer(connect_timeout_s=20.0, ca_bundle=None)
    async with raw_upstream(second="127.0.0.2") as upstream:
        pool = UpstreamPool(dialer, connections_max=connections_max, idle_s=idle_s)
        try:
            yield Line(pool, upstream)
        finally:
            await pool.close()
        assert pool._slots == 0, "a slot was taken and never given back"


async def test_what_is_given_back_is_taken_again() -> None:
    """The most recently used connection goes first, to its own origin only."""
    async with pooled(connections_max=2) as line:
        assert line.pool.take(line.origin) is None
        first, first_peer = await line.used()
        second, _ = await line.used()
        line.pool.give_back(first)
        line.pool.give_back(second)
        assert line.pool.take(line.other) is None
        assert line.pool.take(line.origin) is second
        assert line.pool.take(line.origin) is first
        assert line.pool.take(line.origin) is None
        await line.asked(first, first_peer)
        line.pool.give_back(first)
        assert line.pool.take(line.origin) is first


async def test_a_lost_connection_is_not_kept() -> None:
    """Its slot is free again, whether it was idle or in use."""
    async with pooled() as line:
        for idle in (True, False):
            connection, peer = await line.used()
            if idle:
                line.pool.give_back(connection)
            peer.reset()
            await until(lambda gone=connection: gone._lost)  # type: ignore[misc]
            if not idle:
                line.pool.give_back(connection)
            assert line.pool.take(line.origin) is None


async def test_a_connection_with_unread_bytes_is_not_given() -> None:
    """What waits in its socket is no answer to the next request."""
    async with pooled() as line:
        connection, peer = await line.used()
        line.pool.give_back(connection)
        connection._transport.pause_reading()
        await peer.send(b"HTTP/1.1 408 Late\r\n\r\n")
        await until(lambda: not connection.quiet)
        assert line.pool.take(line.origin) is None
        assert not connection.open


async def test_an_old_connection_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was idle for too long may be closing at upstream, though the sweep is late."""
    loop = asyncio.get_running_loop()
    async with pooled() as line:
        connection, _ = await line.used()
        line.pool.give_back(connection)
        later_s = loop.time() + 60.0
        with monkeypatch.context() as patch:
            patch.setattr(loop, "time", lambda: later_s)
            assert line.pool.take(line.origin) is None
        assert not connection.open


async def test_idle_connections_are_swept() -> None:
    """Connections that nobody needs any more are closed by themselves, each in its time."""
    async with pooled(connections_max=2, idle_s=0.05) as line:
        first, first_peer = await line.used()
        line.pool.give_back(first)
        second, second_peer = await line.used()
        line.pool.give_back(second)
        assert await first_peer.gone()
        assert await second_peer.gone()
        await until(lambda: line.pool._sweeping is None)


async def test_a_sweep_leaves_what_is_younger(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes again when the next one is due."""
    loop = asyncio.get_running_loop()
    async with pooled(connections_max=2) as line:
        older, _ = await line.used()
        younger, _ = await line.used()
        line.pool.give_back(older)
        now_s = loop.time()
        with monkeypatch.context() as patch:
            patch.setattr(loop, "time", lambda: now_s + 30.0)
            line.pool.give_back(younger)
            patch.setattr(loop, "time", lambda: now_s + 61.0)
            line.pool._sweep()
        assert (older.open, younger.open) == (False, True)
        assert line.pool._sweeping is not None


async def test_nobody_gets_more_than_there_may_be() -> None:
    """Who finds all slots taken waits for a connection, and is given one that comes back."""
    async with pooled() as line:
        connection, _ = await line.used()
        waiting = [line.opening(), line.opening()]
        await until(lambda: len(line.queued) == 2)
        line.pool.give_back(connection)
        assert await waiting[0] is connection
        line.pool.give_back(connection)
        assert await waiting[1] is connection
        assert line.queued == [True, True, False, False]
        assert line.upstream.connections == 1


async def test_a_lost_connection_leaves_its_slot_to_who_waits() -> None:
    """Who waits opens a new one then."""
    async with pooled() as line:
        connection, peer = await line.used()
        waiting = line.opening()
        await until(lambda: line.queued == [True])
        peer.reset()
        assert (await waiting) is not connection
        assert line.upstream.connections == 2


async def test_a_connection_that_breaks_on_the_way_is_not_given() -> None:
    """Between giving and taking a connection may end: its slot opens another one."""
    async with pooled() as line:
        connection, peer = await line.used()
        waiting = line.opening()
        await until(lambda: line.queued == [True])
        line.pool.give_back(connection)
        connection.abort()
        assert (await waiting) is not connection
        assert await peer.gone()


@pytest.mark.parametrize("given", ["connection", "slot"])
async def test_who_leaves_with_a_gift_passes_it_on(given: str) -> None:
    """A caller that goes away just as its turn comes keeps neither connection nor slot."""
    async with pooled() as line:
        connection, _ = await line.used()
        leaving, staying = line.opening(), line.opening()
        await until(lambda: len(line.queued) == 2)
        if given == "connection":
            line.pool.give_back(connection)
        else:
            connection._when_lost = None
            line.pool._lost(connection)
            connection.abort()
        leaving.cancel()
        got = await staying
        assert (got is connection) == (given == "connection")
        assert leaving.cancelled()


async def test_who_leaves_the_line_is_passed_over() -> None:
    """A caller that went away while it waited gets nothing."""
    async with pooled() as line:
        connection, _ = await line.used()
        leaving, staying = line.opening(), line.opening()
        await until(lambda: len(line.queued) == 2)
        leaving.cancel()
        await asyncio.wait([leaving])
        line.pool.give_back(connection)
        assert await staying is connection


async def test_idle_connections_make_room_for_another_origin() -> None:
    """The longest idle one of another origin ends, so that a busy pool serves both."""
    async with pooled(connections_max=2) as line:
        older, older_peer = await line.used(line.other)
        younger, _ = await line.used(line.other)
        line.pool.give_back(older)
        line.pool.give_back(younger)
        assert await line.open() not in (older, younger)
        assert await older_peer.gone()
        assert line.pool.take(line.other) is younger


async def test_a_busy_connection_ends_for_who_waits_for_another_origin() -> None:
    """The first in line gets the slot, though it has no use for the connection."""
    async with pooled() as line:
        connection, peer = await line.used(line.other)
        waiting = line.opening()
        await until(lambda: line.queued == [True])
        line.pool.give_back(connection)
        assert (await waiting).open
        assert await peer.gone()


async def test_a_failed_connection_gives_its_slot_back() -> None:
    """An origin that refuses does not use up the pool."""
    async with pooled() as line:
        refusing = Origin(False, "127.0.0.1", 1)
        for _ in range(3):
            with pytest.raises(OSError):
                await line.open(refusing)
        assert (await line.open()).open


async def test_a_closed_pool_ends_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections in use, who waits for one, and who asks for one."""
    async with pooled() as line:
        connection, peer = await line.used()
        exchange = asyncio.create_task(connection.exchange("GET", REQUEST, b""))
        waiting = line.opening()
        await until(lambda: line.queued == [True])
        await peer.receive(b"\r\n\r\n")
        await line.pool.close()
        for task in (exchange, waiting, line.opening()):
            with pytest.raises(ConnectionError):
                await task


async def test_a_connection_that_comes_after_the_end_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who was connecting while the pool was closed gets an error."""
    async with pooled() as line:
        dial, closed = line.pool._dialer.dial, asyncio.Event()

        async def late(origin: Origin) -> UpstreamConnection:
            connection = await dial(origin)
            await closed.wait()
            return connection

        monkeypatch.setattr(line.pool._dialer, "dial", late)
        opening = line.opening()
        peer = await line.upstream.peer()
        await line.pool.close()
        closed.set()
        with pytest.raises(ConnectionAbortedError):
            await opening
        assert await peer.gone()
        await until(lambda: line.pool._slots == 0)


async def test_the_end_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that will not go does not hold up the end of the process."""
    monkeypatch.setattr(upstream_pool, "CLOSE_S", 0.01)
    async with pooled() as line:
        connection, _ = await line.used()
        lost, connection._when_lost = connection._when_lost, None
        await line.pool.close()
        assert lost is not None
        lost(connection)
