"""Compares a share of the hits with DynamoDB, in the background, and tells what was stale.

It measures in production what the coherence protocol promises. No answer ever waits for it.
`proxy.core.audit` has the rule that keeps a write in flight from being taken for an error.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from proxy.core.audit import judge, mark_of, same_answer
from proxy.core.audit_gate import AuditGate
from proxy.core.errors import StoreUnavailable, UpstreamFailed
from proxy.core.fence import Sighting
from proxy.core.fetches import FetchPlan, Found
from proxy.core.item_size import read_units
from proxy.core.page_plan import PagePlan
from proxy.core.policy import FencePolicy
from proxy.core.record import Entry
from proxy.core.values import AuditResult, Token
from proxy.flow.debts import Debts
from proxy.flow.events import (
    AuditEnded,
    Emit,
    Event,
    StaleFound,
    UpstreamAnswered,
    UpstreamSilent,
)
from proxy.flow.exchange import Exchange
from proxy.flow.ports import Clock, Store
from proxy.flow.tasks import TaskOwner

_SERVER_ERROR: Final = 500
_CHANCE_MAX: Final = 1 - 1e-9


class Witness(Protocol):
    """Told of every entry that answers a read; must not wait."""

    def served(self, plan: FetchPlan, entry: Entry) -> None:
        """Take note that the entry is being served to this read."""
        ...


@dataclass(frozen=True, slots=True)
class AuditorPorts:
    """What the auditor works with; `exchange` emits what `heeding` returns."""

    store: Store
    exchange: Exchange
    debts: Debts
    tasks: TaskOwner
    clock: Clock
    emit: Emit
    fence: FencePolicy


class Auditor:
    """Examines hits: a `Witness` that samples them.

    Args:
        ports: what it works with.
        share: of the hits it is told of, 0 to 1.
        gate: bounds all examinations, also those that `confirm` asks for.

    Attributes:
        left: hits that may yet pass by; whoever has a hit pass counts it here, as `served` does.
    """

    def __init__(self, ports: AuditorPorts, *, share: float, gate: AuditGate) -> None:
        self._ports = ports
        self._share = share
        self._gate = gate
        self._secret: Token | None = None
        self.left = self._draw()

    def served(self, plan: FetchPlan, entry: Entry) -> None:
        """Start to examine the hit, if chance and the gate say so.

        A page that cannot be read consistently is left out: DynamoDB's answer would prove nothing.
        """
        if plan.lags:
            return
        self.left -= 1
        if self.left >= 0:
            return
        self.left = self._draw()
        units = self._enter(entry)
        if units is None:
            self._ports.emit(AuditEnded(plan.table, AuditResult.DROPPED))
        else:
            self._ports.tasks.spawn(self._audit(plan, entry, units), "audit")

    def _draw(self) -> float:
        """Draw how many hits pass by before the next one that is examined.

        So dice are rolled per examination and not per hit. The geometric distribution: as many as
        if each one had been left out with a chance of 1 - share.
        """
        if self._share == 0:
            return math.inf
        chance = min(self._ports.clock.uniform(0, 1), _CHANCE_MAX)
        return 0 if self._share >= 1 else int(math.log1p(-chance) / math.log1p(-self._share))

    async def confirm(self, plan: FetchPlan, entry: Entry) -> AuditResult:
        """Examine an entry that a rehearsal would have served; DROPPED where the gate refuses."""
        units = None if plan.lags else self._enter(entry)
        if units is None:
            return AuditResult.DROPPED
        return await self._examine(plan, entry, units, in_shadow=True)

    def _enter(self, entry: Entry) -> float | None:
        units = read_units(entry.item_bytes, consistent=True)
        return units if self._gate.enter(self._ports.clock.monotonic_s(), units) else None

    async def _audit(self, plan: FetchPlan, entry: Entry, units: float) -> None:
        result = await self._examine(plan, entry, units, in_shadow=False)
        self._ports.emit(AuditEnded(plan.table, result))

    async def _examine(
        self, plan: FetchPlan, entry: Entry, units: float, *, in_shadow: bool
    ) -> AuditResult:
        took = 0.0
        try:
            fetched = await self._ports.exchange.fetch(plan, consistent=True)
            if fetched.found is None:
                return AuditResult.FAILED
            took = read_units(fetched.found.size_bytes, consistent=True)
            return await self._compare(plan, entry, fetched.found, in_shadow=in_shadow)
        except (UpstreamFailed, StoreUnavailable):
            return AuditResult.FAILED
        finally:
            self._gate.leave(took - units)

    async def _compare(
        self, plan: FetchPlan, entry: Entry, found: Found, *, in_shadow: bool
    ) -> AuditResult:
        # The answers are compared, not what is stored: an entry may hold less than the whole item.
        same = same_answer(plan.answer_body(entry.body, None), plan.answer_body(found.body, None))
        if same:
            return AuditResult.MATCH
        now = await self._look_again(plan) if same is False else None
        if now is None:
            return AuditResult.INCONCLUSIVE
        verdict = plan.judge(now.entry, now.store_now_ms)
        finding = judge(entry, now.entry, verdict, now.store_now_ms)
        if finding.result is AuditResult.STALE:
            await self._report(plan, finding.age_s, in_shadow=in_shadow)
        return finding.result

    async def _look_again(self, plan: FetchPlan) -> Sighting | None:
        """Look up what a reader would be served now; None where the store has no part."""
        store, debts = self._ports.store, self._ports.debts
        page = plan.page if isinstance(plan, PagePlan) else None
        owed = debts.owes_page(page) if page else debts.owes(plan.identity)
        # A write that the audit read saw was owed before it was sent. If it is not owed any more,
        # it was paid, and this lookup, sent after that, finds its tombstone.
        if owed or not store.serving:
            return None
        if isinstance(plan, PagePlan):
            seen = await store.lookup_page(plan.page)
            known = isinstance(plan.after(seen, self._ports.fence), PagePlan)
            return seen.sighting if known else None
        return await store.lookup(plan.identity, plan.names)

    async def _report(self, plan: FetchPlan, age_s: float, *, in_shadow: bool) -> None:
        self._secret = self._secret or self._ports.clock.token()
        mark = mark_of(plan.identity.digest, self._secret)
        self._ports.emit(StaleFound(plan.table, plan.policy.level, age_s, mark, in_shadow))
        with suppress(StoreUnavailable):  # then it expires, as it would have without the audit
            await self._ports.store.invalidate(plan.identity)


def heeding(gate: AuditGate, clock: Clock, emit: Emit) -> Emit:
    """Return an `emit` that closes the gate for a while when upstream is in trouble."""

    def told(event: Event) -> None:
        if _is_trouble(event):
            gate.back_off(clock.monotonic_s())
        emit(event)

    return told


def _is_trouble(event: Event) -> bool:
    if isinstance(event, UpstreamAnswered):
        return event.throttled or event.status >= _SERVER_ERROR
    return isinstance(event, UpstreamSilent)
