"""Takes every request to its path and every error to DynamoDB's shape; emits one event each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, assert_never

from proxy.core.cache_key import KeySpace
from proxy.core.content_coding import inflated
from proxy.core.errors import ProxyError, RequestRejected
from proxy.core.key_schema import is_mismatch
from proxy.core.operations import SERIALIZATION_EXCEPTION
from proxy.core.page_plan import QueryPlan
from proxy.core.plan import FENCED, Plan, TablesWritePlan, WritePlan, make_plan
from proxy.core.plan_memo import PlanMemo
from proxy.core.policy import TablePolicy
from proxy.core.read_plan import (
    READ_OPERATIONS,
    AnyRead,
    BatchReadPlan,
    PassPlan,
    ReadPlan,
    is_plain_get,
)
from proxy.core.request import TARGET_HEADER, Answer, ClientRequest
from proxy.core.responses import MISSING_TOKEN, error_answer
from proxy.core.values import BypassReason, Item, Mode, Outcome, TableName
from proxy.flow.batch_path import BatchPath
from proxy.flow.events import Emit, RequestAnswered
from proxy.flow.exchange import Exchange
from proxy.flow.near_reads import NearReads
from proxy.flow.ports import Clock
from proxy.flow.query_path import QueryPath
from proxy.flow.read_path import ReadPath, Seen
from proxy.flow.schemas import SchemaBook
from proxy.flow.shadow import Shadow
from proxy.flow.write_path import WritePath

_OTHER: Final = "other"
_IDLE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})  # health checks, preflights


@dataclass(frozen=True, slots=True)
class DispatcherPorts:
    """What the dispatcher works with."""

    reads: ReadPath
    batches: BatchPath
    queries: QueryPath
    shadow: Shadow
    writes: WritePath
    exchange: Exchange
    schemas: SchemaBook
    keys: KeySpace
    clock: Clock
    emit: Emit
    policy_of: Callable[[str], TablePolicy]
    plans: PlanMemo
    body_bytes_max: int
    near: NearReads


class Dispatcher:
    """Answers every request; no ProxyError leaves it."""

    def __init__(self, ports: DispatcherPorts) -> None:
        self._ports = ports
        self._now_s = ports.clock.monotonic_s
        self._emit = ports.emit
        self._plan_of = ports.plans.plan_of
        self._forward = ports.exchange.forward

    async def answer(self, request: ClientRequest, seen: Seen | None = None) -> Answer:
        """Answer one request, whatever it is.

        Args:
            request: a client's.
            seen: what a lookup for it saw just now, where there was one.
        """
        now_s = self._now_s
        started_s = now_s() if seen is None else seen.asked_s
        try:
            plan = self._plan(request)
            if isinstance(plan, PassPlan):
                answer = await self._pass(plan, request)
            else:
                answer = await self._perform(plan, request, seen)
        except ProxyError as error:
            answer = error_answer(error)
        self._emit(
            # By position: that takes half of the time.
            RequestAnswered(
                request.operation or _OTHER,
                answer.table,
                answer.outcome,
                answer.reason,
                answer.status,
                now_s() - started_s,
            )
        )
        return answer

    def _plan(self, request: ClientRequest) -> Plan:
        """Decide what to do with a request.

        Raises:
            RequestRejected: it is not signed, or a write that cannot be read.
            NotCached: only the cache may answer, and never does.
        """
        if _can_act(request) and not _is_signed(request):
            # Signing it with our own credentials would let a caller in whom DynamoDB refuses.
            raise RequestRejected(MISSING_TOKEN, "Request is missing Authentication Token")
        if request.repeats(TARGET_HEADER):
            # Upstream might read another one than we do, and apply a write without its fence.
            raise RequestRejected(SERIALIZATION_EXCEPTION, "more than one X-Amz-Target")
        if is_plain_get(request):
            return self._plan_of(request.body)
        coding = request.header("content-encoding")
        if coding is None or request.operation in READ_OPERATIONS:
            return make_plan(request, self._ports.keys, self._ports.policy_of)
        if request.operation not in FENCED:
            return PassPlan(BypassReason.OPERATION)
        content = inflated(request.body, coding, bytes_max=self._ports.body_bytes_max)
        if content is None:
            # Nobody can say what it would write, so no fence could cover it.
            raise RequestRejected(SERIALIZATION_EXCEPTION, "unreadable Content-Encoding")
        readable = request._replace(body=content)
        return make_plan(readable, self._ports.keys, self._ports.policy_of)

    async def _perform(
        self, plan: AnyRead | WritePlan | TablesWritePlan, request: ClientRequest, seen: Seen | None
    ) -> Answer:
        match plan:
            case ReadPlan() | BatchReadPlan() | QueryPlan() if plan.mode is Mode.SHADOW:
                return await self._ports.shadow.answer(plan, request)
            case ReadPlan():
                sent_s = self._ports.clock.monotonic_s()
                # The lookup may have taken a while, in which the table's policy was switched.
                still = seen if seen is not None and seen.plan.policy is plan.policy else None
                answer = await self._ports.reads.answer(plan, request, still)
                if answer.outcome is Outcome.MISS:
                    self._heed(plan.get.table, plan.get.key, answer, sent_s)
                return answer
            case WritePlan():
                sent_s = self._ports.clock.monotonic_s()
                answer = await self._ports.writes.answer(plan, request)
                for write in {each.write.table: each.write for each in plan.writes}.values():
                    # Inside a transaction nothing may have been looked at: it may be a repetition.
                    key = write.key if write.operation == request.operation else None
                    self._heed(write.table, key, answer, sent_s)
                return answer
            case BatchReadPlan():
                return await self._ports.batches.answer(plan, request)
            case QueryPlan():
                return await self._ports.queries.answer(plan, request)
            case TablesWritePlan():
                return await self._ports.writes.answer(plan, request)
            case _:
                assert_never(plan)

    def _heed(self, table: TableName, key: Item | None, answer: Answer, sent_s: float) -> None:
        """Let the key schemas learn from upstream's judgement of a key, None where none is sure."""
        if answer.status == 200 and key is not None:  # noqa: PLR2004
            self._ports.schemas.learn(table, key.keys(), sent_s)
        elif is_mismatch(answer.status, answer.body):
            self._ports.schemas.doubt(table)

    async def _pass(self, plan: PassPlan, request: ClientRequest) -> Answer:
        table: TableName | None = plan.table
        status, headers, body = await self._forward(request, table)
        for identity in plan.shows:
            self._ports.near.shown(identity)
        return Answer(status, headers, body, Outcome.BYPASS, plan.reason, table)


def _can_act(request: ClientRequest) -> bool:
    """Tell whether upstream might take it for a call, also one of an operation unknown here."""
    return bool(request.operation) or request.method not in _IDLE_METHODS


def _is_signed(request: ClientRequest) -> bool:
    return request.header("authorization") is not None or "X-Amz-Signature=" in request.target
