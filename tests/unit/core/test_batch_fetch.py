"""Claims about the BatchGetItem of the proxy's own: what it asks, what it makes of the reply."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.batch_fetch import (
    WantedItem,
    batch_fetch_body,
    consistent_tables,
    read_batch_reply,
)
from proxy.core.operations import Capacity
from proxy.core.responses import FetchedBody
from proxy.core.values import TableName

A, B = TableName("a"), TableName("b")
ABSENT: Final = FetchedBody(b"{}", None, None)


def want(number: str, table: TableName = A, *, consistent: bool = False) -> WantedItem:
    """Want an item by a number."""
    return WantedItem(table, {"pk": {"N": number}}, consistent)


def item(number: str, **more: Any) -> dict[str, Any]:
    """Return an item."""
    return {"pk": {"N": number}, **more}


def reply(responses: object, **members: object) -> bytes:
    """Return the body of an answer."""
    return json.dumps({"Responses": responses, **members}).encode()


def test_whole_items_are_asked_for_by_table() -> None:
    """No projection; where one item of a table needs ConsistentRead, all of them get it."""
    wanted = [want("1"), want("2", B), want("3", consistent=True)]
    assert json.loads(batch_fetch_body(wanted, Capacity.NONE)) == {
        "RequestItems": {
            "a": {"Keys": [{"pk": {"N": "1"}}, {"pk": {"N": "3"}}], "ConsistentRead": True},
            "b": {"Keys": [{"pk": {"N": "2"}}]},
        }
    }
    assert consistent_tables(wanted) == {A}
    asked = json.loads(batch_fetch_body(wanted, Capacity.INDEXES))
    assert asked["ReturnConsumedCapacity"] == "INDEXES"


def test_each_key_gets_its_item_as_it_is_spelled() -> None:
    """In the order of the keys, whatever the reply's, and however it spells the numbers."""
    body = (
        b'{"Responses": {"b": [], "a": [{"pk":{"N":"2"}, "v":{"S":"\\u0041"}},{"pk":{"N":"1"}}]}}'
    )
    read = read_batch_reply(body, [want("1.0"), want("2"), want("3"), want("1", B)])
    assert read is not None
    assert read.found == (
        FetchedBody(b'{"Item":{"pk":{"N":"1"}}}', item("1"), None),
        FetchedBody(
            b'{"Item":{"pk":{"N":"2"}, "v":{"S":"\\u0041"}}}', item("2", v={"S": "A"}), None
        ),
        ABSENT,
        ABSENT,
    )
    assert read.consumed == ()


def test_unprocessed_keys_are_neither_there_nor_absent() -> None:
    """Also where a whole table was left out."""
    left = {"a": {"Keys": [{"pk": {"N": "2.0"}}]}, "b": {"Keys": [{"pk": {"N": "1"}}]}}
    body = reply({"a": [item("1")]}, UnprocessedKeys=left)
    read = read_batch_reply(body, [want("1"), want("2"), want("3"), want("1", B)])
    assert read is not None
    assert [each and each.item for each in read.found] == [item("1"), None, None, None]
    assert read.found[1:] == (None, ABSENT, None)


def test_consumed_capacity_is_given_on() -> None:
    """One element for each table."""
    charged = [{"TableName": "a", "CapacityUnits": 2.0}]
    read = read_batch_reply(reply({"a": []}, ConsumedCapacity=charged), [want("1")])
    assert read is not None
    assert read.consumed == tuple(charged)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"Responses":{"a":[]}}x',
        reply(None),
        reply([]),
        reply({}),  # not answered for
        reply({"b": []}),
        reply({"a": {}}),
        reply({"a": [1]}),
        reply({"a": [{}]}),
        reply({"a": [{"pk": {"S": "1"}}]}),
        reply({"a": [{"pk": None}]}),
        reply({"a": [item("2")]}),  # not asked for
        reply({"a": [], "b": [item("1")]}),
        reply({"a": [item("1"), item("1.0")]}),
        reply({"a": []}, Tomorrow=1),
        reply({"a": []}, UnprocessedKeys=[]),
        reply({"a": []}, UnprocessedKeys={"a": []}),
        reply({"a": []}, UnprocessedKeys={"a": {}}),
        reply({"a": []}, UnprocessedKeys={"a": {"Keys": [{}]}}),
        reply({"a": []}, UnprocessedKeys={"a": {"Keys": [{"pk": {"N": "2"}}]}}),
        reply({"a": [item("1")]}, UnprocessedKeys={"a": {"Keys": [{"pk": {"N": "1"}}]}}),
        reply({"a": []}, ConsumedCapacity={}),
        reply({"a": []}, ConsumedCapacity=[1]),
        reply({"a": []}, ConsumedCapacity=[{}]),
        reply({"a": []}, ConsumedCapacity=[{"TableName": []}]),
    ],
)
def test_anything_but_an_answer_to_these_keys_is_not_understood(body: bytes) -> None:
    """Then nothing is filled, and no item is taken for absent."""
    assert read_batch_reply(body, [want("1")]) is None


@given(st.sets(st.integers(0, 20), min_size=1), st.sets(st.integers(0, 20)), st.randoms())
def test_every_key_gets_its_own_item_or_none(wanted: set[int], there: set[int], dice: Any) -> None:
    """Whatever the order of the reply, no item ever goes to another key."""
    shown = [item(str(number), v={"S": f"of {number}"}) for number in wanted & there]
    dice.shuffle(shown)
    read = read_batch_reply(reply({"a": shown}), [want(str(number)) for number in wanted])
    assert read is not None
    for number, found in zip(wanted, read.found, strict=True):
        assert found is not None
        expected = item(str(number), v={"S": f"of {number}"}) if number in there else None
        assert found.item == expected
