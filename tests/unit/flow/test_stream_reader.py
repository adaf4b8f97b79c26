"""Claims about reading a table's stream together with other processes, and about its lag."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from proxy.core.errors import StoreFailure
from proxy.core.shard_tree import Checkpoint, Start
from proxy.core.stream_answers import StreamTrouble
from proxy.core.stream_records import GapReason
from proxy.core.values import Outcome
from proxy.flow.events import StreamGap, StreamLagMoved, StreamTroubled
from proxy.flow.stream_reader import StreamReader
from tests.fakes.memory_store import Step
from tests.support.flow_world import TABLE, World, value_of
from tests.support.stream_world import Reading, StreamRig

HORIZON = Checkpoint(Start.HORIZON)


@pytest.fixture
async def rig(world: World) -> AsyncIterator[StreamRig]:
    """Give a table with a stream."""
    made = StreamRig(world)
    yield made
    await made.close()


def start(reading: Reading, reader: StreamReader | None = None) -> StreamReader:
    """Let a process read."""
    reader = reader or reading.reader
    reading.tasks.spawn(reader.watch(), "watch")
    return reader


async def caught_up(rig: StreamRig, reader: StreamReader) -> None:
    """Wait until all that was written so far took effect."""
    await rig.world.clock.sleep(0.5)
    written_ms = rig.world.store.now_ms()

    def holds() -> bool:
        left = [each for each in rig.shards().values() if not each.done]
        return bool(left) and min(each.as_of_ms for each in left) > written_ms

    await rig.until(holds)
    await rig.until(lambda: (reader.lag_s or 99.0) < 2.5)


def gaps(*readings: Reading) -> list[GapReason]:
    """Return why tables were voided."""
    return [each.reason for reading in readings for each in reading.told(StreamGap)]


# Reading


async def test_a_write_past_every_proxy_is_seen(world: World, rig: StreamRig) -> None:
    """From the first start on; what was cached before is void."""
    proxy, reading = world.proxy(), rig.reading()
    world.put_elsewhere("a", "0")
    await proxy.get("a")
    reader = start(reading)
    assert reader.status().state == "unknown"
    await caught_up(rig, reader)
    assert GapReason.NEW in gaps(reading)
    assert (await proxy.get("a")).outcome is Outcome.MISS
    world.put_elsewhere("a", "1")
    await caught_up(rig, reader)
    assert value_of(await proxy.get("a")) == "1"
    status = reader.status()
    assert (status.state, status.shards, status.held, status.readers) == ("enabled", 1, 1, 1)
    assert (status.over, status.lag_s is not None) == (False, True)


async def test_splits_and_roll_overs_are_followed(world: World, rig: StreamRig) -> None:
    """Children after their parents, at once, and every record once."""
    reading = rig.reading()
    reader = start(reading)
    await caught_up(rig, reader)
    for number in range(4):
        world.put_elsewhere(f"k{number}", "1")
        rig.stream.split() if number % 2 else rig.stream.roll_over()
        world.put_elsewhere(f"m{number}", "1")
    await rig.until(lambda: reading.done() == 8)
    assert gaps(reading) == [GapReason.NEW] * len(gaps(reading))
    await caught_up(rig, reader)
    assert reader.status().held == len(rig.stream.open_shards)


async def test_children_that_are_listed_late_are_looked_for(world: World, rig: StreamRig) -> None:
    """Again and again for a while; their parent's end alone says nothing about the lag."""
    reading = rig.reading()
    reader = start(reading)
    await caught_up(rig, reader)
    rig.stream.hide_new_shards()
    rig.stream.roll_over()
    world.put_elsewhere("a", "1")
    await world.clock.sleep(15.0)
    assert reader.status().shards == 0
    assert (reader.lag_s or 0.0) > 10.0
    rig.stream.show_shards()
    await rig.until(lambda: reading.done() == 1)
    assert gaps(reading) == [GapReason.NEW] * len(gaps(reading))


async def test_children_are_not_looked_for_for_ever(world: World, rig: StreamRig) -> None:
    """After half a minute as often as anything new."""
    reading = rig.reading()
    reader = start(reading)
    await caught_up(rig, reader)
    rig.stream.hide_new_shards()
    rig.stream.roll_over()
    await world.clock.sleep(60.0)
    sent = world.upstream.sent
    del sent[:]
    await world.clock.sleep(60.0)
    assert 2 <= sum(each.operation == "DescribeStream" for each in sent) <= 3


async def test_a_stream_that_is_switched_on_again_is_a_gap(world: World, rig: StreamRig) -> None:
    """Off, the lag grows and the table degrades; on, it is another stream."""
    proxy, reading = world.proxy(), rig.reading()
    reader = start(reading)
    await caught_up(rig, reader)
    rig.stream.disable()
    await rig.until(lambda: reader.status().over)
    assert reader.status().state == "disabled"
    world.put_elsewhere("a", "0")
    await proxy.get("a")
    world.put_elsewhere("a", "1")
    before = len(gaps(reading))
    world.upstream.tables.enable_stream(TABLE)
    await rig.until(lambda: not reader.status().over)
    assert len(gaps(reading)) > before
    assert value_of(await proxy.get("a")) == "1"
    moves = [each.over for each in reading.told(StreamLagMoved)]
    assert moves[-2:] == [True, False]


async def test_a_table_without_a_stream_degrades(world: World, rig: StreamRig) -> None:
    """And is looked at again."""
    world.upstream.tables._latest.clear()
    reading = rig.reading()
    reader = start(reading)
    await world.clock.sleep(2.0)
    assert (reader.status().state, reader.status().over) == ("no-stream", True)
    assert reader.lag_s is None
    world.upstream.tables.enable_stream(TABLE)
    await caught_up(rig, reader)
    assert not reader.status().over


async def test_a_table_that_is_deleted_and_made_anew_is_read_again(
    world: World, rig: StreamRig
) -> None:
    """Its stream is another one."""
    reading = rig.reading()
    reader = start(reading)
    await caught_up(rig, reader)
    tables = world.upstream.tables
    tables.call("DeleteTable", {"TableName": TABLE})
    await rig.until(lambda: reader.status().over)
    assert reader.status().state == StreamTrouble.GONE
    tables.add(TABLE, pk="S")
    tables.enable_stream(TABLE)
    await caught_up(rig, reader)
    world.put_elsewhere("a", "1")
    await rig.until(lambda: reading.done() >= 1)


async def test_a_shard_that_vanished_unread_is_a_gap(world: World, rig: StreamRig) -> None:
    """Nobody read for more than a day, say."""
    reading = rig.reading()
    start(reading)
    await rig.until(lambda: rig.shards() != {})
    await reading.die()
    world.put_elsewhere("a", "1")
    rig.stream.roll_over()
    rig.stream.trim()
    later = rig.reading()
    reader = start(later)
    await caught_up(rig, reader)
    assert GapReason.LOST in gaps(later)


async def test_upstreams_trouble_is_told_and_passes(world: World, rig: StreamRig) -> None:
    """What passes by itself is tried again at once, what does not when it is due."""
    streams = world.upstream.tables.streams
    streams.refuse("DescribeStream", "LimitExceededException", times=2)
    streams.refuse("DescribeStream", "ResourceNotFoundException")
    reading = rig.reading()
    reader = start(reading)
    await caught_up(rig, reader)
    told = [each.trouble for each in reading.told(StreamTroubled)]
    assert told == [StreamTrouble.THROTTLED, StreamTrouble.THROTTLED, StreamTrouble.GONE]
    assert world.clock.monotonic_s() > rig.pace.discover_s


async def test_a_stream_that_was_named_needs_no_table_to_be_described(
    world: World, rig: StreamRig
) -> None:
    """Its ARN comes from the settings."""
    reading = rig.reading()
    reader = start(reading, reading.of_table(arn=rig.stream.arn))
    await caught_up(rig, reader)
    assert not [each for each in world.upstream.sent if each.operation == "DescribeTable"]


# Together


async def test_readers_share_the_shards_and_lose_none(world: World, rig: StreamRig) -> None:
    """One comes, one dies, one goes: every record is applied, by whoever is there."""
    world.upstream.tables.streams.shards_at_first = 4
    world.upstream.tables.enable_stream(TABLE)
    one, two = rig.reading(), rig.reading()
    first = start(one)
    await caught_up(rig, first)
    assert first.status().held == 4
    second = start(two)
    await rig.until(lambda: (first.status().held, second.status().held) == (2, 2))
    await one.die()
    for number in range(8):
        world.put_elsewhere(f"k{number}", "1")
    await rig.until(lambda: second.status().held == 4)
    await rig.until(lambda: two.done() >= 8 - one.done())
    three = rig.reading()
    third = start(three)
    await rig.until(lambda: third.status().held == 2)
    second.leave()
    await rig.until(lambda: third.status().held == 4)
    assert second.status().held == 0
    assert gaps(one, two, three) == [GapReason.NEW] * len(gaps(one))


async def test_a_reader_that_leaves_while_it_claims_gives_back(
    world: World, rig: StreamRig
) -> None:
    """At once."""
    reading = rig.reading()

    async def leave(step: Step) -> None:
        if step.name == "claim_shard":
            reading.reader.leave()

    reading.store.before = leave
    start(reading)
    await rig.until(lambda: reading.store.asked("claim_shard") == 1)
    await world.clock.sleep(3.0)
    assert reading.reader.status().held == 0
    assert all(each.holder is None for each in rig.shards().values())


async def test_a_shard_that_somebody_else_claimed_first_is_left(
    world: World, rig: StreamRig
) -> None:
    """Between the look and the claim."""
    one, two = rig.reading(), rig.reading()

    async def take(step: Step) -> None:
        (shard_id,) = rig.shards() or ("",)
        if step.name == "claim_shard" and rig.shards()[shard_id].holder is None:
            await two.claim(shard_id)

    one.store.before = take
    reader = start(one)
    await rig.until(lambda: one.store.asked("claim_shard") == 1)
    await world.clock.sleep(0.1)
    assert [each.holder for each in rig.shards().values()] == [two.token]
    assert reader.status().held == 0


async def test_a_shard_that_is_held_by_name_only_is_left_to_its_end(
    world: World, rig: StreamRig
) -> None:
    """As after a bug that ended its reader: nobody has to give it up."""
    world.upstream.tables.streams.shards_at_first = 2
    world.upstream.tables.enable_stream(TABLE)
    one, two = rig.reading(), rig.reading()
    for shard_id in rig.stream.shards:
        rig.know(shard_id, HORIZON)
        await one.claim(shard_id)
    await two.reader.look()
    await one.reader.look()
    assert {each.holder for each in rig.shards().values()} == {one.token}
    assert one.reader.status().held == 0


async def test_a_waiting_shard_that_vanished_is_a_gap(world: World, rig: StreamRig) -> None:
    """Upstream has it no more, and nobody could read it."""
    (parent,) = rig.stream.shards
    rig.know(parent, HORIZON)
    rig.know("shardId-gone", HORIZON, parent)
    reading = rig.reading()
    start(reading)
    await rig.until(lambda: "shardId-gone" not in rig.shards())
    assert gaps(reading) == [GapReason.LOST]


async def test_who_only_watches_knows_the_lag(world: World, rig: StreamRig) -> None:
    """And degrades when nobody reads any more."""
    reading, watching = rig.reading(), rig.reading()
    start(reading)
    watcher = start(watching, watching.of_table(reads=False))
    await rig.until(lambda: watcher.lag_s is not None)
    await world.clock.sleep(5.0)
    assert (watcher.status().over, watcher.status().held) == (False, 0)
    await reading.die()
    await world.clock.sleep(rig.lag.lag_s_max + 2.0)
    assert watcher.status().over
    assert watching.policies.policy_of(TABLE).fresh_ttl_s == rig.lag.short_ttl_s


async def test_without_the_store_the_lag_grows(world: World, rig: StreamRig) -> None:
    """By this process's own clock, and reading goes on when the store is back."""
    reading = rig.reading()
    reader = start(reading)
    await caught_up(rig, reader)
    reading.store.down = StoreFailure.TIMEOUT
    await world.clock.sleep(rig.lag.lag_s_max + 5.0)
    assert reader.status().over
    reading.store.down = None
    await rig.until(lambda: not reader.status().over)


async def test_a_lost_record_is_a_new_stream(world: World, rig: StreamRig) -> None:
    """The store was flushed: nobody knows what was read."""
    proxy, reading = world.proxy(), rig.reading()
    reader = start(reading)
    await caught_up(rig, reader)
    before = len(gaps(reading))
    world.store.flush()
    world.put_elsewhere("a", "0")
    await proxy.get("a")
    world.put_elsewhere("a", "1")
    await rig.until(lambda: len(gaps(reading)) > before)
    await caught_up(rig, reader)
    assert value_of(await proxy.get("a")) == "1"


async def test_a_discovery_that_the_store_interrupts_is_made_again(
    world: World, rig: StreamRig
) -> None:
    """At the next look."""
    reading = rig.reading()
    reading.store.fail_next(StoreFailure.TIMEOUT, step="grow_stream")
    reader = start(reading)
    await caught_up(rig, reader)
    assert world.clock.monotonic_s() < rig.pace.discover_s


async def test_all_older_shards_being_done_the_table_is_void_all_the_same(
    world: World, rig: StreamRig
) -> None:
    """A stream that is off when it is read for the first time."""
    rig.pace = replace(rig.pace, discover_s=1000.0)
    proxy, reading = world.proxy(), rig.reading()
    world.put_elsewhere("a", "0")
    await proxy.get("a")
    rig.stream.disable()
    start(reading)
    await rig.until(lambda: gaps(reading) == [GapReason.NEW])
    assert all(each.checkpoint.start is Start.DONE for each in rig.shards().values())
    assert (await proxy.get("a")).outcome is Outcome.MISS


async def test_who_dies_after_it_learned_of_a_new_stream_leaves_its_table_void(
    world: World, rig: StreamRig
) -> None:
    """Nobody after it knows that the stream was new; here its own reply is lost instead."""
    proxy, reading = world.proxy(), rig.reading()
    world.put_elsewhere("a", "0")
    await proxy.get("a")
    rig.stream.disable()
    reading.store.lose_next_reply(step="grow_stream")
    start(reading)
    await rig.until(lambda: bool(rig.shards()))
    await world.clock.sleep(5.0)
    assert (await proxy.get("a")).outcome is Outcome.MISS
