"""Lanes to one server, and to the primary that sentinels name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing

import pytest

from proxy.edge.redis_connection import Address
from proxy.edge.redis_sentinel import SentinelOptions
from proxy.embedded.valkey import RunningStore, start_valkey
from proxy.flow.events import StoreServing
from tests.support.hand_clock import HandClock
from tests.support.live_lanes import live_lanes, options
from tests.support.scripted_redis import mapping, scripted_redis
from tests.support.store_topologies import MASTER_NAME, SentinelTopology

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
    """A URL is all that it takes."""
    async with live_lanes(options(valkey.url)) as live:
        await live.until(lambda: live.lanes.serving)


async def test_the_primary_that_sentinels_name_serves(sentinel_store: SentinelTopology) -> None:
    """Of a primary and its replicas the lanes find the primary, by asking real sentinels."""
    addresses = tuple(Address(*each.address) for each in sentinel_store.sentinels)
    sentinel = SentinelOptions(addresses, MASTER_NAME)
    async with live_lanes(options("", sentinel=sentinel)) as live:
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
