"""How large an item is to DynamoDB, and what reading it costs.

Source: DynamoDB Developer Guide, "DynamoDB item sizes and formats" and "Read consumption".
"""

from __future__ import annotations

from typing import Any, Final

from proxy.core.attributes import SIGNIFICANT_DIGITS_MAX, NotCanonical, canonical_number
from proxy.core.json_text import compact
from proxy.core.values import AttributeValue, Item

READ_UNIT_BYTES: Final = 4096

_CONTAINER_BYTES: Final = 3
_ELEMENT_BYTES: Final = 1
_FLAG_BYTES: Final = 1  # NULL and BOOL
_NUMBER_BYTES_MAX: Final = 21


def item_bytes(item: Item) -> int:
    """Add up an item's size in bytes: names and values, by DynamoDB's published rules.

    The rule for numbers is published as "approximately"; the sum may be off by a byte per
    number. An attribute value of a type unknown here counts as the JSON it is written in.
    """
    size = _text_bytes("".join(item))
    pending = list(item.values())
    for value in pending:  # and what those contain, which is added meanwhile
        sole = type(value) is dict and len(value) == 1
        kind, content = next(iter(value.items())) if sole else ("", None)
        if kind == "S" and type(content) is str:
            size += len(content) if content.isascii() else _text_bytes(content)
        elif kind == "N" and type(content) is str:
            size += _number_bytes(content)
        else:
            size += _value_bytes(value, pending)
    return size


def read_units(size_bytes: int, *, consistent: bool) -> float:
    """Return the read capacity units for an item of this size; an absent item counts as 0 bytes.

    One unit per 4 KB begun, at least one; half of it for an eventually consistent read.
    """
    units = -(-size_bytes // READ_UNIT_BYTES) or 1
    return float(units) if consistent else units / 2


def _value_bytes(value: AttributeValue, pending: list[AttributeValue]) -> int:
    """Return a value's own bytes; what it contains is added to `pending`, so nothing recurses."""
    match value:
        # Patterns are tried in order, and large items are made of these.
        case {"M": dict(members)}:
            pending.extend(members.values())
            return _members_bytes(members)
        case {"S": str(text)}:
            return _text_bytes(text)
        case {"N": str(text)}:
            return _number_bytes(text)
        case {"B": str(text)}:
            return _binary_bytes(text)
        case {"L": list(elements)}:
            pending.extend(elements)
            return _CONTAINER_BYTES + _ELEMENT_BYTES * len(elements)
        case {"BOOL": _} | {"NULL": _}:
            return _FLAG_BYTES
        case {"SS": list(texts)}:
            return sum(map(_text_bytes, texts))
        case {"NS": list(texts)}:
            return sum(map(_number_bytes, texts))
        case {"BS": list(texts)}:
            return sum(map(_binary_bytes, texts))
        case _:
            return len(compact(value))


def _members_bytes(members: dict[str, Any]) -> int:
    names_bytes = _text_bytes("".join(members))
    return _CONTAINER_BYTES + _ELEMENT_BYTES * len(members) + names_bytes


def _text_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _binary_bytes(text: str) -> int:
    return len(text) // 4 * 3 - text.count("=", -2)


def _number_bytes(text: str) -> int:
    """One byte for every two significant digits, one more, and one for a minus sign."""
    if len(text) <= SIGNIFICANT_DIGITS_MAX and text.isascii() and text.isdigit():
        return (max(1, len(text.strip("0"))) + 1) // 2 + 1
    try:
        canonical = canonical_number(text)
    except NotCanonical:
        return _NUMBER_BYTES_MAX
    digits = canonical.lstrip("-").partition("E")[0]
    return (len(digits) + 1) // 2 + 1 + canonical.startswith("-")
