"""Reads a PartiQL statement as far as a fence needs: whether it writes, which table, which item.

DynamoDB's grammar is not published in full, so this parser knows few shapes and takes none for
another. What it cannot place for certain (OR, NOT, IN, nested paths, groups, comments, an
attribute named twice) leaves the table known and the item not; a table it cannot tell is refused.
Source: DynamoDB Developer Guide, "PartiQL - a SQL-compatible query language for Amazon DynamoDB".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from proxy.core.values import AttributeValue, Item

STATEMENT_CHARACTERS_MAX: Final = 8192  # DynamoDB's own limit for one statement

# In ASCII only: a letter that merely folds to S must not make a read of what is none.
_HEAD: Final = re.compile(
    r"""\s*(?:(?P<read>SELECT|EXISTS)\b
    |(?P<verb>INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s+
    (?:"(?P<quoted>(?:[^"]|"")++)"|(?P<bare>[A-Za-z0-9_.\-]+)))""",
    re.IGNORECASE | re.VERBOSE | re.ASCII,
)
# No backslashes in texts: another parser may take them for escapes. No `--`, no `/`: comments.
_TOKEN: Final = re.compile(
    r"""[ \t\r\n]+
    |'(?P<string>(?:[^'\\]|'')*+)'
    |"(?P<quoted>(?:[^"\\]|"")++)"
    |(?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)(?![A-Za-z0-9_.])
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<parameter>\?)
    |(?P<mark><<|>>|<>|<=|>=|!=|\|\||-(?!-)|[=<>(){}\[\],.:+*])""",
    re.VERBOSE | re.ASCII,
)
_OPENING: Final = frozenset({"(", "[", "{", "<<"})
_CLOSING: Final = {")": "(", "]": "[", "}": "{", ">>": "<<"}
_COMPARISONS: Final = frozenset({"<>", "!=", "<", "<=", ">", ">="})
_CALLS: Final = frozenset({"ATTRIBUTE_TYPE", "BEGINS_WITH", "CONTAINS"})
_NOT_KEYS: Final = frozenset({"TRUE", "FALSE", "NULL", "MISSING"})


class StatementUnclear(ValueError):
    """This may be a write, and its table cannot be told."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that writes.

    Args:
        tables: the table's name; two where a bare name with a dot may mean a table and its index.
        attributes: attributes of the one item written, its primary key among them if the
            statement is valid; None where only the whole table is sure.
    """

    tables: tuple[str, ...]
    attributes: Item | None


class _Unclear(Exception):
    """Only the whole table is sure."""


class _Token(NamedTuple):
    """One token: `text` without quotes, a parameter's is its position in the statement."""

    kind: str
    text: str

    def says(self, *words: str) -> bool:
        """Tell whether this is one of these keywords, in capitals."""
        return self.kind == "word" and self.text.upper() in words

    def marks(self, *marks: str) -> bool:
        """Tell whether this is one of these marks."""
        return self.kind == "mark" and self.text in marks


_Tokens = list[_Token]


def read_statement(text: str, parameters: object) -> Statement | None:
    """Read one statement; None when it only reads.

    Args:
        text: the statement.
        parameters: the request's `Parameters`, values for its `?` in order.

    Raises:
        StatementUnclear: neither a read nor a write to a table that can be told.
    """
    head = _HEAD.match(text)
    if head is None:
        raise StatementUnclear
    if head["read"]:
        return None
    try:
        tokens = _tokens(text, head.end())
        attributes = _attributes(head["verb"][:6].upper(), tokens, parameters)
    except _Unclear:
        attributes = None
    if head["quoted"]:
        return Statement((head["quoted"].replace('""', '"'),), attributes)
    bare = head["bare"]
    if "." in bare:
        return Statement((bare, bare.partition(".")[0]), None)
    return Statement((bare,), attributes)


def _tokens(text: str, at: int) -> _Tokens:
    if len(text) > STATEMENT_CHARACTERS_MAX:
        raise _Unclear
    found: _Tokens = []
    parameters = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _Unclear
        at = match.end()
        kind = match.lastgroup
        if kind == "parameter":
            found.append(_Token(kind, str(parameters)))
            parameters += 1
        elif kind is not None:
            quote = {"string": "'", "quoted": '"'}.get(kind, "")
            found.append(
                _Token(kind, match[kind].replace(quote * 2, quote) if quote else match[kind])
            )
    return found


def _attributes(verb: str, tokens: _Tokens, parameters: object) -> Item:
    """Return the attributes that name the item; `verb` is INSERT, UPDATE or DELETE."""
    outside = list(_outside(tokens))
    ends = [place for place in outside if tokens[place].says("RETURNING")]
    if ends:
        if any(each.kind != "word" and not each.marks("*") for each in tokens[ends[0] :]):
            raise _Unclear
        tokens = tokens[: ends[0]]
    if verb == "INSERT":
        return _struct(tokens, parameters)
    wheres = [place for place in outside if place < len(tokens) and tokens[place].says("WHERE")]
    begins_well = tokens[:1] and tokens[0].says("SET", "REMOVE", "WHERE")
    if not begins_well or not wheres or (verb == "DELETE") != (wheres[0] == 0):
        raise _Unclear
    return _equalities(tokens[wheres[0] + 1 :], parameters)


def _equalities(tokens: _Tokens, parameters: object) -> Item:
    """Return the attributes that a condition sets equal to a value, all of them at once.

    Every part between two ANDs must have one of these shapes: OR, NOT, IN, BETWEEN and CASE fit
    none of them.
    """
    found: Item = {}
    seen: set[str] = set()
    for part in _parts(tokens, lambda token: token.says("AND")):
        match part:
            case [_Token("word" | "quoted", name), _Token("mark", "="), *value]:
                _place(found, seen, name, _value(value, parameters))
            case [_Token("word" | "quoted"), _Token("mark", sign), *value] if sign in _COMPARISONS:
                _value(value, parameters)
            case [_Token("word", name), _Token("mark", "("), *_, _Token("mark", ")")] if (
                name.upper() in _CALLS and len(list(_outside(part))) == 1
            ):
                pass
            case _:
                raise _Unclear
    return found


def _struct(tokens: _Tokens, parameters: object) -> Item:
    """Return the members of `VALUE {'name': value, …}` that may be key attributes."""
    match tokens:
        case [first, _Token("mark", "{"), *inner, _Token("mark", "}")] if first.says("VALUE"):
            pass
        case _:
            raise _Unclear
    found: Item = {}
    seen: set[str] = set()
    for part in _parts(inner, lambda token: token.marks(",")):
        match part:
            case [_Token("string", name), _Token("mark", ":"), _, *_]:
                try:
                    value = _value(part[2:], parameters)
                except _Unclear:
                    value = None  # whatever it is, no key will be found that needs it
                _place(found, seen, name, value)
            case _:
                raise _Unclear
    return found


def _place(found: Item, seen: set[str], name: str, value: AttributeValue | None) -> None:
    # Bare names may be compared without their case somewhere: `PK` and `pk` are one here.
    if name.casefold() in seen:
        raise _Unclear
    seen.add(name.casefold())
    if value is not None:
        found[name] = value


def _value(tokens: _Tokens, parameters: object) -> AttributeValue | None:
    """Return a literal or a parameter as an attribute value; None for what is never a key."""
    match tokens:
        case [_Token("string", text)]:
            return {"S": text}
        case [_Token("number", text)]:
            return {"N": text}
        case [_Token("mark", "-" | "+" as sign), _Token("number", text)]:
            return {"N": sign + text}
        case [_Token("parameter", place)]:
            given = parameters if isinstance(parameters, list) else []
            if int(place) >= len(given) or not isinstance(given[int(place)], dict):
                raise _Unclear
            parameter: AttributeValue = given[int(place)]
            return parameter
        case [token] if token.says(*_NOT_KEYS):
            return None
        case _:
            raise _Unclear


def _parts(tokens: _Tokens, parts_at: Callable[[_Token], bool]) -> Iterator[_Tokens]:
    """Split tokens where a separator stands outside all brackets."""
    start = 0
    for place in _outside(tokens):
        if parts_at(tokens[place]):
            yield tokens[start:place]
            start = place + 1
    yield tokens[start:]


def _outside(tokens: _Tokens) -> Iterator[int]:
    """Yield the places that are in no brackets; the brackets themselves are in."""
    open_marks: list[str] = []
    for place, token in enumerate(tokens):
        if token.marks(*_OPENING):
            open_marks.append(token.text)
        elif token.marks(*_CLOSING):
            if not open_marks or open_marks.pop() != _CLOSING[token.text]:
                raise _Unclear
        elif not open_marks:
            yield place
    if open_marks:
        raise _Unclear
