"""Claims about `proxy.flow.fences`, on the memory store."""

from __future__ import annotations

import zlib

import pytest

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.fence import ItemIdentity, WriteOutcome, stamp_of
from proxy.core.record import Entry, EntryDraft, Pending, Tombstone
from proxy.core.values import CacheKey, FenceResult, Generation, Token
from proxy.flow.fences import ItemFence, TableFence, end_quietly
from tests.fakes.memory_store import MemoryStore
from tests.support.flow_world import TABLE, World

BODY = b'{"Item":{"pk":{"S":"a"}}}'
DRAFT = EntryDraft(0.0, 60.0, 90.0, negative=False, item_bytes=3, crc32=zlib.crc32(BODY), body=BODY)


class Watched(MemoryStore):
    """A store that remembers what it was told of each write's outcome."""

    def __init__(self, world: World) -> None:
        super().__init__(world.clock, world.fence)
        self.outcomes: list[WriteOutcome] = []

    async def end(
        self,
        identity: ItemIdentity,
        *,
        token: Token,
        outcome: WriteOutcome,
        stored: tuple[Generation, EntryDraft] | None = None,
    ) -> FenceResult:
        """Remember the outcome; `STORED` and nothing else comes with an entry."""
        assert (outcome is WriteOutcome.STORED) == (stored is not None)
        self.outcomes.append(outcome)
        return await super().end(identity, token=token, outcome=outcome, stored=stored)


def item_fence(world: World) -> ItemFence:
    """Return a new write's fence around item a."""
    return ItemFence(world.store, world.identity("a"), world.clock.token())


def table_fence(world: World) -> TableFence:
    """Return a new write's fence around the whole table."""
    return TableFence(world.store, TABLE, world.keys.table_key(TABLE), world.clock.token())


async def fill(world: World) -> None:
    """Put an entry for item a."""
    identity, token = world.identity("a"), world.clock.token()
    generation = (await world.store.lookup(identity)).generation
    await world.store.lease(identity, token=token, generation=generation, force=False)
    assert await world.store.fill(identity, token=token, generation=generation, draft=DRAFT)


async def test_fences_name_what_they_cover(world: World) -> None:
    """A fence's keys are the records whose readers must bypass the store while it is owed."""
    item, table = item_fence(world), table_fence(world)
    identity = world.identity("a")
    assert (item.table, item.keys) == (TABLE, (identity.cache_key, *identity.name_scopes()))
    await item.begin()
    assert item.keys == (identity.cache_key,)
    assert (table.table, table.keys) == (TABLE, (world.keys.table_key(TABLE),))
    assert (item.record, table.record) == (identity.cache_key, world.keys.table_key(TABLE))


@pytest.mark.parametrize(
    ("outcome", "draft", "result", "left"),
    [
        (WriteOutcome.STORED, DRAFT, FenceResult.STORED, Entry),
        (WriteOutcome.STORED, None, FenceResult.INVALIDATED, Tombstone),
        (WriteOutcome.INVALIDATED, None, FenceResult.INVALIDATED, Tombstone),
        (WriteOutcome.INVALIDATED, DRAFT, FenceResult.INVALIDATED, Tombstone),
        (WriteOutcome.ABORTED, None, FenceResult.RESTORED, Entry),
        (WriteOutcome.UNKNOWN, None, FenceResult.KEPT, Pending),
    ],
)
async def test_end_of_an_item_fence_follows_the_outcome(
    world: World, outcome: WriteOutcome, draft: EntryDraft | None, result: FenceResult, left: type
) -> None:
    """Each outcome leaves the one record that is right for it."""
    world.store = watched = Watched(world)
    await fill(world)
    fence = item_fence(world)
    await fence.begin()
    assert isinstance(world.store.record(world.identity("a")), Pending)
    assert await fence.end(outcome, draft) is result
    if outcome is WriteOutcome.STORED and draft is None:
        outcome = WriteOutcome.INVALIDATED
    assert watched.outcomes == ([] if result is FenceResult.KEPT else [outcome])
    assert isinstance(world.store.record(world.identity("a")), left)


async def test_fence_that_never_began_stores_nothing(world: World) -> None:
    """Without the generation that begin returned, a known item still only invalidates."""
    world.store = watched = Watched(world)
    assert await item_fence(world).end(WriteOutcome.STORED, DRAFT) is FenceResult.LOST
    assert watched.outcomes == [WriteOutcome.INVALIDATED]
    assert isinstance(world.store.record(world.identity("a")), Tombstone)


async def test_fence_begun_while_the_table_is_pending_stores_nothing(world: World) -> None:
    """Under a table-wide write in flight no generation counts, so the item only invalidates."""
    await fill(world)
    await table_fence(world).begin()
    fence = item_fence(world)
    await fence.begin()
    assert await fence.end(WriteOutcome.STORED, DRAFT) is FenceResult.INVALIDATED


async def test_item_fence_knows_its_tables_stamp_once_it_has_begun(world: World) -> None:
    """Not before, and not while the table's generation does not count."""
    fence = item_fence(world)
    assert fence.stamp is None
    await fence.begin()
    assert fence.stamp is None  # the table has no record yet
    generation = await world.store.generation(world.keys.table_key(TABLE))
    await fence.begin()
    assert fence.stamp == stamp_of(generation)
    await table_fence(world).begin()
    await fence.begin()
    assert fence.stamp is None


async def test_fence_may_begin_again(world: World) -> None:
    """A repeated begin moves the marker's deadline; it is still one writer, and solo."""
    await fill(world)
    fence = item_fence(world)
    await fence.begin()
    world.clock.pause(20.0)
    await fence.begin()
    record = world.store.record(world.identity("a"))
    assert isinstance(record, Pending)
    assert record.deadline_ms == world.store.now_ms() + 30_000
    assert await fence.end(WriteOutcome.STORED, DRAFT) is FenceResult.STORED


@pytest.mark.parametrize(
    ("outcome", "result", "raised", "pending"),
    [
        (WriteOutcome.INVALIDATED, FenceResult.INVALIDATED, True, False),
        (WriteOutcome.ABORTED, FenceResult.RESTORED, False, False),
        (WriteOutcome.UNKNOWN, FenceResult.KEPT, False, True),
    ],
)
async def test_end_of_a_table_fence_follows_the_outcome(
    world: World, outcome: WriteOutcome, result: FenceResult, *, raised: bool, pending: bool
) -> None:
    """The generation rises unless nothing changed; an unknown outcome keeps the table unserved."""
    await fill(world)
    before = await world.store.lookup(world.identity("a"))
    fence = table_fence(world)
    await fence.begin()
    assert (await world.store.lookup(world.identity("a"))).table_pending
    assert await fence.end(outcome, None) is result
    after = await world.store.lookup(world.identity("a"))
    assert (after.generation != before.generation, after.table_pending) == (raised, pending)
    assert (after.entry is None) == (raised or pending)


async def test_end_that_cannot_reach_the_store_is_still_owed(world: World) -> None:
    """Ending quietly tells "owed" instead of raising; a reachable store gives the result."""
    fence = item_fence(world)
    world.store.down = StoreFailure.TIMEOUT
    with pytest.raises(StoreUnavailable):
        await fence.begin()
    assert await end_quietly(fence, WriteOutcome.INVALIDATED, None) is None
    world.store.down = None
    assert await end_quietly(fence, WriteOutcome.INVALIDATED, None) is FenceResult.LOST


# Pages


def scopes_of(world: World) -> tuple[CacheKey, ...]:
    """Name the scopes of item a."""
    return world.identity("a").name_scopes()


async def announce(world: World) -> None:
    """Let somebody want pages of the table."""
    page = world.keys.page(TABLE, b"request", world.keys.scan_key(TABLE))
    await world.store.lookup_page(page)


def pending(world: World) -> list[bool]:
    """Tell for each scope of item a whether a write is in flight on it."""
    scopes = [world.store.scope(key) for key in scopes_of(world)]
    return [scope is not None and not scope.settled for scope in scopes]


async def test_item_of_a_table_without_pages_costs_one_step(world: World) -> None:
    """Nobody caches pages, so no scope is touched."""
    fence = item_fence(world)
    await fence.begin()
    await fence.end(WriteOutcome.INVALIDATED, None)
    assert [step.name for step in world.store.steps] == ["begin", "end"]


@pytest.mark.parametrize(
    ("outcome", "result", "still"),
    [
        (WriteOutcome.INVALIDATED, FenceResult.INVALIDATED, False),
        (WriteOutcome.STORED, FenceResult.STORED, False),
        (WriteOutcome.ABORTED, FenceResult.INVALIDATED, False),
        (WriteOutcome.UNKNOWN, FenceResult.KEPT, True),
    ],
)
async def test_item_fence_covers_the_pages_it_may_be_on(
    world: World, outcome: WriteOutcome, result: FenceResult, *, still: bool
) -> None:
    """Every scope of the item is pending from begin to end, and on after an unknown outcome."""
    await announce(world)
    fence = item_fence(world)
    await fence.begin()
    assert pending(world) == [True, True]
    assert fence.keys[1:] == scopes_of(world)
    draft = DRAFT if outcome is WriteOutcome.STORED else None
    assert await fence.end(outcome, draft) is result
    assert pending(world) == [still, still]


async def test_items_of_one_write_have_markers_of_their_own_in_a_shared_scope(
    world: World,
) -> None:
    """One item's end does not end what another item's unknown outcome keeps."""
    await announce(world)
    token = world.clock.token()
    known, unknown = (ItemFence(world.store, world.identity(pk), token) for pk in ("a", "b"))
    await known.begin()
    await unknown.begin()
    await unknown.end(WriteOutcome.UNKNOWN, None)
    await known.end(WriteOutcome.INVALIDATED, None)
    everything = world.store.scope(world.keys.scan_key(TABLE))
    assert everything is not None
    assert len(everything.deadlines_ms) == 1


@pytest.mark.parametrize("step", ["begin_scope", "end_scope"])
async def test_fence_whose_scope_is_out_raises_after_every_step_ended(
    world: World, step: str
) -> None:
    """The write is then owed or refused as a whole; no step is left running."""
    await announce(world)
    fence = item_fence(world)
    if step == "end_scope":
        await fence.begin()
    world.store.fail_next(StoreFailure.TIMEOUT, step=step)
    owed = fence.begin() if step == "begin_scope" else fence.end(WriteOutcome.INVALIDATED, None)
    with pytest.raises(StoreUnavailable):
        await owed
    assert world.store.asked(step) == 2
    assert await fence.end(WriteOutcome.INVALIDATED, None) is not FenceResult.STORED
    assert pending(world) == [False, False]


async def test_fence_that_could_not_begin_ends_the_scopes_all_the_same(world: World) -> None:
    """Whether pages are cached is unknown then, so none survives."""
    await announce(world)
    page = world.keys.page(TABLE, b"request", world.keys.scan_key(TABLE))
    before = (await world.store.lookup_page(page)).sighting.generation
    await item_fence(world).end(WriteOutcome.INVALIDATED, None)
    assert (await world.store.lookup_page(page)).sighting.generation != before


async def test_fence_that_could_not_begin_and_is_given_up_leaves_the_scopes(world: World) -> None:
    """Nothing was sent and no scope marked: a store that is out is asked no more than it must."""
    await announce(world)
    await item_fence(world).end(WriteOutcome.ABORTED, None)
    assert (world.store.asked("end"), world.store.asked("end_scope")) == (1, 0)
