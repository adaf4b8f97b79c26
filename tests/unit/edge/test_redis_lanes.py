"""Several lanes, and each one's proof of whom it talks to."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import pytest
from redis.asyncio.connection import AbstractConnection

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.values import CacheKey
from proxy.edge import redis_lane
from proxy.edge.redis_lane import LaneLimits
from proxy.edge.redis_slots import tag_in
from proxy.edge.redis_wire import PublicWire, Receiver, Wire
from proxy.edge.scripts import STEPS
from proxy.embedded.valkey import RunningStore, start_valkey
from proxy.flow.events import StoreConnections, StoreDetour, StoreEvictions, StoreServing
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.hand_clock import HandClock
from tests.support.heard_feed import HeardFeed
from tests.support.live_lanes import LiveLanes, live_lanes, options
from tests.support.raw_store import RawStore
from tests.support.scripted_cluster import ScriptedNode, scripted_cluster
from tests.support.scripted_redis import scripted_redis

pytestmark = pytest.mark.store


@pytest.fixture
async def proxy(valkey: RunningStore) -> AsyncIterator[FaultProxy]:
    async with fault_proxy(valkey.address) as running:
        yield running


@pytest.fixture
def second() -> Iterator[RunningStore]:
    """Run another store, which the test may spoil."""
    with closing(start_valkey()) as store:
        yield store


def where(store: RunningStore) -> tuple[str, str]:
    """Return host and port as REPLICAOF takes them."""
    assert isinstance(store.address, tuple)
    host, port = store.address
    return host, str(port)


def served(live: LiveLanes) -> list[bool]:
    return [event.serving for event in live.events if isinstance(event, StoreServing)]


async def test_lanes_serve_once_connected(valkey: RunningStore) -> None:
    """Both lanes connect, and serving is told once."""
    async with live_lanes(options(valkey.url, lanes=2)) as live:
        with pytest.raises(StoreUnavailable):
            live.lanes.pick_any()
        assert live.lanes.why_not_serving == "not connected yet"
        await live.until(lambda: StoreConnections(2, 1) in live.events)
        assert live.lanes.serving
        assert live.lanes.why_not_serving == ""
        assert served(live).count(True) == 1
        assert {id(live.lanes.pick_serving()[0]) for _ in range(4)} == {
            id(live.lanes.pick_any()[0]) for _ in range(2)
        }
        assert any(isinstance(event, StoreEvictions) for event in live.events)


async def test_without_a_store_nothing_is_served() -> None:
    """No lanes at all: said in so many words."""
    async with live_lanes(options("redis://127.0.0.1:1/0", lanes=0)) as live:
        assert not live.lanes.serving
        assert live.lanes.why_not_serving == "no store is configured"
        with pytest.raises(StoreUnavailable) as none:
            live.lanes.pick_any()
        assert none.value.failure is StoreFailure.CLOSED


async def test_a_unix_socket_is_as_good() -> None:
    """A store on a socket file serves."""
    with closing(start_valkey(unix_socket=True)) as store:
        async with live_lanes(options(store.url)) as live:
            await live.until(lambda: live.lanes.serving)


async def test_a_wrong_password_is_named(second: RunningStore) -> None:
    """The operator reads that it is the password; with the right one it works."""
    second.ask("CONFIG", "SET", "requirepass", "right")
    for wrong in ({"password": "wrong"}, {}):
        async with live_lanes(options(second.url, **wrong)) as live:
            await live.until(lambda: "Authentication" in live.lanes.why_not_serving)
    async with live_lanes(options(second.url, password="right")) as live:
        await live.until(lambda: live.lanes.serving)


async def test_a_replica_is_refused(valkey: RunningStore, second: RunningStore) -> None:
    """A connection to a replica never serves, and says why."""
    second.ask("REPLICAOF", *where(valkey))
    async with live_lanes(options(second.url)) as live:
        await live.until(lambda: "not a primary" in live.lanes.why_not_serving)
        with pytest.raises(StoreUnavailable):
            live.lanes.pick_any()


async def test_a_demoted_primary_is_left_at_the_next_heartbeat(
    valkey: RunningStore, second: RunningStore
) -> None:
    """A server that became a replica serves no more, and as primary again has a new incarnation."""
    clock = HandClock()
    async with live_lanes(options(second.url, lanes=1), clock) as live:
        await live.until(lambda: live.lanes.serving)
        before = live.incarnation
        second.ask("REPLICAOF", *where(valkey))
        clock.beat()
        await live.until(lambda: not live.lanes.serving)
        second.ask("REPLICAOF", "NO", "ONE")
        await live.until(lambda: live.lanes.serving)
        assert live.incarnation != before


async def test_lost_scripts_are_loaded_again(second: RunningStore) -> None:
    """A heartbeat that finds its script gone makes the lane connect anew and load all."""
    clock = HandClock()
    async with live_lanes(options(second.url, lanes=1), clock) as live:
        await live.until(lambda: live.lanes.serving)
        with RawStore(second.address) as raw:
            raw.run("SCRIPT", "FLUSH")
            clock.beat()
            await live.until(lambda: served(live)[-2:] == [False, True])
            cached = b"number_of_cached_scripts:%d\r" % len(STEPS)
            assert raw.run("INFO", "memory").count(cached) == 1


async def test_a_full_queue_does_not_cost_the_connection(proxy: FaultProxy) -> None:
    """A heartbeat that finds no room in the queue leaves what waits there alone."""
    clock = HandClock()
    limits = LaneLimits(timeout_s=20.0, connect_timeout_s=20.0, queue_max=1)
    async with live_lanes(options(proxy.url, lanes=1, limits=limits), clock) as live:
        await live.until(lambda: live.lanes.serving)
        lane, _ = live.lanes.pick_any()
        proxy.hold_replies()
        sent = len(proxy.requests)
        on_its_way = lane.submit(("ECHO", "on its way"))
        await proxy.until(lambda: len(proxy.requests) > sent)
        waiting = lane.submit(("ECHO", "waiting"))
        clock.beat()
        clock.beat()
        await clock.sleep(0)
        proxy.thaw()
        assert await on_its_way == [b"on its way"]
        assert await waiting == [b"waiting"]
        assert lane.up


async def test_lanes_that_are_told_to_leave_connect_anew(proxy: FaultProxy) -> None:
    """Every lane gives up its connection, and finds its server again."""
    async with live_lanes(options(proxy.url, lanes=2)) as live:
        await live.until(lambda: StoreConnections(2, 1) in live.events)
        live.lanes.leave()
        await live.until(lambda: live.events.count(StoreConnections(2, 1)) == 2)
        assert proxy.accepted == 4


async def test_a_fence_waits_for_a_lane_that_was_just_cut_off(proxy: FaultProxy) -> None:
    """One that is back within the time-out is waited for; after it the wait ends."""
    brisk = LaneLimits(timeout_s=0.2, connect_timeout_s=5.0, queue_max=10)
    async with live_lanes(options(proxy.url, lanes=1)) as live:
        await live.until(lambda: live.lanes.serving)
        proxy.cut()
        with pytest.raises(StoreUnavailable):
            await live.lanes.pick_any()[0].submit(("PING",))
        lane, _ = await live.lanes.pick_soon()
        assert lane.up
        assert (await live.lanes.pick_soon())[0] is lane
    async with live_lanes(options("redis://127.0.0.1:1/0", limits=brisk)) as live:
        with pytest.raises(StoreUnavailable):
            await live.lanes.pick_soon()


async def test_doubted_lanes_serve_again_after_a_heartbeat(valkey: RunningStore) -> None:
    """Until then there is neither a hit nor an open gate, whatever was proven before."""
    async with live_lanes(options(valkey.url, lanes=1), HandClock()) as live:
        live.lanes.doubt()  # not connected yet: there is nothing to doubt
        await live.until(lambda: live.lanes.serving)
        live.lanes.doubt()
        assert not live.lanes.serving
        _, view = live.lanes.pick_any()
        assert not view.gate_open(view.sent_s + 1e9)
        await live.until(lambda: live.lanes.serving)


async def test_a_redis_py_that_hides_its_transport_still_serves(
    valkey: RunningStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its public methods, and the operator is told; nothing is tracked then."""

    async def detour(connection: AbstractConnection, receiver: Receiver) -> Wire:
        return PublicWire(connection, receiver)

    monkeypatch.setattr(redis_lane, "take_over", detour)
    feed = HeardFeed()
    async with live_lanes(options(valkey.url, lanes=1), feed=feed) as live:
        await live.until(lambda: live.lanes.serving)
        lane, _ = live.lanes.pick_serving()
        assert await lane.submit(("ECHO", "a"), ("PING",)) == [b"a", b"PONG"]
        assert lane.source is None
        assert StoreDetour() in live.events


async def test_tracked_lanes_tell_of_changes_and_prove_it_while_they_may_serve(
    valkey: RunningStore,
) -> None:
    """A doubt voids what was told, and only a lane that may serve again is proven again."""
    clock, feed = HandClock(heartbeat_s=0.02), HeardFeed()
    beats = options(valkey.url, lanes=1, heartbeat_s=3600.0)
    async with live_lanes(beats, clock, feed=feed, ping_s=0.02) as live:
        await live.until(lambda: live.lanes.serving)
        lane, _ = live.lanes.pick_serving()
        told_by = lane.source
        assert told_by is not None
        await lane.submit(("GET", "k"))
        with RawStore(valkey.address) as raw:
            raw.run("SET", "k", "changed")
        await feed.until(lambda: b"k" in feed.changed)
        live.lanes.doubt()
        clock.beat()  # no PING: it may not serve
        assert feed.gone == [told_by]
        doubted = lane.source
        assert doubted is not None
        await live.until(lambda: live.lanes.serving)
        assert doubted.proven_s == -math.inf
        while doubted.proven_s == -math.inf:
            clock.beat()
            await lane.submit(("PING",))
    assert feed.gone == [told_by, doubted]


async def test_a_heartbeat_that_was_under_way_when_the_doubt_came_opens_nothing() -> None:
    """Its answer may be from before the server changed: only one sent afterwards counts."""
    clock, low = HandClock(), CacheKey(b"{%b}" % tag_in(0))
    async with (
        scripted_cluster(ScriptedNode()) as (node,),
        live_lanes(options("", cluster=(node.address,), lanes=1), clock) as live,
    ):
        await live.until(lambda: live.routes.serving)
        lanes, heartbeats = live.routes.lanes_for(low), []

        def doubt_once() -> None:
            heartbeats.append(lanes.serving)
            if len(heartbeats) == 1:
                lanes.doubt()

        node.at_heartbeat = doubt_once
        clock.beat()
        await live.until(lambda: served(live)[-2:] == [False, True])
        assert heartbeats == [True, False]


async def test_a_greeting_that_was_under_way_when_the_doubt_came_opens_nothing() -> None:
    """A new connection, too, has to ask once more."""
    clock, low = HandClock(), CacheKey(b"{%b}" % tag_in(0))
    async with (
        scripted_cluster(ScriptedNode()) as (node,),
        live_lanes(options("", cluster=(node.address,), lanes=1), clock) as live,
    ):
        node.at_heartbeat = lambda: live.routes.lanes_for(low).doubt()
        await live.until(lambda: StoreConnections(1, 1) in live.events)
        assert not live.routes.serving
        node.at_heartbeat = lambda: None
        clock.beat()
        await live.until(lambda: live.routes.serving)


async def test_heartbeats_of_lanes_that_are_not_up_tell_nothing() -> None:
    """Before the first attempt has ended nothing is known, and nothing is said."""
    clock = HandClock()
    clock.beat()
    async with (
        scripted_redis(lambda _: b"") as silent,
        live_lanes(options(f"redis://{silent}/0"), clock) as live,
    ):
        for _ in range(50):
            await clock.sleep(0)
        assert served(live) == []
