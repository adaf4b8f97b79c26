"""One shared connection: batches, cancelled callers, time-outs, reconnects, bounds."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.edge.clock import SystemClock
from proxy.edge.redis_command import Replies
from proxy.edge.redis_lane import Lane, LaneLimits
from proxy.edge.redis_pipeline import IN_FLIGHT_MAX
from proxy.embedded.valkey import RunningStore
from tests.support.fault_proxy import FaultProxy, fault_proxy

pytestmark = pytest.mark.store

PATIENT = LaneLimits(timeout_s=20.0, connect_timeout_s=20.0, queue_max=10_000)
BRISK = LaneLimits(timeout_s=0.2, connect_timeout_s=5.0, queue_max=10_000)


class Watched:
    """A lane at work, and how often it went up and down."""

    def __init__(self, url: str, limits: LaneLimits) -> None:
        self._pool = ConnectionPool.from_url(url, protocol=3, socket_timeout=None)
        self.history: list[bool] = []
        self.moved = asyncio.Event()
        self.refusal: StoreUnavailable | None = None
        self.at_greeting: Callable[[], None] = lambda: None
        self.nowhere: StoreUnavailable | None = None
        self.lane = Lane(
            connect=self._connect,
            greet=self._greet,
            changed=self._changed,
            clock=SystemClock(),
            limits=limits,
        )

    async def _connect(self) -> AbstractConnection:
        if self.nowhere is not None:
            raise self.nowhere
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        return connection

    async def _greet(self, round_trip: Callable[..., Awaitable[Replies]]) -> None:
        assert await round_trip(("PING",)) == [b"PONG"]
        self.at_greeting()
        if self.refusal is not None:
            raise self.refusal

    def _changed(self) -> None:
        self.history.append(self.lane.up)
        self.moved.set()

    async def until(self, *, up: bool) -> None:
        """Return once the lane is up, or down."""
        async with asyncio.timeout(30):
            while self.lane.up is not up:
                self.moved.clear()
                await self.moved.wait()


@asynccontextmanager
async def watched(url: str, limits: LaneLimits = PATIENT) -> AsyncIterator[Watched]:
    """Serve a lane while the block runs."""
    watch = Watched(url, limits)
    serving = asyncio.create_task(watch.lane.serve())
    try:
        yield watch
    finally:
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving
        assert not watch.lane.up


@pytest.fixture
async def proxy(valkey: RunningStore) -> AsyncIterator[FaultProxy]:
    async with fault_proxy(valkey.address) as running:
        yield running


async def test_concurrent_commands_share_a_write(proxy: FaultProxy) -> None:
    """A hundred commands queued together leave in one write and come back in order."""
    async with watched(proxy.url) as watch:
        await watch.until(up=True)
        before = len(proxy.requests)
        futures = [watch.lane.submit(("ECHO", f"{i}")) for i in range(100)]
        replies = await asyncio.gather(*futures)
        assert replies == [[f"{i}".encode()] for i in range(100)]
        assert len(proxy.requests) - before == 1


async def test_a_batch_is_bounded(proxy: FaultProxy) -> None:
    """More commands than one batch may hold all get their own replies."""
    async with watched(proxy.url) as watch:
        await watch.until(up=True)
        count = 2 * IN_FLIGHT_MAX + 1
        futures = [watch.lane.submit(("ECHO", f"{i}"), ("PING",)) for i in range(count)]
        replies = await asyncio.gather(*futures)
        assert replies == [[f"{i}".encode(), b"PONG"] for i in range(count)]


async def test_an_error_reply_stays_in_its_place(valkey: RunningStore) -> None:
    """One refused command spoils neither its neighbours nor the connection."""
    async with watched(valkey.url) as watch:
        await watch.until(up=True)
        first, refused, last = await watch.lane.submit(("ECHO", "a"), ("NO-SUCH",), ("ECHO", "b"))
        assert (first, last) == (b"a", b"b")
        assert isinstance(refused, Exception)
        assert watch.history == [True]


async def test_a_cancelled_caller_leaves_the_connection_alone(proxy: FaultProxy) -> None:
    """Others get their own replies when a caller gives up while its command is on its way."""
    async with watched(proxy.url) as watch:
        await watch.until(up=True)
        proxy.hold_replies()
        sent = len(proxy.requests)
        given_up = watch.lane.submit(("ECHO", "given up"))
        patient = watch.lane.submit(("ECHO", "patient"))
        await proxy.until(lambda: len(proxy.requests) > sent)
        given_up.cancel()
        proxy.thaw()
        assert await patient == [b"patient"]
        assert await watch.lane.submit(("ECHO", "next")) == [b"next"]
        assert watch.history == [True]


async def test_a_command_given_up_before_it_was_sent_is_not_sent(proxy: FaultProxy) -> None:
    """What nobody waits for any more does not leave the queue."""
    async with watched(proxy.url) as watch:
        await watch.until(up=True)
        watch.lane.submit(("ECHO", "forgotten")).cancel()
        assert await watch.lane.submit(("ECHO", "kept")) == [b"kept"]
        assert not any(b"forgotten" in chunk for chunk in proxy.requests)


async def test_silence_fails_everything_queued_at_once(proxy: FaultProxy) -> None:
    """A time-out takes the lane down: what was sent and what waits behind it fail together."""
    async with watched(proxy.url, BRISK) as watch:
        await watch.until(up=True)
        proxy.freeze()
        sent = len(proxy.requests)
        on_its_way = watch.lane.submit(("ECHO", "on its way"))
        await proxy.until(lambda: len(proxy.requests) > sent)
        waiting = [watch.lane.submit(("ECHO", f"{i}")) for i in range(3)]
        await asyncio.wait([on_its_way, *waiting])
        for future in [on_its_way, *waiting]:
            error = future.exception()
            assert isinstance(error, StoreUnavailable)
            assert error.failure is StoreFailure.TIMEOUT
        with pytest.raises(StoreUnavailable) as down:
            watch.lane.submit(("PING",))
        assert down.value.failure is StoreFailure.CLOSED
        assert watch.lane.problem is not None


async def test_replies_that_lie_in_the_socket_are_taken_after_a_stall(
    valkey: RunningStore,
) -> None:
    """When this process stood still for longer than the time-out, the store was not silent."""
    async with watched(valkey.url, BRISK) as watch:
        await watch.until(up=True)
        sent = asyncio.Event()
        loop = asyncio.get_running_loop()
        large = b"x" * 1_000_000  # more than one read of the socket
        echo = watch.lane.submit(("ECHO", large))
        for _ in range(5):  # the worker sends it
            loop.call_soon(sent.set)
            await sent.wait()
            sent.clear()
        threading.Event().wait(3 * BRISK.timeout_s)  # the whole loop stands still
        assert await echo == [large]
        assert watch.history == [True]


async def test_a_lane_comes_back_by_itself(proxy: FaultProxy) -> None:
    """After a cut, and after a black hole, the lane connects anew and works."""
    async with watched(proxy.url, BRISK) as watch:
        await watch.until(up=True)
        proxy.cut()
        with pytest.raises(StoreUnavailable) as cut:
            await watch.lane.submit(("PING",))
        assert cut.value.failure is StoreFailure.RESET
        await watch.until(up=True)
        proxy.freeze()
        with pytest.raises(StoreUnavailable):
            await watch.lane.submit(("PING",))
        proxy.thaw()
        await watch.until(up=True)
        assert await watch.lane.submit(("ECHO", "back")) == [b"back"]
        assert watch.history == [True, False, True, False, True]


async def test_a_late_reply_is_nobodys(proxy: FaultProxy) -> None:
    """A reply that comes after its time-out never answers a later command."""
    async with watched(proxy.url, BRISK) as watch:
        await watch.until(up=True)
        proxy.hold_replies()
        with pytest.raises(StoreUnavailable):
            await watch.lane.submit(("ECHO", "late"))
        proxy.thaw()
        await watch.until(up=True)
        assert await watch.lane.submit(("ECHO", "own")) == [b"own"]


async def test_a_refused_connection_is_tried_again(proxy: FaultProxy) -> None:
    """A server that is not there yet is found once it is."""
    await proxy.refuse()
    async with watched(proxy.url) as watch:
        while watch.lane.problem is None:
            watch.moved.clear()
            await watch.moved.wait()
        assert watch.lane.problem.failure is StoreFailure.CONNECT
        with pytest.raises(StoreUnavailable):
            watch.lane.submit(("PING",))
        await proxy.listen()
        await watch.until(up=True)


async def test_a_queue_is_bounded(proxy: FaultProxy) -> None:
    """Past the bound a caller is told so at once; those before it get their replies."""
    limits = LaneLimits(timeout_s=20.0, connect_timeout_s=20.0, queue_max=2)
    async with watched(proxy.url, limits) as watch:
        await watch.until(up=True)
        kept = [watch.lane.submit(("ECHO", "a")), watch.lane.submit(("ECHO", "b"))]
        with pytest.raises(StoreUnavailable) as full:
            watch.lane.submit(("ECHO", "c"))
        assert full.value.failure is StoreFailure.FULL
        assert await asyncio.gather(*kept) == [[b"a"], [b"b"]]


async def test_a_lane_told_to_leave_fails_what_waits_and_connects_anew(proxy: FaultProxy) -> None:
    """After `reconnect` nothing goes out on the former connection."""
    async with watched(proxy.url) as watch:
        await watch.until(up=True)
        watch.lane.reconnect()
        waiting = watch.lane.submit(("ECHO", "not any more"))
        with pytest.raises(StoreUnavailable) as left:
            await waiting
        assert left.value.failure is StoreFailure.CLOSED
        await watch.until(up=True)
        assert proxy.accepted == 2
        assert not any(b"not any more" in chunk for chunk in proxy.requests)


async def test_a_server_that_nobody_can_name_is_asked_for_again(proxy: FaultProxy) -> None:
    """The lane is down for that reason until somebody knows where its server is."""
    async with watched(proxy.url) as watch:
        await watch.until(up=True)
        watch.nowhere = StoreUnavailable(StoreFailure.CONNECT, "no sentinel answers")
        proxy.cut()
        while watch.lane.problem is None or watch.lane.problem.failure is StoreFailure.RESET:
            watch.moved.clear()
            await watch.moved.wait()
        assert str(watch.lane.problem) == "no sentinel answers"
        watch.nowhere = None
        await watch.until(up=True)


async def test_a_lane_told_to_leave_while_it_greets_leaves(proxy: FaultProxy) -> None:
    """What is told while it connects counts for the connection that it is making."""
    async with watched(proxy.url) as watch:
        watch.at_greeting = watch.lane.reconnect
        await watch.until(up=True)
        watch.at_greeting = lambda: None
        await watch.until(up=False)
        await watch.until(up=True)
        assert proxy.accepted == 2


async def test_a_full_pipeline_is_filled_again_as_replies_come(valkey: RunningStore) -> None:
    """What did not fit goes out behind the first replies, in order, without being asked."""
    async with watched(valkey.url) as watch:
        await watch.until(up=True)
        late: list[asyncio.Future[Replies]] = []
        first = [watch.lane.submit(("ECHO", f"{i}")) for i in range(IN_FLIGHT_MAX + 10)]
        first[0].add_done_callback(lambda _: late.append(watch.lane.submit(("ECHO", "late"))))
        replies = await asyncio.gather(*first)
        assert replies == [[f"{i}".encode()] for i in range(IN_FLIGHT_MAX + 10)]
        assert await late[0] == [b"late"]


async def test_a_server_that_the_greeting_refuses_is_not_used(valkey: RunningStore) -> None:
    """A lane goes up only after its greeting, and says why it did not."""
    watch = Watched(valkey.url, PATIENT)
    watch.refusal = StoreUnavailable(StoreFailure.REFUSED, "a replica")
    serving = asyncio.create_task(watch.lane.serve())
    async with asyncio.timeout(30):
        await watch.moved.wait()
    assert not watch.lane.up
    assert str(watch.lane.problem) == "a replica"
    watch.refusal = None
    await watch.until(up=True)
    serving.cancel()
    with suppress(asyncio.CancelledError):
        await serving


async def test_a_lane_that_is_stopped_fails_what_is_on_its_way(proxy: FaultProxy) -> None:
    """Nobody waits for ever when the process shuts down."""
    async with watched(proxy.url) as watch:
        await watch.until(up=True)
        proxy.hold_replies()
        sent = len(proxy.requests)
        on_its_way = watch.lane.submit(("ECHO", "on its way"))
        await proxy.until(lambda: len(proxy.requests) > sent)
        waiting = watch.lane.submit(("ECHO", "waiting"))
    for future in (on_its_way, waiting):
        error = future.exception()
        assert isinstance(error, StoreUnavailable)
        assert error.failure is StoreFailure.CLOSED
