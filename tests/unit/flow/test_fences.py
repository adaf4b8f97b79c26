"""Claims about `proxy.flow.fences`, on the memory store."""

from __future__ import annotations

import zlib

import pytest

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.fence import ItemIdentity, WriteOutcome
from proxy.core.record import Entry, EntryDraft, Pending, Tombstone
from proxy.core.values import FenceResult, Generation, Token
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
    assert (item.table, item.keys) == (TABLE, (world.identity("a").cache_key,))
    assert (table.table, table.keys) == (TABLE, (world.keys.table_key(TABLE),))


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
