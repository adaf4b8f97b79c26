"""Claims about answers to BatchGetItem: the items, what is left over, what it cost, how it went."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any, Final

import pytest

from proxy.core.batch_answer import (
    ANSWER_ITEMS_BYTES_MAX,
    UNPROCESSED,
    ReadItem,
    batch_answer_body,
    batch_outcome,
)
from proxy.core.batch_get import BatchGet, decode_batch_get
from proxy.core.values import Outcome

ABSENT: Final = ReadItem(b"{}", 0)
HIT, NEGATIVE, STALE = Outcome.HIT, Outcome.NEGATIVE_HIT, Outcome.STALE_HIT
MISS, BYPASS, COALESCED = Outcome.MISS, Outcome.BYPASS, Outcome.COALESCED


def key(text: str) -> dict[str, Any]:
    """Return a primary key."""
    return {"pk": {"S": text}}


def batch(tables: dict[str, dict[str, Any]], **members: Any) -> BatchGet:
    """Decode a BatchGetItem; the keys of each table as texts."""
    items = {
        table: {**asked, "Keys": [key(text) for text in asked["Keys"]]}
        for table, asked in tables.items()
    }
    return decode_batch_get(json.dumps({"RequestItems": items, **members}).encode())


def there(text: str, size_bytes: int = 10, **more: Any) -> ReadItem:
    """Return an item that was found."""
    body = json.dumps({"Item": {**key(text), **more}}, separators=(",", ":"))
    return ReadItem(body.encode(), size_bytes)


def answer(asked: BatchGet, *read: ReadItem, consumed: Any = ()) -> Any:
    """Return the answer's content."""
    return json.loads(batch_answer_body(asked, read, consumed))


def test_items_stand_in_the_order_of_their_keys() -> None:
    """Absent ones are left out; every table is named, also one without an item."""
    asked = batch({"t": {"Keys": "cab"}, "u": {"Keys": "x"}})
    assert answer(asked, there("c"), ABSENT, there("b"), ABSENT) == {
        "Responses": {"t": [key("c"), key("b")], "u": []},
        "UnprocessedKeys": {},
    }


@pytest.mark.parametrize(
    "whole",
    [
        b'{"Item":{"pk": {"S":"\\u0061"}} }\n',
        b'{ "Item" : {"pk": {"S":"\\u0061"}} }',
    ],
)
def test_items_keep_their_spelling(whole: bytes) -> None:
    """Blanks and escapes inside an item stay as upstream sent them."""
    body = batch_answer_body(batch({"t": {"Keys": "a"}}), [ReadItem(whole, 1)], ())
    assert b'{"pk": {"S":"\\u0061"}}' in body
    assert json.loads(body)["Responses"] == {"t": [key("a")]}


def test_projections_are_applied_by_table() -> None:
    """An item with nothing projected is an empty one, not an absent one."""
    asked = batch({"t": {"Keys": "ab", "ProjectionExpression": "v"}, "u": {"Keys": "c"}})
    shown = answer(asked, there("a", v={"S": "1"}), there("b"), there("c"))["Responses"]
    assert shown == {"t": [{"v": {"S": "1"}}, {}], "u": [key("c")]}


def test_unprocessed_keys_go_back_as_the_client_spelled_them() -> None:
    """With the wishes of their table, so that they can be asked again as they are."""
    wishes = {
        "ProjectionExpression": "#v",
        "ExpressionAttributeNames": {"#v": "v"},
        "ConsistentRead": False,
    }
    asked = batch({"t": {"Keys": "abc", **wishes}, "u": {"Keys": "x"}})
    assert answer(asked, UNPROCESSED, there("b"), UNPROCESSED, UNPROCESSED) == {
        "Responses": {"t": [{}]},
        "UnprocessedKeys": {
            "t": {"Keys": [key("a"), key("c")], **wishes},
            "u": {"Keys": [key("x")]},
        },
    }


def test_what_exceeds_one_answer_is_left_unprocessed() -> None:
    """16 MiB of items fit exactly; what is more goes back, absences cost nothing."""
    half = ANSWER_ITEMS_BYTES_MAX // 2
    asked = batch({"t": {"Keys": "abcd"}})
    shown = answer(asked, there("a", half), there("b", half), there("c", 1), ABSENT)
    assert shown["Responses"] == {"t": [key("a"), key("b")]}
    assert shown["UnprocessedKeys"] == {"t": {"Keys": [key("c")]}}


def test_one_item_is_always_answered() -> None:
    """However large the first is: else the client would ask for ever."""
    asked = batch({"t": {"Keys": "ab"}})
    shown = answer(asked, there("a", ANSWER_ITEMS_BYTES_MAX + 1), there("b", 1))
    assert shown["Responses"] == {"t": [key("a")]}
    assert shown["UnprocessedKeys"] == {"t": {"Keys": [key("b")]}}


def test_capacity_is_told_only_when_asked() -> None:
    """Without the wish there is no such member, whatever upstream charged."""
    charged = [{"TableName": "t", "CapacityUnits": 1.0}]
    assert "ConsumedCapacity" not in answer(batch({"t": {"Keys": "a"}}), ABSENT, consumed=charged)


def test_capacity_of_a_table_is_the_sum_of_what_was_charged() -> None:
    """Tables answered from the cache cost nothing and are named all the same."""
    asked = batch({"t": {"Keys": "a"}, "u": {"Keys": "x"}}, ReturnConsumedCapacity="TOTAL")
    charged = [
        {"TableName": "t", "CapacityUnits": 1.5},
        {"TableName": "t", "CapacityUnits": 2.0},
        {"TableName": "stranger", "CapacityUnits": 2.0},
    ]
    assert answer(asked, ABSENT, ABSENT, consumed=charged)["ConsumedCapacity"] == [
        {"TableName": "t", "CapacityUnits": 3.5},
        {"TableName": "u", "CapacityUnits": 0.0},
    ]


def test_capacity_of_indexes_is_added_up_inside() -> None:
    """What only upstream names is taken over."""
    asked = batch({"t": {"Keys": "a"}}, ReturnConsumedCapacity="INDEXES")
    charged = {"TableName": "t", "CapacityUnits": 1.0, "Table": {"CapacityUnits": 1.0}}
    both = [charged, charged | {"Other": {"CapacityUnits": 0.5}}]
    assert answer(asked, ABSENT, consumed=both)["ConsumedCapacity"] == [
        {
            "TableName": "t",
            "CapacityUnits": 2.0,
            "Table": {"CapacityUnits": 2.0},
            "Other": {"CapacityUnits": 0.5},
        }
    ]


@pytest.mark.parametrize(
    ("outcomes", "whole"),
    [
        ([HIT], Outcome.HIT),
        ([HIT, NEGATIVE], Outcome.HIT),
        ([NEGATIVE], Outcome.HIT),
        ([HIT, STALE], Outcome.STALE_HIT),
        ([HIT, MISS], Outcome.PARTIAL),
        ([STALE, BYPASS], Outcome.PARTIAL),
        ([MISS, COALESCED], Outcome.MISS),
        ([MISS, BYPASS], Outcome.MISS),
        ([BYPASS, BYPASS], Outcome.BYPASS),
    ],
)
def test_a_batch_is_a_hit_only_if_all_of_it_was_there(
    outcomes: list[Outcome], whole: Outcome
) -> None:
    """One item that had to be fetched makes it partial, all of them make it a miss."""
    assert batch_outcome(outcomes) is whole


def test_a_large_answer_is_copied_once() -> None:
    """Each further copy of 16 MiB is a stop for all others."""
    item = b'{"Item":{"v":{"S":"' + b"x" * 100_000 + b'"}}}'
    keys = [str(number) for number in range(50)]
    asked = batch({"t": {"Keys": keys}})
    read = [ReadItem(item, 100_000) for _ in keys]
    tracemalloc.start()
    try:
        body = batch_answer_body(asked, read, ())
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(json.loads(body)["Responses"]["t"]) == len(keys)
    assert peak_bytes < 1.1 * len(body)
