"""Answers a GetItem at once, or not at all: no task, no await, no header field.

The data listener asks here while a request's bytes are still in its hands
(`proxy.edge.fast_door`). What is answered here is worded as the dispatcher would have done. What
is not leaves no trace, and goes to the store (`proxy.flow.store_hits`) or to the dispatcher.
"""

from __future__ import annotations

from collections.abc import Callable

from proxy.core.near_copy import NearHit
from proxy.core.plan_memo import PlanMemo
from proxy.core.read_plan import ReadPlan
from proxy.flow.hit_tally import HitTally
from proxy.flow.ports import Clock

AnswerNow = Callable[[bytes], NearHit | None]
"""Answers a signed GetItem that asks for nothing by header fields, given its body; None: not now.

The answer is a hit: status 200, no fields of its own, a crc32.
"""


def nothing_at_hand(_: bytes) -> None:
    """Answer nothing: an `AnswerNow` of a process that keeps no copies."""


Near = Callable[[ReadPlan], NearHit | None]
"""Returns a hit that this process itself holds and may serve now, or None; never waits.

It shows the hit to the auditor, as the read path does.
"""


class AtOnce:
    """Answers from what this process holds.

    Args:
        plans: decides about bodies; shared with the dispatcher, so that what is not at hand is
            not parsed again.
        near: what this process holds.
        clock: measures.
        tally: counts hits.
    """

    def __init__(self, plans: PlanMemo, near: Near, *, clock: Clock, tally: HitTally) -> None:
        self._plan_of = plans.plan_of
        self._near = near
        self._now_s = clock.monotonic_s
        self._tally = tally

    def answer(self, body: bytes) -> NearHit | None:
        """Answer one GetItem if that needs no waiting; see `AnswerNow`."""
        started_s = self._now_s()
        plan = self._plan_of(body)
        if not isinstance(plan, ReadPlan) or not plan.plain:
            return None
        hit = self._near(plan)
        if hit is None:
            return None
        self._tally.add(plan.table, hit, self._now_s() - started_s)
        return hit
