"""Turns an item, fetched or just written, into the entry that may be stored for it."""

from __future__ import annotations

import zlib

from proxy.core.freshness import lifetime
from proxy.core.item_size import item_bytes
from proxy.core.policy import TablePolicy
from proxy.core.record import EntryDraft
from proxy.core.responses import FetchedBody
from proxy.core.values import FillResult


def draft_entry(
    found: FetchedBody, policy: TablePolicy, *, age_s: float, chance: float
) -> EntryDraft | FillResult:
    """Return the entry to store, or why there is none: TOO_LARGE or NOT_CACHEABLE.

    Args:
        found: the item as a GetItem shows it, or its absence.
        policy: limits of the item's table.
        age_s: seconds since upstream was asked.
        chance: a random number from 0 to 1, for the jitter of its times.
    """
    if len(found.body) > policy.entry_bytes_max:
        return FillResult.TOO_LARGE
    negative = found.item is None
    life = lifetime(policy, negative=negative, chance=chance)
    if life.hard_s <= 0:
        return FillResult.NOT_CACHEABLE
    return EntryDraft(
        age_s=age_s,
        fresh_s=life.fresh_s,
        hard_s=life.hard_s,
        negative=negative,
        item_bytes=0 if found.item is None else item_bytes(found.item),
        crc32=zlib.crc32(found.body),
        body=found.body,
        layout=policy.layout,
        compress_above_bytes=policy.compress_above_bytes,
    )
