"""Claims about the cursor: it sees what a parser sees, and each value as it was spelled."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.json_cursor import Cursor
from proxy.core.json_text import NotJson

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
INDENTS = st.sampled_from([None, 0, 1, 3])


def read_object(text: str) -> dict[str, tuple[Any, str]]:
    """Return each member of the one object that is the text, parsed and as spelled."""
    cursor = Cursor(text)
    found = {name: cursor.value() for name in cursor.members()}
    cursor.end()
    return found


def read_array(text: str) -> list[tuple[Any, str]]:
    """Return each element of the one array that is the text, parsed and as spelled."""
    cursor = Cursor(text)
    found = [cursor.value() for _ in cursor.elements()]
    cursor.end()
    return found


@given(st.dictionaries(st.text(), JSON, max_size=4), INDENTS)
def test_members_are_those_that_a_parser_finds(given_object: Any, indent: int | None) -> None:
    """Names, values and the spelling of each value, however the text is laid out."""
    found = read_object(f" {json.dumps(given_object, indent=indent)} ")
    assert {name: value for name, (value, _) in found.items()} == given_object
    assert all(json.loads(spelled) == value for value, spelled in found.values())


@given(st.lists(JSON, max_size=4), INDENTS)
def test_elements_are_those_that_a_parser_finds(given_array: Any, indent: int | None) -> None:
    """In order, each with its spelling."""
    found = read_array(json.dumps(given_array, indent=indent))
    assert [value for value, _ in found] == given_array
    assert all(json.loads(spelled) == value for value, spelled in found)


def test_values_keep_their_spelling() -> None:
    """What is between the blanks is given back byte for byte."""
    assert read_array('[ 1.50 , {"a" :"\\u0041"} ]') == [
        (1.5, "1.50"),
        ({"a": "A"}, '{"a" :"\\u0041"}'),
    ]


def test_it_descends_where_the_reader_wants() -> None:
    """Objects and arrays can be stepped through or stepped over, in any mixture."""
    cursor = Cursor('{"over": [1, 2], "into": {"a": [true, null]}, "end": 3}')
    seen: list[object] = []
    for name in cursor.members():
        if name != "into":
            seen.append((name, cursor.value()[0]))
            continue
        for inner in cursor.members():
            seen += [(inner, cursor.value()[0]) for _ in cursor.elements()]
    cursor.end()
    assert seen == [("over", [1, 2]), ("a", True), ("a", None), ("end", 3)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "1",
        "{",
        '{"a"',
        '{"a"}',
        '{"a":',
        '{"a":}',
        '{"a":1',
        '{"a":1,}',
        '{"a":1 "b":2}',
        "{1:2}",
        "{a:2}",
        '{"a":1}x',
        '{"a":1,"a":1}',
        '{"a":' + "[" * 100_000,
        '{"a":' + "1" * 5000 + "}",
    ],
)
def test_anything_but_one_object_of_different_names_is_refused(text: str) -> None:
    """Cut, extended, too deep or ambiguous text is NotJson, and nothing else is raised."""
    with pytest.raises(NotJson):
        read_object(text)


@pytest.mark.parametrize("text", ["", "{}", "[", "[1", "[1,", "[1,]", "[1 2]", "[,]", "[]]"])
def test_anything_but_one_array_is_refused(text: str) -> None:
    """Cut or extended text is NotJson."""
    with pytest.raises(NotJson):
        read_array(text)
