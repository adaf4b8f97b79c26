"""Words the answers that entries give."""

from __future__ import annotations

import math

from proxy.core.fetches import FetchPlan
from proxy.core.item_size import read_units
from proxy.core.near_copy import Copy, NearHit
from proxy.core.read_plan import ReadPlan
from proxy.core.record import Entry
from proxy.core.refresh_ahead import AHEAD_MS_MAX
from proxy.core.request import Answer
from proxy.core.values import Outcome
from proxy.flow.exchange import checksum
from proxy.flow.near_reads import NEAR, NEAR_NEGATIVE


def near_answer(plan: FetchPlan, entry: Entry, store_now_ms: int) -> Answer:
    """Return the answer of a fresh copy in this process."""
    if entry.negative:
        return answer_of(plan, entry, store_now_ms, Outcome.NEGATIVE_HIT, NEAR_NEGATIVE)
    return answer_of(plan, entry, store_now_ms, Outcome.HIT, NEAR)


def near_hit(plan: ReadPlan, copy: Copy, now_s: float) -> NearHit:
    """Return what a fresh copy answers to plain reads from now on, and until when."""
    entry, now_ms = copy.entry, copy.store_now_ms(now_s)
    answer = near_answer(plan, entry, now_ms)
    # While the time to live stays the same, so does all else, except that the policy's may end.
    same_until_ms = entry.soft_ms - 1000 * _ttl_s(entry, now_ms)
    fresh_ms = int(plan.policy.fresh_ms(negative=entry.negative))
    until_ms = min(same_until_ms, entry.filled_ms + fresh_ms)
    units = read_units(entry.item_bytes, consistent=False)
    ending = entry.soft_ms - now_ms < AHEAD_MS_MAX
    return NearHit(answer, plan.policy, units, until_s=copy.before_s(until_ms), ending=ending)


def store_hit(plan: ReadPlan, entry: Entry, store_now_ms: int) -> NearHit:
    """Return what a fresh entry of the store answers to one plain read."""
    outcome = Outcome.NEGATIVE_HIT if entry.negative else Outcome.HIT
    answer = answer_of(plan, entry, store_now_ms, outcome)
    units = read_units(entry.item_bytes, consistent=False)
    return NearHit(answer, plan.policy, units, until_s=-math.inf)


def answer_of(
    plan: FetchPlan, entry: Entry, store_now_ms: int, outcome: Outcome, detail: str | None = None
) -> Answer:
    """Return the answer of any entry, whether it is fresh or not.

    Args:
        plan: of the read.
        entry: covers what the read asks for.
        store_now_ms: the store's clock.
        outcome: how it was found.
        detail: further words for Cache-Status.
    """
    body = body_of(plan, entry)
    return Answer(
        *(200, (), body, outcome),
        table=plan.table,
        crc32=entry.crc32 if body is entry.body else checksum(body),
        ttl_s=_ttl_s(entry, store_now_ms),
        detail=detail,
    )


def _ttl_s(entry: Entry, store_now_ms: int) -> int:
    return (entry.soft_ms - store_now_ms) // 1000


def body_of(plan: FetchPlan, entry: Entry) -> bytes:
    """Answer from an entry, which may be a partial one only if this very read asked for it."""
    assert entry.covers(plan.names), "an entry that lacks what this read asks for"
    return plan.answer_body(entry.body, None)
