"""Claims about identity of attribute values: what is one key, and what is not."""

from __future__ import annotations

import base64
from decimal import Decimal, localcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.attributes import (
    NotCanonical,
    binary_bytes,
    canonical_key_value,
    canonical_number,
    canonical_primary_key,
    is_plain_number,
    is_plain_value,
    utf8_bytes,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
LOOK_ALIKES = st.text("a:|\x00\x01,S", min_size=1, max_size=4)


@st.composite
def numbers(draw: st.DrawFn) -> tuple[Decimal, str]:
    """Draw a number DynamoDB holds and one of its many spellings."""
    digits = draw(st.integers(0, 10**38 - 1))
    power = draw(st.integers(-130, 125 - len(str(digits)) + 1)) if digits else 0
    shift = draw(st.integers(0, 5))
    negative = draw(st.booleans())
    sign = "-" if negative else ""
    zeros = "0" * draw(st.integers(0, 5))
    text = f"{sign}{zeros}{digits}{'0' * shift}.{zeros}{draw(st.sampled_from('eE'))}{power - shift}"
    with localcontext(prec=60):
        return Decimal(digits).scaleb(power) * (-1 if negative else 1), text


@st.composite
def key_values(draw: st.DrawFn) -> tuple[object, dict[str, str]]:
    """Draw the meaning of a key attribute's value, and the value as a request may spell it."""
    kind = draw(st.sampled_from("SNB"))
    if kind == "S":
        text = draw(TEXT | LOOK_ALIKES)
        return (kind, text), {"S": text}
    if kind == "N":
        number, spelled = draw(numbers())
        return (kind, number), {"N": spelled}
    raw = draw(st.binary(min_size=1, max_size=6))
    return (kind, raw), {"B": base64.b64encode(raw).decode()}


PRIMARY_KEYS = st.dictionaries(TEXT | LOOK_ALIKES, key_values(), min_size=1, max_size=2)


@pytest.mark.parametrize("text", ["1000", "1e3", "1E+3", "1000.0", "001000", "10000e-1"])
def test_one_number_has_one_spelling(text: str) -> None:
    """Every spelling of 1000 is the same number."""
    assert canonical_number(text) == "1E3"


@pytest.mark.parametrize("text", ["0", "-0", "0.00", "0e5", ".0", "0."])
def test_every_zero_is_one_zero(text: str) -> None:
    """Zero has no sign, no fraction and no exponent."""
    assert canonical_number(text) == "0"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "+",
        "+1000",
        "+0",
        "-",
        "e5",
        "1e",
        "--1",
        "NaN",
        "Infinity",
        "1_0",
        " 1",
        "1 ",
        "1\n",
        "0x1",
        "\u0661",
        "1e126",
        "1e-131",
        "-1e126",
        "0e9999",
        "1e99999",
        "1" * 39,
        "1." + "0" * 37 + "1",
        "0" * 400,
        "1,0",
        "1.2.3",
    ],
)
def test_what_dynamodb_does_not_certainly_take_is_no_number(text: str) -> None:
    """Python's own number syntax, unicode digits and numbers out of range are refused."""
    with pytest.raises(NotCanonical):
        canonical_number(text)


@pytest.mark.parametrize("text", ["1e125", "-1e-130", "9" * 38 + "e88", "1" + "0" * 125])
def test_numbers_up_to_the_limits_are_taken(text: str) -> None:
    """The published limits themselves are inside."""
    assert canonical_number(text)


@given(numbers())
def test_canonical_number_keeps_the_number(drawn: tuple[Decimal, str]) -> None:
    """The canonical spelling denotes the number it stands for, whatever way it was written."""
    number, text = drawn
    with localcontext(prec=60):
        assert Decimal(canonical_number(text)) == number


@given(numbers(), numbers())
def test_numbers_are_equal_exactly_when_their_spelling_is(
    one: tuple[Decimal, str], two: tuple[Decimal, str]
) -> None:
    """Two numbers share a canonical spelling if and only if they are equal."""
    assert (canonical_number(one[1]) == canonical_number(two[1])) == (one[0] == two[0])


@given(st.text(max_size=12) | st.text("0123456789.eE+-_ ", max_size=12))
def test_any_text_is_a_number_or_refused(text: str) -> None:
    """No text raises anything but NotCanonical."""
    try:
        canonical = canonical_number(text)
    except NotCanonical:
        return
    assert canonical_number(canonical) == canonical


@given(st.binary(max_size=40))
def test_base64_is_decoded(raw: bytes) -> None:
    """Canonical base64 gives its bytes back."""
    assert binary_bytes(base64.b64encode(raw).decode()) == raw


@pytest.mark.parametrize(
    "text",
    ["YQ", "YQ=", "YQ===", "YR==", "Y Q==", "YQ==\n", "_-==", "YQ==YQ==", "é", "=", "\ud800"],
)
def test_loose_base64_is_refused(text: str) -> None:
    """Wrong padding, blanks, other alphabets and stray trailing bits are no binary."""
    with pytest.raises(NotCanonical):
        binary_bytes(text)


@given(key_values(), key_values())
def test_key_values_are_equal_exactly_when_their_bytes_are(
    one: tuple[object, dict[str, str]], two: tuple[object, dict[str, str]]
) -> None:
    """Type and content decide, the spelling does not."""
    same = canonical_key_value(one[1]) == canonical_key_value(two[1])
    assert same == (one[0] == two[0])


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"S": ""},
        {"B": ""},
        {"N": ""},
        {"S": 1},
        {"N": 1},
        {"S": None},
        {"BOOL": True},
        {"SS": ["a"]},
        {"S": "a", "N": "1"},
        "a",
        None,
        ["S"],
        {"s": "a"},
        {"X": "a"},
        {"S": "\ud800"},
    ],
)
def test_what_can_be_no_key_is_refused(value: object) -> None:
    """Only a non-empty string, number or binary with exactly one member is a key's value."""
    with pytest.raises(NotCanonical):
        canonical_key_value(value)


@given(PRIMARY_KEYS, PRIMARY_KEYS)
def test_primary_keys_are_equal_exactly_when_their_bytes_are(
    one: dict[str, Any], two: dict[str, Any]
) -> None:
    """Two primary keys share their bytes if and only if they name the same item."""

    def spelled(drawn: dict[str, Any]) -> bytes:
        return canonical_primary_key({name: value for name, (_, value) in drawn.items()})

    def meant(drawn: dict[str, Any]) -> dict[str, object]:
        return {name: meaning for name, (meaning, _) in drawn.items()}

    assert (spelled(one) == spelled(two)) == (meant(one) == meant(two))


@given(PRIMARY_KEYS)
def test_order_of_attributes_does_not_matter(drawn: dict[str, Any]) -> None:
    """The same attributes in another order are the same primary key."""
    spelled = {name: value for name, (_, value) in drawn.items()}
    turned = dict(reversed(spelled.items()))
    assert canonical_primary_key(spelled) == canonical_primary_key(turned)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"pk": "a:sk:b", "sk": "c"}, {"pk": "a", "sk": "b:sk:c"}),
        ({"aS": "b"}, {"a": "Sb"}),
        ({"a": "x", "b": "y"}, {"aS\0\0\0\1xb": "y"}),
        ({"a": "x", "b": "y"}, {"a": "x\0\0\0\1bSy"}),
        ({"a": "x", "b": "y"}, {"a": "x\0\0\0\1bS\0\0\0\1y"}),
        ({"a": "xS", "b": "y"}, {"a": "x", "Sb": "y"}),
    ],
)
def test_look_alike_separators_do_not_collide(one: dict[str, str], two: dict[str, str]) -> None:
    """Content that imitates a name, a type or a length moves nothing between attributes."""

    def encoded(texts: dict[str, str]) -> bytes:
        return canonical_primary_key({name: {"S": text} for name, text in texts.items()})

    assert encoded(one) != encoded(two)


@pytest.mark.parametrize(
    "primary_key",
    [
        {},
        {name: {"S": "a"} for name in "abc"},
        {"": {"S": "a"}},
        {"\ud800": {"S": "a"}},
        {"a": {"S": ""}},
        [{"S": "a"}],
        None,
    ],
)
def test_what_can_be_no_primary_key_is_refused(primary_key: object) -> None:
    """One or two named key attributes, nothing else."""
    with pytest.raises(NotCanonical):
        canonical_primary_key(primary_key)


def test_utf8_of_a_lone_surrogate_is_refused() -> None:
    """JSON can escape half a character; DynamoDB stores whole ones."""
    assert utf8_bytes("é😀") == "é😀".encode()
    with pytest.raises(NotCanonical):
        utf8_bytes("a\ud83d")


@pytest.mark.parametrize("text", ["0", "1", "-1", "100", "0.5", "-0.05", "123.456", "9" * 38])
def test_plain_numbers_come_back_as_written(text: str) -> None:
    """Numbers in full, without anything superfluous, keep their spelling."""
    assert is_plain_number(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-0",
        "+1",
        "01",
        "1.0",
        "1.",
        ".5",
        "1e3",
        "0.50",
        "0.0",
        "-0.0",
        "00",
        "9" * 39,
        "1_0",
        "0.0000001",
        " 1",
        "1\n",
        "\u0661",
    ],
)
def test_other_numbers_may_come_back_differently(text: str) -> None:
    """Whatever DynamoDB normalises, or may normalise, is not plain."""
    assert not is_plain_number(text)


def _nested(kind: str, levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {"S": "a"}
    for _ in range(levels):
        value = {"L": [value]} if kind == "L" else {"M": {"a": value}}
    return value


@pytest.mark.parametrize(
    "value",
    [
        {"S": ""},
        {"S": "é"},
        {"N": "10"},
        {"B": ""},
        {"B": "YQ=="},
        {"BOOL": False},
        {"NULL": True},
        {"L": []},
        {"M": {}},
        {"L": [{"M": {"a b": {"N": "1"}}}]},
        _nested("L", 32),
        _nested("M", 32),
    ],
)
def test_plain_values_come_back_as_written(value: object) -> None:
    """Values whose spelling has no freedom may be stored as written."""
    assert is_plain_value(value)


@pytest.mark.parametrize(
    "value",
    [
        {"N": "1.0"},
        {"N": 1},
        {"B": "YR=="},
        {"S": "\ud800"},
        {"S": 1},
        {"BOOL": "true"},
        {"NULL": 1},
        {"NULL": False},
        {"SS": ["a"]},
        {"NS": ["1"]},
        {"BS": ["YQ=="]},
        {},
        {"X": "a"},
        "a",
        None,
        {"S": "a", "N": "1"},
        {"L": [{"N": "01"}]},
        {"L": "a"},
        {"M": {"a": {"SS": ["a"]}}},
        {"M": []},
        {"M": {"": {"S": "a"}}},
        {"M": {"\ud800": {"S": "a"}}},
        _nested("L", 33),
        _nested("M", 33),
    ],
)
def test_other_values_are_not_stored_as_written(value: object) -> None:
    """Sets, other spellings, unknown types and too deep documents are not plain."""
    assert not is_plain_value(value)
