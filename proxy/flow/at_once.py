"""Answers a GetItem at once, or not at all: no task, no await, no header field.

The data listener asks here while a request's bytes are still in its hands
(`proxy.edge.fast_door`). What is answered here is told, counted and worded as the dispatcher would
have done; what is not answered here leaves no trace and goes to the dispatcher.
"""

from __future__ import annotations

from collections.abc import Callable

from proxy.core.plan_memo import PlanMemo
from proxy.core.read_plan import ReadPlan
from proxy.core.request import Answer
from proxy.flow.events import Emit, RequestAnswered
from proxy.flow.ports import Clock

AnswerNow = Callable[[bytes], Answer | None]
"""Answers a signed GetItem that asks for nothing by header fields, given its body; None: not now.

The answer is a hit: status 200, no fields of its own, a crc32.
"""

Near = Callable[[ReadPlan], Answer | None]
"""Returns a hit that this process itself holds and may serve now, or None; never waits.

It counts what the hit saved and shows it to the auditor, as the read path does.
"""


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
        self._plans = plans
        self._near = near
        self._clock = clock
        self._emit = emit

    def answer(self, body: bytes) -> Answer | None:
        """Answer one GetItem if that needs no waiting; see `AnswerNow`."""
        started_s = self._clock.monotonic_s()
        plan = self._plans.plan_of(body)
        if not isinstance(plan, ReadPlan) or plan.uncached:
            return None
        answer = self._near(plan)
        if answer is None:
            return None
        assert answer.status == 200, "an answer at once that is no hit"  # noqa: PLR2004
        assert not answer.headers, "an answer at once with fields of its own"
        self._emit(
            RequestAnswered(
                operation="GetItem",
                table=answer.table,
                outcome=answer.outcome,
                reason=None,
                status=200,
                elapsed_s=self._clock.monotonic_s() - started_s,
            )
        )
        return answer
