"""What the near cache stands on: real stores push every change of what was read, before a PONG."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from proxy.core.fence import ItemIdentity, Proven
from proxy.core.policy import FencePolicy
from proxy.core.values import Layout, TableName
from proxy.edge.clock import SystemClock
from proxy.edge.redis_store import RedisStore
from proxy.embedded.valkey import RunningStore, redis_binary, start_valkey
from tests.support.hand_clock import HandClock
from tests.support.heard_feed import HeardFeed
from tests.support.live_lanes import KEYS, LiveLanes, live_lanes, options
from tests.support.raw_store import RawStore
from tests.support.tools import missing

pytestmark = pytest.mark.store

FENCE = FencePolicy()
ITEM = KEYS.item(TableName("orders"), {"pk": {"S": "a"}})
ROUNDS = 200


@dataclass
class World:
    """A store with one tracked connection of ours, and others' connections to it."""

    running: RunningStore
    live: LiveLanes
    clock: HandClock
    feed: HeardFeed
    store: RedisStore
    others: RedisStore
    raw: RawStore

    async def read(self, item: ItemIdentity = ITEM) -> Proven:
        """Look an item up, twice where its table is unknown; return who tells of changes to it."""
        if not (await self.store.lookup(item)).sources:
            assert (await self.store.lookup(item)).sources
        (source,) = (await self.store.lookup(item)).sources
        return source

    async def proof(self) -> None:
        """Let one PING go out, and return once it was answered."""
        self.clock.beat()
        for _ in range(3):  # the task that sends it wakes up
            await self.clock.sleep(0)
        await self.live.lanes.pick_any()[0].submit(("PING",))


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[RunningStore]:
    """Run a store of the test's own, of either kind."""
    binary = redis_binary() if request.param == "redis" else None
    if request.param == "redis" and binary is None:
        missing("redis-server", install="apt install redis-server")
    with closing(start_valkey(binary)) as store:
        yield store


@pytest.fixture
async def world(server: RunningStore) -> AsyncIterator[World]:
    clock, feed = HandClock(heartbeat_s=0.02), HeardFeed()
    ours = options(server.url, lanes=1)
    with RawStore(server.address) as raw:
        async with (
            live_lanes(ours, clock, feed=feed, ping_s=0.02) as live,
            live_lanes(ours) as theirs,
        ):
            await live.until(lambda: live.lanes.serving)
            await theirs.until(lambda: theirs.lanes.serving)
            store, others = live.store(FENCE), theirs.store(FENCE)
            yield World(server, live, clock, feed, store, others, raw)


async def test_a_step_of_anybody_is_pushed(world: World) -> None:
    """Scripts of another proxy's connection, and of this one's own."""
    for writer in (world.others, world.store):
        await world.read()
        world.feed.changed.clear()
        token = SystemClock().token()
        await writer.begin(ITEM, token=token)
        await world.feed.until(lambda: ITEM.cache_key in world.feed.changed)
        await world.read()
        world.feed.changed.clear()
        await writer.invalidate(ITEM)
        await world.feed.until(lambda: ITEM.cache_key in world.feed.changed)


async def test_a_write_to_the_table_is_pushed(world: World) -> None:
    """By the name of the table's record, which every lookup reads."""
    await world.read()
    world.feed.changed.clear()
    await world.others.begin_table(ITEM.table_key, token=SystemClock().token())
    await world.feed.until(lambda: ITEM.table_key in world.feed.changed)


async def test_expiry_is_pushed(world: World) -> None:
    """A record whose time is over is told of without anybody asking for it."""
    await world.read()
    world.raw.run("SET", ITEM.cache_key, b"", "PX", 1500)
    await world.feed.until(lambda: ITEM.cache_key in world.feed.changed)
    await world.read()
    world.feed.changed.clear()
    await world.feed.until(lambda: ITEM.cache_key in world.feed.changed)
    assert world.raw.run("EXISTS", ITEM.cache_key) == 0


async def test_eviction_is_pushed(world: World) -> None:
    """What a full store drops is told of."""
    await world.read()
    world.raw.run("SET", ITEM.cache_key, b"")
    await world.read()
    world.feed.changed.clear()
    world.raw.run("CONFIG", "SET", "maxmemory", 1)
    world.raw.run("SET", "x", "y")
    world.raw.run("CONFIG", "SET", "maxmemory", 0)
    await world.feed.until(lambda: ITEM.cache_key in world.feed.changed)
    assert world.raw.run("EXISTS", ITEM.cache_key) == 0


async def test_a_flush_voids_all_that_was_told(world: World) -> None:
    """The connection stays, under another name that must be proven anew."""
    before = await world.read()
    assert before.proven_s > 0
    world.raw.run("FLUSHALL", "SYNC")
    await world.feed.until(lambda: world.feed.gone == [before])
    after = await world.read()
    assert after is not before
    assert (before.proven_s, after.proven_s) == (-math.inf, -math.inf)
    sent_s = world.clock.monotonic_s()
    await world.proof()
    assert sent_s <= after.proven_s <= world.clock.monotonic_s()
    assert before.proven_s == -math.inf


async def test_a_connection_that_is_killed_is_lost(world: World) -> None:
    """At once, and the next one tells again."""
    before = await world.read()
    world.raw.run("CLIENT", "KILL", "TYPE", "normal")
    await world.feed.until(lambda: world.feed.gone == [before])
    assert before.proven_s == -math.inf
    await world.live.until(lambda: world.live.lanes.serving)
    after = await world.read()
    assert after.proven_s > 0
    world.feed.changed.clear()
    world.raw.run("SET", ITEM.cache_key, b"")
    await world.feed.until(lambda: ITEM.cache_key in world.feed.changed)


async def test_a_primary_that_is_demoted_is_lost(world: World) -> None:
    """After a fail-over it still answers PING, and is left with its next heartbeat."""
    before = await world.read()
    with closing(start_valkey(redis_binary())) as another:
        assert isinstance(another.address, tuple)
        world.running.ask("REPLICAOF", another.address[0], str(another.address[1]))
        await world.feed.until(lambda: before in world.feed.gone)
    assert before.proven_s == -math.inf


async def test_a_push_comes_before_the_answer_to_a_later_ping(world: World) -> None:
    """Whenever a proof is there, every change that ended before its PING was sent is known."""
    item = KEYS.item(TableName("orders"), {"pk": {"S": "b"}})
    source = await world.read(item)
    for number in range(ROUNDS):
        await world.read(item)
        world.feed.changed.clear()
        world.raw.run("SET", item.cache_key, str(number))
        sent_s = world.clock.monotonic_s()
        await world.proof()
        assert source.proven_s >= sent_s
        assert item.cache_key in world.feed.changed


async def test_hashes_are_not_told_of(world: World) -> None:
    """Nor is what is read by a connection that tracks nothing."""
    hashes = world.live.store(FENCE, Layout.HASH)
    for _ in range(2):
        assert (await hashes.lookup(ITEM)).sources == ()
        assert (await world.others.lookup(ITEM)).sources == ()
    world.raw.run("SET", ITEM.cache_key, b"")
    assert len((await hashes.lookup(ITEM)).sources) == 1  # found to be a string after all
