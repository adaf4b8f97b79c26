"""Answers a GetItem by one lookup, or hands on what that saw: no task, no header field.

The data listener asks here for what is not at hand (`proxy.flow.at_once`). A hit is worded as the
dispatcher would have done. For all else the dispatcher goes on with what was seen, so that nothing
is looked up twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from proxy.core.errors import StoreUnavailable
from proxy.core.fence import Sighting
from proxy.core.hits import Hit
from proxy.core.plan_memo import PlanMemo
from proxy.core.read_plan import ReadPlan
from proxy.core.request import Answer, ClientRequest
from proxy.flow.hit_tally import HitTally
from proxy.flow.ports import Clock
from proxy.flow.read_path import ReadPath, Seen

Answers = Callable[[ClientRequest], Awaitable[Answer]]
"""Answers any request."""


class Asker(Protocol):
    """Who has a signed GetItem that asks for nothing by header fields."""

    def found(self, found: Hit | Answers | None) -> None:
        """Take a hit, or who answers that very request, or None: whoever answers any other.

        Called once for each time that a `LookUp` was asked, perhaps before that returns.
        """
        ...

    def broke(self, error: Exception) -> None:
        """Take what a bug raised; `found` was called, or will be."""
        ...


LookUp = Callable[[bytes, Asker], None]
"""Looks up what answers a request, given its body."""


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
        self._reads = reads
        self._goes_on = goes_on
        self.now_s = clock.monotonic_s
        self._tally = tally

    def look_up(self, body: bytes, asker: Asker) -> None:
        """Answer one GetItem if one lookup is enough; see `LookUp`."""
        plan = self._plan_of(body)
        if not isinstance(plan, ReadPlan) or not plan.plain or self._reads.why_bypass(plan):
            asker.found(None)
        else:
            self._reads.look_up(plan, _Reader(self, plan, asker))

    def judge(self, plan: ReadPlan, sighting: Sighting | None, asked_s: float) -> Hit | Answers:
        """Return what a lookup's asker is told; `sighting` is None where the store is out."""
        if sighting is None:
            found: Hit | Seen = Seen(plan, None, asked_s)
        else:
            found = self._reads.seen(plan, sighting, asked_s)
        if isinstance(found, Seen):
            seen = found
            return lambda request: self._goes_on(request, seen)
        self._tally.of(found.outcome, plan.table).add(found.units, self.now_s() - asked_s)
        return found


class _Reader:
    """One lookup under way, for an asker; a `ports.LookupReader`."""

    __slots__ = ("_asked_s", "_asker", "_hits", "_plan", "_told")

    def __init__(self, hits: StoreHits, plan: ReadPlan, asker: Asker) -> None:
        self._hits = hits
        self._plan = plan
        self._asker = asker
        self._asked_s = hits.now_s()
        self._told = False

    def saw(self, sighting: Sighting) -> None:
        found = self._hits.judge(self._plan, sighting, self._asked_s)
        self._told = True
        self._asker.found(found)

    def unsure(self) -> None:
        self._told = True
        self._asker.found(None)

    def failed(self, problem: StoreUnavailable) -> None:  # noqa: ARG002 - it was told already
        found = self._hits.judge(self._plan, None, self._asked_s)
        self._told = True
        self._asker.found(found)

    def broke(self, error: Exception) -> None:
        self._asker.broke(error)
        if not self._told:
            self.unsure()
