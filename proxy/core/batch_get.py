"""Parses BatchGetItem requests that the proxy may answer itself, once, into frozen values.

Whatever is not certain raises `Undecodable`, and the whole request passes through untouched, so
that DynamoDB words its own errors. Source: DynamoDB API Reference, "BatchGetItem".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from proxy.core.attributes import NotCanonical, canonical_primary_key
from proxy.core.json_text import NotJson, load_object
from proxy.core.operations import Capacity, GetItem, Undecodable, named_table, projection_of
from proxy.core.projection import ProjectionUnclear
from proxy.core.values import BypassReason, Item, TableName

KEYS_MAX: Final = 100
_MEMBERS: Final = frozenset({"RequestItems", "ReturnConsumedCapacity"})
_TABLE_MEMBERS: Final = frozenset(
    {
        "Keys",
        "ConsistentRead",
        "ProjectionExpression",
        "ExpressionAttributeNames",
        "AttributesToGet",
    }
)


@dataclass(frozen=True, slots=True)
class TableKeys:
    """What a BatchGetItem asks of one table.

    Args:
        gets: one read for each key, in the request's order.
        wishes: all members but `Keys`, as the client spelled them: an unprocessed key goes back
            under the same wishes.
    """

    gets: tuple[GetItem, ...]
    wishes: dict[str, Any]

    @property
    def table(self) -> TableName:
        """The table's plain name."""
        return self.gets[0].table


@dataclass(frozen=True, slots=True)
class BatchGet:
    """A BatchGetItem that the proxy may answer itself: 1 to 100 different keys."""

    tables: tuple[TableKeys, ...]
    capacity: Capacity

    @property
    def table(self) -> TableName | None:
        """The one table, or None when there are several."""
        return self.tables[0].table if len(self.tables) == 1 else None


def decode_batch_get(body: bytes) -> BatchGet:
    """Parse a BatchGetItem body.

    Raises:
        Undecodable: upstream must judge it; nothing else is ever raised, whatever the bytes.
    """
    try:
        request, ambiguous = load_object(body)
    except NotJson:
        raise Undecodable(BypassReason.UNDECODABLE) from None
    capacity = request.get("ReturnConsumedCapacity", "NONE")
    asked = request.get("RequestItems")
    if ambiguous or not request.keys() <= _MEMBERS or capacity not in tuple(Capacity):
        raise Undecodable(BypassReason.UNDECODABLE)
    if not isinstance(asked, dict) or not asked:
        raise Undecodable(BypassReason.UNDECODABLE)
    tables = tuple(_table_keys(named, content) for named, content in asked.items())
    if sum(len(each.gets) for each in tables) > KEYS_MAX:
        raise Undecodable(BypassReason.UNDECODABLE)
    return BatchGet(tables, Capacity(capacity))


def _table_keys(named: str, content: object) -> TableKeys:
    table, by_arn = named_table(named)
    if by_arn:
        # Another account's table may have the same name; only DynamoDB knows.
        raise Undecodable(BypassReason.TABLE_ARN, table)
    if table is None or not isinstance(content, dict) or not content.keys() <= _TABLE_MEMBERS:
        raise Undecodable(BypassReason.UNDECODABLE, table)
    wishes = {name: wish for name, wish in content.items() if name != "Keys"}
    consistent = wishes.get("ConsistentRead", False)
    if not isinstance(consistent, bool):
        raise Undecodable(BypassReason.UNDECODABLE, table)
    try:
        keys = _different_keys(content.get("Keys"))
        projection = projection_of(wishes)
    except (NotCanonical, ProjectionUnclear):
        raise Undecodable(BypassReason.UNDECODABLE, table) from None
    gets = (GetItem(table, key, consistent, projection, Capacity.NONE) for key in keys)
    return TableKeys(tuple(gets), wishes)


def _different_keys(keys: object) -> list[Item]:
    """Check the keys of one table.

    Raises:
        NotCanonical: not 1 to 100 keys of the same attributes that name different items.
    """
    if not isinstance(keys, list) or not 1 <= len(keys) <= KEYS_MAX:
        raise NotCanonical("not a list of keys")
    different = {canonical_primary_key(key) for key in keys}
    if len(different) != len(keys):
        raise NotCanonical("a key twice")
    if any(key.keys() != keys[0].keys() for key in keys):
        raise NotCanonical("keys of different attributes")
    return keys
