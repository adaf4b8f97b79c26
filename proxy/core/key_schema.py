"""Which attributes make up a table's primary key, and how an item's key is picked by them."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from proxy.core.values import Item

_MISMATCHES: Final = (
    b"does not match the schema",
    b"Missing the key ",
    b"mandatory equality on all key attributes",
)
_REPLY_BYTES_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class KeySchema:
    """The names of a table's key attributes.

    Args:
        partition: the partition key's name.
        sort: the sort key's name, or None for a table without one.
        local_indexes: names of the table's local secondary indexes, as far as known.
        ordered: False when only the two names are known, not which of them is the partition key:
            then `partition` and `sort` may stand the other way round.
    """

    partition: str
    sort: str | None = None
    local_indexes: frozenset[str] = frozenset()
    ordered: bool = True

    def key_of(self, item: Item) -> Item | None:
        """Return an item's primary key, or None when the item lacks one of its attributes."""
        names = [self.partition] if self.sort is None else [self.partition, self.sort]
        if any(name not in item for name in names):
            return None
        return {name: item[name] for name in names}


def read_key_schema(body: bytes) -> KeySchema | None:
    """Read the key schema from a DescribeTable reply; None when it is not one."""
    try:
        described: dict[str, Any] = json.loads(body)["Table"]
        by_type = {
            element["KeyType"]: element["AttributeName"] for element in described["KeySchema"]
        }
        local = described.get("LocalSecondaryIndexes") or ()
        indexes = frozenset(str(index["IndexName"]) for index in local)
        return KeySchema(by_type["HASH"], by_type.get("RANGE"), indexes)
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def key_schema_of_names(names: Collection[str]) -> KeySchema | None:
    """Return what a primary key that DynamoDB accepted tells of its table; None for nothing.

    Args:
        names: the primary key's attribute names. Of two, nobody knows which is the partition key.
    """
    match sorted(names):
        case [only]:
            return KeySchema(only)
        case [one, other]:
            return KeySchema(one, other, ordered=False)
        case _:
            return None


def is_mismatch(status: int, body: bytes) -> bool:
    """Tell whether upstream refused a request because its key is not one of the table's.

    Source: DynamoDB's ValidationException, "The provided key element does not match the schema"
    and its like for items and statements.
    """
    head = body[:_REPLY_BYTES_MAX]
    return status == 400 and any(words in head for words in _MISMATCHES)  # noqa: PLR2004
