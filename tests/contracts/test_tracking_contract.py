"""What a store's connections owe to the near cache: one suite for every store that tracks.

A test drives a store by two links, of which one has a feed; it waits for what must have been told
by PINGs alone, so the suite holds where pushes take time.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from proxy.core.cache_key import KeySpace
from proxy.core.fence import ItemIdentity, Sighting, WriteOutcome
from proxy.core.policy import FencePolicy
from proxy.core.record import EntryDraft
from proxy.core.values import CacheKey, Layout, TableName
from proxy.flow.ports import NearSource, Store
from tests.fakes.memory_store import MemoryStore
from tests.fakes.virtual_clock import VirtualClock

ITEM = KeySpace("tracking", "us-east-1").item(TableName("orders"), {"pk": {"S": "a"}})
DRAFT = EntryDraft(
    0.0, 60.0, 90.0, negative=False, item_bytes=1, crc32=1, body=b'{"Item":{"pk":{"S":"a"}}}'
)
PINGS_S = 0.01


@dataclass
class Feed:
    """A `ports.NearFeed` that notes what it is told."""

    changed: list[CacheKey] = field(default_factory=list)
    gone: list[NearSource] = field(default_factory=list)

    def invalidated(self, cache_keys: Sequence[CacheKey]) -> None:
        """Note the records."""
        self.changed += cache_keys

    def lost(self, source: NearSource) -> None:
        """Note the connection."""
        self.gone.append(source)


class World:
    """A store, the link of the process under test, and that of another one."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.feed = Feed()
        self._memory = MemoryStore(self.clock, FencePolicy())
        link = MemoryStore(self.clock, FencePolicy())
        link.scripts, link.incarnation = self._memory.scripts, self._memory.incarnation
        link._made = self._memory._made
        link.track(self.feed)
        self._link = link
        self.mine: Store = link
        self.other: Store = self._memory

    async def told(self, sighting: Sighting) -> list[CacheKey]:
        """Return what was told once a PING that is sent now has been answered."""
        now_s = self.clock.monotonic_s()
        while not all(source.proven_s >= now_s for source in sighting.sources):
            await self.clock.sleep(PINGS_S)
        return self.feed.changed

    def flush(self) -> None:
        """Drop every record of the store."""
        self._memory.flush()

    def evict(self, identity: ItemIdentity) -> None:
        """Drop one record, as a full store does."""
        self._memory.evict(identity.cache_key)

    def break_connections(self) -> None:
        """Cut the connections of the process under test."""
        assert self._link.tracking is not None
        self._link.tracking.disconnect()


@pytest.fixture
async def world() -> World:
    return World()


async def fill(world: World, draft: EntryDraft = DRAFT) -> None:
    """Put an entry, by the other process."""
    token = world.clock.token()
    generation = (await world.other.lookup(ITEM)).generation
    await world.other.lease(ITEM, token=token, generation=generation, force=False)
    assert await world.other.fill(ITEM, token=token, generation=generation, draft=draft)


async def seen(world: World) -> Sighting:
    """Fill, and look up by the connections under test."""
    await fill(world)
    sighting = await world.mine.lookup(ITEM)
    assert sighting.entry is not None
    assert sighting.sources
    return sighting


async def test_a_lookup_names_who_will_tell_of_changes(world: World) -> None:
    """And nothing is told of what did not change."""
    sighting = await seen(world)
    assert await world.told(sighting) == []
    assert all(source.proven_s > -math.inf for source in sighting.sources)


async def test_a_write_elsewhere_is_told(world: World) -> None:
    """Its begin changes the record."""
    sighting = await seen(world)
    await world.other.begin(ITEM, token=world.clock.token())
    assert await world.told(sighting) == [ITEM.cache_key]


async def test_an_own_write_is_told_too(world: World) -> None:
    """Who asked for a change makes no difference."""
    sighting = await seen(world)
    await world.mine.invalidate(ITEM)
    assert await world.told(sighting) == [ITEM.cache_key]


async def test_a_write_to_the_table_is_told(world: World) -> None:
    """By the name of the table's record, which the lookup read as well."""
    sighting = await seen(world)
    token = world.clock.token()
    await world.other.begin_table(ITEM.table_key, token=token)
    await world.other.end_table(
        ITEM.table_key, token=token, outcome=WriteOutcome.INVALIDATED, remade=False
    )
    assert set(await world.told(sighting)) == {ITEM.table_key}


async def test_an_eviction_is_told(world: World) -> None:
    """What is not there any more may be filled anew without a word."""
    sighting = await seen(world)
    world.evict(ITEM)
    assert await world.told(sighting) == [ITEM.cache_key]


async def test_a_flush_voids_what_was_told(world: World) -> None:
    """It names no record: nothing of what these connections told counts any more."""
    sighting = await seen(world)
    world.flush()
    await world.told(sighting)
    await asyncio.sleep(0)
    assert set(world.feed.gone) == set(sighting.sources)


async def test_a_connection_that_is_gone_proves_nothing(world: World) -> None:
    """The feed is told, and later lookups name another one."""
    sighting = await seen(world)
    world.break_connections()
    assert set(world.feed.gone) == set(sighting.sources)
    assert {source.proven_s for source in sighting.sources} == {-math.inf}
    again = await world.mine.lookup(ITEM)
    assert not set(again.sources) & set(sighting.sources)


async def test_a_record_that_is_read_again_is_told_again(world: World) -> None:
    """A push ends the tracking; each lookup begins it anew."""
    await seen(world)
    await world.other.invalidate(ITEM)
    sighting = await world.mine.lookup(ITEM)
    await world.other.begin(ITEM, token=world.clock.token())
    assert await world.told(sighting) == [ITEM.cache_key, ITEM.cache_key]


async def test_what_lies_as_a_hash_is_told_by_nobody(world: World) -> None:
    """Only what a GET reads is tracked."""
    hashed = EntryDraft(
        0.0,
        60.0,
        90.0,
        negative=False,
        item_bytes=1,
        crc32=1,
        body=DRAFT.body,
        layout=Layout.HASH,
    )
    await fill(world, hashed)
    sighting = await world.mine.lookup(ITEM)
    assert sighting.entry is not None
    assert sighting.sources == ()
