"""JSON as text: find an object's members without re-spelling them, parse strictly, write compactly.

Answers travel as the bytes upstream sent; these functions cut them apart at C speed and never
re-encode what they do not own. Messages of `NotJson` carry no content.
"""

from __future__ import annotations

import json
import re
from math import isfinite
from typing import Any, Final, NamedTuple

_BLANKS: Final = re.compile(r"[ \t\n\r]*")


class NotJson(ValueError):
    """This text is not exactly one JSON object by RFC 8259."""


class Member(NamedTuple):
    """One member of an object: its name, and where its value's text starts and ends."""

    name: str
    start: int
    end: int


class _NameRepeated(Exception):
    """An object has two members of one name."""


def members(text: str) -> list[Member]:
    """List the members of the one object that `text` holds, in order, repeated names included.

    Returns:
        `text[start:end]` is the value as it was spelled.

    Raises:
        NotJson: anything else than one object between blanks.
    """
    try:
        found, end = _scan_members(text, _skip(text, 0))
    except (ValueError, RecursionError):
        raise NotJson("not a JSON object") from None
    if _skip(text, end) != len(text):
        raise NotJson("text after the object")
    return found


def sole_member(text: str, name: str) -> Any:
    """Parse the value of an object's only member, where there is no blank outside of it.

    Returns:
        None for text in any other spelling, which `members` may still understand.
    """
    opening = f'{{"{name}":'
    if not text.startswith(opening):
        return None
    try:
        value, end = _ANY_NAMES.raw_decode(text, len(opening))
    except (ValueError, RecursionError):
        return None
    return value if text[end:] == "}" else None


def load_object(body: bytes) -> tuple[dict[str, Any], bool]:
    """Parse a body that must be one JSON object in UTF-8 without a byte order mark.

    Returns:
        The object, and whether any object in it, at any depth, repeats a member's name: then
        another parser may see another request, and the last spelling won here.

    Raises:
        NotJson: everything else; NaN, infinities and numbers beyond a double included.
    """
    repeated = False
    try:
        text = body.decode()
        try:
            loaded = _UNIQUE_NAMES.decode(text)
        except _NameRepeated:
            repeated = True
            loaded = _ANY_NAMES.decode(text)
    except (ValueError, RecursionError):
        raise NotJson("not JSON") from None
    if not isinstance(loaded, dict):
        raise NotJson("not an object")
    return loaded, repeated


def compact(loaded: object) -> bytes:
    """Write JSON as DynamoDB does: no blanks, UTF-8, only control characters escaped.

    A lone surrogate has no UTF-8: text that holds one is written in ASCII with escapes.

    Raises:
        ValueError: NaN or an infinity.
    """
    text = _WRITE(loaded)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(loaded, separators=(",", ":"), allow_nan=False).encode("ascii")


def _scan_members(text: str, at: int) -> tuple[list[Member], int]:
    at = _expect(text, at, "{")
    found: list[Member] = []
    if text[at : at + 1] == "}":
        return found, at + 1
    while True:
        name, at = _ANY_NAMES.raw_decode(text, at)
        if not isinstance(name, str):
            raise NotJson("a name is a string")
        start = _expect(text, _skip(text, at), ":")
        end = _ANY_NAMES.raw_decode(text, start)[1]
        found.append(Member(name, start, end))
        at = _skip(text, end)
        if text[at : at + 1] == "}":
            return found, at + 1
        at = _expect(text, at, ",")


def _expect(text: str, at: int, mark: str) -> int:
    """Step over `mark` and the blanks after it."""
    if text[at : at + 1] != mark:
        raise NotJson("not a JSON object")
    return _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    match = _BLANKS.match(text, at)
    assert match is not None, "no blanks match too"
    return match.end()


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    loaded = dict(pairs)
    if len(loaded) != len(pairs):
        raise _NameRepeated
    return loaded


def _refuse(_constant: str) -> None:
    raise NotJson("NaN and infinities are not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise NotJson("number out of range")
    return number


_WRITE: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
_ANY_NAMES: Final = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)
_UNIQUE_NAMES: Final = json.JSONDecoder(
    object_pairs_hook=_unique_names, parse_constant=_refuse, parse_float=_finite
)
