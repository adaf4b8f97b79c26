"""Words the answers that entries give."""

from __future__ import annotations

from proxy.core.fetches import FetchPlan
from proxy.core.hits import NEAR, NEAR_NEGATIVE, Hit
from proxy.core.read_plan import ReadPlan
from proxy.core.record import Entry
from proxy.core.request import Answer
from proxy.core.values import Outcome
from proxy.flow.exchange import checksum


def near_answer(plan: FetchPlan, entry: Entry, store_now_ms: int) -> Answer:
    """Return the answer of a fresh copy in this process."""
    if entry.negative:
        return answer_of(plan, entry, store_now_ms, Outcome.NEGATIVE_HIT, NEAR_NEGATIVE)
    return answer_of(plan, entry, store_now_ms, Outcome.HIT, NEAR)


def store_hit(plan: ReadPlan, entry: Entry, store_now_ms: int) -> Hit:
    """Return what a fresh entry of the store answers to one plain read."""
    assert entry.covers(None), "an entry that lacks what a plain read asks for"
    return Hit(entry, plan.table, near=False, ttl_s=_ttl_s(entry, store_now_ms))


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
