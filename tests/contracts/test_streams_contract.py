"""What tests rely on at DynamoDB Streams: held by the fakes and an engine with Streams alike."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.fake_upstream_tables import DynamoError
from tests.fakes.streamed_tables import StreamedTables
from tests.support.stream_client import (
    Asks,
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
KEY: Json = {"pk": {"S": "a"}, "sk": {"N": "1"}}
BOTH = "NEW_AND_OLD_IMAGES"

# Where an engine is known to differ from DynamoDB: (engine, test) to the difference.
KNOWN_DIFFERENCES = {
    (
        "dynamodb",
        "test_stream_that_is_on_is_not_turned_on_again",
    ): "ministack takes it as an update",
    ("dynamodb", "test_stream_that_is_off_is_not_turned_off_again"): "ministack takes it too",
    ("dynamodb", "test_closed_streams_stay_listed"): "ministack lists streams that are on",
    ("dynamodb", "test_description_of_a_stream_that_is_off_names_it"): "ministack says it is off",
}


class Subject:
    """A table under test, at a fake or an engine."""

    def __init__(self, client: Asks) -> None:
        self.client = client
        self.table = f"streamed-{uuid.uuid4().hex[:12]}"

    async def call(self, operation: str, body: Json | None = None) -> Json:
        """Ask about the table."""
        return await self.client.call(operation, {"TableName": self.table, **(body or {})})

    async def create(self, view_type: str | None = BOTH) -> None:
        """Make the table; without a view type it has no stream."""
        streamed = {"StreamEnabled": True, "StreamViewType": view_type}
        await self.call(
            "CreateTable",
            {
                "KeySchema": [
                    {"AttributeName": "pk", "KeyType": "HASH"},
                    {"AttributeName": "sk", "KeyType": "RANGE"},
                ],
                "AttributeDefinitions": [
                    {"AttributeName": "pk", "AttributeType": "S"},
                    {"AttributeName": "sk", "AttributeType": "N"},
                ],
                "BillingMode": "PAY_PER_REQUEST",
                **({"StreamSpecification": streamed} if view_type else {}),
            },
        )
        for _ in range(500):
            if (await self.describe())["TableStatus"] == "ACTIVE":
                return
        pytest.fail("the table did not become active")

    async def turn(self, view_type: str | None) -> Json:
        """Turn the stream on or off."""
        wish: Json = {"StreamEnabled": view_type is not None}
        if view_type is not None:
            wish["StreamViewType"] = view_type
        return await self.call("UpdateTable", {"StreamSpecification": wish})

    async def describe(self) -> Json:
        """Return what DescribeTable shows."""
        shown: Json = (await self.call("DescribeTable"))["Table"]
        return shown

    async def arn(self) -> str:
        """Return the latest stream."""
        arn: str = (await self.describe())["LatestStreamArn"]
        return arn

    async def put(self, value: str, pk: str = "a") -> None:
        """Write one item."""
        await self.call("PutItem", {"Item": {**KEY, "pk": {"S": pk}, "v": {"S": value}}})

    async def stream(self, arn: str | None = None) -> Json:
        """Return what DescribeStream shows."""
        body = {"StreamArn": arn or await self.arn()}
        shown: Json = (await self.client.call("DescribeStream", body))["StreamDescription"]
        return shown

    async def records(self) -> list[Json]:
        """Return every record of the latest stream."""
        return await all_records(self.client, await self.arn())

    async def begin(self, kind: str = "TRIM_HORIZON", number: str = "") -> str:
        """Return an iterator of the only shard."""
        arn = await self.arn()
        (shard,) = await shards_of(self.client, arn)
        return await iterator_of(self.client, arn, shard["ShardId"], kind, number)


@pytest.fixture(params=["fake", "in-process", pytest.param("dynamodb", marks=pytest.mark.engine)])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    """Give a table's name at each fake and at the engine."""
    named, test_name = request.param, request.node.originalname
    if (difference := KNOWN_DIFFERENCES.get((named, test_name))) is not None:
        request.applymarker(pytest.mark.xfail(reason=difference, strict=True))
    if named == "in-process":
        yield Subject(PlainClient(StreamedTables().serve, DynamoError))
    elif named == "dynamodb":
        yield Subject(WireClient(request.getfixturevalue("dynamodb").endpoint))
    else:
        async with FakeUpstream() as fake:
            yield Subject(WireClient(fake.endpoint))


def new_values(records: list[Json]) -> list[str | None]:
    """Return what each record says of the item after it."""
    return [record["dynamodb"].get("NewImage", {}).get("v", {}).get("S") for record in records]


def numbers(records: list[Json]) -> list[int]:
    """Return the sequence numbers."""
    return [int(record["dynamodb"]["SequenceNumber"]) for record in records]


async def test_stream_is_found_three_ways(subject: Subject) -> None:
    """DescribeTable, ListStreams and DescribeStream tell of the same stream."""
    await subject.create()
    table = await subject.describe()
    arn, label = table["LatestStreamArn"], table["LatestStreamLabel"]
    assert arn == f"{table['TableArn']}/stream/{label}"
    assert table["StreamSpecification"] == {"StreamEnabled": True, "StreamViewType": BOTH}
    listed = await subject.call("ListStreams")
    assert listed["Streams"] == [
        {"StreamArn": arn, "StreamLabel": label, "TableName": subject.table}
    ]
    shown = await subject.stream()
    assert (shown["StreamArn"], shown["StreamLabel"]) == (arn, label)
    assert (shown["TableName"], shown["KeySchema"]) == (subject.table, table["KeySchema"])
    assert (shown["StreamStatus"], shown["StreamViewType"]) == ("ENABLED", BOTH)
    (shard,) = shown["Shards"]
    assert 28 <= len(shard["ShardId"]) <= 65
    assert "ParentShardId" not in shard
    assert "EndingSequenceNumber" not in shard["SequenceNumberRange"]


async def test_table_without_a_stream_shows_none(subject: Subject) -> None:
    """Neither its description nor the list of streams."""
    await subject.create(None)
    assert "LatestStreamArn" not in await subject.describe()
    assert (await subject.call("ListStreams"))["Streams"] == []


async def test_stream_holds_what_is_written_while_it_is_on(subject: Subject) -> None:
    """Not what was written before it was turned on, nor after it was turned off."""
    await subject.create(None)
    await subject.put("before")
    await subject.turn(BOTH)
    await subject.put("within")
    await subject.turn(None)
    await subject.put("after")
    assert new_values(await subject.records()) == ["within"]


@pytest.mark.parametrize(
    ("view_type", "images"),
    [
        ("KEYS_ONLY", []),
        ("NEW_IMAGE", ["NewImage"]),
        ("OLD_IMAGE", ["OldImage"]),
        (BOTH, ["NewImage", "OldImage"]),
    ],
)
async def test_record_shows_what_its_view_type_says(
    subject: Subject, view_type: str, images: list[str]
) -> None:
    """Keys always; new and old image where they exist and the stream has them."""
    await subject.create(view_type)
    first, second = ({**KEY, "v": {"S": value}, "n": {"N": "7"}} for value in ("1", "2"))
    await subject.call("PutItem", {"Item": first})
    update = {
        "Key": KEY,
        "UpdateExpression": "SET v = :v",
        "ExpressionAttributeValues": {":v": {"S": "2"}},
    }
    await subject.call("UpdateItem", update)
    await subject.call("DeleteItem", {"Key": KEY})
    expected: list[tuple[str, Json]] = [
        ("INSERT", {"NewImage": first}),
        ("MODIFY", {"NewImage": second, "OldImage": first}),
        ("REMOVE", {"OldImage": second}),
    ]
    for record, (event_name, whole) in zip(await subject.records(), expected, strict=True):
        content = record["dynamodb"]
        shown = {name: image for name, image in content.items() if name.endswith("Image")}
        assert shown == {name: image for name, image in whole.items() if name in images}
        assert (record["eventName"], content["Keys"]) == (event_name, KEY)
        assert content["StreamViewType"] == view_type
        assert "userIdentity" not in record


async def test_record_says_when_and_where(subject: Subject) -> None:
    """In whole seconds, with an identity of its own and no name of the table."""
    since_s = int(time.time())
    await subject.create()
    await subject.put("1")
    await subject.put("2")
    one, two = await subject.records()
    assert since_s <= one["dynamodb"]["ApproximateCreationDateTime"] <= time.time()
    assert one["eventID"] != two["eventID"]
    assert (one["eventSource"], one["awsRegion"]) == ("aws:dynamodb", "us-east-1")
    assert "eventSourceARN" not in one


async def test_records_come_in_the_order_of_their_writes(subject: Subject) -> None:
    """With sequence numbers that rise, as numbers."""
    await subject.create()
    values = [str(number) for number in range(12)]
    for value in values:
        await subject.put(value)
    records = await subject.records()
    assert new_values(records) == values
    assert numbers(records) == sorted(set(numbers(records)))


async def test_write_that_changes_nothing_leaves_no_record(subject: Subject) -> None:
    """The same item put again, nothing deleted, a condition that failed."""
    await subject.create()
    await subject.put("1")
    await subject.put("1")
    await subject.call("DeleteItem", {"Key": {**KEY, "pk": {"S": "nobody"}}})
    put: Json = {"Item": KEY, "ConditionExpression": "attribute_not_exists(pk)"}
    with pytest.raises(Refused, match="ConditionalCheckFailedException"):
        await subject.call("PutItem", put)
    assert new_values(await subject.records()) == ["1"]


async def test_batches_and_transactions_leave_a_record_for_each_item(subject: Subject) -> None:
    """As if each had been written alone."""
    await subject.create()
    await subject.put("old", "gone")
    writes: list[Json] = [
        {"PutRequest": {"Item": {**KEY, "v": {"S": "batch"}}}},
        {"DeleteRequest": {"Key": {**KEY, "pk": {"S": "gone"}}}},
    ]
    await subject.client.call("BatchWriteItem", {"RequestItems": {subject.table: writes}})
    put = {"TableName": subject.table, "Item": {**KEY, "v": {"S": "transaction"}}}
    await subject.client.call("TransactWriteItems", {"TransactItems": [{"Put": put}]})
    events = [
        (record["eventName"], record["dynamodb"]["Keys"]["pk"]["S"])
        for record in await subject.records()
    ]
    assert sorted(events) == [
        ("INSERT", "a"),
        ("INSERT", "gone"),
        ("MODIFY", "a"),
        ("REMOVE", "gone"),
    ]


async def test_iterator_begins_where_its_type_says(subject: Subject) -> None:
    """At the oldest, after the newest, at or after a record."""
    await subject.create()
    for value in ("1", "2", "3"):
        await subject.put(value)
    second = (await subject.records())[1]["dynamodb"]["SequenceNumber"]
    tokens = [
        await subject.begin(),
        await subject.begin("LATEST"),
        await subject.begin("AT_SEQUENCE_NUMBER", second),
        await subject.begin("AFTER_SEQUENCE_NUMBER", second),
    ]
    await subject.put("4")
    found = [new_values(await records_from(subject.client, token)) for token in tokens]
    assert found == [["1", "2", "3", "4"], ["4"], ["2", "3", "4"], ["3", "4"]]


async def test_open_shard_is_read_in_pages_without_end(subject: Subject) -> None:
    """A page holds as many records as asked for; at the end come empty ones, then what is new."""
    await subject.create()
    for value in ("1", "2", "3"):
        await subject.put(value)
    pages = [page async for page in pages_from(subject.client, await subject.begin(), limit=2)]
    assert [new_values(page["Records"]) for page in pages] == [["1", "2"], ["3"], []]
    await subject.put("4")
    assert new_values(await records_from(subject.client, pages[-1]["NextShardIterator"])) == ["4"]


async def test_iterator_can_be_used_again(subject: Subject) -> None:
    """It gives the same records."""
    await subject.create()
    await subject.put("1")
    token = await subject.begin()
    twice = [await records_from(subject.client, token) for _ in range(2)]
    assert twice[0] == twice[1] != []


async def test_shards_are_described_in_pages(subject: Subject) -> None:
    """After the last shard nothing comes."""
    await subject.create()
    arn = await subject.arn()
    (shard,) = await shards_of(subject.client, arn, page=1)
    after = {"StreamArn": arn, "ExclusiveStartShardId": shard["ShardId"]}
    shown = (await subject.client.call("DescribeStream", after))["StreamDescription"]
    assert (shown["Shards"], "LastEvaluatedShardId" in shown) == ([], False)


async def test_closed_shard_ends(subject: Subject) -> None:
    """Turned off, a stream stays readable to the end, where no iterator follows."""
    await subject.create()
    for value in ("1", "2"):
        await subject.put(value)
    token, arn = await subject.begin(), await subject.arn()
    await subject.turn(None)
    shown = await subject.stream(arn)
    assert shown["StreamStatus"] == "DISABLED"
    pages = [page async for page in pages_from(subject.client, token, limit=1)]
    assert [new_values(page["Records"]) for page in pages] == [["1"], ["2"]]
    assert "NextShardIterator" not in pages[-1]
    (shard,) = shown["Shards"]
    last = shard["SequenceNumberRange"]["EndingSequenceNumber"]
    assert pages[-1]["Records"][0]["dynamodb"]["SequenceNumber"] == last
    token = await iterator_of(subject.client, arn, shard["ShardId"], "AFTER_SEQUENCE_NUMBER", last)
    assert await subject.client.call("GetRecords", {"ShardIterator": token}) == {"Records": []}


async def test_stream_turned_on_again_is_another_one(subject: Subject) -> None:
    """It has its own name and none of the old records; the old one keeps its own."""
    await subject.create()
    await subject.put("old")
    old = await subject.arn()
    await subject.turn(None)
    await subject.turn("NEW_IMAGE")
    await subject.put("new")
    assert await subject.arn() != old
    assert (await subject.stream())["StreamViewType"] == "NEW_IMAGE"
    assert new_values(await subject.records()) == ["new"]
    assert new_values(await all_records(subject.client, old)) == ["old"]


async def test_stream_outlives_its_table(subject: Subject) -> None:
    """A table that is created again under the name has another one."""
    await subject.create()
    await subject.put("old")
    old = await subject.arn()
    await subject.call("DeleteTable")
    assert (await subject.stream(old))["StreamStatus"] == "DISABLED"
    assert new_values(await all_records(subject.client, old)) == ["old"]
    await subject.create()
    assert await subject.arn() != old
    assert await subject.records() == []


async def test_closed_streams_stay_listed(subject: Subject) -> None:
    """With those that are on, page by page."""
    await subject.create()
    old = await subject.arn()
    await subject.turn(None)
    await subject.turn(BOTH)
    listed = await subject.call("ListStreams", {"Limit": 1})
    assert [each["StreamArn"] for each in listed["Streams"]] == [old]
    more = {"ExclusiveStartStreamArn": listed["LastEvaluatedStreamArn"]}
    rest = await subject.call("ListStreams", more)
    assert [each["StreamArn"] for each in rest["Streams"]] == [await subject.arn()]
    assert "LastEvaluatedStreamArn" not in rest


async def test_description_of_a_stream_that_is_off_names_it(subject: Subject) -> None:
    """It keeps the name and shows no specification."""
    await subject.create()
    old = await subject.arn()
    await subject.turn(None)
    shown = await subject.describe()
    assert (shown["LatestStreamArn"], "StreamSpecification" in shown) == (old, False)


async def test_stream_that_is_on_is_not_turned_on_again(subject: Subject) -> None:
    """Nor is its view type changed."""
    await subject.create()
    with pytest.raises(Refused, match="ValidationException"):
        await subject.turn("KEYS_ONLY")


async def test_stream_that_is_off_is_not_turned_off_again(subject: Subject) -> None:
    """Whether it ever was on or not."""
    await subject.create(None)
    with pytest.raises(Refused, match="ValidationException"):
        await subject.turn(None)


async def test_what_is_not_there_is_refused(subject: Subject) -> None:
    """Streams and shards nobody knows, and an operation."""
    await subject.create()
    arn = await subject.arn()
    nowhere = arn.replace(subject.table, "nowhere")
    (shard,) = await shards_of(subject.client, arn)
    with pytest.raises(Refused, match="ResourceNotFoundException"):
        await shards_of(subject.client, nowhere)
    with pytest.raises(Refused, match="ResourceNotFoundException"):
        await iterator_of(subject.client, nowhere, shard["ShardId"])
    with pytest.raises(Refused, match="ResourceNotFoundException"):
        await iterator_of(subject.client, arn, "shardId-00000000000000000001-00000001")


async def test_what_makes_no_sense_is_refused(subject: Subject) -> None:
    """Iterators of no kind or of no stream, pages of no record."""
    await subject.create()
    token = await subject.begin()
    with pytest.raises(Refused, match="ValidationException"):
        await subject.begin("YESTERDAY")
    with pytest.raises(Refused, match="ValidationException"):
        await subject.begin("AT_SEQUENCE_NUMBER")
    for wrong in ({"ShardIterator": "nonsense"}, {"ShardIterator": token, "Limit": 0}):
        with pytest.raises(Refused, match="ValidationException"):
            await subject.client.call("GetRecords", wrong)
