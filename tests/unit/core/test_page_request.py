"""Claims about Query and Scan requests: which are the same, and which only DynamoDB can judge."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.operations import Capacity, Undecodable
from proxy.core.page_request import PageRequest, decode_page, load_page_request
from proxy.core.values import BypassReason

VALUES = {":p": {"S": "a"}, ":s": {"N": "1"}}
QUERY: dict[str, Any] = {
    "TableName": "orders",
    "KeyConditionExpression": "pk = :p",
    "ExpressionAttributeValues": VALUES,
}
SCAN: dict[str, Any] = {"TableName": "orders"}


def decoded(operation: str, request: dict[str, Any]) -> PageRequest:
    """Parse and judge a request."""
    loaded = load_page_request(json.dumps(request).encode())
    assert loaded is not None
    return decode_page(operation, *loaded)


def query(**changes: Any) -> PageRequest:
    """Judge QUERY with other members."""
    return decoded("Query", QUERY | changes)


def scan(**changes: Any) -> PageRequest:
    """Judge SCAN with other members."""
    return decoded("Scan", SCAN | changes)


@pytest.mark.parametrize(
    "same",
    [
        {"ConsistentRead": False},
        {"ScanIndexForward": True},
        {"ReturnConsumedCapacity": "TOTAL"},
        {"ReturnConsumedCapacity": "NONE"},
        {"KeyConditionExpression": " pk  =\n:p "},
        {"ExpressionAttributeValues": dict(reversed(VALUES.items()))},
    ],
)
def test_spellings_of_one_request_share_a_page(same: dict[str, Any]) -> None:
    """Defaults, blanks and the order of members make no other request."""
    assert query(**same).normal == query().normal


DIFFERENT: list[dict[str, Any]] = [
    {},
    {"TableName": "others"},
    {"IndexName": "by-date"},
    {"KeyConditionExpression": "pk = :p AND sk = :s"},
    {"KeyConditionExpression": "#p = :p", "ExpressionAttributeNames": {"#p": "pk"}},
    {"ExpressionAttributeValues": VALUES | {":p": {"S": "b"}}},
    {"FilterExpression": "a = :s"},
    {"FilterExpression": "b = :s"},
    {"ProjectionExpression": "a"},
    {"ProjectionExpression": "a, b"},
    {"AttributesToGet": ["a"]},
    {"Select": "COUNT"},
    {"Limit": 1},
    {"Limit": 2},
    {"ScanIndexForward": False},
    {"ConsistentRead": True},
    {"ExclusiveStartKey": {"pk": {"S": "a"}}},
    {"ExclusiveStartKey": {"pk": {"S": "b"}}},
    {"QueryFilter": {}},
    {"ConditionalOperator": "OR"},
]


def test_whatever_may_change_the_answer_makes_another_page() -> None:
    """No two of these requests are answered with each other's page."""
    normals = [query(**change).normal for change in DIFFERENT]
    normals += [scan(**change).normal for change in ({}, {"Segment": 0, "TotalSegments": 2})]
    normals += [scan(Segment=1, TotalSegments=2).normal, scan(ScanFilter={}).normal]
    assert len(set(normals)) == len(normals)


def test_a_request_is_read_into_what_decisions_need() -> None:
    """Index, consistency, capacity and the equalities, which stand in one order."""
    asked = query(
        IndexName="by-date",
        ConsistentRead=True,
        ReturnConsumedCapacity="INDEXES",
        KeyConditionExpression="sk = :s AND pk = :p",
    )
    assert (asked.operation, asked.table, asked.index) == ("Query", "orders", "by-date")
    assert (asked.consistent, asked.capacity) == (True, Capacity.INDEXES)
    assert asked.equalities == (("pk", {"S": "a"}), ("sk", {"N": "1"}))
    asked = scan()
    assert (asked.operation, asked.index, asked.consistent) == ("Scan", None, False)
    assert (asked.capacity, asked.equalities) == (Capacity.NONE, ())


def test_older_conditions_are_read_too() -> None:
    """KeyConditions name the partition as well as an expression does."""
    request = {
        "TableName": "orders",
        "KeyConditions": {
            "pk": {"ComparisonOperator": "EQ", "AttributeValueList": [{"S": "a"}]},
        },
    }
    assert decoded("Query", request).equalities == (("pk", {"S": "a"}),)


@pytest.mark.parametrize("asked_for", ["NONE", "TOTAL", "INDEXES"])
@pytest.mark.parametrize("consistent", [False, True])
def test_a_fetch_asks_the_same_and_what_it_costs(asked_for: str, *, consistent: bool) -> None:
    """Only ConsistentRead and ReturnConsumedCapacity are the proxy's own."""
    asked = query(Limit=3, ConsistentRead=False, ReturnConsumedCapacity=asked_for)
    expected = QUERY | {"Limit": 3, "ReturnConsumedCapacity": "TOTAL"}
    if asked_for == "INDEXES":
        expected["ReturnConsumedCapacity"] = "INDEXES"
    if consistent:
        expected["ConsistentRead"] = True
    assert json.loads(asked.fetch_body(consistent=consistent)) == expected


ODD: list[tuple[str, dict[str, Any]]] = [
    ("Query", QUERY | {"Unknown": 1}),
    ("Query", QUERY | {"Segment": 1}),
    ("Scan", SCAN | {"ScanIndexForward": True}),
    ("Scan", SCAN | {"KeyConditionExpression": "pk = :p"}),
    ("Scan", SCAN | {"Limit": None}),
    ("Scan", SCAN | {"Limit": True}),
    ("Scan", SCAN | {"Limit": "1"}),
    ("Scan", SCAN | {"Limit": 1.0}),
    ("Scan", SCAN | {"ConsistentRead": "true"}),
    ("Scan", SCAN | {"ConsistentRead": 0}),
    ("Scan", SCAN | {"IndexName": 1}),
    ("Scan", SCAN | {"AttributesToGet": "a"}),
    ("Scan", SCAN | {"ExclusiveStartKey": []}),
    ("Scan", SCAN | {"ReturnConsumedCapacity": "SOME"}),
    ("Scan", SCAN | {"ScanFilter": {"a": [[]] * 600}}),
    ("Query", SCAN),
    ("Query", QUERY | {"KeyConditions": {}}),
    ("Query", QUERY | {"KeyConditionExpression": "pk > :p"}),
    ("Query", QUERY | {"KeyConditionExpression": "pk = :p OR pk = :s"}),
    ("Query", QUERY | {"ExpressionAttributeValues": {}}),
    ("Query", QUERY | {"ExpressionAttributeValues": {":p": {"S": ""}}}),
    ("Query", QUERY | {"ExpressionAttributeValues": {":p": {"BOOL": True}}}),
]


@pytest.mark.parametrize(("operation", "request_"), ODD)
def test_what_is_not_certain_is_left_to_dynamodb(operation: str, request_: dict[str, Any]) -> None:
    """The table is known, so that the bypass can name it."""
    with pytest.raises(Undecodable) as unclear:
        decoded(operation, request_)
    assert (unclear.value.reason, unclear.value.table) == (BypassReason.UNDECODABLE, "orders")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"TableName":1}',
        b'{"TableName":""}',
        b'{"TableName":"arn:aws:dynamodb:eu-west-1:123456789012:table/orders"}',
        b'{"TableName":"orders","TableName":"orders"}',
        b'{"TableName":"orders","Limit":1,"Limit":2}',
    ],
)
def test_a_body_whose_table_is_not_certain_is_none(body: bytes) -> None:
    """Not JSON, no plain name, or a member twice."""
    assert load_page_request(body) is None


def test_a_request_nested_deeper_than_python_goes_is_left_to_dynamodb() -> None:
    """No depth of a request ends in an error of ours."""
    deep: Any = {}
    for _ in range(5_000):
        deep = {"M": deep}
    with pytest.raises(Undecodable):
        decode_page("Scan", SCAN | {"ScanFilter": deep}, scan().table)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("pk = :p"),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=5,
)


@given(
    st.sampled_from(["Query", "Scan"]),
    st.dictionaries(st.sampled_from([*QUERY, "Limit", "KeyConditions", "Select"]), JSON),
)
def test_any_request_is_read_or_left_to_dynamodb(operation: str, odd: dict[str, Any]) -> None:
    """Nothing but Undecodable is ever raised."""
    loaded = load_page_request(json.dumps(QUERY | odd).encode())
    if loaded is None:
        return
    try:
        asked = decode_page(operation, *loaded)
    except Undecodable:
        return
    assert json.loads(asked.fetch_body(consistent=True))["TableName"] == asked.table
