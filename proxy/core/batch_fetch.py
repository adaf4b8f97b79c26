"""The BatchGetItem that fetches whole items for entries: its body, and its reply taken apart.

Source: DynamoDB API Reference, "BatchGetItem": the reply names each table asked, leaves out items
that do not exist, and repeats in UnprocessedKeys the keys that were not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from proxy.core.attributes import NotCanonical, canonical_primary_key
from proxy.core.json_cursor import Cursor
from proxy.core.json_text import NotJson, compact
from proxy.core.operations import Capacity
from proxy.core.responses import EMPTY_BODY, FetchedBody
from proxy.core.values import Item, TableName


@dataclass(frozen=True, slots=True)
class WantedItem:
    """One item to fetch; no two of one fetch name the same item."""

    table: TableName
    key: Item
    consistent: bool


@dataclass(frozen=True, slots=True)
class FetchedBatch:
    """What a BatchGetItem reply says.

    Args:
        found: for each wanted item, in their order, as a GetItem reply would show it; None where
            upstream left the key unprocessed.
        consumed: upstream's ConsumedCapacity, one for each table, if it gave any.
    """

    found: tuple[FetchedBody | None, ...]
    consumed: tuple[dict[str, Any], ...]


def batch_fetch_body(wanted: Iterable[WantedItem], capacity: Capacity) -> bytes:
    """Return the body that fetches these items whole.

    ConsistentRead is per table: where one item of a table needs it, all of them get it.
    """
    tables: dict[TableName, dict[str, Any]] = {}
    for each in wanted:
        asked = tables.setdefault(each.table, {"Keys": []})
        asked["Keys"].append(each.key)
        if each.consistent:
            asked["ConsistentRead"] = True
    request: dict[str, object] = {"RequestItems": tables}
    if capacity is not Capacity.NONE:
        request["ReturnConsumedCapacity"] = capacity.value
    return compact(request)


def consistent_tables(wanted: Iterable[WantedItem]) -> frozenset[TableName]:
    """Name the tables that `batch_fetch_body` asks with ConsistentRead."""
    return frozenset(each.table for each in wanted if each.consistent)


def read_batch_reply(body: bytes, wanted: Sequence[WantedItem]) -> FetchedBatch | None:
    """Take a BatchGetItem reply apart without re-spelling the items.

    Returns:
        None when the bytes are not a reply to exactly these keys that the proxy understands.
    """
    reply = _Reply()
    try:
        _read(Cursor(body.decode()), reply, _key_names(wanted))
        places = [(each.table, canonical_primary_key(each.key)) for each in wanted]
    except (NotJson, NotCanonical, UnicodeDecodeError):
        return None
    if not reply.found.keys() | reply.unprocessed <= set(places):
        return None
    # An item that is not there is absent only where its table was answered for at all.
    if any(table not in reply.tables for table, _ in set(places) - reply.unprocessed):
        return None
    absent = FetchedBody(EMPTY_BODY, None, None)
    found = (
        None if place in reply.unprocessed else reply.found.get(place, absent) for place in places
    )
    return FetchedBatch(tuple(found), tuple(reply.consumed))


_Place = tuple[str, bytes]
"""A table's name and the canonical bytes of a primary key."""


@dataclass(slots=True)
class _Reply:
    tables: set[str] = field(default_factory=set)
    found: dict[_Place, FetchedBody] = field(default_factory=dict)
    unprocessed: set[_Place] = field(default_factory=set)
    consumed: list[dict[str, Any]] = field(default_factory=list)


def _key_names(wanted: Iterable[WantedItem]) -> dict[str, list[str]]:
    return {each.table: list(each.key) for each in wanted}


def _read(cursor: Cursor, reply: _Reply, key_names: Mapping[str, list[str]]) -> None:
    for member in cursor.members():
        match member:
            case "Responses":
                for table in cursor.members():
                    reply.tables.add(table)
                    for _ in cursor.elements():
                        _take_item(cursor, reply, table, key_names)
            case "UnprocessedKeys":
                _take_unprocessed(cursor.value()[0], reply)
            case "ConsumedCapacity":
                _take_consumed(cursor.value()[0], reply)
            case _:
                raise NotJson("a member of tomorrow")
    cursor.end()
    if reply.found.keys() & reply.unprocessed:
        raise NotJson("read and not read")


def _take_item(
    cursor: Cursor, reply: _Reply, table: str, key_names: Mapping[str, list[str]]
) -> None:
    item, spelled = cursor.value()
    names = key_names.get(table)
    if names is None or not isinstance(item, dict):
        raise NotJson("not an item that was asked for")
    key = {name: item[name] for name in names if name in item}
    place = table, canonical_primary_key(key)
    if place in reply.found:
        raise NotJson("an item twice")
    reply.found[place] = FetchedBody(b'{"Item":' + spelled.encode() + b"}", item, None)


def _take_unprocessed(content: object, reply: _Reply) -> None:
    if not isinstance(content, dict):
        raise NotJson("not keys by table")
    for table, asked in content.items():
        keys = asked.get("Keys") if isinstance(asked, dict) else None
        if not isinstance(keys, list):
            raise NotJson("not keys")
        reply.unprocessed.update((table, canonical_primary_key(key)) for key in keys)


def _take_consumed(content: object, reply: _Reply) -> None:
    if not isinstance(content, list):
        raise NotJson("not capacity by table")
    for each in content:
        if not isinstance(each, dict) or not isinstance(each.get("TableName"), str):
            raise NotJson("not the capacity of a table")
        reply.consumed.append(each)
