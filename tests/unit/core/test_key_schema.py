"""The primary key's names: read from DescribeTable's answer only when it is whole."""

from __future__ import annotations

import json

import pytest

from proxy.core.key_schema import KeySchema, is_mismatch, key_schema_of_names, read_key_schema

KEYED = [{"AttributeName": "pk", "KeyType": "HASH"}]
LOCAL = [{"IndexName": "by-time"}, {"IndexName": "by-kind"}]


@pytest.mark.parametrize(
    ("body", "schema"),
    [
        ({"Table": {"KeySchema": KEYED}}, KeySchema("pk")),
        (
            {"Table": {"KeySchema": [{"AttributeName": "sk", "KeyType": "RANGE"}, *KEYED]}},
            KeySchema("pk", "sk"),
        ),
        ({"Table": {"KeySchema": [{"AttributeName": "sk", "KeyType": "RANGE"}]}}, None),
        (
            {"Table": {"KeySchema": KEYED, "LocalSecondaryIndexes": LOCAL}},
            KeySchema("pk", local_indexes=frozenset({"by-time", "by-kind"})),
        ),
        ({"Table": {"KeySchema": KEYED, "LocalSecondaryIndexes": None}}, KeySchema("pk")),
        ({"Table": {"KeySchema": KEYED, "LocalSecondaryIndexes": [{}]}}, None),
        ({"Table": {"KeySchema": KEYED, "LocalSecondaryIndexes": 5}}, None),
        ({"Table": {"KeySchema": ["pk"]}}, None),
        ({"Table": {"KeySchema": 5}}, None),
        ({"Table": None}, None),
        ([], None),
        ("Table", None),
    ],
)
def test_only_a_whole_key_schema_is_read(body: object, schema: KeySchema | None) -> None:
    """Any answer but a DescribeTable reply reads as "unknown", never as a wrong key."""
    assert read_key_schema(json.dumps(body).encode()) == schema
    assert read_key_schema(b"{") is None


@pytest.mark.parametrize(
    ("schema", "key"),
    [
        (KeySchema("pk"), {"pk": {"S": "a"}}),
        (KeySchema("pk", "sk"), {"pk": {"S": "a"}, "sk": {"N": "1"}}),
        (KeySchema("id"), None),
        (KeySchema("pk", "at"), None),
    ],
)
def test_key_is_picked_from_an_item_that_has_all_of_it(
    schema: KeySchema, key: dict[str, object] | None
) -> None:
    """The key has the schema's attributes and no other; without one of them there is none."""
    item = {"pk": {"S": "a"}, "sk": {"N": "1"}, "v": {"S": "x"}}
    assert schema.key_of(item) == key


@pytest.mark.parametrize(
    ("names", "schema"),
    [
        (["pk"], KeySchema("pk")),
        (["sk", "pk"], KeySchema("pk", "sk", ordered=False)),
        (["pk", "sk"], KeySchema("pk", "sk", ordered=False)),
        ([], None),
        (["a", "b", "c"], None),
    ],
)
def test_an_accepted_key_tells_its_names(names: list[str], schema: KeySchema | None) -> None:
    """Of two names nobody knows which is the partition key; their order says nothing."""
    assert key_schema_of_names(names) == schema


@pytest.mark.parametrize(
    ("status", "message", "mismatch"),
    [
        (400, "The provided key element does not match the schema", True),
        (400, "One or more parameter values were invalid: Missing the key sk in the item", True),
        (400, "Where clause does not contain a mandatory equality on all key attributes", True),
        (400, "The conditional request failed", False),
        (200, "The provided key element does not match the schema", False),
        (400, "x" * 1000 + "does not match the schema", False),
    ],
)
def test_a_refused_key_is_recognised(status: int, message: str, *, mismatch: bool) -> None:
    """By upstream's own words, where they stand at the beginning of a refusal."""
    assert is_mismatch(status, json.dumps({"message": message}).encode()) == mismatch
