"""Claims about what records of a stream do to what is cached of their items."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from proxy.core.errors import StoreFailure
from proxy.core.record import Entry, Pending, Tombstone
from proxy.core.stream_records import PoisonReason, RecordResult, read_record
from proxy.core.values import Outcome, WriteMode
from proxy.flow.stream_effects import AT_ONCE_MAX, Applied
from tests.support.flow_world import TABLE, World, key_of, value_of
from tests.support.stream_world import Reading, StreamRig

SCAN = {"TableName": TABLE}


@pytest.fixture
async def rig(world: World) -> AsyncIterator[StreamRig]:
    """Give a table with a stream."""
    made = StreamRig(world)
    yield made
    await made.close()


def raw(pk: str, v: str | None, event: str | None = None, **change: Any) -> dict[str, Any]:
    """Return a record that an item has attribute `v` now, or is gone."""
    told: dict[str, Any] = {"Keys": key_of(pk), "SequenceNumber": "1", **change}
    told.setdefault("StreamViewType", "NEW_IMAGE")
    if v is not None:
        told["NewImage"] = {"v": {"S": v}, **key_of(pk)}
    kind = event or ("REMOVE" if v is None else "MODIFY")
    return {"eventName": kind, "dynamodb": told}


async def apply(reading: Reading, *records: object) -> Applied:
    """Apply a batch."""
    return await reading.effects.apply(TABLE, records)


def only(applied: Applied) -> RecordResult:
    """Return the result of the one record."""
    (result,) = applied.results
    return result


async def test_an_older_entry_is_invalidated(world: World, rig: StreamRig) -> None:
    """A write past every proxy: its record leaves a tombstone, and the next read sees it."""
    proxy, reading = world.proxy(), rig.reading()
    world.put_elsewhere("a", "0")
    await proxy.get("a")
    world.put_elsewhere("a", "1")
    assert only(await apply(reading, raw("a", "1"))) is RecordResult.INVALIDATED
    assert isinstance(world.store.record(world.identity("a")), Tombstone)
    assert value_of(await proxy.get("a")) == "1"


async def test_an_entry_that_shows_the_write_stays(world: World, rig: StreamRig) -> None:
    """Own writes do not lose what they stored, however it is spelled."""
    world.policy = replace(world.policy, write_mode=WriteMode.THROUGH)
    proxy, reading = world.proxy(), rig.reading()
    await proxy.put("a", "1")
    assert isinstance(world.store.record(world.identity("a")), Entry)
    assert only(await apply(reading, raw("a", "1"))) is RecordResult.SAME
    assert (await proxy.get("a")).outcome is Outcome.HIT


async def test_an_absence_dies_with_an_insert_and_outlives_a_removal(
    world: World, rig: StreamRig
) -> None:
    """An absence is an entry that says what is left after a removal."""
    proxy, reading = world.proxy(), rig.reading()
    await proxy.get("a")
    assert only(await apply(reading, raw("a", None))) is RecordResult.SAME
    world.put_elsewhere("a", "1")
    assert only(await apply(reading, raw("a", "1", "INSERT"))) is RecordResult.INVALIDATED
    assert value_of(await proxy.get("a")) == "1"


async def test_without_an_image_every_entry_is_invalidated(world: World, rig: StreamRig) -> None:
    """Nobody knows whether it shows the write."""
    proxy, reading = world.proxy(), rig.reading()
    world.put_elsewhere("a", "1")
    await proxy.get("a")
    record = raw("a", "1", StreamViewType="KEYS_ONLY")
    del record["dynamodb"]["NewImage"]
    assert only(await apply(reading, record)) is RecordResult.INVALIDATED


async def test_nothing_is_left_where_nothing_was_cached(world: World, rig: StreamRig) -> None:
    """A batch job leaves no tombstones."""
    assert only(await apply(rig.reading(), raw("a", "1"))) is RecordResult.ABSENT
    assert world.store.record(world.identity("a")) is None


async def test_a_tombstone_is_left_where_fills_may_lag(world: World, rig: StreamRig) -> None:
    """A replica that does not know the write yet could fill otherwise."""
    world.policy = replace(world.policy, fill_consistent=False)
    assert only(await apply(rig.reading(), raw("a", "1"))) is RecordResult.INVALIDATED
    assert isinstance(world.store.record(world.identity("a")), Tombstone)


async def test_a_fill_that_fetched_before_the_write_is_refused(
    world: World, rig: StreamRig
) -> None:
    """The record takes its lease away."""
    proxy, reading = world.proxy(), rig.reading()
    world.put_elsewhere("a", "0")
    identity, token = world.identity("a"), world.clock.token()
    generation = (await proxy.store.lookup(identity)).generation
    await proxy.store.lease(identity, token=token, generation=generation, force=False)
    assert only(await apply(reading, raw("a", "1"))) is RecordResult.INVALIDATED
    assert isinstance(world.store.record(identity), Tombstone)


async def test_a_writer_in_flight_loses_the_right_to_store(world: World, rig: StreamRig) -> None:
    """Its marker stays."""
    reading, identity = rig.reading(), world.identity("a")
    await world.store.begin(identity, token=world.clock.token())
    assert only(await apply(reading, raw("a", "1"))) is RecordResult.INVALIDATED
    assert isinstance(world.store.record(identity), Pending)


async def test_of_one_items_records_the_last_one_counts(world: World, rig: StreamRig) -> None:
    """An entry that shows it stays; all of its records have one result."""
    proxy, reading = world.proxy(), rig.reading()
    world.put_elsewhere("a", "2")
    await proxy.get("a")
    records = [read_record(raw("a", "1")), raw("b", "1"), raw("a", "2")]
    applied = await apply(reading, *records)
    assert applied.results == (RecordResult.SAME, RecordResult.ABSENT, RecordResult.SAME)
    assert reading.store.asked("peek") == 2


async def test_a_large_batch_goes_in_turns(world: World, rig: StreamRig) -> None:
    """So that it does not fill the queues to the store."""
    reading, under_way, most = rig.reading(), 0, 0

    async def count(_: object) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await world.clock.sleep(0.001)
        under_way -= 1

    reading.store.before = count
    records = [raw(f"k{number}", "1") for number in range(2 * AT_ONCE_MAX + 1)]
    applied = await apply(reading, *records)
    assert set(applied.results) == {RecordResult.ABSENT}
    assert most == AT_ONCE_MAX


async def test_nothing_is_done_about_no_records(rig: StreamRig) -> None:
    """An empty batch asks the store nothing."""
    reading = rig.reading()
    assert (await apply(reading)).results == ()
    assert reading.store.steps == []


# Pages


async def test_pages_with_the_item_do_not_count_any_more(world: World, rig: StreamRig) -> None:
    """A scope of each key value, and that of all items, are raised once each."""
    queries = replace(world.policy.queries, enabled=True, scans=True)
    world.policy = replace(world.policy, queries=queries)
    proxy, reading = world.proxy(), rig.reading()
    world.put_elsewhere("a", "0")
    await proxy.call("Scan", SCAN)
    await world.clock.sleep(world.fence.marker_s + 2)
    await proxy.call("Scan", SCAN)
    assert (await proxy.call("Scan", SCAN)).outcome is Outcome.HIT
    world.put_elsewhere("a", "1")
    assert only(await apply(reading, raw("a", "1"))) is RecordResult.ABSENT
    assert reading.store.asked("end_scope") == 2
    answer = await proxy.call("Scan", SCAN)
    assert answer.outcome is Outcome.MISS
    assert b'"S":"1"' in answer.body.replace(b" ", b"")


async def test_pages_that_nobody_caches_cost_nothing(world: World, rig: StreamRig) -> None:
    """No scope is raised."""
    reading = rig.reading()
    await apply(reading, raw("a", "1"))
    assert (reading.store.asked("pages_cached"), reading.store.asked("end_scope")) == (1, 0)


# What goes wrong


async def test_an_item_that_cannot_be_looked_at_is_invalidated(
    world: World, rig: StreamRig
) -> None:
    """In quarantine, say: hits are not allowed then, invalidations are."""
    reading = rig.reading()
    reading.store.stop_serving()
    assert only(await apply(reading, raw("a", "1"))) is RecordResult.INVALIDATED
    assert isinstance(world.store.record(world.identity("a")), Tombstone)


async def test_without_the_store_nothing_is_certain(rig: StreamRig) -> None:
    """The record failed and must come again."""
    reading = rig.reading()
    reading.store.down = StoreFailure.TIMEOUT
    applied = await apply(reading, raw("a", "1"), raw("b", "1"))
    assert applied.failed == [0, 1]


async def test_unknown_pages_are_taken_to_be_cached(rig: StreamRig) -> None:
    """A scope that was not raised for sure makes all its records fail."""
    reading = rig.reading()
    reading.store.fail_next(StoreFailure.TIMEOUT, step="pages_cached")
    assert only(await apply(reading, raw("a", "1"))) is RecordResult.ABSENT
    assert reading.store.asked("end_scope") == 2
    reading.store.fail_next(StoreFailure.TIMEOUT, step="pages_cached")
    reading.store.fail_next(StoreFailure.TIMEOUT, step="end_scope")
    assert only(await apply(reading, raw("a", "1"))) is RecordResult.FAILED


@pytest.mark.parametrize(
    ("poison", "reason"),
    [
        (7, PoisonReason.UNREADABLE),
        (raw("a", "1", "TRUNCATE"), PoisonReason.UNKNOWN_EVENT),
        (raw("", "1"), PoisonReason.STRANGE_KEY),
    ],
)
async def test_poison_voids_its_table(
    world: World, rig: StreamRig, poison: object, reason: PoisonReason
) -> None:
    """Nobody knows which item it is; the other records take effect all the same."""
    proxy, reading = world.proxy(), rig.reading()
    world.put_elsewhere("b", "0")
    await proxy.get("b")
    applied = await apply(reading, poison, raw("a", "1"))
    assert applied.results == (RecordResult.POISON, RecordResult.ABSENT)
    assert applied.poison == {0: reason}
    assert (await proxy.get("b")).outcome is Outcome.MISS


async def test_poison_that_cannot_void_its_table_fails(rig: StreamRig) -> None:
    """It is tried again."""
    reading = rig.reading()
    reading.store.fail_next(StoreFailure.TIMEOUT, step="end_table")
    assert (await apply(reading, 7)).failed == [0]
