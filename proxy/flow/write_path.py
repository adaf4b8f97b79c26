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
from proxy.core.fence import WriteOutcome, classify_write
from proxy.core.key_schema import KeySchema
from proxy.core.plan import TablesWritePlan, WritePlan, write_identity
from proxy.core.policy import FencePolicy
from proxy.core.record import EntryDraft
from proxy.core.request import Answer, ClientRequest
from proxy.core.table_writes import REMAKES
from proxy.core.values import FenceResult, Level, Outcome, WriteMode
from proxy.core.write_through import item_after
from proxy.flow.coalescer import Coalescer
from proxy.flow.debts import Debt, Debts
from proxy.flow.events import Emit, FenceEnded
from proxy.flow.exchange import Exchange, pass_on
from proxy.flow.fences import Fence, ItemFence, TableFence, end_quietly
from proxy.flow.filler import Landing
from proxy.flow.ports import Clock, Store, UpstreamReply
from proxy.flow.schemas import SchemaBook
from proxy.flow.tasks import TaskOwner

_BEGIN_TRIES: Final = 3


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


@dataclass(slots=True)
class _Held:
    """A fence of this write; `debt` when its begin did not reach the store."""

    fence: Fence
    debt: Debt | None = None


class WritePath:
    """Forwards writes so that no older entry survives their acknowledgement."""

    def __init__(self, ports: WritePorts) -> None:
        self._ports = ports

    async def answer(self, plan: WritePlan | TablesWritePlan, request: ClientRequest) -> Answer:
        """Perform one write.

        Raises:
            UpstreamFailed: no complete answer came; the write may have been applied.
            StoreUnavailable: level `strict` and no fence to be had; nothing was sent.
        """
        if isinstance(plan, TablesWritePlan):
            work = self._write_tables(plan, request)
        else:
            work = self._write_item(plan, request)
        return await asyncio.shield(self._ports.tasks.spawn(work, "write"))

    async def _write_tables(self, plan: TablesWritePlan, request: ClientRequest) -> Answer:
        token = self._ports.clock.token()
        remakes = request.operation in REMAKES
        fences = [
            TableFence(
                self._ports.store,
                table,
                self._ports.keys.table_key(table),
                token,
                remakes=remakes,
            )
            for table in sorted(plan.tables)
        ]
        try:
            return await self._fenced(list(fences), request, strict=plan.strict, through=None)
        finally:
            if remakes:
                for table in plan.tables:
                    self._ports.schemas.forget(table)

    async def _write_item(self, plan: WritePlan, request: ClientRequest) -> Answer:
        write = plan.write
        identity = write_identity(write, await self._schema(plan), self._ports.keys)
        token = self._ports.clock.token()
        fence: Fence
        if identity is None:
            table_key = self._ports.keys.table_key(write.table)
            fence = TableFence(self._ports.store, write.table, table_key, token)
        else:
            fence = ItemFence(self._ports.store, identity, token)
        through = plan if plan.policy.write_mode is WriteMode.THROUGH and identity else None
        strict = plan.policy.level is Level.STRICT
        return await self._fenced([fence], request, strict=strict, through=through)

    async def _schema(self, plan: WritePlan) -> KeySchema | None:
        """Return the key schema where the write needs one: PutItem carries no key."""
        if plan.write.item is None:
            return None
        return await self._ports.schemas.schema_of(plan.write.table)

    async def _fenced(
        self,
        fences: list[Fence],
        request: ClientRequest,
        *,
        strict: bool,
        through: WritePlan | None,
    ) -> Answer:
        held = await self._begin(fences, strict=strict)
        table = fences[0].table if len(fences) == 1 else None
        outcome, draft = WriteOutcome.UNKNOWN, None
        results: list[FenceResult] = []
        sent_s = self._ports.clock.monotonic_s()
        try:
            reply = await self._ports.exchange.forward(request, table)
            outcome = classify_write(reply.status)
            if through is not None and outcome is WriteOutcome.INVALIDATED:
                draft = self._draft(through, reply, sent_s)
                outcome = WriteOutcome.STORED if draft else outcome
        except UpstreamFailed as failed:
            outcome = WriteOutcome.UNKNOWN if failed.maybe_applied else WriteOutcome.ABORTED
            raise
        finally:
            results = [await self._end(each, outcome, draft) for each in held]
        answer = pass_on(reply, Outcome.WRITE, table)
        stored = results[0] is FenceResult.STORED
        return replace(answer, detail=f"write-{results[0]}", stored=stored)

    async def _begin(self, fences: list[Fence], *, strict: bool) -> list[_Held]:
        """Begin every fence; at level `strict` all or none."""
        held = [_Held(fence) for fence in fences]
        try:
            in_time = await self._begin_in_time(held, strict=strict)
        except StoreUnavailable:
            await self._give_up(held)
            raise
        if not in_time:
            await self._give_up(held)
            raise StoreUnavailable(StoreFailure.TIMEOUT, "this process was paused again and again")
        return held

    async def _begin_in_time(self, held: list[_Held], *, strict: bool) -> bool:
        """Begin until the markers outlive the write; False when they never did.

        A process that was stopped for a while (SIGSTOP, a frozen node) must not send a write that
        could take effect after its marker has expired: it begins anew.
        """
        spare_s = self._ports.fence.marker_s - self._ports.fence.write_timeout_s
        for _ in range(_BEGIN_TRIES):
            started_s = self._ports.clock.monotonic_s()
            await self._begin_once(held, strict=strict)
            if self._ports.clock.monotonic_s() - started_s < spare_s:
                return True
        return False

    async def _give_up(self, held: list[_Held]) -> None:
        """End the fences of a write that is not sent.

        It owes the store nothing more than what it owes already: a marker that cannot be taken
        back only costs hits until its deadline.
        """
        for each in held:
            if each.debt is not None:
                self._ports.debts.ripen(each.debt, in_s=0.0)
                continue
            result = await end_quietly(each.fence, WriteOutcome.ABORTED, None)
            if result is not None:
                self._ports.emit(FenceEnded(each.fence.table, result))

    async def _begin_once(self, held: list[_Held], *, strict: bool) -> None:
        begun = await asyncio.gather(*(each.fence.begin() for each in held), return_exceptions=True)
        for each, error in zip(held, begun, strict=True):
            if error is None or each.debt is not None:
                continue
            if strict or not isinstance(error, StoreUnavailable):
                raise error
            each.debt = self._ports.debts.open(each.fence)

    async def _end(
        self, held: _Held, outcome: WriteOutcome, draft: EntryDraft | None
    ) -> FenceResult:
        ports = self._ports
        unknown = outcome is WriteOutcome.UNKNOWN
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

    def _draft(self, plan: WritePlan, reply: UpstreamReply, sent_s: float) -> EntryDraft | None:
        after = item_after(plan.write, reply.body)
        if after is None:
            return None
        age_s = self._ports.clock.monotonic_s() - sent_s
        chance = self._ports.clock.uniform(0, 1)
        draft = draft_entry(after, plan.policy, age_s=age_s, chance=chance)
        return draft if isinstance(draft, EntryDraft) else None
