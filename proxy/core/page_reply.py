"""Takes Query and Scan replies apart, and builds answers from what was cached of them.

Source: DynamoDB API Reference, Query and Scan, response syntax.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from proxy.core.item_size import READ_UNIT_BYTES
from proxy.core.json_text import compact, members
from proxy.core.operations import Capacity
from proxy.core.page_request import PageRequest
from proxy.core.responses import no_capacity

_MEMBERS: Final = frozenset(
    {"Items", "Count", "ScannedCount", "LastEvaluatedKey", "ConsumedCapacity"}
)
_NEEDED: Final = frozenset({"Count", "ScannedCount"})
_SIZE_MAX: Final = 2**32 - 1


@dataclass(frozen=True, slots=True)
class FetchedPage:
    """What a Query or Scan reply says.

    Args:
        body: the reply without ConsumedCapacity, every other member spelled as it came.
        consumed: upstream's ConsumedCapacity, if it gave one.
        size_bytes: how much DynamoDB read for it, by the capacity it took.
    """

    body: bytes
    consumed: dict[str, Any] | None
    size_bytes: int

    @property
    def negative(self) -> bool:
        """Never: an empty page is a page."""
        return False


def read_page_reply(body: bytes, *, consistent: bool) -> FetchedPage | None:
    """Take a reply apart without re-spelling its items.

    Args:
        body: of a 200 reply.
        consistent: whether the read was, which doubles what it took for the same bytes.

    Returns:
        None when it is not a reply the proxy understands: it is passed on, not cached.
    """
    try:
        text = body.decode()
        parts = members(text)
        found = {name: json.loads(text[start:end]) for name, start, end in parts}
    except (ValueError, RecursionError):
        return None
    if len(found) != len(parts) or not _NEEDED <= found.keys() <= _MEMBERS:
        return None
    consumed = found.get("ConsumedCapacity")
    if not isinstance(consumed, dict | None) or not isinstance(found.get("Items", []), list):
        return None
    kept = [
        f'"{name}":{text[start:end]}' for name, start, end in parts if name != "ConsumedCapacity"
    ]
    whole = body if len(kept) == len(parts) else ("{" + ",".join(kept) + "}").encode()
    return FetchedPage(whole, consumed, _size_bytes(consumed, consistent=consistent))


def page_body(asked: PageRequest, whole: bytes, consumed: dict[str, Any] | None) -> bytes:
    """Answer a Query or Scan from a page's body.

    Args:
        asked: the request.
        whole: the page without ConsumedCapacity.
        consumed: the ConsumedCapacity to report; None reports 0 units, when it was asked for.
    """
    if asked.capacity is Capacity.NONE:
        return whole
    capacity = compact(consumed or no_capacity(asked.table, asked.capacity))
    return b'{"ConsumedCapacity":' + capacity + b"," + whole.lstrip()[1:]


def _size_bytes(consumed: dict[str, Any] | None, *, consistent: bool) -> int:
    units = (consumed or {}).get("CapacityUnits", 0)
    if isinstance(units, bool) or not isinstance(units, int | float) or units < 0:
        return 0
    return min(_SIZE_MAX, int(units * READ_UNIT_BYTES * (1 if consistent else 2)))
