"""Lanes to one server, and to the primary that sentinels name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing

import pytest
from redis.exceptions import MovedError

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.values import CacheKey
from proxy.edge.clock import SystemClock
from proxy.edge.redis_cluster import RedisCluster
from proxy.edge.redis_connection import Address
from proxy.edge.redis_sentinel import SentinelOptions
from proxy.edge.redis_topology import OneServer, build_topology
from proxy.embedded.valkey import RunningStore, start_valkey
from proxy.flow.events import StoreServing
from tests.support.hand_clock import HandClock
from tests.support.heard_feed import HeardFeed
from tests.support.live_lanes import KEYS, live_lanes, options, sentinel_of
from tests.support.scripted_redis import mapping, scripted_redis
from tests.support.store_topologies import SentinelTopology

pytestmark = pytest.mark.store

LOOK_S = 5.0
LEFT = "the store's primary changed"


@pytest.fixture
def second() -> Iterator[RunningStore]:
    """Run another store."""
    with closing(start_valkey()) as store:
        yield store


def named(store: RunningStore, *, epoch: int) -> bytes:
    """Return what a sentinel says whose primary this store is."""
    assert isinstance(store.address, tuple)
    host, port = store.address
    return mapping(ip=host, port=port, config_epoch=epoch)


async def test_one_server_serves(valkey: RunningStore) -> None:
    """A URL is all that it takes; who is to be told of changes is."""
    async with live_lanes(options(valkey.url), feed=HeardFeed()) as live:
        await live.until(lambda: live.lanes.serving)
        assert live.lanes.pick_any()[0].source is not None


async def test_the_primary_that_sentinels_name_serves(sentinel_store: SentinelTopology) -> None:
    """Of a primary and its replicas the lanes find the primary, by asking real sentinels."""
    async with live_lanes(options("", sentinel=sentinel_of(sentinel_store))) as live:
        await live.until(lambda: live.lanes.serving)
        role = await live.lanes.pick_any()[0].submit(("ROLE",))
        assert role[0][0] == b"master"


async def test_a_primary_that_is_replaced_is_left_though_it_still_answers(
    valkey: RunningStore, second: RunningStore
) -> None:
    """A former primary, cut off from the sentinels, takes heartbeats: it is left all the same."""
    clock, told, asked = HandClock(heartbeat_s=LOOK_S), [named(valkey, epoch=1)], asyncio.Event()

    def script(_: tuple[str, ...]) -> bytes:
        asked.set()
        return told[0]

    async with scripted_redis(script) as address:
        sentinel = SentinelOptions((address,), "mine")
        async with live_lanes(options("", sentinel=sentinel, lanes=1), clock) as live:
            await live.until(lambda: live.lanes.serving)
            former = live.incarnation
            asked.clear()
            clock.beat()
            await asked.wait()
            assert live.incarnation == former
            told[0] = named(second, epoch=2)
            clock.beat()
            await live.until(lambda: StoreServing(serving=False, why=LEFT) in live.events)
            await live.until(lambda: live.lanes.serving)
            assert live.incarnation != former


async def test_one_server_has_every_record_and_all_of_the_blame() -> None:
    """There is no other part that might be well."""
    # A store of its own: the gate that this quarantine closes would stay closed for other tests.
    with closing(start_valkey()) as own:
        await _blames_its_one_server(own)


async def _blames_its_one_server(own: RunningStore) -> None:
    async with live_lanes(options(own.url, quarantine_s=1000.0)) as live:
        await live.until(lambda: live.lanes.connected)
        assert live.routes.lanes_for(CacheKey(b"any")) is live.lanes
        error = StoreUnavailable(StoreFailure.RESET, "out")
        assert live.routes.blamed(error) is error
        shown = (live.routes.serving, live.routes.quarantined, live.routes.why_not_serving)
        assert shown == (live.lanes.serving, live.lanes.quarantined, live.lanes.why_not_serving)


async def test_a_node_of_a_cluster_behind_a_url_is_told_to_the_operator(
    valkey: RunningStore,
) -> None:
    """It would send most commands elsewhere: the error says which setting is meant."""
    async with live_lanes(options(valkey.url)) as live:
        with pytest.raises(StoreUnavailable, match=r"store\.cluster"):
            live.routes.elsewhere(live.lanes, MovedError("1 10.0.0.1:1"))


def test_the_options_choose_the_topology() -> None:
    """Addresses of a cluster make one; everything else is one server."""
    clock, nowhere = SystemClock(), Address("127.0.0.1", 1)
    for there, kind in (
        (options("redis://h"), OneServer),
        (options("", cluster=(nowhere,)), RedisCluster),
    ):
        built = build_topology(there, keys=KEYS, clock=clock, emit=lambda _: None)
        assert isinstance(built, kind)
