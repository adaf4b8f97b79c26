"""Sequences a write: begin its fences, send it upstream, end its fences, answer.

The whole sequence is detached from the caller's connection: a client that hangs up can neither
stop a write half-way nor leave its fence open.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Final

from proxy.core.cache_key import KeySpace
from proxy.core.drafting import draft_entry
from proxy.core.errors import StoreFailure, StoreUnavailable, UpstreamFailed
from proxy.core.fence import WriteOutcome
from proxy.core.plan import PlannedWrite, TablesWritePlan, WritePlan
from proxy.core.policy import FencePolicy
from proxy.core.record import EntryDraft
from proxy.core.request import Answer, ClientRequest
from proxy.core.table_writes import TABLE_WRITES
from proxy.core.values import CacheKey, FenceResult, Outcome, TableName
from proxy.core.write_outcomes import is_wholly_applied, outcome_of
from proxy.core.write_through import ALL_NEW, item_after
from proxy.flow.coalescer import Coalescer
from proxy.flow.debts import Debt, Debts
from proxy.flow.events import Emit, FenceEnded
from proxy.flow.exchange import Exchange
from proxy.flow.fences import Fence, end_quietly
from proxy.flow.filler import Landing
from proxy.flow.near_reads import NearReads
from proxy.flow.ports import Clock, Store
from proxy.flow.schemas import SchemaBook
from proxy.flow.tasks import TaskOwner, result_of
from proxy.flow.upgrades import Sent, Upgrades
from proxy.flow.write_targets import TargetChooser, Targets

_BEGIN_TRIES: Final = 3
_GRAVEST_FIRST: Final = (
    FenceResult.DEBT,
    FenceResult.KEPT,
    FenceResult.LOST,
    FenceResult.OVERLAPPED,
    FenceResult.INVALIDATED,
    FenceResult.RESTORED,
    FenceResult.STORED,
)
"""Of several fences' results, the caller is told the one that says most against the cache."""


@dataclass(frozen=True, slots=True)
class WritePorts:
    """What the write path works with."""

    store: Store
    exchange: Exchange
    coalescer: Coalescer[Landing]
    debts: Debts
    schemas: SchemaBook
    tasks: TaskOwner
    keys: KeySpace
    clock: Clock
    emit: Emit
    fence: FencePolicy
    near: NearReads


class PresumedWronglyError(Exception):
    """The fence that was begun is not around what the request writes; nothing was sent."""


@dataclass(slots=True, eq=False)
class _Held:
    """A fence of this write; `debt` when its begin did not reach the store."""

    fence: Fence
    debt: Debt | None = None


class WritePath:
    """Forwards writes so that no older entry survives their acknowledgement."""

    def __init__(self, ports: WritePorts) -> None:
        self._ports = ports
        self._chooser = TargetChooser(ports.store, ports.schemas, ports.keys)
        self._upgrades = Upgrades(ports.exchange, ports.clock)

    async def answer(self, plan: WritePlan | TablesWritePlan, request: ClientRequest) -> Answer:
        """Perform one write.

        Raises:
            UpstreamFailed: no complete answer came; the write may have been applied.
            StoreUnavailable: level `strict` and no fence to be had; nothing was sent.
        """
        work = self._write(plan, request)
        return await result_of(self._ports.tasks.spawn(work, "write"))

    async def _write(self, plan: WritePlan | TablesWritePlan, request: ClientRequest) -> Answer:
        token, operation = self._ports.clock.token(), request.operation
        targets = await self._chooser.choose(plan, operation, token, presumes=True)
        try:
            return await self._held(targets, request, strict=plan.strict)
        except PresumedWronglyError:
            # Nothing was sent: the fence was around an item of an older table of that name.
            targets = await self._chooser.choose(plan, operation, token)
            return await self._held(targets, request, strict=plan.strict)

    async def _held(self, targets: Targets, request: ClientRequest, *, strict: bool) -> Answer:
        """Perform a write while nothing of what it writes is kept in this process."""
        records = [fence.record for fence in targets.fences]
        self._ports.near.hold(records)
        try:
            return await self._fenced(targets, request, strict=strict)
        finally:
            self._ports.near.release(records)
            if request.operation in TABLE_WRITES:
                for fence in targets.fences:
                    self._ports.schemas.forget(fence.table)

    async def _fenced(self, targets: Targets, request: ClientRequest, *, strict: bool) -> Answer:
        started_s, table = self._ports.clock.monotonic_s(), targets.table
        held = await self._begin(targets, strict=strict)
        outcome = WriteOutcome.UNKNOWN
        drafts: dict[CacheKey, EntryDraft] = {}
        sent_s = self._ports.clock.monotonic_s()
        try:
            only = targets.only if held[0].debt is None else None
            sent = await self._send(request, table, only, started_s + self._spare_s)
            outcome = outcome_of(request.operation, sent.reply.status, sent.reply.body)
            if outcome is WriteOutcome.INVALIDATED:
                drafts = self._drafts(targets, request, sent, sent_s)
        except UpstreamFailed as failed:
            outcome = WriteOutcome.UNKNOWN if failed.maybe_applied else WriteOutcome.ABORTED
            raise
        finally:
            told = await self._end_all(held, outcome, drafts)
        status, headers, body = sent.reply
        stored, detail = told is FenceResult.STORED, f"write-{told}"
        return Answer(
            status, headers, body, Outcome.WRITE, table=table, detail=detail, stored=stored
        )

    async def _send(
        self,
        request: ClientRequest,
        table: TableName | None,
        only: PlannedWrite | None,
        until_s: float,
    ) -> Sent:
        """Send the write; one of a single item may be asked for its result."""
        if only is not None and only.write.operation == request.operation:
            return await self._upgrades.send(request, only, resend_until_s=until_s)
        reply = await self._ports.exchange.forward(request, table)
        return Sent(reply, reply.body)

    @property
    def _spare_s(self) -> float:
        """How long after its begin a write may still be sent, to end before its marker does."""
        return self._ports.fence.marker_s - self._ports.fence.write_timeout_s

    async def _begin(self, targets: Targets, *, strict: bool) -> list[_Held]:
        """Begin every fence; at level `strict` all or none.

        Raises:
            StoreUnavailable: nothing may be sent.
            PresumedWronglyError: nor here, but under other fences.
        """
        held = [_Held(fence) for fence in targets.fences]
        try:
            in_time = await self._begin_in_time(held, targets, strict=strict)
        except (StoreUnavailable, PresumedWronglyError):
            await self._give_up(held)
            raise
        if not in_time:
            await self._give_up(held)
            raise StoreUnavailable(StoreFailure.TIMEOUT, "this process was paused again and again")
        return held

    async def _begin_in_time(self, held: list[_Held], targets: Targets, *, strict: bool) -> bool:
        """Begin until the markers outlive the write; False when they never did.

        A process that was stopped for a while (SIGSTOP, a frozen node) must not send a write that
        could take effect after its marker has expired: it begins anew.
        """
        for _ in range(_BEGIN_TRIES):
            started_s = self._ports.clock.monotonic_s()
            await self._begin_once(held, strict=strict)
            if targets.presumed and not await self._chooser.right(targets):
                raise PresumedWronglyError
            if self._ports.clock.monotonic_s() - started_s < self._spare_s:
                return True
        return False

    async def _give_up(self, held: list[_Held]) -> None:
        """End the fences of a write that is not sent.

        Nothing more is owed for it: a marker that stays only costs hits until its deadline.
        """
        for each in held:
            if each.debt is not None:
                self._ports.debts.ripen(each.debt, in_s=0.0)
                continue
            result = await end_quietly(each.fence, WriteOutcome.ABORTED, None)
            if result is not None:
                self._ports.emit(FenceEnded(each.fence.table, result))

    async def _begin_once(self, held: list[_Held], *, strict: bool) -> None:
        if len(held) == 1:
            await self._begin_only(held[0], strict=strict)
            return
        begins = (each.fence.begin(settled=strict) for each in held)
        begun = await asyncio.gather(*begins, return_exceptions=True)
        owed: list[_Held] = []
        for each, error in zip(held, begun, strict=True):
            if error is None or each.debt is not None:
                continue
            if strict or not isinstance(error, StoreUnavailable):
                raise error
            owed.append(each)
        if len(owed) > 1:
            # One debt per table: batches must not exhaust the bound on debts by their items.
            held[:] = [each for each in held if each not in owed]
            token = self._ports.clock.token()
            tables = sorted({each.fence.table for each in owed})
            owed = [_Held(self._chooser.table(table, token)) for table in tables]
            held += owed
        for each in owed:
            each.debt = self._ports.debts.open(each.fence)

    async def _begin_only(self, held: _Held, *, strict: bool) -> None:
        try:
            await held.fence.begin(settled=strict)
        except StoreUnavailable:
            if held.debt is not None:
                return
            if strict:
                raise
            held.debt = self._ports.debts.open(held.fence)

    async def _end_all(
        self, held: list[_Held], outcome: WriteOutcome, drafts: dict[CacheKey, EntryDraft]
    ) -> FenceResult:
        """End every fence; return the gravest of the results."""
        if len(held) == 1:
            return await self._end(held[0], outcome, drafts.get(held[0].fence.record))
        ends = (self._end(each, outcome, drafts.get(each.fence.record)) for each in held)
        return min(await asyncio.gather(*ends), key=_GRAVEST_FIRST.index)

    async def _end(
        self, held: _Held, outcome: WriteOutcome, draft: EntryDraft | None
    ) -> FenceResult:
        ports = self._ports
        unknown = outcome is WriteOutcome.UNKNOWN
        if draft is not None:
            outcome = WriteOutcome.STORED
        result: FenceResult | None = None
        if held.debt is None:
            result = await end_quietly(held.fence, outcome, draft)
        if result is None:
            # The marker, if it is there, protects readers elsewhere until its deadline.
            debt = held.debt or self._reopen(held.fence)
            if debt is not None:
                ports.debts.ripen(debt, in_s=ports.fence.marker_s if unknown else 0.0)
            result = FenceResult.DEBT
        for cache_key in held.fence.keys:
            ports.coalescer.forget(cache_key)
        ports.emit(FenceEnded(held.fence.table, result))
        return result

    def _reopen(self, fence: Fence) -> Debt | None:
        try:
            return self._ports.debts.open(fence)
        except StoreUnavailable:
            # The write was accepted and must not be reported as failed. Its marker keeps the item
            # out of the cache until it dies, and a dead marker forces a consistent fill.
            return None

    def _drafts(
        self, targets: Targets, request: ClientRequest, sent: Sent, sent_s: float
    ) -> dict[CacheKey, EntryDraft]:
        """Return the new entries, by record, that an accepted write makes certain."""
        if not targets.through or not is_wholly_applied(request.operation, sent.reply.body):
            return {}
        age_s = self._ports.clock.monotonic_s() - sent_s
        drafts: dict[CacheKey, EntryDraft] = {}
        for cache_key, planned in targets.through.items():
            write = planned.write
            if sent.upgraded:
                write = replace(write, return_values=ALL_NEW)
            after = item_after(write, sent.full_body)
            if after is None:
                continue
            chance = self._ports.clock.uniform(0, 1)
            draft = draft_entry(after, planned.policy, age_s=age_s, chance=chance)
            if isinstance(draft, EntryDraft):
                drafts[cache_key] = draft
        return drafts
