"""Turns an item or a page, fetched or just written, into the entry that may be stored for it."""

from __future__ import annotations

import zlib

from proxy.core.fetches import Found
from proxy.core.freshness import lifetime
from proxy.core.policy import TablePolicy
from proxy.core.record import EntryDraft
from proxy.core.values import FillResult


def draft_entry(
    found: Found, policy: TablePolicy, *, age_s: float, chance: float
) -> EntryDraft | FillResult:
    """Return the entry to store, or why there is none: TOO_LARGE or NOT_CACHEABLE.

    Args:
        found: the item as a GetItem shows it, its absence, or a page.
        policy: limits of the entry.
        age_s: seconds since upstream was asked.
        chance: a random number from 0 to 1, for the jitter of its times.
    """
    if len(found.body) > policy.entry_bytes_max:
        return FillResult.TOO_LARGE
    life = lifetime(policy, negative=found.negative, chance=chance)
    if life.hard_s <= 0:
        return FillResult.NOT_CACHEABLE
    return EntryDraft(
        age_s=age_s,
        fresh_s=life.fresh_s,
        hard_s=life.hard_s,
        negative=found.negative,
        item_bytes=found.size_bytes,
        crc32=zlib.crc32(found.body),
        body=found.body,
        layout=policy.layout,
        compress_above_bytes=policy.compress_above_bytes,
    )
