"""Claims about requests: what is read from one, and what is left to DynamoDB or refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.core.errors import RequestRejected
from proxy.core.operations import (
    SERIALIZATION_EXCEPTION,
    WRITES,
    Capacity,
    GetItem,
    ItemWrite,
    Undecodable,
    decode_get,
    item_write,
    load_write,
    plain_table_name,
)
from proxy.core.projection import parse_attributes_to_get, parse_projection
from proxy.core.values import BypassReason, TableName

ORDERS = TableName("orders")
KEY = {"pk": {"S": "a"}}
GET: dict[str, Any] = {"TableName": "orders", "Key": KEY}
ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders"

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("a.b"),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=5,
)
MEMBERS = st.sampled_from(
    [
        "TableName",
        "Key",
        "Item",
        "ConsistentRead",
        "ProjectionExpression",
        "ExpressionAttributeNames",
        "AttributesToGet",
        "ReturnConsumedCapacity",
        "ReturnValues",
        "Other",
    ]
)
# Often almost right, so that every member is reached with every type of content.
REQUESTS = st.builds(
    lambda right, odd: json.dumps(right | odd).encode(),
    st.sampled_from([GET, {}]),
    st.dictionaries(MEMBERS, JSON, max_size=3),
)
BODIES = st.binary(max_size=40) | REQUESTS | JSON.map(lambda loaded: json.dumps(loaded).encode())


def get(**members: Any) -> GetItem:
    """Decode a good GetItem with these members changed."""
    return decode_get(json.dumps(GET | members).encode())


def undecodable(body: bytes) -> Undecodable:
    """Decode a body that must be left to upstream."""
    with pytest.raises(Undecodable) as caught:
        decode_get(body)
    return caught.value


def test_a_plain_get_is_understood() -> None:
    """Table and key as they came, everything else at DynamoDB's defaults."""
    assert get() == GetItem(ORDERS, KEY, consistent=False, projection=None, capacity=Capacity.NONE)


@pytest.mark.parametrize(
    ("members", "attribute", "expected"),
    [
        ({"ConsistentRead": True}, "consistent", True),
        ({"ConsistentRead": False}, "consistent", False),
        ({"ReturnConsumedCapacity": "NONE"}, "capacity", Capacity.NONE),
        ({"ReturnConsumedCapacity": "TOTAL"}, "capacity", Capacity.TOTAL),
        ({"ReturnConsumedCapacity": "INDEXES"}, "capacity", Capacity.INDEXES),
        ({"ProjectionExpression": "a.b"}, "projection", parse_projection("a.b", None)),
        (
            {"ProjectionExpression": "#n", "ExpressionAttributeNames": {"#n": "name"}},
            "projection",
            parse_projection("#n", {"#n": "name"}),
        ),
        ({"AttributesToGet": ["a", "b"]}, "projection", parse_attributes_to_get(["a", "b"])),
        ({"AttributesToGet": None, "ProjectionExpression": None}, "projection", None),
        ({}, "names", None),
        ({"ProjectionExpression": "a.b, c, a.d"}, "names", ("a", "c")),
    ],
)
def test_options_are_understood(members: dict[str, Any], attribute: str, expected: object) -> None:
    """Each option that the proxy may answer by itself arrives in its own attribute."""
    assert getattr(get(**members), attribute) == expected


@pytest.mark.parametrize(
    "members",
    [
        {"Key": None},
        {"Key": {}},
        {"Key": {"a": {"S": "1"}, "b": {"S": "2"}, "c": {"S": "3"}}},
        {"Key": {"pk": {"S": ""}}},
        {"Key": {"pk": {"BOOL": True}}},
        {"Key": {"pk": {"N": "1e999"}}},
        {"Key": "pk"},
        {"ConsistentRead": "true"},
        {"ConsistentRead": 1},
        {"ConsistentRead": None},
        {"ReturnConsumedCapacity": "total"},
        {"ReturnConsumedCapacity": ["TOTAL"]},
        {"ReturnConsumedCapacity": None},
        {"ProjectionExpression": ""},
        {"ProjectionExpression": 5},
        {"ProjectionExpression": ["a"]},
        {"ProjectionExpression": {"a": 1}},
        {"ProjectionExpression": "a, a.b"},
        {"ProjectionExpression": "a", "ExpressionAttributeNames": "#n"},
        {"ProjectionExpression": "a", "ExpressionAttributeNames": ["#n"]},
        {"ProjectionExpression": "a", "ExpressionAttributeNames": 1},
        {"ExpressionAttributeNames": {"#n": "name"}},
        {"AttributesToGet": []},
        {"AttributesToGet": 5},
        {"AttributesToGet": "ab"},
        {"AttributesToGet": {"a": 1}},
        {"AttributesToGet": ["a"], "ProjectionExpression": "a"},
        {"AttributesToGet": ["a"], "ExpressionAttributeNames": {"#n": "a"}},
        {"Unknown": 1},
    ],
)
def test_what_only_dynamodb_can_judge_passes_through(members: dict[str, Any]) -> None:
    """A doubtful read of a known table goes to upstream as it came, never to the cache."""
    refused = undecodable(json.dumps(GET | members).encode())
    assert refused.reason is BypassReason.UNDECODABLE
    assert refused.table == "orders"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"TableName":5}',
        b'{"TableName":""}',
        b'{"TableName":null}',
        '{"TableName":"é"}'.encode(),
        b'{"TableName":"%b"}' % (b"a" * 256),
        b'{"TableName":"arn:aws:dynamodb:eu-west-1:1:stream/x"}',
        b'{"TableName":"arn:aws:dynamodb:eu-west-1:1:table/"}',
        b'{"TableName":"arn:aws:dynamodb:eu-west-1:1:table/\\ud800"}',
        b'{"TableName":"arn:aws:dynamodb:eu-west-1:1:table/%b"}' % (b"a" * 256),
    ],
)
def test_a_read_that_names_no_table_passes_through(body: bytes) -> None:
    """Malformed JSON and names that no table can have are DynamoDB's to word."""
    refused = undecodable(body)
    assert refused.reason is BypassReason.UNDECODABLE
    assert refused.table is None


def test_a_read_by_arn_passes_through() -> None:
    """Another account's table may have the same name."""
    refused = undecodable(json.dumps(GET | {"TableName": ARN}).encode())
    assert refused.reason is BypassReason.TABLE_ARN
    assert refused.table == "orders"


def test_a_repeated_name_passes_through() -> None:
    """Two parsers may take different members for the request."""
    refused = undecodable(b'{"TableName":"orders","Key":{"pk":{"S":"a"}},"Key":{"pk":{"S":"b"}}}')
    assert refused.reason is BypassReason.UNDECODABLE


@given(BODIES)
@example(b'{"TableName":"t","Key":{"pk":{"S":"a"}},"ProjectionExpression":1}')
def test_any_bytes_are_a_get_or_undecodable(body: bytes) -> None:
    """No body makes the proxy fail: nothing but Undecodable is ever raised."""
    try:
        decoded = decode_get(body)
    except Undecodable:
        return
    assert decoded.table


@pytest.mark.parametrize(
    ("operation", "request_", "expected"),
    [
        (
            "PutItem",
            {"TableName": "orders", "Item": KEY, "Key": KEY},
            ItemWrite("PutItem", ORDERS, None, KEY, "NONE"),
        ),
        (
            "UpdateItem",
            {"TableName": "orders", "Key": KEY, "Item": KEY, "ReturnValues": "ALL_NEW"},
            ItemWrite("UpdateItem", ORDERS, KEY, None, "ALL_NEW"),
        ),
        (
            "DeleteItem",
            {"TableName": ARN, "Key": KEY},
            ItemWrite("DeleteItem", ORDERS, KEY, None, "NONE"),
        ),
        (
            "PutItem",
            {"TableName": "orders", "Item": [], "ReturnValues": 1},
            ItemWrite("PutItem", ORDERS, None, None, "NONE"),
        ),
        (
            "DeleteItem",
            {"TableName": "orders", "Key": "pk"},
            ItemWrite("DeleteItem", ORDERS, None, None, "NONE"),
        ),
    ],
)
def test_a_write_is_read_as_far_as_its_fence_needs(
    operation: str, request_: dict[str, Any], expected: ItemWrite
) -> None:
    """What is unclear becomes None, which widens the fence; an ARN names the same table."""
    assert item_write(operation, request_) == expected


@pytest.mark.parametrize("named", [None, "", 5, "é", "a" * 256, "arn:aws:x", ARN[:-6]])
def test_a_write_without_a_table_needs_no_fence(named: object) -> None:
    """DynamoDB refuses it, so nothing can change."""
    assert item_write("PutItem", {"TableName": named}) is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", ""),
        (b"[]", ""),
        (b"{", ""),
        (b'{"TableName":NaN}', ""),
        (b'{"TableName":"a","TableName":"b"}', "a member name occurs twice"),
        (b'{"TableName":"a","Key":{"k":{"S":"1"},"k":{"S":"2"}}}', "a member name occurs twice"),
    ],
)
def test_an_ambiguous_write_is_refused(body: bytes, message: str) -> None:
    """A more lenient parser upstream could apply a write that no fence covers."""
    with pytest.raises(RequestRejected) as caught:
        load_write(body)
    assert caught.value.error_type == SERIALIZATION_EXCEPTION
    assert caught.value.message == message
    assert caught.value.status == 400


@given(st.sampled_from(sorted(WRITES)), BODIES)
def test_any_bytes_are_a_write_or_none_or_rejected(operation: str, body: bytes) -> None:
    """No body makes the proxy fail: nothing but RequestRejected is ever raised."""
    try:
        write = item_write(operation, load_write(body))
    except RequestRejected:
        return
    assert write is None or (write.operation == operation and write.table)


@pytest.mark.parametrize(
    ("named", "plain"),
    [
        ("orders", "orders"),
        (ARN, "orders"),
        (ARN + "/index/by-date", "orders"),
        (ARN + "/stream/2026-01-01", "orders"),
        ("arn:aws-cn:dynamodb:cn-north-1:1:table/a.b-c_d", "a.b-c_d"),
        ("arn", "arn"),
        ("a", "a"),
        ("a" * 255, "a" * 255),
        ("arn:aws:dynamodb:eu-west-1:1:table/" + "a" * 255, "a" * 255),
        ("arn:", None),
        (None, None),
        (["orders"], None),
    ],
)
def test_a_table_is_named_plainly_or_by_arn(named: object, plain: str | None) -> None:
    """Both spellings lead to the same fence."""
    assert plain_table_name(named) == plain
