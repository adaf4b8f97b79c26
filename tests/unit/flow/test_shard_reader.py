"""Claims about reading one shard: effects before places, and what each kind of trouble does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from proxy.core.errors import StoreFailure
from proxy.core.shard_progress import EMPTY_ANSWERS
from proxy.core.shard_tree import Checkpoint, Start
from proxy.core.stream_answers import StreamTrouble
from proxy.core.stream_records import GapReason, PoisonReason, RecordResult
from proxy.core.values import Outcome
from proxy.flow.events import StreamGap, StreamParked, StreamTroubled
from proxy.flow.shard_reader import BYTES_PER_S, POLL_S, TRIES_MAX, ShardReader
from tests.fakes.memory_store import Step
from tests.support.flow_world import TABLE, World
from tests.support.stream_world import Reading, StreamRig

HORIZON = Checkpoint(Start.HORIZON)


@pytest.fixture
async def rig(world: World) -> AsyncIterator[StreamRig]:
    """Give a table whose stream has one shard."""
    made = StreamRig(world)
    yield made
    await made.close()


async def started(
    rig: StreamRig, checkpoint: Checkpoint = HORIZON
) -> tuple[Reading, ShardReader, str]:
    """Start reading the one shard."""
    reading = rig.reading()
    (shard_id,) = rig.stream.shards
    rig.know(shard_id, checkpoint)
    shard = await reading.claim(shard_id)
    reading.tasks.spawn(shard.read(), "shard")
    return reading, shard, shard_id


def start_of(rig: StreamRig, shard_id: str) -> Start:
    """Return where the shard's next reader would go on."""
    return rig.shards()[shard_id].checkpoint.start


def put_elsewhere(rig: StreamRig, *pks: str, v: str = "1") -> None:
    """Write items behind the proxies' backs."""
    for pk in pks:
        rig.world.put_elsewhere(pk, v)


# The way of a record


async def test_records_take_effect_and_then_their_place_is_kept(
    world: World, rig: StreamRig
) -> None:
    """The next reader goes on behind the last of them."""
    proxy = world.proxy()
    put_elsewhere(rig, "a", v="0")
    await proxy.get("a")
    put_elsewhere(rig, "a", "b")
    reading, _, shard_id = await started(rig)
    places: list[Start] = []

    async def look(step: Step) -> None:
        if step.name in {"peek", "invalidate"}:
            places.append(start_of(rig, shard_id))

    reading.store.before = look
    await rig.until(lambda: reading.done() == 3)
    await rig.until(lambda: start_of(rig, shard_id) is Start.AFTER)
    assert places == [Start.HORIZON] * 3
    last = rig.stream.shards[shard_id].records[-1].sequence
    assert rig.shards()[shard_id].checkpoint.sequence == str(last)
    assert (await proxy.get("a")).outcome is Outcome.MISS


async def test_the_latest_end_voids_what_is_older(world: World, rig: StreamRig) -> None:
    """Once the iterator stands there; the next reader goes on at the horizon."""
    proxy = world.proxy()
    put_elsewhere(rig, "a", v="0")
    await proxy.get("a")
    reading, _, shard_id = await started(rig, Checkpoint(Start.LATEST))
    await rig.until(lambda: start_of(rig, shard_id) is Start.HORIZON)
    assert reading.told(StreamGap) == [StreamGap(TABLE, GapReason.NEW)]
    assert (await proxy.get("a")).outcome is Outcome.MISS
    put_elsewhere(rig, "b")
    await rig.until(lambda: reading.done() == 1)


async def test_a_closed_shard_is_read_to_its_end(rig: StreamRig) -> None:
    """Then it is done, and nobody holds it."""
    put_elsewhere(rig, "a")
    rig.stream.split()
    reading = rig.reading()
    shard_id = next(iter(rig.stream.shards))
    rig.know(shard_id, HORIZON)
    assert await (await reading.claim(shard_id)).read()
    assert (reading.done(), start_of(rig, shard_id)) == (1, Start.DONE)
    assert rig.shards()[shard_id].holder is None


async def test_a_shard_is_as_of_its_last_look(world: World, rig: StreamRig) -> None:
    """Where it brought nothing that is the moment it was asked; else what its records say."""
    reading, shard, shard_id = await started(rig)
    await rig.until(lambda: rig.shards()[shard_id].as_of_ms > 0)
    await world.clock.sleep(10.0)
    assert world.store.now_ms() - rig.shards()[shard_id].as_of_ms <= 1100
    rig.stream.lag_s = 5.0
    put_elsewhere(rig, "a")
    await rig.until(lambda: reading.done() == 1)
    assert 4000 <= world.store.now_ms() - rig.shards()[shard_id].as_of_ms <= 7000
    assert 4.0 <= shard.iterator_age_s <= 7.0
    await world.clock.sleep(5.0)
    assert shard.iterator_age_s == 0.0


async def test_an_answer_without_records_proves_nothing_to_who_comes_from_afar(
    world: World, rig: StreamRig
) -> None:
    """DynamoDB gives some on the way to the records, and does not say that it was not the end."""
    put_elsewhere(rig, "a")
    await world.clock.sleep(600.0)
    rig.stream.way = EMPTY_ANSWERS - 1
    asked_ms = world.store.now_ms()
    reading, _, shard_id = await started(rig)
    calls = world.upstream.tables.streams.calls
    await rig.until(lambda: len(calls) == EMPTY_ANSWERS - 1)
    assert rig.shards()[shard_id].as_of_ms == asked_ms
    assert not reading.done()
    await rig.until(lambda: reading.done() == 1)
    assert world.store.now_ms() - asked_ms < EMPTY_ANSWERS * 1000 * POLL_S
    await rig.until(lambda: rig.shards()[shard_id].as_of_ms > asked_ms)
    assert len(calls) == 2 * EMPTY_ANSWERS


async def test_who_goes_on_after_a_day_voids_the_table(world: World, rig: StreamRig) -> None:
    """At a horizon DynamoDB does not tell that records are lost."""
    world.policy = replace(world.policy, negative_ttl_s=1e6)
    proxy = world.proxy()
    await proxy.get("a")
    reading, _, shard_id = await started(rig, Checkpoint(Start.LATEST))
    await rig.until(lambda: start_of(rig, shard_id) is Start.HORIZON)
    await reading.die()
    await proxy.get("a")
    put_elsewhere(rig, "a")
    await world.clock.sleep(25 * 3600.0)
    put_elsewhere(rig, "b")
    assert (await proxy.get("a")).outcome is Outcome.NEGATIVE_HIT
    later = rig.reading()
    later.tasks.spawn((await later.claim(shard_id)).read(), "shard")
    await rig.until(lambda: later.done() == 1)
    assert later.told(StreamGap) == [StreamGap(TABLE, GapReason.UNREAD)]
    assert (await proxy.get("a")).outcome is Outcome.MISS
    assert world.store.now_ms() - rig.shards()[shard_id].as_of_ms < 5000


async def test_who_was_stopped_for_a_day_voids_the_table(world: World, rig: StreamRig) -> None:
    """Nobody took its shard over; where it goes on it is told of nothing."""
    reading, _, _ = await started(rig)
    gate = world.upstream.hold("GetRecords", after_effect=True)
    await world.clock.sleep(21 * 3600.0)
    put_elsewhere(rig, "a")
    gate.release()
    await rig.until(lambda: reading.done() == 1)
    assert reading.told(StreamGap) == [StreamGap(TABLE, GapReason.UNREAD)]


@pytest.mark.parametrize("start", [HORIZON, Checkpoint(Start.LATEST)])
async def test_a_shard_falls_behind_while_its_place_cannot_be_kept(
    world: World, rig: StreamRig, start: Checkpoint
) -> None:
    """What is kept at last is as of the look, not of the moment that it is kept."""
    tries: list[tuple[int, int]] = []

    async def look(step: Step) -> None:
        if step.name == "keep_shard":
            tries.append((world.store.now_ms(), rig.shards()[shard_id].as_of_ms))

    reading, _, shard_id = await started(rig, start)
    reading.store.before = look
    asked_ms = world.store.now_ms()
    for _ in range(3):
        reading.store.fail_next(StoreFailure.TIMEOUT, step="end_table")
    for _ in range(6):
        reading.store.fail_next(StoreFailure.TIMEOUT, step="keep_shard")
    await rig.until(lambda: len(tries) > 7)
    assert tries[6][0] - asked_ms > 3000
    assert 0 < tries[7][1] <= asked_ms


async def test_a_place_that_waits_in_a_store_that_stands_still_is_as_old_as_it_was(
    world: World, rig: StreamRig
) -> None:
    """The store's own clock went on, and nobody read meanwhile."""
    reading, _, shard_id = await started(rig)
    kept: list[int] = []

    async def stand_still(step: Step) -> None:
        if step.name == "keep_shard":
            kept.append(rig.shards()[shard_id].as_of_ms)
            await world.clock.sleep(20.0)

    await rig.until(lambda: len(rig.world.upstream.tables.streams.calls) > EMPTY_ANSWERS)
    reading.store.before = stand_still
    stood_ms = world.store.now_ms()
    await rig.until(lambda: len(kept) == 2)
    assert kept[1] - stood_ms < 2000


async def test_a_new_iterator_is_no_proof_of_the_end(world: World, rig: StreamRig) -> None:
    """The one before may have been far ahead of the place that was kept."""
    _, _, shard_id = await started(rig)
    streams = world.upstream.tables.streams
    await rig.until(lambda: len(streams.calls) > EMPTY_ANSWERS)
    rig.stream.way = 3
    put_elsewhere(rig, "a")
    streams.expire_iterators()
    del streams.calls[:]
    asked_ms = world.store.now_ms() + 1000  # it pauses for so long at the end
    await rig.until(lambda: len(streams.calls) == 3)
    assert rig.shards()[shard_id].as_of_ms <= asked_ms


async def test_a_new_stream_is_at_its_end(world: World, rig: StreamRig) -> None:
    """Each answer without records says so."""
    _, _, shard_id = await started(rig, Checkpoint(Start.LATEST))
    calls = world.upstream.tables.streams.calls
    await rig.until(lambda: len(calls) == EMPTY_ANSWERS - 1)
    assert world.store.now_ms() - rig.shards()[shard_id].as_of_ms <= 1100


async def test_an_idle_shard_is_asked_seldom_and_a_busy_one_often(
    world: World, rig: StreamRig
) -> None:
    """Once a second, four times at most."""
    reading, _, _ = await started(rig)
    await world.clock.sleep(10.0)
    calls = rig.world.upstream.tables.streams.calls
    del calls[:]
    await world.clock.sleep(20.0)
    assert 19 <= len(calls) <= 21
    put_elsewhere(rig, "a")
    await rig.until(lambda: reading.done() == 1)
    del calls[:]
    for number in range(40):
        put_elsewhere(rig, f"k{number}")
        await world.clock.sleep(POLL_S)
    assert 38 <= len(calls) <= 42


async def test_large_batches_are_asked_for_less_often(world: World, rig: StreamRig) -> None:
    """A shard gives so many bytes a second, to all its readers."""
    reading, _, _ = await started(rig)
    for number in range(30):
        put_elsewhere(rig, f"k{number}", v="x" * 40_000)
    await rig.until(lambda: reading.done() == 30)
    calls = rig.world.upstream.tables.streams.calls
    (large,) = [each for each in calls if each.given_bytes > BYTES_PER_S / 2]
    del calls[:]
    put_elsewhere(rig, "a")
    await rig.until(lambda: reading.done() == 31, step_s=0.01)
    passed_s = world.clock.wall_s() - large.at_s
    assert passed_s >= large.given_bytes / BYTES_PER_S - 0.02


async def test_a_shard_is_given_up_after_its_batch(rig: StreamRig) -> None:
    """With its place, and at once free."""
    reading, shard, shard_id = await started(rig)
    put_elsewhere(rig, "a")
    await rig.until(lambda: reading.done() == 1)
    shard.leave()
    await rig.until(lambda: rig.shards()[shard_id].holder is None)
    await rig.until(lambda: not len(reading.tasks))
    assert start_of(rig, shard_id) is Start.AFTER


async def test_a_reader_that_lost_its_shard_stops(rig: StreamRig) -> None:
    """What it applied was applied twice; its place is refused."""
    reading, _, shard_id = await started(rig)
    await rig.until(lambda: rig.shards()[shard_id].as_of_ms > 0)
    rig.take_over(shard_id)
    before = rig.shards()[shard_id]
    put_elsewhere(rig, "a")
    await rig.until(lambda: not len(reading.tasks))
    assert rig.shards()[shard_id] == before


# Trouble


async def test_an_expired_iterator_is_replaced(rig: StreamRig) -> None:
    """From the place that was kept: nothing is lost, nothing comes twice."""
    reading, _, _ = await started(rig)
    put_elsewhere(rig, "a")
    await rig.until(lambda: reading.done() == 1)
    rig.world.upstream.tables.streams.expire_iterators()
    put_elsewhere(rig, "b")
    await rig.until(lambda: reading.done() == 2)
    assert [each.trouble for each in reading.told(StreamTroubled)] == [StreamTrouble.EXPIRED]


async def test_an_iterator_that_was_never_good_is_waited_for(rig: StreamRig) -> None:
    """A service that calls a new one expired must not be asked without end."""
    rig.world.upstream.tables.streams.refuse("GetShardIterator", "ExpiredIteratorException")
    put_elsewhere(rig, "a")
    reading, _, _ = await started(rig)
    await rig.until(lambda: reading.done() == 1)


async def test_trimmed_records_void_the_table(world: World, rig: StreamRig) -> None:
    """A gap: reading goes on at the horizon."""
    proxy = world.proxy()
    put_elsewhere(rig, "a")
    reading, shard, shard_id = await started(rig)
    await rig.until(lambda: reading.done() == 1)
    shard.leave()
    await rig.until(lambda: not len(reading.tasks))
    await proxy.get("b")
    put_elsewhere(rig, "b", "c")
    rig.stream.trim()
    put_elsewhere(rig, "d")
    later = rig.reading()
    later.tasks.spawn((await later.claim(shard_id)).read(), "shard")
    await rig.until(lambda: later.done() == 1)
    assert later.told(StreamGap) == [StreamGap(TABLE, GapReason.TRIMMED)]
    assert (await proxy.get("b")).outcome is Outcome.MISS


@pytest.mark.parametrize("start", [Start.LATEST, Start.HORIZON])
async def test_a_shard_that_is_gone_voids_the_table_and_is_done(
    rig: StreamRig, start: Start
) -> None:
    """Nobody can read what was left in it."""
    refuse = rig.world.upstream.tables.streams.refuse
    refuse("GetShardIterator", "ResourceNotFoundException")
    reading, _, shard_id = await started(rig, Checkpoint(start))
    await rig.until(lambda: not len(reading.tasks))
    assert start_of(rig, shard_id) is Start.DONE
    assert reading.told(StreamGap) == [StreamGap(TABLE, GapReason.LOST)]


@pytest.mark.parametrize("error", ["LimitExceededException", "InternalServerError"])
async def test_a_shard_is_held_through_throttles_and_failures(
    world: World, rig: StreamRig, error: str
) -> None:
    """With growing pauses, each shorter than the lease."""
    rig.world.upstream.tables.streams.refuse("GetRecords", error, times=8)
    put_elsewhere(rig, "a")
    reading, _, shard_id = await started(rig)
    lost = False
    while not reading.done():
        lost = lost or rig.shards()[shard_id].deadline_ms < world.store.now_ms()
        await world.clock.sleep(0.1)
    assert not lost
    assert len(reading.told(StreamTroubled)) == 8
    assert 3.0 < world.clock.monotonic_s() < 60.0


async def test_without_the_store_nothing_is_skipped(world: World, rig: StreamRig) -> None:
    """However long it takes."""
    reading, _, shard_id = await started(rig)
    await rig.until(lambda: rig.shards()[shard_id].as_of_ms > 0)
    reading.store.down = StoreFailure.TIMEOUT
    put_elsewhere(rig, "a")
    await world.clock.sleep(60.0)
    assert start_of(rig, shard_id) is Start.HORIZON
    reading.store.down = None
    await rig.until(lambda: start_of(rig, shard_id) is Start.AFTER)
    assert reading.results()[RecordResult.ABSENT] == 1


async def test_a_record_that_failed_comes_again_alone(rig: StreamRig) -> None:
    """Those of its batch that took effect do not."""
    put_elsewhere(rig, "a", "b")
    reading, _, shard_id = await started(rig)
    reading.store.stop_serving()
    reading.store.fail_next(StoreFailure.REFUSED, step="invalidate")
    await rig.until(lambda: start_of(rig, shard_id) is Start.AFTER)
    assert reading.results() == {RecordResult.FAILED: 1, RecordResult.INVALIDATED: 2}


# Parking


def parked_in(rig: StreamRig) -> list[dict[str, Any]]:
    """Return what is parked."""
    return [json.loads(each) for each in rig.streams.lists[rig.parked_key]]


async def test_poison_is_parked_and_reading_goes_on(rig: StreamRig) -> None:
    """With its record, for the operator to look at."""
    rig.stream.spoil(lambda shown: shown.update(eventName="TRUNCATE"))
    put_elsewhere(rig, "a")
    put_elsewhere(rig, "b")
    reading, _, shard_id = await started(rig)
    await rig.until(lambda: start_of(rig, shard_id) is Start.AFTER)
    (parked,) = parked_in(rig)
    assert (parked["table"], parked["shard"], parked["reason"]) == (
        TABLE,
        shard_id,
        PoisonReason.UNKNOWN_EVENT,
    )
    assert parked["record"]["eventName"] == "TRUNCATE"
    assert reading.told(StreamParked) == [StreamParked(TABLE, PoisonReason.UNKNOWN_EVENT, 0)]


async def test_poison_whose_table_is_not_void_yet_is_tried_again(rig: StreamRig) -> None:
    """It is parked once it is."""
    rig.stream.spoil(lambda shown: shown.update(eventName="TRUNCATE"))
    put_elsewhere(rig, "a")
    reading, _, shard_id = await started(rig)
    reading.store.fail_next(StoreFailure.TIMEOUT, step="end_table")
    await rig.until(lambda: start_of(rig, shard_id) is Start.AFTER)
    assert len(parked_in(rig)) == 1
    assert reading.results() == {RecordResult.FAILED: 1, RecordResult.POISON: 1}


async def test_a_record_that_the_store_refuses_again_and_again_is_parked(
    world: World, rig: StreamRig
) -> None:
    """After its table was voided; the store takes all else."""
    put_elsewhere(rig, "a")
    reading, _, shard_id = await started(rig)
    reading.store.stop_serving()
    for _ in range(TRIES_MAX):
        reading.store.fail_next(StoreFailure.REFUSED, step="invalidate")
    await rig.until(lambda: start_of(rig, shard_id) is Start.AFTER)
    assert [each["reason"] for each in parked_in(rig)] == [PoisonReason.REFUSED]
    assert reading.told(StreamGap) == [StreamGap(TABLE, GapReason.REFUSED)]
    assert world.clock.monotonic_s() > 1.0


async def test_a_batch_without_a_place_is_read_again(rig: StreamRig) -> None:
    """By the next reader; this one goes on."""
    rig.stream.spoil(lambda shown: shown.pop("dynamodb"))
    put_elsewhere(rig, "a")
    reading, _, shard_id = await started(rig)
    await rig.until(lambda: len(parked_in(rig)) == 1)
    await rig.until(lambda: rig.shards()[shard_id].as_of_ms > 0)
    assert start_of(rig, shard_id) is Start.HORIZON
    put_elsewhere(rig, "b")
    await rig.until(lambda: start_of(rig, shard_id) is Start.AFTER)
    assert reading.told(StreamParked) == [StreamParked(TABLE, PoisonReason.UNREADABLE, 0)]
