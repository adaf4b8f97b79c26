"""Claims about JSON text: strict in, unchanged through, compact out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.core.json_text import NotJson, compact, load_object, members, sole_member

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
).filter(lambda loaded: "Infinity" not in json.dumps(loaded))
OBJECTS = st.dictionaries(st.text(), JSON, max_size=4)

NO_OBJECTS = [
    "",
    " ",
    "[]",
    '"a"',
    "1",
    "null",
    "{",
    "}",
    '{"a"}',
    '{"a":}',
    '{"a":1,}',
    "{,}",
    '{"a" 1}',
    '{"a":1}x',
    '{"a":1}{}',
    '{"a":1 "b":2}',
    "{1:2}",
    "{'a':1}",
    '{"a":01}',
    '{"a":NaN}',
    '{"a":Infinity}',
    '{"a":[-Infinity]}',
    '{"a":1e999}',
    '\ufeff{"a":1}',
    '{"a\n":1}',
    '{"a":"\\x"}',
    "{}\x00",
    '{"a":' + "[" * 100_000,
    '{"a":' + "1" * 5000 + "}",
]


@pytest.mark.parametrize("text", NO_OBJECTS, ids=range(len(NO_OBJECTS)))
def test_anything_but_one_object_is_refused(text: str) -> None:
    """Truncated, extended, too deep or non-standard text is NotJson, for both readers."""
    with pytest.raises(NotJson):
        members(text)
    with pytest.raises(NotJson):
        load_object(text.encode())


def test_members_are_slices_of_the_text() -> None:
    """A member's value keeps its spelling: blanks, escapes and number forms."""
    text = ' {\n"Item" : { "a": {"N":"1"} } ,\t"\\u0062":1.50E1, "Item":"x"} '
    found = [(member.name, text[member.start : member.end]) for member in members(text)]
    assert found == [("Item", '{ "a": {"N":"1"} }'), ("b", "1.50E1"), ("Item", '"x"')]


@given(st.sampled_from(["a", "b"]), OBJECTS.map(json.dumps) | st.sampled_from(NO_OBJECTS))
def test_a_sole_member_is_what_members_find(name: str, value: str) -> None:
    """Parsed, where nothing is outside of it but what must be; all else is left to `members`."""
    text = f'{{"a":{value}}}'
    try:
        found = members(text)
    except ValueError:
        found = []
    alone = [name] == [each.name for each in found] and not value.startswith(" ")
    assert sole_member(text, name) == (json.loads(value) if alone else None)


@pytest.mark.parametrize(
    "text",
    [
        ' {"a":{}}',
        '{"a":{}} ',
        '{ "a":{}}',
        '{"a" :{}}',
        '{"a":{},"b":1}',
        '{"a":{},"a":{}}',
        '{"a":{}',
        '{"a":{"n":NaN}}',
        '{"a":{"n":1e999}}',
        '{"a":' + "[" * 100_000,
        "",
    ],
)
def test_another_spelling_has_no_sole_member(text: str) -> None:
    """Nor has what is no JSON; nothing is raised."""
    assert sole_member(text, "a") is None


def test_empty_object_has_no_members() -> None:
    """`{}` is an object too."""
    assert members(" { } ") == []


@given(loaded=OBJECTS, indent=st.sampled_from([None, 0, 2]), escape=st.booleans())
def test_members_agree_with_the_parsed_object(
    loaded: dict[str, Any], *, indent: int | None, escape: bool
) -> None:
    """Each slice parses to the member's value, in order, however the text is laid out."""
    text = json.dumps(loaded, indent=indent, ensure_ascii=escape)
    found = [(member.name, json.loads(text[member.start : member.end])) for member in members(text)]
    assert found == list(loaded.items())


@given(st.text('{}[]":,a1 \\', max_size=20))
@example('{"a":1:2}')
def test_members_and_parser_accept_the_same_text(text: str) -> None:
    """What is an object to the one is an object to the other."""
    try:
        loaded, _ = load_object(text.encode())
    except NotJson:
        with pytest.raises(NotJson):
            members(text)
    else:
        assert {member.name for member in members(text)} == set(loaded)


@given(st.binary(max_size=60) | OBJECTS.map(compact) | st.text().map(str.encode))
def test_any_bytes_load_or_are_refused(body: bytes) -> None:
    """No body raises anything but NotJson."""
    try:
        loaded, repeated = load_object(body)
    except NotJson:
        return
    assert isinstance(loaded, dict)
    assert isinstance(repeated, bool)


@pytest.mark.parametrize("body", [b"\xff{}", b'{"a":"\xed\xa0\x80"}', '{"a":1}'.encode("utf-16")])
def test_other_encodings_are_refused(body: bytes) -> None:
    """Only UTF-8 is read, encoded surrogates excluded."""
    with pytest.raises(NotJson):
        load_object(body)


@pytest.mark.parametrize(
    ("body", "repeated"),
    [
        (b'{"a":1,"b":{"a":2}}', False),
        (b'{"a":1,"a":2}', True),
        (b'{"a":1,"\\u0061":2}', True),
        (b'{"x":[{"y":{"a":1,"a":1}}]}', True),
    ],
)
def test_repeated_names_are_reported_at_any_depth(body: bytes, *, repeated: bool) -> None:
    """A name given twice is reported, spelled alike or not."""
    assert load_object(body) == (json.loads(body), repeated)


def test_floats_load_as_numbers() -> None:
    """Finite numbers with a fraction stay numbers."""
    assert load_object(b'{"CapacityUnits":0.5}') == ({"CapacityUnits": 0.5}, False)


@given(OBJECTS)
def test_compact_round_trips(loaded: dict[str, Any]) -> None:
    """What is written compactly loads equal, without a blank outside strings."""
    assert load_object(compact(loaded)) == (loaded, False)


def test_compact_writes_utf8_without_blanks() -> None:
    """Text is UTF-8, not escapes, and members stand side by side."""
    assert (
        compact({"é": {"L": [1, None]}, "q": '"\n'}) == '{"é":{"L":[1,null]},"q":"\\"\\n"}'.encode()
    )


def test_compact_escapes_what_utf8_cannot_say() -> None:
    """Half a character survives as its escape."""
    assert compact({"a": "é\ud800"}) == b'{"a":"\\u00e9\\ud800"}'


def test_compact_refuses_infinities() -> None:
    """No text that is not JSON is ever written."""
    with pytest.raises(ValueError):
        compact({"a": float("inf")})
