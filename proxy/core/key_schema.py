"""Which attributes make up a table's primary key, and how an item's key is picked by them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from proxy.core.values import Item


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
