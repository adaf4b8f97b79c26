"""Builds the answer to a BatchGetItem from whole items, whoever had them.

Source: DynamoDB API Reference, "BatchGetItem": 16 MB of items in one answer at most, what is
beyond goes back as UnprocessedKeys; ConsumedCapacity has one element for each table.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from proxy.core.batch_get import BatchGet, TableKeys
from proxy.core.json_text import compact, members
from proxy.core.operations import Capacity
from proxy.core.projection import Projection
from proxy.core.responses import EMPTY_BODY, no_capacity
from proxy.core.values import Item, Outcome

HITS: Final = frozenset({Outcome.HIT, Outcome.NEGATIVE_HIT, Outcome.STALE_HIT})
ANSWER_ITEMS_BYTES_MAX: Final = 16 * 1024 * 1024
_WHOLE_START: Final = b'{"Item":'


@dataclass(frozen=True, slots=True)
class ReadItem:
    """What is known of one key.

    Args:
        body: `{"Item":{…}}` or `{}`, as an entry holds it; None when the key was not processed.
        item_bytes: the item's size by DynamoDB's rules.
    """

    body: bytes | None
    item_bytes: int


UNPROCESSED: Final = ReadItem(None, 0)


def batch_outcome(outcomes: Sequence[Outcome]) -> Outcome:
    """Say how a whole batch was answered, from how each of its keys was.

    HIT also with absences among them; STALE_HIT with one stale item. BYPASS where the store had
    no part in any key.
    """
    hits = sum(each in HITS for each in outcomes)
    if hits == len(outcomes):
        return Outcome.STALE_HIT if Outcome.STALE_HIT in outcomes else Outcome.HIT
    if hits:
        return Outcome.PARTIAL
    bypassed = all(each is Outcome.BYPASS for each in outcomes)
    return Outcome.BYPASS if bypassed else Outcome.MISS


def batch_answer_body(
    batch: BatchGet, read: Sequence[ReadItem], consumed: Iterable[Mapping[str, Any]]
) -> bytes:
    """Answer a BatchGetItem.

    Args:
        batch: what was asked.
        read: for each key, in the request's order.
        consumed: what upstream charged, each with its TableName; those of one table are added up.
    """
    fitting = iter(_within_limit(read))
    # All in one piece list, joined once: an answer may have 16 MiB, and each copy of it takes
    # milliseconds in which nobody else is answered.
    pieces: list[bytes | memoryview] = [b'{"Responses":{']
    unprocessed: dict[str, Any] = {}
    for asked in batch.tables:
        pairs = [(get.key, next(fitting)) for get in asked.gets]
        keys_left = [key for key, each in pairs if each.body is None]
        if keys_left:
            unprocessed[asked.table] = {"Keys": keys_left, **asked.wishes}
        if len(keys_left) < len(pairs):
            if len(pieces) > 1:
                pieces.append(b",")
            pieces += _table_pieces(asked, [each.body for _, each in pairs])
    pieces += (b'},"UnprocessedKeys":', compact(unprocessed))
    if batch.capacity is not Capacity.NONE:
        pieces += (b',"ConsumedCapacity":', compact(_capacities(batch, consumed)))
    pieces.append(b"}")
    return b"".join(pieces)


def _within_limit(read: Sequence[ReadItem]) -> list[ReadItem]:
    """Leave out what does not fit into one answer; the first item always does."""
    fitting: list[ReadItem] = []
    total_bytes = 0
    for each in read:
        fits = not total_bytes or total_bytes + each.item_bytes <= ANSWER_ITEMS_BYTES_MAX
        fitting.append(each if fits else UNPROCESSED)
        total_bytes += each.item_bytes if fits else 0
    return fitting


def _table_pieces(asked: TableKeys, bodies: Iterable[bytes | None]) -> Iterator[bytes | memoryview]:
    projection = asked.gets[0].projection
    yield compact(asked.table)
    before = b":["
    for body in bodies:
        if body is not None and body != EMPTY_BODY:
            yield before
            yield _spelled(body, projection)
            before = b","
    yield b"]" if before == b"," else b":[]"


def _spelled(body: bytes, projection: Projection | None) -> bytes | memoryview:
    """Return the item as it goes into the answer, uncopied where nothing of it changes."""
    if projection is not None:
        item: Item = json.loads(body)["Item"]
        return compact(projection.apply(item))
    if body.startswith(_WHOLE_START):  # as DynamoDB spells it: nothing to parse
        return memoryview(body.rstrip())[len(_WHOLE_START) : -1]
    text = body.decode()
    (item_member,) = members(text)
    return text[item_member.start : item_member.end].encode()


def _capacities(batch: BatchGet, consumed: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    totals = {each.table: no_capacity(each.table, batch.capacity) for each in batch.tables}
    for charged in consumed:
        total = totals.get(charged["TableName"])
        if total is not None:
            _add(total, charged)
    return list(totals.values())


def _add(total: dict[str, Any], charged: Mapping[str, Any]) -> None:
    """Add up numbers, at any depth; whatever else is there is taken over."""
    for name, part in charged.items():
        known = total.get(name)
        if isinstance(part, Mapping) and isinstance(known, dict):
            _add(known, part)
        elif isinstance(part, int | float) and isinstance(known, int | float):
            total[name] = known + part
        else:
            total[name] = part
