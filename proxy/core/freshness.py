"""Decides whether an entry may answer a read now, and how long a new entry may live."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from proxy.core.policy import TablePolicy
from proxy.core.record import Entry
from proxy.core.values import Verdict

CLOCK_SKEW_MS_MAX: Final = 1_000


def assess(
    entry: Entry | None, policy: TablePolicy, store_now_ms: int, *, age_s_max: float = math.inf
) -> Verdict:
    """Decide whether a stored entry may answer a read now.

    Args:
        entry: an entry that counts (see `proxy.core.fence.sight`), or None.
        policy: limits of the entry's table. They bound the entry's own times, so that a shortened
            TTL takes effect on entries that another proxy filled under the longer one.
        store_now_ms: the store's clock; the only clock that entries know.
        age_s_max: the reader's own limit: an entry of that age or older, which would be served
            otherwise, is TOO_OLD. 0 accepts none, also of those from the future.

    Returns:
        A verdict for every input. An entry from the future by more than CLOCK_SKEW_MS_MAX is
        EXPIRED: a clock that was set back may cost a fetch, never a stale answer. A negative
        entry has neither grace nor last resort: "no such item" is the easiest answer to outdate.

    Keeps: bounded age. Source: RFC 9111 §4.2, RFC 5861 §3 and §4, with times from policy.
    """
    if entry is None:
        return Verdict.ABSENT
    verdict = _assess(entry, policy, store_now_ms)
    if age_s_max != math.inf and verdict is not Verdict.EXPIRED:
        age_ms = max(0, store_now_ms - entry.filled_ms)
        return Verdict.TOO_OLD if age_ms >= 1000 * age_s_max else verdict
    return verdict


def _assess(entry: Entry, policy: TablePolicy, store_now_ms: int) -> Verdict:
    age_ms = store_now_ms - entry.filled_ms
    if age_ms < -CLOCK_SKEW_MS_MAX or store_now_ms >= entry.hard_ms:
        return Verdict.EXPIRED
    fresh_ms = policy.fresh_ms(negative=entry.negative)
    if store_now_ms < entry.soft_ms and age_ms < fresh_ms:
        return Verdict.FRESH
    if entry.negative:
        return Verdict.EXPIRED
    if policy.serves_grace and age_ms < fresh_ms + 1000 * policy.grace_s:
        return Verdict.GRACE
    if age_ms < fresh_ms + 1000 * policy.stale_if_error_s:
        return Verdict.LAST_RESORT
    return Verdict.EXPIRED


class Lifetime(NamedTuple):
    """How long a new entry is fresh and may be served at all, in seconds from its fetch."""

    fresh_s: float
    hard_s: float


def lifetime(policy: TablePolicy, *, negative: bool, chance: float) -> Lifetime:
    """Give a new entry its times.

    Args:
        policy: limits of the entry's table.
        negative: whether the entry is an absence.
        chance: a random number from 0 to 1; shortens the times by up to `policy.jitter`.
    """
    shorten = 1.0 - policy.jitter * chance
    if negative:
        return Lifetime(policy.negative_ttl_s * shorten, policy.negative_ttl_s * shorten)
    fresh_s = policy.fresh_ttl_s * shorten
    grace_s = policy.grace_s if policy.serves_grace else 0.0
    return Lifetime(fresh_s, fresh_s + max(grace_s, policy.stale_if_error_s))
