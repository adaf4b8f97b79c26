"""Answers a GetItem at once, or not at all: no task, no await, no header field.

The data listener asks here while a request's bytes are still in its hands
(`proxy.edge.fast_door`). What is answered here is worded as the dispatcher would have done, and
summed up here: an event with each of them would take longer than all the rest. What is not answered
here leaves no trace and goes to the dispatcher.
"""

from __future__ import annotations

from collections.abc import Callable

from proxy.core.near_copy import NearHit
from proxy.core.plan_memo import PlanMemo
from proxy.core.read_plan import ReadPlan
from proxy.core.tally import LatencyTally
from proxy.core.values import Outcome, TableName
from proxy.flow.events import Emit, HitsAnswered
from proxy.flow.ports import Clock

AnswerNow = Callable[[bytes], NearHit | None]
"""Answers a signed GetItem that asks for nothing by header fields, given its body; None: not now.

The answer is a hit: status 200, no fields of its own, a crc32.
"""

Near = Callable[[ReadPlan], NearHit | None]
"""Returns a hit that this process itself holds and may serve now, or None; never waits.

It shows the hit to the auditor, as the read path does.
"""


class _Hits:
    """Hits on one table, of one outcome, that nobody was told of yet."""

    __slots__ = ("latencies", "units")

    def __init__(self) -> None:
        self.latencies = LatencyTally()
        self.units = 0.0


class AtOnce:
    """Answers from what this process holds.

    Args:
        plans: decides about bodies; shared with the dispatcher, so that what is not at hand is
            not parsed again.
        near: what this process holds.
        clock: measures.
        emit: takes events.
    """

    def __init__(self, plans: PlanMemo, near: Near, *, clock: Clock, emit: Emit) -> None:
        self._plan_of = plans.plan_of
        self._near = near
        self._now_s = clock.monotonic_s
        self._emit = emit
        self._hits: dict[TableName, _Hits] = {}
        self._negative_hits: dict[TableName, _Hits] = {}

    def answer(self, body: bytes) -> NearHit | None:
        """Answer one GetItem if that needs no waiting; see `AnswerNow`."""
        started_s = self._now_s()
        plan = self._plan_of(body)
        if not isinstance(plan, ReadPlan) or not plan.plain:
            return None
        hit = self._near(plan)
        if hit is None:
            return None
        of_outcome = self._hits if hit.answer.outcome is Outcome.HIT else self._negative_hits
        told = of_outcome.get(plan.table)
        if told is None:
            told = of_outcome[plan.table] = _Hits()
        told.units += hit.units
        told.latencies.add(self._now_s() - started_s)
        return hit

    def tell(self) -> None:
        """Tell what was answered since the last time; to be called before anybody counts."""
        for outcome, of_outcome in (
            (Outcome.HIT, self._hits),
            (Outcome.NEGATIVE_HIT, self._negative_hits),
        ):
            told = list(of_outcome.items())
            of_outcome.clear()
            for table, hits in told:
                self._emit(HitsAnswered(table, outcome, hits.units, hits.latencies))
