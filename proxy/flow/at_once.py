"""Answers a GetItem at once, or not at all: no task, no await, no header field.

The data listener asks here while a request's bytes are still in its hands
(`proxy.edge.fast_door`). What is answered here is worded as the dispatcher would have done. What
is not leaves no trace, and goes to the store (`proxy.flow.store_hits`) or to the dispatcher.
"""

from __future__ import annotations

from collections.abc import Callable

from proxy.core.hits import Hit
from proxy.core.near_copy import StandingHit
from proxy.core.plan_memo import PlanMemo
from proxy.core.read_plan import ReadPlan
from proxy.flow.hit_tally import HitTally
from proxy.flow.ports import Clock
from proxy.flow.standing import Standing

AnswerNow = Callable[[bytes], Hit | None]
"""Answers a signed GetItem that asks for nothing by header fields, given its body; None: not now.

What it returns is good until it is called again.
"""


def nothing_at_hand(_: bytes) -> None:
    """Answer nothing: an `AnswerNow` of a process that keeps no copies."""


Near = Callable[[ReadPlan], StandingHit | None]
"""Returns a hit that this process itself holds and may serve now, or None; never waits.

It shows the hit to the auditor, as the read path does.
"""


class AtOnce:
    """Answers from what this process holds.

    Args:
        plans: decides about bodies; shared with the dispatcher, so that what is not at hand is
            not parsed again.
        near: what this process holds.
        standing: what it gave before, and gives again.
        clock: measures.
        tally: counts hits.
    """

    def __init__(
        self, plans: PlanMemo, near: Near, standing: Standing, *, clock: Clock, tally: HitTally
    ) -> None:
        self._plan_of = plans.plan_of
        self._near = near
        self._standing = standing
        self._find = standing.find
        self._now_s = clock.monotonic_s
        self._tally = tally

    def answer(self, body: bytes) -> Hit | None:
        """Answer one GetItem if that needs no waiting; see `AnswerNow`."""
        started_s = self._now_s()
        hit = self._find(body, started_s) or self._judged(body)
        if hit is not None:
            hit.sums.add(hit.units, self._now_s() - started_s)
        return hit

    def _judged(self, body: bytes) -> StandingHit | None:
        plan = self._plan_of(body)
        if not isinstance(plan, ReadPlan) or not plan.plain:
            return None
        hit = self._near(plan)
        if hit is not None:
            hit.sums = self._tally.of(hit.outcome, plan.table)
            self._standing.keep(body, hit)
        return hit
