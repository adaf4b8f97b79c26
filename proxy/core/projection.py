"""Which parts of an item a read asked for, and how to cut them out of the whole item.

An entry holds the whole item; a read with a projection is answered from it here. Only what is
certainly well-formed is evaluated: everything else is `ProjectionUnclear`, so that DynamoDB
itself words the error.

Source: DynamoDB Developer Guide, "Using projection expressions" and "Referring to item attributes".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from proxy.core.attributes import NotCanonical, utf8_bytes
from proxy.core.reserved_words import RESERVED_WORDS
from proxy.core.values import AttributeValue, Item

Path = tuple[str | int, ...]
"""From an item into a document: an attribute name, then member names and list indexes."""

EXPRESSION_CHARACTERS_MAX: Final = 4096
PATH_STEPS_MAX: Final = 32
NAME_BYTES_MAX: Final = 255
ATTRIBUTES_TO_GET_MAX: Final = 255

# Accepted by some engines only, so left out: blanks inside a path, an underscore in front, leading
# zeros, long indexes.
_NAME: Final = r"(?:#[A-Za-z0-9_]+|[A-Za-z][A-Za-z0-9_]*)"
_INDEX: Final = r"\[(?:0|[1-9][0-9]{0,4})\]"
_BLANKS: Final = r"[ \t\r\n]*"
_PATH: Final = re.compile(rf"{_BLANKS}{_NAME}(?:\.{_NAME}|{_INDEX})*{_BLANKS}")
_STEP: Final = re.compile(r"[#A-Za-z0-9_]+")


class ProjectionUnclear(ValueError):
    """Only DynamoDB can judge this projection: let upstream answer."""


@dataclass(slots=True)
class _Branch:
    """What is wanted of one attribute value: some members, some elements, or all when neither."""

    members: dict[str, _Branch] = field(default_factory=dict)
    elements: dict[int, _Branch] = field(default_factory=dict)

    def child(self, step: str | int) -> _Branch:
        if isinstance(step, str):
            return self.members.setdefault(step, _Branch())
        return self.elements.setdefault(step, _Branch())

    def cut(self, value: AttributeValue) -> AttributeValue | None:
        """Return the wanted part, or None where the document has no such path."""
        match value:
            case {"M": dict(present)} if self.members:
                members = self.cut_members(present)
                return {"M": members} if members else None
            case {"L": list(present)} if self.elements:
                elements = list(self.cut_elements(present))
                return {"L": elements} if elements else None
            case _:
                return None if self.members or self.elements else value

    def cut_members(self, present: Item) -> Item:
        parts = (
            (name, branch.cut(present[name]))
            for name, branch in self.members.items()
            if name in present
        )
        return {name: part for name, part in parts if part is not None}

    def cut_elements(self, present: list[AttributeValue]) -> Iterator[AttributeValue]:
        for index in sorted(self.elements):
            if index >= len(present):
                return
            part = self.elements[index].cut(present[index])
            if part is not None:
                yield part


@dataclass(frozen=True, slots=True)
class Projection:
    """The paths a read asked for; none of them is part of another.

    Args:
        paths: at least one; each starts with an attribute name.
    """

    paths: tuple[Path, ...]
    _root: _Branch = field(init=False, repr=False, compare=False, default_factory=_Branch)

    def __post_init__(self) -> None:
        for path in self.paths:
            branch = self._root
            for step in path:
                branch = branch.child(step)

    @property
    def names(self) -> tuple[str, ...]:
        """The top-level attributes that the paths start with, each once."""
        return tuple(self._root.members)

    def apply(self, item: Item) -> Item:
        """Return what the paths find in `item`; `{}` when they find nothing.

        Maps keep only the named members, lists only the selected elements, closed up in the
        order of their indexes. A path that leads nowhere leaves no trace, not even an empty
        map. Parts are shared with `item`, not copied.
        """
        return self._root.cut_members(item)


def parse_projection(expression: str, names: Mapping[str, str] | None) -> Projection:
    """Parse a ProjectionExpression.

    Args:
        expression: paths with commas between, e.g. `id, #t.tags[0], a.b[2].c`.
        names: ExpressionAttributeNames, `#placeholder` to attribute name; None when not given.

    Raises:
        ProjectionUnclear: bad syntax, a reserved word, a placeholder undefined or unused, a bound
            reached, paths that overlap or conflict.
    """
    if len(expression) > EXPRESSION_CHARACTERS_MAX:
        raise ProjectionUnclear("expression too long")
    if names is not None:
        _check_names(names)
    used: set[str] = set()
    paths = [_parse_path(text, names or {}, used) for text in expression.split(",")]
    if names is not None and used != names.keys():
        raise ProjectionUnclear("unused placeholder")
    _check_apart(paths)
    return Projection(tuple(paths))


def parse_attributes_to_get(names: Sequence[object]) -> Projection:
    """Turn AttributesToGet, a list of whole top-level attribute names, into a projection.

    Raises:
        ProjectionUnclear: empty, too long, a name twice, or something that is no name.
    """
    if not 1 <= len(names) <= ATTRIBUTES_TO_GET_MAX:
        raise ProjectionUnclear("number of attributes")
    paths = tuple((_checked_name(name),) for name in names)
    if len(set(paths)) != len(paths):
        raise ProjectionUnclear("attribute twice")
    return Projection(paths)


def _check_names(names: Mapping[str, str]) -> None:
    if not names:
        raise ProjectionUnclear("no placeholders")
    for name in names.values():
        _checked_name(name)


def _checked_name(name: object) -> str:
    try:
        if isinstance(name, str) and 1 <= len(utf8_bytes(name)) <= NAME_BYTES_MAX:
            return name
    except NotCanonical:
        pass
    raise ProjectionUnclear("not an attribute name")


def _parse_path(text: str, names: Mapping[str, str], used: set[str]) -> Path:
    if _PATH.fullmatch(text) is None:
        raise ProjectionUnclear("syntax")
    steps = _STEP.findall(text)
    if len(steps) > PATH_STEPS_MAX:
        raise ProjectionUnclear("path too deep")
    return tuple(_resolve(step, names, used) for step in steps)


def _resolve(step: str, names: Mapping[str, str], used: set[str]) -> str | int:
    if step.isdigit():
        return int(step)
    if not step.startswith("#"):
        if step.upper() in RESERVED_WORDS:
            raise ProjectionUnclear("reserved word")
        return step
    if step not in names:
        raise ProjectionUnclear("undefined placeholder")
    used.add(step)
    return names[step]


def _check_apart(paths: list[Path]) -> None:
    """Refuse paths of which one is part of another.

    Looks at every path's beginnings instead of all pairs: an expression may name 2,000 paths.

    Raises:
        ProjectionUnclear: paths overlap, or one takes for a list what another takes for a map:
            DynamoDB rejects that, some engines find nothing instead.
    """
    ends = set(paths)
    if len(ends) != len(paths):
        raise ProjectionUnclear("path twice")
    kinds: dict[Path, type] = {}
    for path in paths:
        for length in range(1, len(path)):
            beginning, kind = path[:length], type(path[length])
            if beginning in ends:
                raise ProjectionUnclear("paths overlap")
            if kinds.setdefault(beginning, kind) is not kind:
                raise ProjectionUnclear("list and map at once")
