"""Claims of `proxy.flow.hot_reads`: what is sampled, what is hot, and what is told of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.core.hot_keys import TABLES_MAX, HotKeys
from proxy.core.record import Entry
from proxy.core.values import TableName
from proxy.flow.hot_reads import SAMPLING, TOP, HotReads, Sampling
from tests.support.flow_world import TABLE, World

EVERY = Sampling(every=1, hot=3.0)
LIFE_S = 100.0


async def entry_of(world: World) -> Entry:
    """Fill and return the entry of item a; it is fresh for LIFE_S."""
    world.policy = replace(world.policy, fresh_ttl_s=LIFE_S)
    world.put_elsewhere("a", "1")
    await world.proxy().get("a")
    entry = (await world.store.lookup(world.identity("a"))).entry
    assert entry is not None
    return entry


def hot_reads(world: World, sampling: Sampling = EVERY) -> HotReads:
    """Make an empty one."""
    return HotReads(HotKeys(), clock=world.clock, sampling=sampling)


def read(hot: HotReads, world: World, pk: str, times: int) -> None:
    """Read an item so often."""
    for _ in range(times):
        hot.read(world.read_plan(pk))


@pytest.mark.parametrize(("chance", "reads"), [(0.0, 1), (0.5, 64), (0.999, 127)])
async def test_reads_between_samples_are_drawn(world: World, chance: float, reads: int) -> None:
    """One in 64 on average, with 1 to 127 reads from one to the next."""
    world.clock.chance = chance
    hot = hot_reads(world, SAMPLING)
    read(hot, world, "a", reads - 1)
    assert hot.report() == ()
    read(hot, world, "a", 1)
    assert [table.sampled for table in hot.report()] == [1.0]
    assert hot.left == reads


async def test_an_item_is_due_once_it_is_hot_and_its_end_is_near(world: World) -> None:
    """Neither alone is enough, nor is it without luck, nor where the table does not want it."""
    entry, plan = await entry_of(world), world.read_plan("a")
    hot = hot_reads(world)
    near_ms, long_ms = entry.soft_ms - 1100, entry.soft_ms - 50_001
    world.clock.chance = 0.0
    read(hot, world, "a", 2)
    assert not hot.due(plan, entry, near_ms), "not hot yet"
    read(hot, world, "a", 1)
    assert hot.due(plan, entry, near_ms)
    assert not hot.due(plan, entry, long_ms)
    assert 0.3 < hot.chance(plan, entry, near_ms) < 0.5
    world.clock.chance = 0.6
    assert not hot.due(plan, entry, near_ms)
    assert hot.due(plan, entry, entry.soft_ms - 1), "in the end it is certain"
    unwanted = replace(plan, policy=replace(plan.policy, refresh_ahead=False))
    assert not hot.due(unwanted, entry, entry.soft_ms - 1)
    assert not hot.due(world.read_plan("b"), entry, entry.soft_ms - 1)


async def test_slow_fetches_make_it_due_earlier(world: World) -> None:
    """The time is a moving average per table; before the first fetch it is a cautious guess."""
    entry, plan = await entry_of(world), world.read_plan("a")
    hot = hot_reads(world)

    def certain(left_s: float) -> bool:
        return hot.chance(plan, entry, entry.soft_ms - int(1000 * left_s)) == 1.0

    assert certain(0.1)
    assert not certain(0.11)
    hot.took(TABLE, 0.5)
    assert certain(1.0)
    hot.took(TABLE, 0.0)
    assert not certain(0.81)
    assert certain(0.8)


async def test_fetch_times_are_kept_of_so_many_tables(world: World) -> None:
    """Of others it stays the guess."""
    entry, plan = await entry_of(world), world.read_plan("a")
    hot = hot_reads(world)
    for number in range(TABLES_MAX):
        hot.took(TableName(f"t{number}"), 0.5)
    hot.took(TABLE, 0.5)
    assert hot.chance(plan, entry, entry.soft_ms - 1000) < 1.0


async def test_after_a_failure_nothing_is_due_for_a_second(world: World) -> None:
    """Upstream is not asked again and again for what can wait."""
    entry, plan = await entry_of(world), world.read_plan("a")
    hot = hot_reads(world)
    read(hot, world, "a", 3)
    hot.failed()
    world.clock.pause(0.9)
    assert not hot.due(plan, entry, entry.soft_ms - 1)
    world.clock.pause(0.1)
    assert hot.due(plan, entry, entry.soft_ms - 1)


async def test_the_report_names_items_by_marks(world: World) -> None:
    """Shares and rates, the most read first, under hashes that another process has others for."""
    hot, other = hot_reads(world, Sampling(every=4)), hot_reads(world)
    for pk, samples in (("a", 3), ("b", 1)):
        for _ in range(samples):
            hot.sample(world.read_plan(pk))
    world.clock.pause(8.0)
    (table,) = hot.report()
    assert (table.table, table.sampled, table.reads_per_s) == (TABLE, 4.0, 2.0)
    assert [(key.share, key.share_error, key.reads_per_s) for key in table.keys] == [
        (0.75, 0.0, 1.5),
        (0.25, 0.0, 0.5),
    ]
    assert hot.report() == (table,)
    read(other, world, "a", 1)
    assert other.report()[0].keys[0].mark != table.keys[0].mark
    assert len({key.mark for key in table.keys}) == 2


async def test_the_report_is_short(world: World) -> None:
    """So many items per table, and no rate beyond what one second would give."""
    hot = hot_reads(world)
    for number in range(TOP + 1):
        read(hot, world, str(number), 1)
    (table,) = hot.report()
    assert (len(table.keys), table.reads_per_s) == (TOP, TOP + 1)


async def test_the_share_of_the_most_read_item_needs_enough_samples(world: World) -> None:
    """Of a few samples one item always has a large share."""
    hot = hot_reads(world)
    read(hot, world, "a", 30)
    read(hot, world, "b", 1)
    assert hot.top_shares() == {TABLE: 0.0}
    read(hot, world, "b", 9)
    assert hot.top_shares() == {TABLE: 0.75}
