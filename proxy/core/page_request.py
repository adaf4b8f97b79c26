"""Parses Query and Scan requests that may be answered with a cached page.

Two requests share a page only if they are the same request in one normal spelling: members
sorted, defaults left out, runs of blanks in expressions made one. Everything that could make
DynamoDB answer otherwise is part of it, ExclusiveStartKey too: each page is an entry of its own.
What is not certainly understood is `Undecodable` and passes through.

Source: DynamoDB API Reference, Query and Scan.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from proxy.core.attributes import NotCanonical, canonical_key_value
from proxy.core.json_text import NotJson, compact, load_object
from proxy.core.key_condition import (
    ConditionUnclear,
    Equality,
    read_key_condition,
    read_key_conditions,
)
from proxy.core.operations import Capacity, Undecodable, named_table
from proxy.core.values import BypassReason, TableName

PAGE_OPERATIONS: Final = frozenset({"Query", "Scan"})

_TEXTS: Final = frozenset(
    {"TableName", "IndexName", "FilterExpression", "ProjectionExpression", "Select"}
    | {"ConditionalOperator", "ReturnConsumedCapacity"}
)
_OBJECTS: Final = frozenset(
    {"ExpressionAttributeNames", "ExpressionAttributeValues", "ExclusiveStartKey"}
)
_COMMON: Final[dict[str, type]] = {
    **dict.fromkeys(_TEXTS, str),
    **dict.fromkeys(_OBJECTS, dict),
    "AttributesToGet": list,
    "Limit": int,
    "ConsistentRead": bool,
}
_MEMBERS: Final[dict[str, dict[str, type]]] = {
    "Query": _COMMON
    | {"KeyConditionExpression": str, "KeyConditions": dict, "QueryFilter": dict}
    | {"ScanIndexForward": bool},
    "Scan": _COMMON | {"ScanFilter": dict, "Segment": int, "TotalSegments": int},
}
_DEFAULTS: Final[dict[str, object]] = {"ConsistentRead": False, "ScanIndexForward": True}
_EXPRESSIONS: Final = frozenset(
    {"FilterExpression", "KeyConditionExpression", "ProjectionExpression"}
)
_BRACKETS_MAX: Final = 500  # bounds how deep a request nests, whatever spells it again later
_BLANKS: Final = re.compile(r"[ \t\r\n]+")


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A Query or Scan that the proxy may answer itself.

    Args:
        operation: its name.
        table: plain table name.
        index: `IndexName`, None for the table itself.
        consistent: whether ConsistentRead is asked for.
        capacity: what `ReturnConsumedCapacity` asks for.
        equalities: of a Query, what every item of the answer has; sorted, at least one.
        members: the request without ConsistentRead and ReturnConsumedCapacity.
        normal: the request in its one spelling, without ReturnConsumedCapacity.
    """

    operation: str
    table: TableName
    index: str | None
    consistent: bool
    capacity: Capacity
    equalities: tuple[Equality, ...]
    members: dict[str, Any]
    normal: bytes

    def fetch_body(self, *, consistent: bool) -> bytes:
        """Return the request to send: with what it costs, which hits tell as saved."""
        asked = self.capacity if self.capacity is not Capacity.NONE else Capacity.TOTAL
        more: dict[str, object] = {"ReturnConsumedCapacity": asked.value}
        if consistent:
            more["ConsistentRead"] = True
        return compact(self.members | more)


def load_page_request(body: bytes) -> tuple[dict[str, Any], TableName] | None:
    """Parse a body as far as its table; None when not even that much is clear."""
    try:
        request, ambiguous = load_object(body)
    except NotJson:
        return None
    table, by_arn = named_table(request.get("TableName"))
    return None if table is None or by_arn or ambiguous else (request, table)


def decode_page(operation: str, request: dict[str, Any], table: TableName) -> PageRequest:
    """Judge a request that `load_page_request` parsed.

    Raises:
        Undecodable: upstream must judge it.
    """
    unclear = Undecodable(BypassReason.UNDECODABLE, table)
    types = _MEMBERS[operation]
    if not all(_is(content, types.get(name)) for name, content in request.items()):
        raise unclear
    capacity = request.get("ReturnConsumedCapacity", "NONE")
    if capacity not in tuple(Capacity):
        raise unclear
    try:
        equalities = _equalities(request) if operation == "Query" else []
        normal = _normal(operation, request)
    except (ConditionUnclear, NotCanonical, RecursionError):
        raise unclear from None
    if (operation == "Query" and not equalities) or _brackets(normal) > _BRACKETS_MAX:
        raise unclear
    dropped = {"ConsistentRead", "ReturnConsumedCapacity"}
    return PageRequest(
        operation=operation,
        table=table,
        index=request.get("IndexName"),
        consistent=request.get("ConsistentRead", False),
        capacity=Capacity(capacity),
        equalities=tuple(sorted(equalities, key=lambda equality: equality[0])),
        members={name: content for name, content in request.items() if name not in dropped},
        normal=normal,
    )


def _is(content: object, kind: type | None) -> bool:
    """Tell whether a member is known and of its type; True is no number here."""
    return (
        kind is not None
        and isinstance(content, kind)
        and (kind is bool or not isinstance(content, bool))
    )


def _equalities(request: dict[str, Any]) -> list[Equality]:
    expression, conditions = request.get("KeyConditionExpression"), request.get("KeyConditions")
    if (expression is None) == (conditions is None):
        raise ConditionUnclear("not exactly one condition")
    if conditions is not None:
        found = read_key_conditions(conditions)
    else:
        names = request.get("ExpressionAttributeNames", {})
        values = request.get("ExpressionAttributeValues", {})
        found = read_key_condition(str(expression), names, values)
    for _, value in found:
        canonical_key_value(value)
    return found


def _brackets(normal: bytes) -> int:
    return normal.count(b"{") + normal.count(b"[")


def _normal(operation: str, request: dict[str, Any]) -> bytes:
    kept = {
        name: _BLANKS.sub(" ", content).strip() if name in _EXPRESSIONS else content
        for name, content in request.items()
        if name != "ReturnConsumedCapacity" and _DEFAULTS.get(name) != content
    }
    text = json.dumps([operation, kept], sort_keys=True, separators=(",", ":"))
    return text.encode("ascii")
