"""Claims about item sizes and read capacity units."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.core.item_size import item_bytes, read_units


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ({"S": ""}, 0),
        ({"S": "abc"}, 3),
        ({"S": "é😀"}, 6),
        ({"S": "\ud800"}, 3),
        ({"N": "0"}, 2),
        ({"N": "000"}, 2),
        ({"N": "0012300"}, 3),
        ({"N": "1" + "0" * 37}, 2),
        ({"N": "1" + "0" * 100}, 2),
        ({"N": "\u0661"}, 21),
        ({"N": "1"}, 2),
        ({"N": "-1"}, 3),
        ({"N": "1234"}, 3),
        ({"N": "12345.0"}, 4),
        ({"N": "1e100"}, 2),
        ({"N": "9" * 38}, 20),
        ({"N": "what"}, 21),
        ({"B": ""}, 0),
        ({"B": "YQ=="}, 1),
        ({"B": "YWI="}, 2),
        ({"B": "YWJj"}, 3),
        ({"BOOL": False}, 1),
        ({"NULL": True}, 1),
        ({"SS": ["a", "bc"]}, 3),
        ({"NS": ["1", "-22"]}, 5),
        ({"BS": ["YQ==", "YWJj"]}, 4),
        ({"L": []}, 3),
        ({"L": [{"S": "ab"}, {"BOOL": True}]}, 3 + 2 + 3),
        ({"M": {}}, 3),
        ({"M": {"né": {"S": "ab"}, "x": {"L": []}}}, 3 + 2 + 3 + 2 + 1 + 3),
        ({"Z": 1}, 7),
        ({"S": 1}, 7),
        ({"S": "abc", "Z": 1}, 3),
        ({"N": "1234", "Z": 1}, 3),
        (["no", "value"], 14),
    ],
)
def test_a_value_has_its_published_size(value: dict[str, Any], size: int) -> None:
    """Each type is counted by DynamoDB's rule; an unknown one by its JSON."""
    assert item_bytes({"": value}) == size


def test_names_count_in_utf8() -> None:
    """An item is its names and its values; an empty item is nothing."""
    assert item_bytes({}) == 0
    assert item_bytes({"pk": {"S": "a"}, "é": {"BOOL": True}}) == 2 + 1 + 2 + 1
    halves = {chr(half): {"S": ""} for half in (0xD83D, 0xDE00)}  # side by side still two
    assert item_bytes(halves) == 3 + 3


def test_deep_documents_do_not_exhaust_the_stack() -> None:
    """A document deeper than the interpreter's stack still has a size."""
    value: dict[str, Any] = {"NULL": True}
    for _ in range(5_000):
        value = {"L": [value]}
    assert item_bytes({"a": value}) == 1 + 5_000 * 4 + 1


@pytest.mark.parametrize(
    ("size_bytes", "units"), [(0, 1), (1, 1), (4096, 1), (4097, 2), (400 * 1024, 100)]
)
def test_reads_cost_a_unit_per_4_kb(size_bytes: int, units: float) -> None:
    """Consistent reads cost whole units, eventually consistent ones half; nothing is free."""
    assert read_units(size_bytes, consistent=True) == units
    assert read_units(size_bytes, consistent=False) == units / 2
