"""Answers reads of keys in shadow: by DynamoDB, while the cache rehearses beside it.

The client's own bytes go upstream and the reply's own bytes come back. At the same time the read
runs through the paths of a cache that is on: it looks up, takes leases, fetches and fills, so a
table in shadow has the entries it would have. What would have been the answer is compared with
the real one; where they differ, the auditor decides whether that proves anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, assert_never

from proxy.core.audit import same_answer
from proxy.core.errors import ProxyError
from proxy.core.fetches import FetchPlan
from proxy.core.page_plan import QueryPlan
from proxy.core.read_plan import AnyRead, BatchReadPlan, ReadPlan
from proxy.core.record import Entry
from proxy.core.request import Answer, ClientRequest
from proxy.core.values import AuditResult, BypassReason, Outcome, ShadowResult
from proxy.flow.auditor import Auditor, Witness
from proxy.flow.batch_path import BatchPath
from proxy.flow.events import BatchItemsAnswered, CapacitySaved, Emit, Event, ShadowCompared
from proxy.flow.exchange import Exchange, pass_on
from proxy.flow.ports import UpstreamReply
from proxy.flow.query_path import QueryPath
from proxy.flow.read_path import ReadPath
from proxy.flow.tasks import TaskOwner

REHEARSALS_MAX: Final = 256
"""Rehearsals at one time: each holds two answers, up to 16 MiB for the largest batch."""

_OK: Final = 200


@dataclass(frozen=True, slots=True)
class ReadPaths:
    """The paths of all reads."""

    reads: ReadPath
    batches: BatchPath
    queries: QueryPath

    async def answer(self, plan: AnyRead, request: ClientRequest) -> Answer:
        """Answer one read.

        Raises:
            ProxyError: as the paths do.
        """
        match plan:
            case ReadPlan():
                return await self.reads.answer(plan, request)
            case BatchReadPlan():
                return await self.batches.answer(plan, request)
            case QueryPlan():
                return await self.queries.answer(plan, request)
            case _:
                assert_never(plan)


@dataclass(frozen=True, slots=True)
class ShadowPorts:
    """What the shadow works with; `stage` gives paths that tell a witness what they serve."""

    exchange: Exchange
    auditor: Auditor
    tasks: TaskOwner
    emit: Emit
    stage: Callable[[Witness], ReadPaths]


class Notes:
    """A `Witness` that keeps what one rehearsal would have served."""

    def __init__(self) -> None:
        self.entries: list[tuple[FetchPlan, Entry]] = []

    def served(self, plan: FetchPlan, entry: Entry) -> None:
        """Keep it."""
        self.entries.append((plan, entry))


class Shadow:
    """Answers from DynamoDB and rehearses with the cache.

    Args:
        ports: what it works with.
        rehearsals_max: at one time; beyond it reads are answered all the same.
    """

    def __init__(self, ports: ShadowPorts, *, rehearsals_max: int = REHEARSALS_MAX) -> None:
        self._ports = ports
        self._rehearsals_max = rehearsals_max
        self._running = 0

    async def answer(self, plan: AnyRead, request: ClientRequest) -> Answer:
        """Answer one read with DynamoDB's reply, whatever becomes of the rehearsal.

        Raises:
            UpstreamFailed: upstream gave no answer.
        """
        table = plan.table
        real: asyncio.Future[UpstreamReply | None] = asyncio.get_running_loop().create_future()
        if self._running < self._rehearsals_max:
            self._running += 1
            task = self._ports.tasks.spawn(self._rehearse(plan, request, real), "shadow")
            task.add_done_callback(self._ended)
        else:
            self._ports.emit(ShadowCompared(table, ShadowResult.DROPPED))
        reply = None
        try:
            reply = await self._ports.exchange.forward(request, table)
        finally:
            if not real.done():  # a rehearsal that was cancelled takes it along
                real.set_result(reply)
        return pass_on(reply, Outcome.BYPASS, table).explained(BypassReason.SHADOW, table)

    def _ended(self, _: asyncio.Task[None]) -> None:
        self._running -= 1

    async def _rehearse(
        self, plan: AnyRead, request: ClientRequest, real: asyncio.Future[UpstreamReply | None]
    ) -> None:
        notes = Notes()
        would: Answer | None
        try:
            would = await self._ports.stage(notes).answer(plan.as_if_on(), request)
        except ProxyError:
            would = None
        result = await self._compare(would, await real, notes)
        self._ports.emit(ShadowCompared(plan.table, result))

    async def _compare(
        self, would: Answer | None, reply: UpstreamReply | None, notes: Notes
    ) -> ShadowResult:
        if would is None or reply is None or reply.status != _OK:
            return ShadowResult.FAILED
        if would.outcome is Outcome.BYPASS:
            return ShadowResult.WOULD_BYPASS
        if not notes.entries:
            return ShadowResult.WOULD_MISS
        if same_answer(would.body, reply.body):
            return ShadowResult.AGREE
        return await self._confirm(notes)

    async def _confirm(self, notes: Notes) -> ShadowResult:
        """Ask the auditor: the real answer may be older than the entry, or a write came between."""
        found = {await self._ports.auditor.confirm(*each) for each in notes.entries}
        if AuditResult.STALE in found:
            return ShadowResult.DIFFER
        return ShadowResult.AGREE if found == {AuditResult.MATCH} else ShadowResult.INCONCLUSIVE


def without_savings(emit: Emit) -> Emit:
    """Return an `emit` for rehearsals, which answer nobody and save nothing."""

    def told(event: Event) -> None:
        if not isinstance(event, CapacitySaved | BatchItemsAnswered):
            emit(event)

    return told
