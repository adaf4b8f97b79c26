"""Claims about BatchGetItem requests: which the proxy understands, which it leaves to DynamoDB."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.batch_get import KEYS_MAX, BatchGet, decode_batch_get
from proxy.core.operations import Capacity, GetItem, Undecodable
from proxy.core.projection import parse_attributes_to_get, parse_projection
from proxy.core.values import BypassReason, TableName

ARN: Final = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders"
GARBAGE: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
TABLE_MEMBERS: Final = st.sampled_from(
    [
        "Keys",
        "ConsistentRead",
        "ProjectionExpression",
        "ExpressionAttributeNames",
        "AttributesToGet",
        "Other",
    ]
)


def key(text: str) -> dict[str, Any]:
    """Return a primary key."""
    return {"pk": {"S": text}}


def body(tables: object, **members: object) -> bytes:
    """Return the body of a BatchGetItem."""
    return json.dumps({"RequestItems": tables, **members}).encode()


def asked(*keys: object, **wishes: object) -> bytes:
    """Return the body of a BatchGetItem of one table."""
    return body({"orders": {"Keys": list(keys), **wishes}})


def undecodable(raw: bytes) -> Undecodable:
    """Decode a body that must be left to upstream."""
    with pytest.raises(Undecodable) as caught:
        decode_batch_get(raw)
    return caught.value


def gets(batch: BatchGet) -> list[GetItem]:
    """Return all reads of a batch."""
    return [get for each in batch.tables for get in each.gets]


def test_every_key_becomes_a_read_in_order() -> None:
    """Tables and keys keep the request's order; a table's wishes hold for each of its keys."""
    batch = decode_batch_get(
        body(
            {
                "orders": {"Keys": [key("b"), key("a")]},
                "users": {"Keys": [key("a")], "ConsistentRead": True},
            },
            ReturnConsumedCapacity="TOTAL",
        )
    )
    assert batch.capacity is Capacity.TOTAL
    assert [(each.table, each.wishes) for each in batch.tables] == [
        ("orders", {}),
        ("users", {"ConsistentRead": True}),
    ]
    assert gets(batch) == [
        GetItem(TableName("orders"), key("b"), False, None, Capacity.NONE),
        GetItem(TableName("orders"), key("a"), False, None, Capacity.NONE),
        GetItem(TableName("users"), key("a"), True, None, Capacity.NONE),
    ]


def test_the_one_table_is_named() -> None:
    """Telemetry names the table where there is only one."""
    assert decode_batch_get(asked(key("a"))).table == "orders"
    assert decode_batch_get(body({t: {"Keys": [key("a")]} for t in "ab"})).table is None


def test_projections_are_those_of_a_get() -> None:
    """Both kinds are understood, and go back as they were spelled."""
    wishes = {"ProjectionExpression": "#a, b[0]", "ExpressionAttributeNames": {"#a": "name"}}
    batch = decode_batch_get(asked(key("a"), **wishes))
    assert gets(batch)[0].projection == parse_projection("#a, b[0]", {"#a": "name"})
    assert batch.tables[0].wishes == wishes
    old = decode_batch_get(asked(key("a"), AttributesToGet=["a"]))
    assert gets(old)[0].projection == parse_attributes_to_get(["a"])


@pytest.mark.parametrize("count", [1, KEYS_MAX])
def test_up_to_a_hundred_keys_are_understood(count: int) -> None:
    """DynamoDB's own limit, over all tables together."""
    assert len(gets(decode_batch_get(asked(*(key(str(n)) for n in range(count)))))) == count


def test_more_than_a_hundred_keys_are_left_to_upstream() -> None:
    """Also where no single table has too many."""
    half = [key(str(number)) for number in range(KEYS_MAX // 2 + 1)]
    undecodable(asked(*(key(str(number)) for number in range(KEYS_MAX + 1))))
    undecodable(body({"a": {"Keys": half}, "b": {"Keys": half}}))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b'{"RequestItems":',
        b'{"RequestItems":{"orders":{"Keys":[{"pk":{"S":"a"}}]},"orders":{"Keys":[]}}}',
        body(None),
        body([]),
        body({}),
        body({"orders": None}),
        body({"orders": []}),
        body({"orders": {}}),
        body({"": {"Keys": [key("a")]}}),
        body({"orders": {"Keys": [key("a")]}}, Other=1),
        body({"orders": {"Keys": [key("a")]}}, ReturnConsumedCapacity="SOME"),
        body({"orders": {"Keys": [key("a")]}}, ReturnConsumedCapacity=[]),
        asked(),
        body({"orders": {"Keys": {}}}),
        asked(None),
        asked({}),
        asked(key("")),
        asked({"pk": {"L": []}}),
        asked(key("a"), key("a")),
        asked({"pk": {"N": "1"}}, {"pk": {"N": "1.0"}}),
        asked(key("a"), {"id": {"S": "a"}}),
        asked(key("a"), key("b") | {"sk": {"S": "x"}}),
        asked(key("a"), Other=1),
        asked(key("a"), ConsistentRead="true"),
        asked(key("a"), ConsistentRead=None),
        asked(key("a"), ProjectionExpression="a, a.b"),
        asked(key("a"), ProjectionExpression="a", AttributesToGet=["a"]),
        asked(key("a"), ExpressionAttributeNames={"#a": "a"}),
    ],
)
def test_whatever_is_not_certain_is_left_to_upstream(raw: bytes) -> None:
    """DynamoDB words its own errors, and judges what only it can judge."""
    assert undecodable(raw).reason is BypassReason.UNDECODABLE


def test_a_table_by_arn_is_left_to_upstream() -> None:
    """Another account's table may have the same name."""
    left = undecodable(body({ARN: {"Keys": [key("a")]}}))
    assert (left.reason, left.table) == (BypassReason.TABLE_ARN, "orders")


@given(
    st.dictionaries(TABLE_MEMBERS, GARBAGE, max_size=3),
    st.lists(GARBAGE | st.just(key("a")), max_size=3),
    st.dictionaries(st.sampled_from(["RequestItems", "ReturnConsumedCapacity", "x"]), GARBAGE),
)
def test_any_body_is_understood_or_left_to_upstream(
    wishes: dict[str, Any], keys: list[Any], odd: dict[str, Any]
) -> None:
    """Nothing but Undecodable is ever raised, unhashable garbage included."""
    table = {"Keys": keys} | wishes
    raw = json.dumps({"RequestItems": {"orders": table}} | odd).encode()
    try:
        batch = decode_batch_get(raw)
    except Undecodable:
        return
    assert len(gets(batch)) == len(keys)
