"""Parses the requests that the proxy does more with than forward, once, into frozen values.

A read that is spelled so that only DynamoDB can judge it raises `Undecodable` and passes through
untouched: a bypass is never wrong. A write must not slip past its fence, so whatever is unclear
about one widens the fence (`key=None`: the whole table) or, when not even the table can be read,
refuses the request as DynamoDB refuses malformed JSON.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from proxy.core.attributes import NotCanonical, canonical_primary_key
from proxy.core.errors import RequestRejected
from proxy.core.json_text import NotJson, load_object
from proxy.core.projection import (
    Projection,
    ProjectionUnclear,
    parse_attributes_to_get,
    parse_projection,
)
from proxy.core.values import BypassReason, Item, TableName

SERIALIZATION_EXCEPTION: Final = "com.amazon.coral.service#SerializationException"
WRITES: Final = frozenset({"PutItem", "UpdateItem", "DeleteItem"})
PRIMARY_KEY_ATTRIBUTES_MAX: Final = 2
_TABLE_NAME_CHARACTERS_MAX: Final = 255
_GET_MEMBERS: Final = frozenset(
    {
        "TableName",
        "Key",
        "ConsistentRead",
        "ProjectionExpression",
        "ExpressionAttributeNames",
        "AttributesToGet",
        "ReturnConsumedCapacity",
    }
)


class Undecodable(Exception):
    """This read must pass through; `table` is known where that much could be read."""

    def __init__(self, reason: BypassReason, table: TableName | None = None) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.table = table


class Capacity(StrEnum):
    """What `ReturnConsumedCapacity` asks for."""

    NONE = "NONE"
    TOTAL = "TOTAL"
    INDEXES = "INDEXES"


_CAPACITIES: Final = {each.value: each for each in Capacity}


@dataclass(frozen=True, slots=True)
class GetItem:
    """A GetItem that the proxy may answer itself."""

    table: TableName
    key: Item
    consistent: bool
    projection: Projection | None
    capacity: Capacity

    @property
    def names(self) -> tuple[str, ...] | None:
        """The top-level attributes that the answer is made of; None for the whole item."""
        return None if self.projection is None else self.projection.names


@dataclass(frozen=True, slots=True)
class ItemWrite:
    """A write of one item: a request's only one, or one of several.

    Args:
        operation: PutItem, UpdateItem, DeleteItem, also for those inside a batch or transaction;
            of a PartiQL statement the request's own.
        table: plain table name.
        key: the primary key, or None when it must be taken from `item` by the key schema.
        item: PutItem's item, or attributes that a PartiQL statement names; else None. Without
            `key` and `item` any item of the table may be meant.
        return_values: `ReturnValues` as asked, "NONE" when left out.
    """

    operation: str
    table: TableName
    key: Item | None = None
    item: Item | None = None
    return_values: str = "NONE"


def decode_get(body: bytes) -> GetItem:
    """Parse a GetItem body.

    Raises:
        Undecodable: upstream must judge it; nothing else is ever raised, whatever the bytes.
    """
    try:
        request, ambiguous = load_object(body)
    except NotJson:
        raise Undecodable(BypassReason.UNDECODABLE) from None
    table, by_arn = named_table(request.get("TableName"))
    if table is None:
        raise Undecodable(BypassReason.UNDECODABLE)
    if by_arn:
        # Another account's table may have the same name; only DynamoDB knows.
        raise Undecodable(BypassReason.TABLE_ARN, table)
    if ambiguous or not request.keys() <= _GET_MEMBERS:
        raise Undecodable(BypassReason.UNDECODABLE, table)
    consistent = request.get("ConsistentRead", False)
    capacity = request.get("ReturnConsumedCapacity", "NONE")
    if not isinstance(consistent, bool) or not isinstance(capacity, str):
        raise Undecodable(BypassReason.UNDECODABLE, table)
    if capacity not in _CAPACITIES:
        raise Undecodable(BypassReason.UNDECODABLE, table)
    try:
        canonical_primary_key(request.get("Key"))
        projection = projection_of(request)
    except (NotCanonical, ProjectionUnclear):
        raise Undecodable(BypassReason.UNDECODABLE, table) from None
    return GetItem(table, request["Key"], consistent, projection, _CAPACITIES[capacity])


def load_write(body: bytes) -> dict[str, Any]:
    """Parse the body of a request that may write.

    Raises:
        RequestRejected: the bytes are not one unambiguous JSON object. It is refused here, not
            upstream: a more lenient parser there could apply a write that no fence covers.
    """
    try:
        request, ambiguous = load_object(body)
    except NotJson:
        raise RequestRejected(SERIALIZATION_EXCEPTION) from None
    if ambiguous:
        raise RequestRejected(SERIALIZATION_EXCEPTION, "a member name occurs twice")
    return request


def item_write(operation: str, request: dict[str, Any]) -> ItemWrite | None:
    """Read the members of a PutItem, UpdateItem or DeleteItem, alone or inside a transaction.

    Returns:
        None when no table is named: DynamoDB refuses such a request, nothing can change.
    """
    table = plain_table_name(request.get("TableName"))
    if table is None:
        return None
    puts = operation == "PutItem"
    return_values = request.get("ReturnValues", "NONE")
    return ItemWrite(
        operation=operation,
        table=table,
        key=None if puts else _as_object(request.get("Key")),
        item=_as_object(request.get("Item")) if puts else None,
        return_values=return_values if isinstance(return_values, str) else "NONE",
    )


def projection_of(request: dict[str, Any]) -> Projection | None:
    """Return what a read asks for of its item; None for all of it.

    Raises:
        ProjectionUnclear: only DynamoDB can judge it.
    """
    expression = request.get("ProjectionExpression")
    names = request.get("ExpressionAttributeNames")
    attributes = request.get("AttributesToGet")
    if attributes is not None:
        if expression is not None or names is not None or not isinstance(attributes, list):
            raise ProjectionUnclear
        return parse_attributes_to_get(attributes)
    if expression is not None:
        if not isinstance(expression, str) or not isinstance(names, dict | None):
            raise ProjectionUnclear
        return parse_projection(expression, names)
    if names is not None:
        raise ProjectionUnclear
    return None


def plain_table_name(named: object) -> TableName | None:
    """Return the plain name of a table given by name or ARN, or None for anything else."""
    return named_table(named)[0]


def named_table(named: object) -> tuple[TableName | None, bool]:
    """Return the plain name, and whether it was given as an ARN."""
    if not isinstance(named, str):
        return None, False
    plain, by_arn = named, named.startswith("arn:")
    if by_arn:
        plain = named.partition(":table/")[2].partition("/")[0]
    if not 1 <= len(plain) <= _TABLE_NAME_CHARACTERS_MAX or not plain.isascii():
        return None, by_arn
    return TableName(plain), by_arn


def _as_object(content: object) -> Item | None:
    return content if isinstance(content, dict) else None
