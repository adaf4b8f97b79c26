"""Takes every request to its path and every error to DynamoDB's shape; emits one event each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, assert_never

from proxy.core.cache_key import KeySpace
from proxy.core.content_coding import inflated
from proxy.core.errors import ProxyError, RequestRejected
from proxy.core.operations import SERIALIZATION_EXCEPTION
from proxy.core.page_plan import QueryPlan
from proxy.core.plan import (
    FENCED,
    READ_OPERATIONS,
    PassPlan,
    Plan,
    ReadPlan,
    TablesWritePlan,
    WritePlan,
    make_plan,
)
from proxy.core.policy import TablePolicy
from proxy.core.request import TARGET_HEADER, Answer, ClientRequest
from proxy.core.responses import MISSING_TOKEN, error_answer
from proxy.core.values import BypassReason, Outcome, TableName
from proxy.flow.events import Emit, RequestAnswered
from proxy.flow.exchange import Exchange, pass_on
from proxy.flow.ports import Clock
from proxy.flow.query_path import QueryPath
from proxy.flow.read_path import ReadPath
from proxy.flow.write_path import WritePath

_OTHER: Final = "other"
_IDLE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})  # health checks, preflights


@dataclass(frozen=True, slots=True)
class DispatcherPorts:
    """What the dispatcher works with."""

    reads: ReadPath
    queries: QueryPath
    writes: WritePath
    exchange: Exchange
    keys: KeySpace
    clock: Clock
    emit: Emit
    policy_of: Callable[[str], TablePolicy]
    body_bytes_max: int


class Dispatcher:
    """Answers every request; no ProxyError leaves it."""

    def __init__(self, ports: DispatcherPorts) -> None:
        self._ports = ports

    async def answer(self, request: ClientRequest) -> Answer:
        """Answer one request, whatever it is."""
        started_s = self._ports.clock.monotonic_s()
        try:
            answer = await self._route(request)
        except ProxyError as error:
            answer = error_answer(error)
        self._ports.emit(
            RequestAnswered(
                operation=request.operation or _OTHER,
                table=answer.table,
                outcome=answer.outcome,
                reason=answer.reason,
                status=answer.status,
                elapsed_s=self._ports.clock.monotonic_s() - started_s,
            )
        )
        return answer

    async def _route(self, request: ClientRequest) -> Answer:
        if _can_act(request) and not _is_signed(request):
            # Signing it with our own credentials would let a caller in whom DynamoDB refuses.
            raise RequestRejected(MISSING_TOKEN, "Request is missing Authentication Token")
        if sum(name.lower() == TARGET_HEADER for name, _ in request.headers) > 1:
            # Upstream might read another one than we do, and apply a write without its fence.
            raise RequestRejected(SERIALIZATION_EXCEPTION, "more than one X-Amz-Target")
        plan = self._plan(request)
        match plan:
            case PassPlan():
                return await self._pass(plan, request)
            case ReadPlan():
                return await self._ports.reads.answer(plan, request)
            case QueryPlan():
                return await self._ports.queries.answer(plan, request)
            case WritePlan() | TablesWritePlan():
                return await self._ports.writes.answer(plan, request)
            case _:
                assert_never(plan)

    def _plan(self, request: ClientRequest) -> Plan:
        coding = request.header("content-encoding")
        if coding is None:
            return make_plan(request, self._ports.keys, self._ports.policy_of)
        if request.operation in READ_OPERATIONS:
            return PassPlan(BypassReason.UNDECODABLE)
        if request.operation not in FENCED:
            return PassPlan(BypassReason.OPERATION)
        content = inflated(request.body, coding, bytes_max=self._ports.body_bytes_max)
        if content is None:
            # Nobody can say what it would write, so no fence could cover it.
            raise RequestRejected(SERIALIZATION_EXCEPTION, "unreadable Content-Encoding")
        readable = replace(request, body=content)
        return make_plan(readable, self._ports.keys, self._ports.policy_of)

    async def _pass(self, plan: PassPlan, request: ClientRequest) -> Answer:
        table: TableName | None = plan.table
        reply = await self._ports.exchange.forward(request, table)
        return pass_on(reply, Outcome.BYPASS, table).explained(plan.reason, table)


def _can_act(request: ClientRequest) -> bool:
    """Tell whether upstream might take it for a call, also one of an operation unknown here."""
    return bool(request.operation) or request.method not in _IDLE_METHODS


def _is_signed(request: ClientRequest) -> bool:
    return request.header("authorization") is not None or "X-Amz-Signature=" in request.target
