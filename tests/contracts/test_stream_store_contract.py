"""The stream store port's contract: one suite for its fake, and for real stores."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from proxy.core.policy import FencePolicy
from proxy.core.record import EntryDraft
from proxy.core.shard_tree import (
    PARKED_MAX,
    Checkpoint,
    Growth,
    Kept,
    Lease,
    NewShard,
    ShardState,
    Start,
    StreamView,
)
from proxy.core.values import CacheKey, Digest, Layout, TableName, Token
from proxy.edge.clock import SystemClock
from proxy.edge.redis_connection import Address
from proxy.edge.redis_options import StoreOptions
from proxy.edge.redis_stream_store import RedisStreamStore
from proxy.embedded.valkey import RunningStore
from proxy.flow.ports import Store, StreamStore
from tests.fakes.memory_store import MemoryStore
from tests.fakes.memory_stream_store import MemoryStreamStore
from tests.support.live_lanes import KEYS, live_lanes, options
from tests.support.raw_cluster import RawCluster
from tests.support.raw_store import RawStore
from tests.support.store_topologies import ClusterTopology

FENCE = FencePolicy(lease_s=100.0, marker_s=1000.0, tombstone_s=500.0)
CLOCK = SystemClock()
TABLE = TableName("orders")
STREAM, PARKED = KEYS.stream_key(TABLE), KEYS.parked_key(TABLE)
ITEM = KEYS.item(TABLE, {"pk": {"S": "a"}})
PAGE = KEYS.page(TABLE, b"{}", KEYS.scan_key(TABLE))
ME, YOU = Token(b"m" * 16), Token(b"y" * 16)
ARN = "arn:aws:dynamodb:us-east-1:1:table/orders/stream/2026-11-30T00:48:05.899"
LONG_S = 600.0
BODY = b'{"Item":{"pk":{"S":"a"},"v":{"N":"1"}}}'


@dataclass
class World:
    """Both ports of one store."""

    store: Store
    streams: StreamStore
    layout: Layout

    async def look(self, reader: Token | None = None, discover_s: float = LONG_S) -> StreamView:
        """Look at the stream."""
        return await self.streams.look_at_stream(
            STREAM, reader, present_s=LONG_S, discover_s=discover_s
        )

    async def grow(self, *added: NewShard, arn: str = ARN, gone: tuple[str, ...] = ()) -> bool:
        """Change the stream's shards."""
        return await self.streams.grow_stream(STREAM, arn, Growth(added, gone, lost=False))

    async def claim(
        self, shard_id: str, reader: Token = ME, lease_s: float = LONG_S
    ) -> ShardState | None:
        """Claim a shard."""
        return await self.streams.claim_shard(STREAM, shard_id, reader, lease_s=lease_s)

    async def keep(self, lease: Lease, kept: Kept) -> bool:
        """Keep a shard."""
        return await self.streams.keep_shard(STREAM, lease, kept)

    async def shard(self, shard_id: str) -> ShardState:
        """Return a shard as it is now."""
        return (await self.look()).shards[shard_id]

    async def fill(self, body: bytes) -> None:
        """Fill the item."""
        generation, token = (await self.store.lookup(ITEM)).generation, CLOCK.token()
        await self.store.lease(ITEM, token=token, generation=generation, force=False)
        draft = EntryDraft(
            0.0, 600.0, 6000.0, body == b"{}", len(body), zlib.crc32(body), body, self.layout, 10
        )
        assert await self.store.fill(ITEM, token=token, generation=generation, draft=draft)


@pytest.fixture(
    params=[
        "memory-blob",
        "memory-hash",
        "valkey-blob",
        "valkey-hash",
        "redis7-blob",
        "cluster-blob",
    ]
)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Make a store."""
    kind, _, layout = request.param.partition("-")
    if kind == "memory":
        memory = MemoryStore(CLOCK, FENCE)
        yield World(memory, MemoryStreamStore(memory), Layout(layout))
        return
    there, real = _server(kind, request)
    with real:
        real.run("FLUSHALL", "SYNC")
        async with live_lanes(there) as live:
            await live.until(lambda: live.routes.serving and not live.routes.why_not_serving)
            streams = RedisStreamStore(live.routes)
            yield World(live.store(FENCE, Layout(layout)), streams, Layout(layout))


def _server(
    kind: str, request: pytest.FixtureRequest
) -> tuple[StoreOptions, RawStore | RawCluster]:
    if kind == "cluster":
        nodes: ClusterTopology = request.getfixturevalue("cluster_store")
        seed = nodes.servers[0].address
        return options("", cluster=(Address(*seed),)), RawCluster(seed)
    running: RunningStore = request.getfixturevalue(kind)
    return options(running.url), RawStore(running.address)


def root(shard_id: str = "a", start: Start = Start.LATEST) -> NewShard:
    """Return a shard without a parent."""
    return NewShard(shard_id, None, start)


# Peeking


async def test_nothing_is_seen_where_nothing_is(world: World) -> None:
    """No record: nobody fills it, and no write is in flight."""
    assert await world.streams.peek(ITEM) == (False, None)


@pytest.mark.parametrize("body", [BODY, b"{}"])
async def test_an_entry_is_seen_whole(world: World, body: bytes) -> None:
    """In either layout, compressed or not, absences too."""
    await world.fill(body)
    there, entry = await world.streams.peek(ITEM)
    assert there
    assert entry is not None
    assert (entry.body, entry.negative) == (body, body == b"{}")


async def test_an_entry_that_is_being_refreshed_is_not_seen(world: World) -> None:
    """Whoever holds its lease may be about to store what is older than the record."""
    await world.fill(BODY)
    generation = (await world.store.lookup(ITEM)).generation
    await world.store.lease(ITEM, token=CLOCK.token(), generation=generation, force=True)
    assert await world.streams.peek(ITEM) == (True, None)


async def test_leases_markers_and_tombstones_are_there_without_an_entry(world: World) -> None:
    """All of them need an invalidation, or take one."""
    generation = (await world.store.lookup(ITEM)).generation
    await world.store.lease(ITEM, token=CLOCK.token(), generation=generation, force=False)
    assert await world.streams.peek(ITEM) == (True, None)
    await world.store.begin(ITEM, token=CLOCK.token())
    assert await world.streams.peek(ITEM) == (True, None)
    await world.store.invalidate(ITEM)
    assert await world.streams.peek(ITEM) == (True, None)


async def test_another_items_entry_is_not_seen(world: World) -> None:
    """Its digest tells."""
    await world.fill(BODY)
    stranger = KEYS.item(TABLE, {"pk": {"S": "b"}})
    wrong = type(ITEM)(TABLE, ITEM.cache_key, ITEM.table_key, Digest(stranger.digest))
    assert await world.streams.peek(wrong) == (True, None)


async def test_peeking_changes_nothing(world: World) -> None:
    """The entry serves as before."""
    await world.fill(BODY)
    before = await world.store.lookup(ITEM)
    await world.streams.peek(ITEM)
    assert (await world.store.lookup(ITEM)).entry == before.entry


async def test_pages_are_cached_from_the_first_look_at_one(world: World) -> None:
    """Whether or not they count yet."""
    assert not await world.streams.pages_cached(ITEM.table_key)
    await world.store.lookup(ITEM)
    assert not await world.streams.pages_cached(ITEM.table_key)
    await world.store.lookup_page(PAGE)
    assert await world.streams.pages_cached(ITEM.table_key)


# Shards


async def test_a_stream_nobody_looked_at_is_empty(world: World) -> None:
    """No ARN, no shard, no reader."""
    seen = await world.look()
    assert (seen.arn, seen.shards, seen.readers, seen.due) == ("", {}, frozenset(), False)
    assert seen.now_ms > 0


async def test_one_reader_per_interval_looks_at_upstream(world: World) -> None:
    """And all readers are known to be there; who only watches is not."""
    assert (await world.look(ME)).due
    second = await world.look(YOU)
    assert (second.due, second.readers) == (False, frozenset({ME, YOU}))
    assert (await world.look()).readers == {ME, YOU}


async def test_an_interval_that_is_over_is_due_again(world: World) -> None:
    """To whoever comes first."""
    assert (await world.look(ME, discover_s=0.0)).due
    assert (await world.look(YOU)).due
    assert not (await world.look(ME)).due


async def test_a_reader_that_was_there_goes(world: World) -> None:
    """When its time is over."""
    await world.streams.look_at_stream(STREAM, ME, present_s=0.0, discover_s=LONG_S)
    assert (await world.look(YOU)).readers == {YOU}
    assert (await world.look()).readers == {YOU}


async def test_a_new_stream_begins_where_it_is_told(world: World) -> None:
    """Each shard with its own start; one that needs no reading is as of now, others as of never."""
    closed, child = root("a", Start.DONE), NewShard("b", "a", Start.LATEST)
    before_ms = (await world.look()).now_ms
    assert await world.grow(closed, child)
    seen = await world.look()
    assert seen.arn == ARN
    assert before_ms <= seen.shards["a"].as_of_ms <= seen.now_ms
    assert seen.shards == {
        "a": ShardState(None, Checkpoint(Start.DONE), as_of_ms=seen.shards["a"].as_of_ms),
        "b": ShardState("a", Checkpoint(Start.LATEST)),
    }


async def test_a_shard_added_later_begins_at_its_horizon_as_of_its_parents_end(
    world: World,
) -> None:
    """Whatever its discoverer thought: somebody else knew the stream before."""
    await world.grow(root("a"))
    claimed = await world.claim("a")
    assert claimed is not None
    now_ms = (await world.look()).now_ms
    await world.keep(Lease("a", ME, claimed.fence), Kept(LONG_S, now_ms - 1000))
    assert not await world.grow(NewShard("b", "a", Start.LATEST), NewShard("c", None, Start.DONE))
    seen = (await world.look()).shards
    assert seen["a"].as_of_ms == now_ms - 1000
    assert seen["b"] == ShardState("a", Checkpoint(Start.HORIZON), as_of_ms=now_ms - 1000)
    assert seen["c"] == ShardState(None, Checkpoint(Start.HORIZON))


async def test_a_shard_that_is_known_keeps_its_place(world: World) -> None:
    """Two may discover it."""
    await world.grow(root("a", Start.DONE))
    await world.grow(root("a"))
    assert (await world.shard("a")).done


async def test_a_shard_that_is_gone_is_forgotten(world: World) -> None:
    """And its child may be read."""
    await world.grow(root("a"), NewShard("b", "a", Start.HORIZON))
    assert not await world.grow(gone=("a", "no such"))
    assert list((await world.look()).shards) == ["b"]
    assert await world.claim("b") is not None


async def test_another_stream_forgets_all_shards_but_no_reader(world: World) -> None:
    """Also those that are said to be gone from it, which are the older one's."""
    await world.look(ME)
    await world.grow(root("a"), root("b"))
    assert await world.grow(root("b"), arn=ARN + "1", gone=("b",))
    seen = await world.look(ME)
    assert (seen.arn, list(seen.shards), seen.readers) == (ARN + "1", ["b"], frozenset({ME}))
    assert not seen.due


# Leases


async def test_a_claim_gives_what_is_known_and_a_new_number(world: World) -> None:
    """Until the lease ends nobody else gets the shard."""
    await world.grow(root("a"))
    claimed = await world.claim("a")
    assert claimed is not None
    assert (claimed.holder, claimed.fence) == (ME, 1)
    assert claimed.checkpoint == Checkpoint(Start.LATEST)
    assert claimed == await world.shard("a")
    assert await world.claim("a", YOU) is None
    assert (await world.look()).held_by(ME).keys() == {"a"}


async def test_a_claim_of_ones_own_shard_is_a_new_lease(world: World) -> None:
    """Of a process that lost count: its older steps count no more."""
    await world.grow(root("a"))
    await world.claim("a")
    again = await world.claim("a")
    assert again is not None
    assert again.fence == 2
    assert not await world.keep(Lease("a", ME, 1), Kept(LONG_S))


async def test_what_cannot_be_read_cannot_be_claimed(world: World) -> None:
    """A shard that is done, one whose parent is not, and one that nobody knows."""
    await world.grow(root("a", Start.DONE), root("b"), NewShard("c", "b", Start.HORIZON))
    for shard_id in ("a", "c", "d"):
        assert await world.claim(shard_id) is None


async def test_a_lease_that_ended_is_taken_over(world: World) -> None:
    """With the checkpoint that was kept; the former holder keeps nothing more."""
    await world.grow(root("a", Start.HORIZON))
    await world.claim("a", ME)
    first = Lease("a", ME, 1)
    assert await world.keep(first, Kept(0.001, 0, Checkpoint(Start.AFTER, "17")))
    while (await world.look()).held_by(ME):
        pass
    taken = await world.claim("a", YOU)
    assert taken is not None
    assert (taken.fence, taken.holder) == (2, YOU)
    assert taken.checkpoint == Checkpoint(Start.AFTER, "17")
    assert not await world.keep(first, Kept(LONG_S, 0, Checkpoint(Start.AFTER, "18")))
    assert await world.shard("a") == taken


async def test_a_lease_that_ended_and_that_nobody_took_is_kept_all_the_same(world: World) -> None:
    """A short pause costs nothing."""
    await world.grow(root("a"))
    await world.claim("a", ME, lease_s=0.001)
    while (await world.look()).held_by(ME):
        pass
    assert await world.keep(Lease("a", ME, 1), Kept(LONG_S))
    assert (await world.look()).held_by(ME)


async def test_keeping_changes_what_it_says(world: World) -> None:
    """Time and place, each or neither."""
    await world.grow(root("a", Start.HORIZON))
    await world.claim("a")
    lease = Lease("a", ME, 1)
    as_of_ms = (await world.look()).now_ms - 2000
    assert await world.keep(lease, Kept(LONG_S, as_of_ms))
    kept = await world.shard("a")
    assert (kept.as_of_ms, kept.checkpoint) == (as_of_ms, Checkpoint(Start.HORIZON))
    assert await world.keep(lease, Kept(LONG_S, checkpoint=Checkpoint(Start.AFTER, "5")))
    after = await world.shard("a")
    assert (after.as_of_ms, after.checkpoint) == (kept.as_of_ms, Checkpoint(Start.AFTER, "5"))


async def test_no_shard_is_as_of_the_future(world: World) -> None:
    """Whatever a reader with another primary's clock believes."""
    await world.grow(root("a", Start.HORIZON))
    await world.claim("a")
    before_ms = (await world.look()).now_ms
    assert await world.keep(Lease("a", ME, 1), Kept(LONG_S, before_ms + 3_600_000))
    kept = await world.shard("a")
    assert before_ms <= kept.as_of_ms <= (await world.look()).now_ms


async def test_a_shard_is_given_back(world: World) -> None:
    """Anybody may have it at once, from where it was left."""
    await world.grow(root("a", Start.HORIZON))
    await world.claim("a")
    assert await world.keep(Lease("a", ME, 1), Kept(0.0, 0, Checkpoint(Start.AFTER, "5")))
    assert (await world.shard("a")).holder is None
    assert not await world.keep(Lease("a", ME, 1), Kept(LONG_S))
    taken = await world.claim("a", YOU)
    assert taken is not None
    assert (taken.fence, taken.checkpoint) == (2, Checkpoint(Start.AFTER, "5"))


async def test_a_child_is_free_once_its_parent_is_done(world: World) -> None:
    """The end is kept like any place."""
    await world.grow(root("a", Start.HORIZON), NewShard("b", "a", Start.HORIZON))
    await world.claim("a")
    assert await world.claim("b", YOU) is None
    assert await world.keep(Lease("a", ME, 1), Kept(0.0, 0, Checkpoint(Start.DONE)))
    assert await world.claim("b", YOU) is not None


async def test_a_child_is_as_of_its_parents_end(world: World) -> None:
    """It began after that, whatever was known when it was added."""
    await world.grow(root("a", Start.HORIZON), NewShard("b", "a", Start.HORIZON))
    await world.claim("a")
    as_of_ms = (await world.look()).now_ms - 1000
    assert await world.keep(Lease("a", ME, 1), Kept(0.0, as_of_ms, Checkpoint(Start.DONE)))
    claimed = await world.claim("b", YOU)
    assert claimed is not None
    assert claimed.as_of_ms == (await world.shard("b")).as_of_ms == as_of_ms
    assert await world.keep(Lease("b", YOU, 1), Kept(0.0, as_of_ms + 500))
    claimed = await world.claim("b", YOU)
    assert claimed is not None
    assert claimed.as_of_ms == as_of_ms + 500


async def test_a_shard_that_vanished_keeps_nothing(world: World) -> None:
    """As after a loss of the store."""
    assert not await world.keep(Lease("a", ME, 1), Kept(LONG_S))


# Parked records


def _numbered() -> Iterator[bytes]:
    return (b"%d" % number for number in range(PARKED_MAX + 2))


async def test_parked_records_are_kept_newest_first_and_bounded(world: World) -> None:
    """Beyond the bound the oldest go, and are counted."""
    pushed_out = [await world.streams.park(PARKED, each) for each in _numbered()]
    assert (sum(pushed_out), pushed_out[-2:]) == (2, [1, 1])
    parked = await world.streams.parked(PARKED)
    assert (len(parked), parked[0], parked[-1]) == (PARKED_MAX, b"1001", b"2")


async def test_a_parked_record_is_taken_off_once(world: World) -> None:
    """Two operators do not meet."""
    await world.streams.park(PARKED, b"one")
    await world.streams.park(PARKED, b"two")
    assert await world.streams.unpark(PARKED, b"one")
    assert not await world.streams.unpark(PARKED, b"one")
    assert await world.streams.parked(PARKED) == [b"two"]


def test_names_are_of_one_table() -> None:
    """Streams and lists of two tables have nothing in common."""
    names: list[CacheKey] = [STREAM, PARKED, KEYS.stream_key(TableName("other"))]
    assert len(set(names)) == 3
