"""Claims about the items a request may write: each is found, or its table, or it is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import VALIDATION_EXCEPTION, RequestRejected
from proxy.core.operations import SERIALIZATION_EXCEPTION, WRITES, ItemWrite
from proxy.core.values import TableName
from proxy.core.written_items import (
    ITEM_WRITES,
    PIECEMEAL,
    written_items,
)

ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/a"
KEY = {"pk": {"S": "x"}}
ITEM = {**KEY, "v": {"S": "1"}}
T, U = TableName("a"), TableName("b")
Example = tuple[str, dict[str, Any], list[ItemWrite]]


def batch(*writes: object, table: str = "a") -> dict[str, Any]:
    """Return a BatchWriteItem of one table."""
    return {"RequestItems": {table: writes}}


def actions(*each: object) -> dict[str, Any]:
    """Return a TransactWriteItems."""
    return {"TransactItems": each}


DELETE = "DELETE FROM a WHERE pk='x'"
SINGLE: list[Example] = [
    ("PutItem", {"TableName": "a", "Item": ITEM}, [ItemWrite("PutItem", T, item=ITEM)]),
    ("UpdateItem", {"TableName": ARN, "Key": KEY}, [ItemWrite("UpdateItem", T, KEY)]),
    ("DeleteItem", {"TableName": "a"}, [ItemWrite("DeleteItem", T)]),
    ("DeleteItem", {"Key": KEY}, []),
]
ODD_WRITES: list[Any] = [
    "x",
    {},
    {"PutRequest": {}},
    {"PutRequest": ITEM},
    {"PutRequest": {"Item": "x"}},
    {"DeleteRequest": {"Key": ["pk"]}},
    {"UpdateRequest": {"Key": KEY}},
    {"PutRequest": {"Item": ITEM}, "DeleteRequest": {"Key": {"pk": {"S": "y"}}}},
    {"DeleteRequest": {"Key": KEY}, "More": {}},
]
BATCHES: list[Example] = [
    (
        "BatchWriteItem",
        batch({"PutRequest": {"Item": ITEM}}, {"DeleteRequest": {"Key": KEY}}, table=ARN),
        [ItemWrite("PutItem", T, item=ITEM), ItemWrite("DeleteItem", T, KEY)],
    ),
    (
        "BatchWriteItem",
        {"RequestItems": {"a": [{"DeleteRequest": {"Key": KEY}}], "b": []}},
        [ItemWrite("DeleteItem", T, KEY), ItemWrite("BatchWriteItem", U)],
    ),
    *(("BatchWriteItem", batch(odd), [ItemWrite("BatchWriteItem", T)]) for odd in ODD_WRITES),
    ("BatchWriteItem", {"RequestItems": {"a": {}}}, [ItemWrite("BatchWriteItem", T)]),
    ("BatchWriteItem", batch({"PutRequest": {"Item": ITEM}}, table=""), []),
    ("BatchWriteItem", {"RequestItems": ["a"]}, []),
    ("BatchWriteItem", {}, []),
]
TRANSACTIONS: list[Example] = [
    (
        "TransactWriteItems",
        actions(
            {"Put": {"TableName": "a", "Item": ITEM}},
            {"Update": {"TableName": "b", "Key": KEY}},
            {"Delete": {"TableName": ARN, "Key": KEY}, "Put": None},
            {"ConditionCheck": {"TableName": "c", "Key": KEY}},
            {"Put": {"TableName": "a"}, "Delete": {"TableName": "b", "Key": KEY}},
            {"Upsert": {"TableName": "b", "Key": KEY}},
            {"Upsert": {"Key": KEY}},
            {"Put": "a"},
            {"Put": {"TableName": 5, "Item": ITEM}},
            "a",
        ),
        [
            ItemWrite("PutItem", T, item=ITEM),
            ItemWrite("UpdateItem", U, KEY),
            ItemWrite("DeleteItem", T, KEY),
            ItemWrite("PutItem", T),
            ItemWrite("DeleteItem", U, KEY),
            ItemWrite("TransactWriteItems", U),
        ],
    ),
    ("TransactWriteItems", {"TransactItems": {"Put": {"TableName": "a"}}}, []),
]
STATEMENTS: list[Example] = [
    ("ExecuteStatement", {"Statement": DELETE}, [ItemWrite("ExecuteStatement", T, item=KEY)]),
    (
        "ExecuteStatement",
        {"Statement": f'UPDATE "{ARN}" SET v=? WHERE pk=?', "Parameters": [{"N": "1"}, KEY["pk"]]},
        [ItemWrite("ExecuteStatement", T, item=KEY)],
    ),
    ("ExecuteStatement", {"Statement": "DELETE FROM a"}, [ItemWrite("ExecuteStatement", T)]),
    (
        "ExecuteStatement",
        {"Statement": "DELETE FROM a.b WHERE pk='x'"},
        [ItemWrite("ExecuteStatement", TableName(name)) for name in ("a.b", "a")],
    ),
    ("ExecuteStatement", {"Statement": "SELECT * FROM a"}, []),
    ("ExecuteStatement", {"Statement": f'DELETE FROM "{"a" * 256}"'}, []),
    ("ExecuteStatement", {"Statement": None}, []),
    ("ExecuteStatement", {}, []),
    (
        "BatchExecuteStatement",
        {"Statements": [{"Statement": DELETE}, {"Statement": 5}, "x", {"Statement": "SELECT 1"}]},
        [ItemWrite("BatchExecuteStatement", T, item=KEY)],
    ),
    (
        "ExecuteTransaction",
        {
            "TransactStatements": [
                {"Statement": "EXISTS(SELECT * FROM b WHERE pk='1')"},
                {"Statement": "INSERT INTO b VALUE {'pk': ?}", "Parameters": [{"S": "x"}]},
                {"Statement": DELETE},
            ]
        },
        [
            ItemWrite("ExecuteTransaction", U, item=KEY),
            ItemWrite("ExecuteTransaction", T, item=KEY),
        ],
    ),
    ("ExecuteTransaction", {"TransactStatements": 5}, []),
]
EXAMPLES = [*SINGLE, *BATCHES, *TRANSACTIONS, *STATEMENTS]


@pytest.mark.parametrize(("operation", "request_", "writes"), EXAMPLES)
def test_every_write_of_a_request_is_found(
    operation: str, request_: dict[str, Any], writes: list[ItemWrite]
) -> None:
    """Each with its key, or what its key is in; what is unclear stands for its whole table."""
    assert written_items(operation, json.dumps(request_).encode()) == tuple(writes)


def test_every_operation_has_an_example() -> None:
    """An operation added to the list must be tried above."""
    assert {operation for operation, _, writes in EXAMPLES if writes} == ITEM_WRITES
    assert WRITES < ITEM_WRITES
    assert PIECEMEAL < ITEM_WRITES


@pytest.mark.parametrize("statement", ["", "DELETE a", "UPSERT INTO a", "-- x\nUPDATE a SET x=1"])
@pytest.mark.parametrize(
    ("operation", "wrap"),
    [
        ("ExecuteStatement", lambda text: {"Statement": text}),
        ("BatchExecuteStatement", lambda text: {"Statements": [{"Statement": text}]}),
        ("ExecuteTransaction", lambda text: {"TransactStatements": [{"Statement": text}]}),
    ],
)
def test_a_statement_that_is_not_understood_is_refused(
    operation: str, wrap: Any, statement: str
) -> None:
    """It might write, and no fence would cover it."""
    with pytest.raises(RequestRejected) as caught:
        written_items(operation, json.dumps(wrap(statement)).encode())
    assert caught.value.error_type == VALIDATION_EXCEPTION
    assert caught.value.status == 400


@pytest.mark.parametrize("operation", sorted(ITEM_WRITES))
@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"RequestItems":{"a":[],"a":[]}}'])
def test_an_ambiguous_request_is_refused(operation: str, body: bytes) -> None:
    """A more lenient parser upstream could write to an item that is not fenced."""
    with pytest.raises(RequestRejected) as caught:
        written_items(operation, body)
    assert caught.value.error_type == SERIALIZATION_EXCEPTION


NAMES = ["TableName", "Statement", "Put", "Update", "Key", "Item", "PutRequest", "DeleteRequest"]
JSON = st.recursive(
    st.none() | st.integers() | st.sampled_from(["a", DELETE, "?"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
    ),
    max_leaves=6,
)
MEMBERS = st.sampled_from(
    ["RequestItems", "TransactItems", "Statements", "TransactStatements", *NAMES]
)


@given(
    st.sampled_from(sorted(ITEM_WRITES)),
    st.binary(max_size=20)
    | st.dictionaries(MEMBERS, JSON, max_size=4).map(lambda loaded: json.dumps(loaded).encode()),
)
def test_any_bytes_are_writes_or_rejected(operation: str, body: bytes) -> None:
    """No body makes the proxy fail, and every table found is one that can be."""
    try:
        writes = written_items(operation, body)
    except RequestRejected:
        return
    assert all(write.table and write.table.isascii() for write in writes)
