"""Real processes on a store that fails over or moves its records: no read is ever too old.

Level `strict`, three proxies, four items with one writer each: see `tests.support.single_writers`.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import pytest

from proxy.core.cache_key import KeySpace
from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.fence import ItemIdentity, RecordState, Sighting, WriteOutcome
from proxy.core.policy import FencePolicy
from proxy.core.record import EntryDraft
from proxy.core.values import CacheKey, FenceResult, TableName
from proxy.edge.redis_connection import Address
from proxy.edge.redis_slots import slot_of, tag_in
from proxy.edge.redis_store import RedisStore
from proxy.embedded.dynamodb import RunningDynamoDB
from proxy.embedded.valkey import redis_binary
from tests.support.live_lanes import KEYS, live_lanes, options
from tests.support.proxy_process import REGION, RunningProxy, running_proxy
from tests.support.redis_server import RedisServer
from tests.support.single_writers import ITEMS, Client, History, read, write
from tests.support.slot_moves import epoch_of, move_slot
from tests.support.store_topologies import (
    MASTER_NAME,
    ClusterTopology,
    SentinelTopology,
    running_cluster,
)
from tests.support.tools import missing

pytestmark = [pytest.mark.store, pytest.mark.engine]

DRAFT = EntryDraft(0.0, 600.0, 600.0, False, 3, zlib.crc32(b"one"), b"one")
PROXIES, READERS = 3, 8
WAIT_S: Final = 60.0
QUARANTINE_S: Final = 2.0
SETTINGS: Final[dict[str, Any]] = {
    "defaults.level": "strict",
    "defaults.write_mode": "through",
    "upstream.connect_timeout_s": 0.3,
    "upstream.write_timeout_s": 1.5,
    "fence.marker_s": QUARANTINE_S,
    "store.quarantine_s": QUARANTINE_S,
}


@dataclass
class Traffic:
    """Readers and writers at work, and the proxies they use."""

    proxies: list[RunningProxy]
    table: str
    history: History = field(default_factory=History)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return once `holds()`, while the traffic goes on."""
        async with asyncio.timeout(WAIT_S):
            while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - it asks processes
                await asyncio.sleep(0.05)

    async def until_all_serve(self) -> None:
        """Return once every proxy serves hits of all items."""
        await self.until(
            lambda: all(
                shown["serving"] and not shown["why"]
                for shown in (proxy.status()["store"] for proxy in self.proxies)
            )
        )

    async def until_hits(self, more: int = 200) -> None:
        """Return once there were so many hits more, and no read was too old."""
        enough = self.history.outcomes["hit"] + more
        await self.until(lambda: self.history.outcomes["hit"] >= enough)
        assert not self.history.violations

    def none_serves(self) -> bool:
        """Tell whether all proxies have noticed that the store is out."""
        return not any(proxy.status()["store"]["serving"] for proxy in self.proxies)


@asynccontextmanager
async def traffic(proxies: list[RunningProxy]) -> AsyncIterator[Traffic]:
    """Read and write while the block runs."""
    going = Traffic(proxies, f"topologies-{random.randrange(10**9)}")
    stopped = asyncio.Event()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        client = Client(session, proxies, going.table)
        await client.create()
        async with asyncio.TaskGroup() as tasks:
            for item in range(ITEMS):
                goes_on = itertools.takewhile(lambda _: not stopped.is_set(), itertools.count(1))
                tasks.create_task(write(client, going.history, item, goes_on))
            for _ in range(READERS):
                tasks.create_task(read(client, going.history))
            try:
                yield going
            finally:
                stopped.set()
    assert not going.history.violations


def run_proxies(stack: ExitStack, dynamodb: RunningDynamoDB, **store: str) -> list[RunningProxy]:
    """Run proxies of one store, of the namespace `topologies`."""
    named = {f"store.{name.replace('__', '.')}": text for name, text in store.items()}
    settings = {**SETTINGS, "store.namespace": "topologies", **named}
    arguments = {"upstream": dynamodb.endpoint, "store": None, "settings": settings}
    return [stack.enter_context(running_proxy(**arguments)) for _ in range(PROXIES)]


def addresses(servers: list[RedisServer]) -> str:
    """Return addresses as a setting has them."""
    return ",".join(f"{host}:{port}" for host, port in (each.address for each in servers))


def quick(servers: list[RedisServer]) -> None:
    """Let an older primary be gone soon: the quarantine of the next one waits for that."""
    for server in servers:
        server.flags = {**server.flags, "min-replicas-max-lag": "1"}


@pytest.fixture
def sentinels() -> Iterator[SentinelTopology]:
    """Run a primary, replicas and sentinels that the test may kill."""
    if (binary := redis_binary()) is None:
        missing("redis-server", install="apt install redis-server")
    with closing(SentinelTopology(binary)) as topology:
        quick(topology.servers)
        topology.start()
        yield topology


@pytest.fixture
def cluster() -> Iterator[ClusterTopology]:
    """Run a cluster that the test may kill."""
    if (binary := redis_binary()) is None:
        missing("redis-server", install="apt install redis-server")

    def build() -> ClusterTopology:
        topology = ClusterTopology(binary)
        quick(topology.servers)
        return topology

    with running_cluster(build) as topology:
        yield topology


async def test_a_primary_that_is_killed_under_sentinel_costs_hits_and_nothing_else(
    sentinels: SentinelTopology, dynamodb: RunningDynamoDB
) -> None:
    """SIGKILL, a replica promoted, hits after the quarantine: every read at or above its floor."""
    with ExitStack() as stack:
        known = addresses(sentinels.sentinels)
        proxies = run_proxies(
            stack, dynamodb, sentinel__addresses=known, sentinel__primary_name=MASTER_NAME
        )
        async with traffic(proxies) as going:
            await going.until_all_serve()
            await going.until_hits()
            replaced = asyncio.create_task(asyncio.to_thread(sentinels.fail_over, kill=True))
            await going.until(going.none_serves)
            await replaced
            await going.until_all_serve()
            await going.until_hits()


async def test_a_node_that_is_killed_costs_the_hits_of_its_items_and_nothing_else(
    cluster: ClusterTopology, dynamodb: RunningDynamoDB
) -> None:
    """The node of an item is killed and replaced by its replica: no read is too old."""
    with ExitStack() as stack:
        proxies = run_proxies(stack, dynamodb, cluster__addresses=addresses(cluster.servers[:2]))
        async with traffic(proxies) as going:
            await going.until_all_serve()
            await going.until_hits()
            shard = hot_slot(going.table) * 3 // 16384
            await asyncio.to_thread(cluster.fail_over, shard, kill=True)
            await going.until(lambda: any(nodes_out(proxy) for proxy in proxies))
            assert not going.history.violations
            await going.until_all_serve()
            await going.until_hits()


async def test_a_hot_slot_may_move_to_and_fro(
    cluster: ClusterTopology, dynamodb: RunningDynamoDB
) -> None:
    """Read and written all the time: no read is too old, and each time its node is a new one."""
    with ExitStack() as stack:
        proxies = run_proxies(stack, dynamodb, cluster__addresses=addresses(cluster.servers[:1]))
        async with traffic(proxies) as going:
            await going.until_all_serve()
            slot, nodes = hot_slot(going.table), cluster.servers[:3]
            at = slot * 3 // 16384
            home, away, other = nodes[at], nodes[at - 1], nodes[at - 2]
            left_with = epoch_of(home)
            for giver, taker in ((home, away), (away, home)):
                await going.until_hits()
                await asyncio.to_thread(move_slot, slot, giver, taker, [other])
                await going.until_all_serve()
                await going.until_hits()
            assert epoch_of(home) > left_with


async def test_what_comes_with_its_slot_is_not_served_and_still_protects(
    cluster: ClusterTopology,
) -> None:
    """An entry does not count on another node, nor back at home; a marker does on either."""
    item = KEYS.item(TableName("orders"), {"pk": {"S": "a"}})
    pending = KEYS.item(TableName("orders"), {"pk": {"S": "b"}})
    nodes, moved = cluster.servers[:3], {slot_of(each.cache_key) for each in (item, pending)}
    seeds = (Address(*nodes[0].address),)
    async with live_lanes(options("", cluster=seeds)) as live:
        await live.until(lambda: live.routes.serving and not live.routes.why_not_serving)
        store, token = live.store(FencePolicy()), live.clock.token()
        generation = (await store.lookup(item)).generation
        await store.lease(item, token=token, generation=generation, force=False)
        assert await store.fill(item, token=token, generation=generation, draft=DRAFT)
        await store.begin(pending, token=token)
        assert (await store.lookup(item)).entry is not None
        for there in (False, True):
            for slot in moved:
                home, away, other = (nodes[slot * 3 // 16384 - back] for back in range(3))
                giver, taker = (away, home) if there else (home, away)
                await asyncio.to_thread(move_slot, slot, giver, taker, [other])
            assert (await seen(store, item)).state is RecordState.ABSENT
            assert (await seen(store, pending)).state is RecordState.PENDING
        ended = await store.end(pending, token=token, outcome=WriteOutcome.ABORTED)
        assert ended is FenceResult.INVALIDATED


async def test_a_node_that_took_a_slot_takes_no_strict_writes_until_it_is_settled(
    cluster: ClusterTopology,
) -> None:
    """Its new epoch is a new incarnation, which an older primary might still serve beside."""
    giver, taker, other = cluster.servers[:3]
    seeds, theirs = (Address(*giver.address),), CacheKey(b"{%b}" % tag_in(16384 // 3 + 1))
    times = options("", cluster=seeds, quarantine_s=4.0, heartbeat_age_s_max=3.0)
    for node in cluster.servers:
        node.ask("CONFIG", "SET", "min-replicas-max-lag", "1")
    async with live_lanes(times) as live:
        await live.until(lambda: live.routes.serving and not live.routes.why_not_serving)
        former = (await live.routes.lanes_for(theirs).pick_soon(settled=True))[1].incarnation
        await asyncio.to_thread(move_slot, 0, giver, taker, [other])
        lanes = live.routes.lanes_for(theirs)
        await live.until(lambda: lanes.connected and lanes.pick_any()[1].incarnation != former)
        with pytest.raises(StoreUnavailable) as refused:
            await lanes.pick_soon(settled=True)
        assert refused.value.failure is StoreFailure.UNSETTLED
        async with asyncio.timeout(WAIT_S):
            while True:
                try:
                    await lanes.pick_soon(settled=True)
                    break
                except StoreUnavailable:
                    await asyncio.sleep(0.05)


async def seen(store: RedisStore, item: ItemIdentity) -> Sighting:
    """Look an item up, until its node is known and serves."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                return await store.lookup(item)
            except StoreUnavailable:
                await asyncio.sleep(0.02)


def hot_slot(table: str) -> int:
    """Return the slot of the first item."""
    item = KeySpace("topologies", REGION).item(TableName(table), {"pk": {"S": "item-0"}})
    return slot_of(item.cache_key)


def nodes_out(proxy: RunningProxy) -> float:
    """Return how many nodes a proxy misses."""
    return proxy.metric("dynaside_store_nodes_out")
