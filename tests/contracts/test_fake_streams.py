"""What the fake's streams promise beyond what an emulator has: a tree of shards, lag, trouble.

Readers of streams are tested against these. The last test is a reader of its own, which says that
whatever a script does, who follows the rules misses nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.fake_stream import FakeStream, Shard
from tests.fakes.fake_stream_records import unknown_event_name, without_keys
from tests.fakes.fake_streams import ITERATOR_TTL_S
from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.fake_upstream_tables import DynamoError
from tests.fakes.streamed_tables import StreamedTables
from tests.support.stream_client import (
    PlainClient,
    Refused,
    WireClient,
    all_records,
    iterator_of,
    pages_from,
    records_from,
    shards_of,
)

Json = dict[str, Any]
TABLE = "t"
NAMES = "abcdefgh"


class World:
    """One table with a stream, and a clock that a test moves."""

    def __init__(self, *, shards: int = 1) -> None:
        self.now_s = 1_700_000_000.5
        self.tables = StreamedTables(lambda: self.now_s, lambda: self.now_s)
        self.tables.add(TABLE, pk="S")
        self.tables.streams.shards_at_first = shards
        self.stream: FakeStream = self.tables.enable_stream(TABLE)
        self.client = PlainClient(self.tables.serve, DynamoError)

    def put(self, name: str, value: str) -> None:
        """Write one item."""
        item = {"pk": {"S": name}, "v": {"S": value}}
        self.tables.call("PutItem", {"TableName": TABLE, "Item": item})

    def names_of(self, shard: Shard) -> list[str]:
        """Return items whose records go to a shard."""
        return [name for name in NAMES if self.stream.shard_of(name) is shard]

    async def values(self, shard: Shard) -> list[str]:
        """Return what can be read of one shard."""
        return values(await records_from(self.client, await self.begin(shard)))

    async def begin(self, shard: Shard, kind: str = "TRIM_HORIZON", number: str = "") -> str:
        """Return an iterator."""
        return await iterator_of(self.client, self.stream.arn, shard.shard_id, kind, number)

    async def get(self, token: str) -> Json:
        """Return one answer of GetRecords."""
        return await self.client.call("GetRecords", {"ShardIterator": token})


@pytest.fixture
def world() -> World:
    """Give a stream with one shard."""
    return World()


def values(records: list[Json]) -> list[str]:
    """Return what each record says of the item after it."""
    return [record["dynamodb"]["NewImage"]["v"]["S"] for record in records]


async def test_split_gives_each_half_a_child(world: World) -> None:
    """The parent is closed and keeps its records; each item goes on in one of the children."""
    (parent,) = world.stream.open_shards
    for name in NAMES:
        world.put(name, "before")
    left, right = world.stream.split()
    for name in NAMES:
        world.put(name, "after")
    shown = {shard["ShardId"]: shard for shard in await shards_of(world.client, world.stream.arn)}
    assert list(shown) == [parent.shard_id, left.shard_id, right.shard_id]
    assert {shown[child.shard_id]["ParentShardId"] for child in (left, right)} == {parent.shard_id}
    assert "EndingSequenceNumber" in shown[parent.shard_id]["SequenceNumberRange"]
    assert await world.values(parent) == ["before"] * 8
    assert world.names_of(left) != [] != world.names_of(right)
    for child in (left, right):
        assert await world.values(child) == ["after"] * len(world.names_of(child))
    pages = [page async for page in pages_from(world.client, await world.begin(parent))]
    assert "NextShardIterator" not in pages[-1]


async def test_shard_that_rolls_over_has_one_child(world: World) -> None:
    """An empty one too, whose two numbers are the same."""
    (parent,) = world.stream.open_shards
    child = world.stream.roll_over()
    world.put("a", "1")
    shown = parent.description()["SequenceNumberRange"]
    assert shown["StartingSequenceNumber"] == shown["EndingSequenceNumber"]
    assert child.parent_id == parent.shard_id
    assert await world.get(await world.begin(parent)) == {"Records": []}
    assert await world.values(child) == ["1"]


async def test_stream_may_begin_with_several_shards() -> None:
    """None of which has a parent."""
    world = World(shards=3)
    for name in NAMES:
        world.put(name, name)
    shards = world.stream.open_shards
    assert [shard.parent_id for shard in shards] == [None] * 3
    found = [value for shard in shards for value in await world.values(shard)]
    assert sorted(found) == list(NAMES)
    page = {"StreamArn": world.stream.arn, "Limit": 2}
    shown = (await world.client.call("DescribeStream", page))["StreamDescription"]
    assert shown["LastEvaluatedShardId"] == shards[1].shard_id
    assert len(await shards_of(world.client, world.stream.arn, page=1)) == 3


async def test_shards_may_be_listed_late(world: World) -> None:
    """A parent may end before anybody can know of its child, which takes records meanwhile."""
    world.stream.hide_new_shards()
    child = world.stream.roll_over()
    world.put("a", "1")
    assert len(await shards_of(world.client, world.stream.arn)) == 1
    world.stream.show_shards()
    assert len(await shards_of(world.client, world.stream.arn)) == 2
    assert await world.values(child) == ["1"]


async def test_trimmed_record_is_out_of_reach(world: World) -> None:
    """By number, and by an iterator from before; the oldest that is left begins the shard."""
    (shard,) = world.stream.open_shards
    for value in ("1", "2", "3"):
        world.put("a", value)
    records = await all_records(world.client, world.stream.arn)
    one, two, _ = (record["dynamodb"]["SequenceNumber"] for record in records)
    token = await world.begin(shard)
    world.stream.trim(before=two)
    for kind in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"):
        with pytest.raises(Refused, match="TrimmedDataAccessException"):
            await world.begin(shard, kind, one)
    with pytest.raises(Refused, match="TrimmedDataAccessException"):
        await world.get(token)
    assert await world.values(shard) == ["2", "3"]
    assert values((await world.get(await world.begin(shard, "AT_SEQUENCE_NUMBER", two)))["Records"])


async def test_end_of_a_shard_is_its_last_record_though_that_was_trimmed(world: World) -> None:
    """So who has read it to there can go on after it, and comes to the end."""
    (shard,) = world.stream.open_shards
    for value in ("1", "2"):
        world.put("a", value)
    last = (await all_records(world.client, world.stream.arn))[-1]["dynamodb"]["SequenceNumber"]
    world.stream.trim()
    world.stream.roll_over()
    assert shard.description()["SequenceNumberRange"]["EndingSequenceNumber"] == last


async def test_shards_disappear_from_the_oldest_on(world: World) -> None:
    """An empty one waits for its parent's records to go."""
    (oldest,) = world.stream.open_shards
    world.stream.hold()
    world.put("a", "1")
    middle = world.stream.roll_over()
    youngest = world.stream.roll_over()
    world.stream.trim()
    assert list(world.stream.shards.values()) == [oldest, middle, youngest]
    world.stream.release()
    world.stream.trim()
    assert list(world.stream.shards.values()) == [youngest]


async def test_closed_shard_disappears_when_all_is_trimmed(world: World) -> None:
    """Its children name a parent that is not there; its iterators lead nowhere."""
    (parent,) = world.stream.open_shards
    world.put("a", "1")
    token = await world.begin(parent)
    child = world.stream.roll_over()
    world.stream.trim()
    (shown,) = await shards_of(world.client, world.stream.arn)
    assert (shown["ShardId"], shown["ParentShardId"]) == (child.shard_id, parent.shard_id)
    with pytest.raises(Refused, match="ResourceNotFoundException"):
        await world.get(token)


async def test_records_are_kept_for_a_day(world: World) -> None:
    """And a stream that is off as long, after its last shard was closed."""
    (shard,) = world.stream.open_shards
    world.put("a", "1")
    world.now_s += 23 * 3600.0
    world.put("a", "2")
    world.now_s += 3600.5
    assert await world.values(shard) == ["2"]
    world.stream.disable()
    world.now_s += 24 * 3600.0
    assert len((await world.client.call("ListStreams", {}))["Streams"]) == 1
    world.now_s += 1.0
    assert (await world.client.call("ListStreams", {}))["Streams"] == []
    with pytest.raises(Refused, match="ResourceNotFoundException"):
        await shards_of(world.client, world.stream.arn)


async def test_held_records_come_when_released(world: World) -> None:
    """In order, as many as told; LATEST is before them, and a closed shard does not end yet."""
    (shard,) = world.stream.open_shards
    world.put("a", "1")
    world.stream.hold()
    for value in ("2", "3", "4"):
        world.put("a", value)
    latest = await world.begin(shard, "LATEST")
    assert await world.values(shard) == ["1"]
    world.stream.roll_over()
    world.stream.release(1)
    assert await world.values(shard) == ["1", "2"]
    token = (await world.get(await world.begin(shard)))["NextShardIterator"]
    world.stream.release()
    assert values((await world.get(token))["Records"]) == ["3", "4"]
    assert values((await world.get(latest))["Records"]) == ["2", "3", "4"]


async def test_one_shard_may_be_held_alone() -> None:
    """The others go on."""
    world = World(shards=2)
    held, other = world.stream.open_shards
    world.stream.hold(held)
    for name in NAMES:
        world.put(name, name)
    assert await world.values(held) == []
    assert await world.values(other) == world.names_of(other) != []
    world.stream.release()
    assert await world.values(held) == world.names_of(held) != []


async def test_lag_delays_records_and_never_takes_them_back(world: World) -> None:
    """Each is seen when the lag since its write is over."""
    (shard,) = world.stream.open_shards
    world.stream.lag_s = 2.0
    world.put("a", "1")
    world.now_s += 1.5
    world.put("a", "2")
    seen = []
    for _ in range(3):
        seen.append(await world.values(shard))
        world.now_s += 1.0
    world.stream.lag_s = 3.5  # the second is younger, and was seen
    assert [*seen, await world.values(shard)] == [[], ["1"], ["1", "2"], ["1", "2"]]


async def test_page_may_be_empty_although_there_is_more(world: World) -> None:
    """The iterator that comes with it goes on."""
    (shard,) = world.stream.open_shards
    world.put("a", "1")
    world.stream.roll_over()
    world.stream.way = 1
    first = await world.get(await world.begin(shard))
    assert first["Records"] == []
    second = await world.get(first["NextShardIterator"])
    assert (values(second["Records"]), "NextShardIterator" in second) == (["1"], False)


async def test_page_holds_a_megabyte(world: World) -> None:
    """Or one record, if that is larger; the rest follows."""
    (shard,) = world.stream.open_shards
    for value in ("1", "2", "3"):
        world.put("a", value * 380_000)
    sizes = [
        len(page["Records"]) async for page in pages_from(world.client, await world.begin(shard))
    ]
    assert sizes == [1, 1, 1, 0]  # each but the first with the image before


async def test_iterator_is_good_for_a_quarter_of_an_hour(world: World) -> None:
    """Or until the script says that all are too old."""
    (shard,) = world.stream.open_shards
    token = await world.begin(shard)
    world.now_s += ITERATOR_TTL_S - 1.0
    await world.get(token)
    world.now_s += 1.0
    with pytest.raises(Refused, match="ExpiredIteratorException"):
        await world.get(token)
    token = await world.begin(shard)
    world.tables.streams.expire_iterators()
    with pytest.raises(Refused, match="ExpiredIteratorException"):
        await world.get(token)
    await world.get(await world.begin(shard))


@pytest.mark.parametrize("error", ["LimitExceededException", "InternalServerError"])
async def test_refusals_strike_the_next_calls_of_their_operation(world: World, error: str) -> None:
    """As many as told."""
    (shard,) = world.stream.open_shards
    token = await world.begin(shard)
    world.tables.streams.refuse("GetRecords", error, times=2)
    await shards_of(world.client, world.stream.arn)
    for _ in range(2):
        with pytest.raises(Refused, match=error):
            await world.get(token)
    await world.get(token)


async def test_shard_may_refuse_more_than_it_gives_each_second(world: World) -> None:
    """Five calls, and two megabytes; other shards do not mind."""
    world.tables.streams.limited = True
    world.stream.split()
    busy, idle = world.stream.open_shards
    for _ in range(5):
        await world.get(await world.begin(busy))
    with pytest.raises(Refused, match="LimitExceededException"):
        await world.get(await world.begin(busy))
    await world.get(await world.begin(idle))
    world.now_s += 1.0
    name = world.names_of(busy)[0]
    for value in ("1", "2"):
        token = await world.begin(busy, "LATEST")
        world.put(name, value * 800_000)
        await world.get(token)
    with pytest.raises(Refused, match="LimitExceededException"):
        await world.get(await world.begin(busy))
    assert [call.shard_id for call in world.tables.streams.calls].count(idle.shard_id) == 1


async def test_stream_may_take_its_time_to_be_off(world: World) -> None:
    """It takes no records, and its shards are open until it is."""
    world.put("a", "1")
    world.stream.disable(at_once=False)
    world.put("a", "2")
    shown = await world.client.call("DescribeStream", {"StreamArn": world.stream.arn})
    assert shown["StreamDescription"]["StreamStatus"] == "DISABLING"
    (shard,) = world.stream.open_shards
    assert await world.values(shard) == ["1"]
    world.stream.disable()
    assert world.stream.open_shards == []


async def test_spoiled_record_is_one_and_the_next_is_good(world: World) -> None:
    """Without keys, or of an event nobody knows."""
    world.stream.spoil(without_keys)
    world.stream.spoil(unknown_event_name)
    for value in ("1", "2", "3"):
        world.put("a", value)
    records = await all_records(world.client, world.stream.arn)
    assert ["Keys" in record["dynamodb"] for record in records] == [False, True, True]
    assert [record["eventName"] for record in records] == ["INSERT", "ARCHIVE", "MODIFY"]


async def test_deletion_by_time_to_live_names_the_service(world: World) -> None:
    """What is not there is not deleted."""
    world.put("a", "1")
    world.tables.expire(TABLE, {"pk": {"S": "a"}})
    world.tables.expire(TABLE, {"pk": {"S": "a"}})
    _, record = await all_records(world.client, world.stream.arn)
    assert record["eventName"] == "REMOVE"
    assert record["userIdentity"] == {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
    assert world.tables.newest(TABLE, {"pk": {"S": "a"}}) is None


async def test_equal_number_keys_share_a_shard() -> None:
    """However the number is spelled."""
    world = World(shards=8)
    world.tables.add("n", pk="N")
    stream = world.tables.enable_stream("n")
    for place, spelled in enumerate(["1", "1.00", "1E0", "0.1E1", "10E-1", "+1", "001"]):
        item = {"pk": {"N": spelled}, "v": {"N": str(place)}}
        world.tables.call("PutItem", {"TableName": "n", "Item": item})
    assert sorted(len(shard.records) for shard in stream.shards.values()) == [0] * 7 + [7]


async def test_script_is_told_over_http() -> None:
    """Each step of a stream, by the control endpoint."""
    async with FakeUpstream() as fake, aiohttp.ClientSession() as session:
        fake.tables.add(TABLE, pk="S")
        client = WireClient(fake.endpoint)

        async def tell(**order: object) -> None:
            async with session.post(f"{fake.endpoint}/_fake", json={"stream": order}) as reply:
                assert reply.status == 200

        await tell(table=TABLE, enable="KEYS_ONLY")
        stream = fake.tables.stream(TABLE)
        await tell(table=TABLE, step="split")
        assert len(await shards_of(client, stream.arn)) == 3
        token = await iterator_of(client, stream.arn, stream.open_shards[0].shard_id)
        await tell(refuse="GetRecords")
        with pytest.raises(Refused, match="LimitExceededException"):
            await records_from(client, token)
        await tell(expire_iterators=True)
        with pytest.raises(Refused, match="ExpiredIteratorException"):
            await records_from(client, token)
        await tell(table=TABLE, lag_s=3600.0)
        await client.call("PutItem", {"TableName": TABLE, "Item": {"pk": {"S": "a"}}})
        assert await all_records(client, stream.arn) == []


@dataclass
class Follower:
    """A reader by the rules: parent before child, from where it was, until a shard has ended."""

    world: World
    iterators: dict[str, str] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    read: list[Json] = field(default_factory=list)

    async def look(self) -> None:
        """Read one page of each shard that may be read."""
        shards = await shards_of(self.world.client, self.world.stream.arn, page=2)
        there = {shard["ShardId"] for shard in shards}
        for shard in shards:
            shard_id, parent = shard["ShardId"], shard.get("ParentShardId")
            waits = parent in there and parent not in self.ended
            if waits or shard_id in self.ended:
                continue
            if shard_id not in self.iterators:
                token = await iterator_of(self.world.client, self.world.stream.arn, shard_id)
                self.iterators[shard_id] = token
            reply = await self.world.get(self.iterators[shard_id])
            self.read += reply["Records"]
            if "NextShardIterator" in reply:
                self.iterators[shard_id] = reply["NextShardIterator"]
            else:
                self.ended.add(shard_id)


STEPS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(NAMES)),
    st.tuples(st.just("split"), st.integers(0, 7)),
    st.tuples(st.just("roll over"), st.integers(0, 7)),
    st.tuples(st.just("hold"), st.integers(0, 7)),
    st.tuples(st.sampled_from(["look", "hold all", "release", "way", "hide", "list"]), st.just(0)),
)


def take(world: World, step: str, which: Any, number: int) -> None:
    """Do one step of a script."""
    stream, shards = world.stream, world.stream.open_shards
    actions: dict[str, Callable[[], object]] = {
        "put": lambda: world.put(which, str(number)),
        "split": lambda: stream.split(shards[which % len(shards)]),
        "roll over": lambda: stream.roll_over(shards[which % len(shards)]),
        "hold": lambda: stream.hold(shards[which % len(shards)]),
        "hold all": stream.hold,
        "release": lambda: stream.release(number % 3),
        "way": lambda: setattr(stream, "way", number % 3),
        "hide": stream.hide_new_shards,
        "list": stream.show_shards,
    }
    actions[step]()


@given(st.lists(STEPS, max_size=40), st.integers(1, 3))
def test_who_follows_the_rules_reads_everything_once_and_in_order(
    steps: list[tuple[str, Any]], shards: int
) -> None:
    """Whatever happens to the shards, and whenever records and shards become visible."""

    async def run() -> None:
        world = World(shards=shards)
        follower = Follower(world)
        written: dict[str, list[str]] = {name: [] for name in NAMES}
        for number, (step, which) in enumerate(steps):
            world.now_s += 0.001
            if step == "look":
                await follower.look()
                continue
            take(world, step, which, number)
            if step == "put":
                written[which].append(str(number))
        world.stream.release()
        world.stream.show_shards()
        for _ in range(len(steps) + 3):
            await follower.look()
        read: dict[str, list[str]] = {name: [] for name in NAMES}
        for record in follower.read:
            content = record["dynamodb"]
            read[content["Keys"]["pk"]["S"]].append(content["NewImage"]["v"]["S"])
        assert read == written

    asyncio.run(run())
