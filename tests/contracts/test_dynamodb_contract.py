"""What tests rely on at a DynamoDB: held by the fake upstream and by real engines alike."""

from __future__ import annotations

import json
import time
import uuid
import zlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from proxy.edge.sigv4 import Credentials, Signer, Unsigned
from tests.fakes.fake_upstream import FakeUpstream

Json = dict[str, Any]
CREDENTIALS = Credentials("AKIDEXAMPLE", "secret")
KEY: Json = {"pk": {"S": "a"}, "sk": {"N": "1"}}

# Where an engine is known to differ from DynamoDB: (engine, test) to the difference.
KNOWN_DIFFERENCES = {
    ("dynamodb", "test_equal_numbers_are_one_key"): "ministack compares number keys as text",
}


class Dynamo:
    """A minimal client: one signed POST per call, the answer as it came."""

    def __init__(self, endpoint: str, session: aiohttp.ClientSession, table: str) -> None:
        self._endpoint = endpoint
        self._session = session
        self.table = table

    async def call(self, operation: str, body: Json | bytes) -> tuple[int, Json]:
        """Send one operation; a dict body names the test's table unless it names others."""
        if isinstance(body, dict) and "RequestItems" not in body:
            body = {"TableName": self.table, **body}
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = [
            ("Host", self._endpoint.removeprefix("http://")),
            ("Content-Type", "application/x-amz-json-1.0"),
            ("X-Amz-Target", f"DynamoDB_20120810.{operation}"),
        ]
        signer = Signer("us-east-1")
        headers += signer.sign(Unsigned("POST", "/", headers, raw), CREDENTIALS, time.time())
        async with self._session.post(self._endpoint, data=raw, headers=headers) as reply:
            text = await reply.read()
            if (crc32 := reply.headers.get("x-amz-crc32")) is not None:
                assert int(crc32) == zlib.crc32(text)
            assert reply.headers.get("x-amzn-RequestId")
            return reply.status, json.loads(text)

    async def get(self, key: Json = KEY) -> Json:
        """Read one item consistently."""
        status, reply = await self.call("GetItem", {"Key": key, "ConsistentRead": True})
        assert status == 200
        return reply


@pytest.fixture(
    params=[
        "fake",
        pytest.param("dynamodb", marks=pytest.mark.engine),
        pytest.param("dynalite", marks=pytest.mark.engine),
    ]
)
async def dynamo(request: pytest.FixtureRequest) -> AsyncIterator[Dynamo]:
    """Give a client with a table of its own, at the fake and at each real engine."""
    table = f"contract-{uuid.uuid4().hex[:12]}"
    async with FakeUpstream() as fake, aiohttp.ClientSession() as session:
        named = request.param
        test_name = request.node.originalname
        if (difference := KNOWN_DIFFERENCES.get((named, test_name))) is not None:
            request.applymarker(pytest.mark.xfail(reason=difference, strict=True))
        endpoint = fake.endpoint if named == "fake" else request.getfixturevalue(named).endpoint
        client = Dynamo(endpoint, session, table)
        await create(client)
        yield client


async def create(client: Dynamo) -> None:
    """Create the test's table and wait until it serves."""
    status, _ = await client.call(
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
        },
    )
    assert status == 200
    for _ in range(500):
        _, shown = await client.call("DescribeTable", {})
        if shown["Table"]["TableStatus"] == "ACTIVE":
            return
    pytest.fail("the table did not become active")


async def test_written_item_is_read_back(dynamo: Dynamo) -> None:
    """A consistent read after PutItem returns the item, and nothing before it."""
    item = {**KEY, "v": {"M": {"x": {"L": [{"BOOL": True}, {"NULL": True}]}}}}
    assert await dynamo.get() == {}
    assert await dynamo.call("PutItem", {"Item": item}) == (200, {})
    assert await dynamo.get() == {"Item": item}


async def test_equal_numbers_are_one_key(dynamo: Dynamo) -> None:
    """A number key is found under every spelling of the number."""
    await dynamo.call("PutItem", {"Item": {**KEY, "v": {"S": "x"}}})
    found = await dynamo.get({"pk": {"S": "a"}, "sk": {"N": "1.00"}})
    assert found["Item"]["v"] == {"S": "x"}


async def test_delete_removes_and_returns_the_old_item(dynamo: Dynamo) -> None:
    """DeleteItem with ALL_OLD returns what it removed; a second one returns nothing."""
    item = {**KEY, "v": {"S": "x"}}
    await dynamo.call("PutItem", {"Item": item})
    delete = {"Key": KEY, "ReturnValues": "ALL_OLD"}
    assert await dynamo.call("DeleteItem", delete) == (200, {"Attributes": item})
    assert await dynamo.call("DeleteItem", delete) == (200, {})
    assert await dynamo.get() == {}


@pytest.mark.parametrize(
    ("wish", "shown"),
    [
        ("NONE", None),
        ("ALL_NEW", {**KEY, "v": {"S": "new"}, "n": {"N": "3"}, "o": {"S": "kept"}}),
        ("ALL_OLD", {**KEY, "v": {"S": "old"}, "n": {"N": "1"}, "o": {"S": "kept"}}),
        ("UPDATED_NEW", {"v": {"S": "new"}, "n": {"N": "3"}}),
        ("UPDATED_OLD", {"v": {"S": "old"}, "n": {"N": "1"}}),
    ],
)
async def test_update_returns_what_was_asked(dynamo: Dynamo, wish: str, shown: Json | None) -> None:
    """UpdateItem changes the named attributes and returns the wished state of them."""
    old = {**KEY, "v": {"S": "old"}, "n": {"N": "1"}, "o": {"S": "kept"}}
    await dynamo.call("PutItem", {"Item": old})
    update = {
        "Key": KEY,
        "UpdateExpression": "SET #v = :v, n = n + :two",
        "ExpressionAttributeNames": {"#v": "v"},
        "ExpressionAttributeValues": {":v": {"S": "new"}, ":two": {"N": "2"}},
        "ReturnValues": wish,
    }
    expected = {} if shown is None else {"Attributes": shown}
    assert await dynamo.call("UpdateItem", update) == (200, expected)
    assert (await dynamo.get())["Item"]["n"] == {"N": "3"}


async def test_update_creates_a_missing_item(dynamo: Dynamo) -> None:
    """UpdateItem of an absent item makes one of its key and the attributes set."""
    update = {
        "Key": KEY,
        "UpdateExpression": "SET v = :v",
        "ExpressionAttributeValues": {":v": {"S": "x"}},
    }
    assert await dynamo.call("UpdateItem", update) == (200, {})
    assert await dynamo.get() == {"Item": {**KEY, "v": {"S": "x"}}}


async def test_failed_condition_changes_nothing(dynamo: Dynamo) -> None:
    """A condition that is not met answers 400 and leaves the item alone."""
    item = {**KEY, "v": {"S": "x"}}
    put: Json = {"Item": item, "ConditionExpression": "attribute_not_exists(pk)"}
    assert await dynamo.call("PutItem", put) == (200, {})
    put["Item"] = {**KEY, "v": {"S": "y"}}
    status, reply = await dynamo.call("PutItem", put)
    assert status == 400
    assert reply["__type"].rpartition("#")[2] == "ConditionalCheckFailedException"
    assert await dynamo.get() == {"Item": item}


async def test_met_condition_lets_the_write_pass(dynamo: Dynamo) -> None:
    """A comparison with the stored value, when met, lets the write through."""
    await dynamo.call("PutItem", {"Item": {**KEY, "v": {"S": "x"}}})
    put = {
        "Item": {**KEY, "v": {"S": "y"}},
        "ConditionExpression": "v = :old",
        "ExpressionAttributeValues": {":old": {"S": "x"}},
    }
    assert await dynamo.call("PutItem", put) == (200, {})
    assert (await dynamo.get())["Item"]["v"] == {"S": "y"}


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("GetItem", {"Key": {"pk": {"S": "a"}}}),
        ("GetItem", {"Key": {**KEY, "x": {"S": "a"}}}),
        ("GetItem", {"Key": {"pk": {"N": "1"}, "sk": {"N": "1"}}}),
        ("PutItem", {"Item": {"pk": {"S": "a"}}}),
        ("PutItem", {"Item": {"pk": {"S": "a"}, "sk": {"S": "1"}}}),
    ],
)
async def test_wrong_keys_are_refused(dynamo: Dynamo, operation: str, body: Json) -> None:
    """A key with a missing, extra or mistyped attribute answers ValidationException."""
    status, reply = await dynamo.call(operation, body)
    assert status == 400
    assert reply["__type"].endswith("ValidationException")


async def test_unknown_table_and_operation_are_refused(dynamo: Dynamo) -> None:
    """A missing table and an operation that does not exist answer 400 under their names."""
    status, reply = await dynamo.call("GetItem", {"TableName": "no-such-table", "Key": KEY})
    assert (status, reply["__type"].rpartition("#")[2]) == (400, "ResourceNotFoundException")
    status, reply = await dynamo.call("NoSuchOperation", {})
    assert (status, reply["__type"].rpartition("#")[2]) == (400, "UnknownOperationException")


async def test_malformed_body_is_refused(dynamo: Dynamo) -> None:
    """A body that is no JSON answers SerializationException."""
    status, reply = await dynamo.call("GetItem", b"{")
    assert (status, reply["__type"].rpartition("#")[2]) == (400, "SerializationException")


async def test_batches_write_and_read(dynamo: Dynamo) -> None:
    """BatchWriteItem puts and deletes; BatchGetItem returns what exists, nothing for the rest."""
    other = {**KEY, "sk": {"N": "2"}}
    await dynamo.call("PutItem", {"Item": other})
    writes = [{"PutRequest": {"Item": KEY}}, {"DeleteRequest": {"Key": other}}]
    status, reply = await dynamo.call("BatchWriteItem", {"RequestItems": {dynamo.table: writes}})
    assert (status, reply["UnprocessedItems"]) == (200, {})
    wanted = {dynamo.table: {"Keys": [KEY, other], "ConsistentRead": True}}
    status, reply = await dynamo.call("BatchGetItem", {"RequestItems": wanted})
    assert (status, reply["Responses"], reply["UnprocessedKeys"]) == (
        200,
        {dynamo.table: [KEY]},
        {},
    )


async def test_transaction_writes_all_or_nothing_and_once(dynamo: Dynamo) -> None:
    """One failed condition cancels all; a repeated token is answered 200 and writes nothing."""
    put = {"Put": {"TableName": dynamo.table, "Item": {**KEY, "v": {"S": "1"}}}}
    other = {**KEY, "sk": {"N": "2"}}
    never = {"TableName": dynamo.table, "Key": other}
    check = {"ConditionCheck": {**never, "ConditionExpression": "attribute_exists(pk)"}}
    status, error = await dynamo.call("TransactWriteItems", {"TransactItems": [put, check]})
    assert status == 400
    if error["__type"].endswith("UnknownOperationException"):
        return  # dynalite has no transactions
    assert [reason["Code"] for reason in error["CancellationReasons"]] == [
        "None",
        "ConditionalCheckFailed",
    ]
    assert (await dynamo.call("GetItem", {"Key": KEY, "ConsistentRead": True}))[1] == {}
    once = {"TransactItems": [put], "ClientRequestToken": uuid.uuid4().hex}
    assert (await dynamo.call("TransactWriteItems", once))[0] == 200
    await dynamo.call("DeleteItem", {"Key": KEY})
    assert (await dynamo.call("TransactWriteItems", once))[0] == 200
    assert (await dynamo.call("GetItem", {"Key": KEY, "ConsistentRead": True}))[1] == {}


async def test_query_and_scan_show_what_was_written(dynamo: Dynamo) -> None:
    """A Query shows its partition by sort key, a Scan every item; both say what they cost."""
    keys = [("a", "1"), ("a", "2"), ("b", "1")]
    items = [{"pk": {"S": pk}, "sk": {"N": sk}, "v": {"S": pk + sk}} for pk, sk in keys]
    for item in reversed(items):
        await dynamo.call("PutItem", {"Item": item})
    await dynamo.call("DeleteItem", {"Key": {"pk": {"S": "b"}, "sk": {"N": "1"}}})
    condition = {
        "KeyConditionExpression": "#p = :p",
        "ExpressionAttributeNames": {"#p": "pk"},
        "ExpressionAttributeValues": {":p": {"S": "a"}},
    }
    more = {"ConsistentRead": True, "ReturnConsumedCapacity": "TOTAL"}
    for operation, body in (("Query", condition), ("Scan", {})):
        status, page = await dynamo.call(operation, body | more)
        assert status == 200
        assert page.pop("ConsumedCapacity")["CapacityUnits"] > 0
        assert page == {"Items": items[:2], "Count": 2, "ScannedCount": 2}
        status, page = await dynamo.call(operation, body)
        assert (status, "ConsumedCapacity" in page) == (200, False)


async def test_index_that_is_not_there_is_refused(dynamo: Dynamo) -> None:
    """Whatever is asked of it."""
    body = {"IndexName": "nowhere", "ConsistentRead": True}
    status, error = await dynamo.call("Scan", body)
    assert status == 400
    assert error["__type"].endswith("ValidationException")
