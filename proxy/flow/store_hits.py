"""Answers a GetItem by one lookup, or hands on what that saw: one await, no header field.

The data listener asks here for what is not at hand (`proxy.flow.at_once`). A hit is worded as the
dispatcher would have done. For all else the dispatcher goes on with what was seen, so that nothing
is looked up twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from proxy.core.near_copy import NearHit
from proxy.core.plan_memo import PlanMemo
from proxy.core.read_plan import ReadPlan
from proxy.core.request import Answer, ClientRequest
from proxy.flow.hit_tally import HitTally
from proxy.flow.ports import Clock
from proxy.flow.read_path import ReadPath, Seen

Answers = Callable[[ClientRequest], Awaitable[Answer]]
"""Answers any request."""

LookUp = Callable[[bytes], Awaitable[NearHit | Answers | None]]
"""Answers a signed GetItem that asks for nothing by header fields, given its body.

Else returns what answers that very request; None: whoever answers any other. A hit is one as
`proxy.flow.at_once.AnswerNow` gives it, but for this once.
"""


class GoesOn(Protocol):
    """Answers a request of which a lookup was made already; the dispatcher."""

    async def __call__(self, request: ClientRequest, seen: Seen | None) -> Answer:
        """Answer one request."""
        ...


class StoreHits:
    """Answers from the store's entries.

    Args:
        plans: decides about bodies; shared with the dispatcher, so that nothing is parsed again.
        reads: looks up.
        goes_on: answers what is no hit.
        clock: measures.
        tally: counts hits.
    """

    def __init__(
        self, plans: PlanMemo, reads: ReadPath, goes_on: GoesOn, *, clock: Clock, tally: HitTally
    ) -> None:
        self._plan_of = plans.plan_of
        self._look_up = reads.look_up
        self._goes_on = goes_on
        self._now_s = clock.monotonic_s
        self._tally = tally

    async def look_up(self, body: bytes) -> NearHit | Answers | None:
        """Answer one GetItem if one lookup is enough; see `LookUp`."""
        started_s = self._now_s()
        plan = self._plan_of(body)
        if not isinstance(plan, ReadPlan) or not plan.plain:
            return None
        found = await self._look_up(plan)
        if isinstance(found, Seen):
            seen = found
            return lambda request: self._goes_on(request, seen)
        if found is not None:
            self._tally.add(plan.table, found, self._now_s() - started_s)
        return found
