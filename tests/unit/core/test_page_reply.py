"""Claims about pages: every member as upstream spelled it, but for what it cost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.item_size import read_units
from proxy.core.page_reply import page_body, read_page_reply
from proxy.core.page_request import PageRequest, decode_page
from proxy.core.values import TableName

TABLE = TableName("orders")
CAPACITY = {"TableName": "orders", "CapacityUnits": 2.5}
ITEMS = b'"Items": [ {"pk":{"S":"\\u0061/"}} ]'
COUNTS = b'"Count":1 , "ScannedCount":1'


def asked(capacity: str = "NONE") -> PageRequest:
    """Return a Scan."""
    return decode_page("Scan", {"TableName": TABLE, "ReturnConsumedCapacity": capacity}, TABLE)


def body(*parts: bytes) -> bytes:
    """Join members to an object."""
    return b"{" + b",".join(parts) + b"}"


CONSUMED = b'"ConsumedCapacity":' + json.dumps(CAPACITY).encode()


@pytest.mark.parametrize(
    ("reply", "whole"),
    [
        (body(ITEMS, COUNTS), body(ITEMS, COUNTS)),
        (body(COUNTS), body(COUNTS)),
        (body(CONSUMED, COUNTS), b'{"Count":1,"ScannedCount":1}'),
        (
            body(ITEMS, CONSUMED, COUNTS, b'"LastEvaluatedKey":{"pk": {"S":"a"}}'),
            (
                b'{"Items":[ {"pk":{"S":"\\u0061/"}} ],"Count":1,"ScannedCount":1,'
                b'"LastEvaluatedKey":{"pk": {"S":"a"}}}'
            ),
        ),
    ],
)
def test_a_page_is_the_reply_without_what_it_cost(reply: bytes, whole: bytes) -> None:
    """Values stay as spelled; a page is never a negative entry."""
    page = read_page_reply(reply, consistent=True)
    assert page is not None
    assert page.body == whole
    assert page.consumed == (CAPACITY if CONSUMED in reply else None)
    assert not page.negative


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"[]",
        b"\xff",
        body(ITEMS),
        body(ITEMS, b'"Count":1'),
        body(COUNTS, b'"Unknown":1'),
        body(COUNTS, b'"Count":1'),
        body(COUNTS, b'"Items":{}'),
        body(COUNTS, b'"ConsumedCapacity":[]'),
        b"[" * 100_000,
    ],
)
def test_a_reply_of_another_shape_is_none(reply: bytes) -> None:
    """What is not understood is passed on, not cached."""
    assert read_page_reply(reply, consistent=True) is None


@given(st.integers(1, 1000).map(lambda halves: halves / 2))
def test_the_size_gives_the_units_back(units: float) -> None:
    """However it was read, a hit saves what the eventually consistent read would have cost."""
    for consistent in (False, True):
        reply = body(COUNTS, b'"ConsumedCapacity":{"CapacityUnits":%f}' % units)
        page = read_page_reply(reply, consistent=consistent)
        assert page is not None
        if consistent and units % 1:
            continue  # a consistent read takes whole units
        assert read_units(page.size_bytes, consistent=consistent) == units


@pytest.mark.parametrize("units", ['"1"', "true", "-1", "null", "[]"])
def test_capacity_of_another_shape_counts_as_nothing(units: str) -> None:
    """The page itself is none the worse for it."""
    reply = body(COUNTS, b'"ConsumedCapacity":{"CapacityUnits":%s}' % units.encode())
    page = read_page_reply(reply, consistent=True)
    assert page is not None
    assert page.size_bytes == 0


def test_a_size_beyond_the_records_field_is_its_largest() -> None:
    """No capacity that upstream reports can break the record."""
    reply = body(COUNTS, b'"ConsumedCapacity":{"CapacityUnits":1e300}')
    page = read_page_reply(reply, consistent=True)
    assert page is not None
    assert page.size_bytes == 2**32 - 1


@pytest.mark.parametrize(
    ("capacity", "consumed", "expected"),
    [
        ("NONE", CAPACITY, None),
        ("TOTAL", CAPACITY, CAPACITY),
        ("TOTAL", None, {"TableName": "orders", "CapacityUnits": 0.0}),
        (
            "INDEXES",
            None,
            {"TableName": "orders", "CapacityUnits": 0.0, "Table": {"CapacityUnits": 0.0}},
        ),
    ],
)
def test_an_answer_says_what_it_cost_when_asked(
    capacity: str, consumed: dict[str, Any] | None, expected: dict[str, Any] | None
) -> None:
    """A hit costs nothing and says so; who does not ask gets the page as it is."""
    whole = body(ITEMS, COUNTS)
    answer = page_body(asked(capacity), whole, consumed)
    if expected is None:
        assert answer == whole
    else:
        assert json.loads(answer) == json.loads(whole) | {"ConsumedCapacity": expected}
