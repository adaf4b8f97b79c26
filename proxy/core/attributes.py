"""What makes two attribute values the same to DynamoDB, and which come back as they were written.

Canonical bytes are identity, not representation: they go into cache keys and digests, never into
an answer. Everything here is stricter than DynamoDB where its own judgement is not certain:
a refusal costs a bypass (or, for a write, the table's generation), never a wrong answer.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from typing import Final

SIGNIFICANT_DIGITS_MAX: Final = 38
MAGNITUDE_MIN: Final = -130  # 1E-130, the smallest number above zero
MAGNITUDE_MAX: Final = 125  # 9.9…E+125
NESTING_MAX: Final = 32  # levels of lists and maps in one attribute value

_NUMBER_TEXT_MAX: Final = 300  # 1E-130 in full has 132 characters; int() is never fed a novel
_KEY_ATTRIBUTES_MAX: Final = 2
_LENGTH_BYTES: Final = 4

# A plus sign in front is left out: an engine that follows DynamoDB closely refuses it.
_NUMBER: Final = re.compile(r"(-?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]{1,4}))?")
# Six zeros after the point are left out: whether 1E-7 comes back in full is not documented.
_PLAIN_NUMBER: Final = re.compile(r"0|-?(?:[1-9][0-9]*|0(?=\.))(?:\.(?!0{6})[0-9]*[1-9])?")


class NotCanonical(ValueError):
    """Only DynamoDB can judge this value: let upstream answer."""


def canonical_number(text: str) -> str:
    """Spell a number in the one way that stands for all its spellings.

    Args:
        text: DynamoDB's syntax: sign, digits, fraction and exponent, e.g. `-01.50e+3`.

    Returns:
        Significant digits and a power of ten, `-15E2`; every zero is `0`. For identity only:
        DynamoDB itself writes numbers in full.

    Raises:
        NotCanonical: no such number, more than 38 significant digits, or outside 1E-130 to
            9.9…E+125.

    Source: DynamoDB Developer Guide, "Naming rules and data types", Number.
    """
    match = _NUMBER.fullmatch(text) if len(text) <= _NUMBER_TEXT_MAX else None
    if match is None:
        raise NotCanonical("not a number")
    sign, whole, fraction, exponent = match.groups(default="")
    if not (whole or fraction):
        raise NotCanonical("a number without digits")
    digits = (whole + fraction).lstrip("0")
    significant = digits.rstrip("0")
    power = int(exponent or "0") - len(fraction)
    if len(significant) > SIGNIFICANT_DIGITS_MAX:
        raise NotCanonical("too many significant digits")
    if not MAGNITUDE_MIN <= power + max(len(digits), 1) - 1 <= MAGNITUDE_MAX:
        raise NotCanonical("number out of range")
    if not significant:
        return "0"
    return f"{sign}{significant}E{power + len(digits) - len(significant)}"


def binary_bytes(text: str) -> bytes:
    """Decode base64 as strictly as DynamoDB does: exact padding, no blanks, no stray bits.

    Raises:
        NotCanonical: any other spelling; a lenient decoder would turn DynamoDB's
            SerializationException into a hit.
    """
    try:
        raw = binascii.a2b_base64(text)
    except ValueError:
        raise NotCanonical("not base64") from None
    if binascii.b2a_base64(raw, newline=False) != text.encode("ascii"):
        raise NotCanonical("not canonical base64")
    return raw


def utf8_bytes(text: str) -> bytes:
    """Encode text as UTF-8.

    Raises:
        NotCanonical: a lone surrogate, which JSON can escape but UTF-8 cannot say.
    """
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise NotCanonical("lone surrogate") from None


def canonical_key_value(value: object) -> bytes:
    """Encode one key attribute's value: equal values give equal bytes, different ones different.

    Args:
        value: `{"S": …}`, `{"N": …}` or `{"B": …}` as decoded from JSON.

    Returns:
        Type letter, length in 4 bytes, content: self-delimiting, so parts can be joined.

    Raises:
        NotCanonical: another type, an empty string or binary, or not exactly one member.
    """
    if not isinstance(value, dict) or len(value) != 1:
        raise NotCanonical("not one attribute value")
    ((kind, content),) = value.items()
    if not isinstance(content, str) or not content:
        raise NotCanonical("not text, or empty")
    if kind == "S":
        return b"S" + _sized(utf8_bytes(content))
    if kind == "N":
        return b"N" + _sized(canonical_number(content).encode("ascii"))
    if kind == "B":
        return b"B" + _sized(binary_bytes(content))
    raise NotCanonical("not a key type")


def canonical_primary_key(primary_key: object) -> bytes:
    """Encode a primary key of one or two attributes, whatever their order in the request.

    Returns:
        For each attribute, in the order of these bytes: length and name, then
        `canonical_key_value`. Every part carries its length, so no name or value can imitate
        a separator: two primary keys have the same bytes only if they name the same item.

    Raises:
        NotCanonical: no such primary key, whatever the table's key schema.
    """
    if not isinstance(primary_key, dict) or not 1 <= len(primary_key) <= _KEY_ATTRIBUTES_MAX:
        raise NotCanonical("not one or two attributes")
    parts = [_named(name, value) for name, value in primary_key.items()]
    parts.sort()
    return b"".join(parts)


def is_plain_number(text: str) -> bool:
    """Tell whether DynamoDB gives a number back in exactly this spelling.

    False for exponents, superfluous zeros, `+`, `-0` and whatever is not certain.
    """
    return len(text) <= SIGNIFICANT_DIGITS_MAX and _PLAIN_NUMBER.fullmatch(text) is not None


def is_plain_value(value: object) -> bool:
    """Tell whether DynamoDB gives this attribute value back exactly as written.

    Only then may a written item be stored as it is. False for numbers in another spelling, for
    every set (their order changes), and for anything that is not certainly valid.
    """
    return _is_plain(value, NESTING_MAX)


def _sized(raw: bytes) -> bytes:
    return len(raw).to_bytes(_LENGTH_BYTES, "big") + raw


def _named(name: str, value: object) -> bytes:
    if not name:
        raise NotCanonical("empty attribute name")
    return _sized(utf8_bytes(name)) + canonical_key_value(value)


def _is_plain(value: object, levels_left: int) -> bool:
    if not isinstance(value, dict) or len(value) != 1:
        return False
    match value:
        case {"S": str(text)}:
            return _succeeds(utf8_bytes, text)
        case {"N": str(text)}:
            return is_plain_number(text)
        case {"B": str(text)}:
            return _succeeds(binary_bytes, text)
        case {"BOOL": bool()} | {"NULL": True}:
            return True
        case {"L": list(elements)}:
            return levels_left > 0 and all(_is_plain(each, levels_left - 1) for each in elements)
        case {"M": dict(members)}:
            return levels_left > 0 and all(
                name != "" and _succeeds(utf8_bytes, name) and _is_plain(each, levels_left - 1)
                for name, each in members.items()
            )
        case _:
            return False


def _succeeds(encode: Callable[[str], bytes], text: str) -> bool:
    try:
        encode(text)
    except NotCanonical:
        return False
    return True
