"""Sends requests upstream and reports each exchange; the only way from a flow to DynamoDB."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Final

from proxy.core.errors import UpstreamFailed
from proxy.core.fetches import FetchPlan, Found
from proxy.core.item_size import read_units
from proxy.core.request import DATA_TARGET_PREFIX, Answer, ClientRequest
from proxy.core.responses import JSON_1_0, is_throttle
from proxy.core.values import Outcome, TableName
from proxy.flow.events import CapacityConsumed, Emit, UpstreamAnswered, UpstreamSilent
from proxy.flow.ports import Clock, Upstream, UpstreamReply, UpstreamRequest

_OK: Final = 200
_SERVER_ERROR: Final = 500
_READS: Final = frozenset(
    {
        "GetItem",
        "BatchGetItem",
        "Query",
        "Scan",
        "TransactGetItems",
        "DescribeTable",
        "ListTables",
        "DescribeStream",
        "GetRecords",
        "GetShardIterator",
        "ListStreams",
    }
)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long upstream may take over one exchange, in seconds."""

    read_s: float
    write_s: float


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole item, its absence, a page, or upstream's refusal.

    Args:
        reply: as upstream sent it.
        found: the reply taken apart; None when it is a refusal or not understood.
        asked_s: monotonic time at which upstream was asked: the item's age counts from here.
    """

    reply: UpstreamReply
    found: Found | None
    asked_s: float

    @property
    def failed(self) -> bool:
        """Whether upstream refused for load or broke: an old answer may be better than this."""
        return self.reply.status >= _SERVER_ERROR or is_throttle(self.reply.status, self.reply.body)


class Exchange:
    """Upstream with telemetry.

    Args:
        upstream: DynamoDB.
        clock: measures.
        emit: takes events.
        timeouts: bounds on one exchange.
    """

    def __init__(self, upstream: Upstream, *, clock: Clock, emit: Emit, timeouts: Timeouts) -> None:
        self._upstream = upstream
        self._clock = clock
        self._emit = emit
        self._timeouts = timeouts

    async def forward(self, request: ClientRequest, table: TableName | None) -> UpstreamReply:
        """Send the client's own bytes.

        Raises:
            UpstreamFailed: no complete answer came.
        """
        operation = request.operation
        repeatable = operation in _READS or request.method in {"GET", "HEAD", "OPTIONS"}
        return await self._send(
            UpstreamRequest(
                operation=operation or "other",
                streams=request.streams,
                method=request.method,
                target=request.target,
                headers=request.headers,
                body=request.body,
                timeout_s=self._timeouts.read_s if repeatable else self._timeouts.write_s,
                repeatable=repeatable,
            ),
            table,
        )

    async def ask(self, operation: str, body: bytes, table: TableName) -> UpstreamReply:
        """Send a read of the proxy's own.

        Raises:
            UpstreamFailed: no complete answer came.
        """
        return await self._send(
            UpstreamRequest(
                operation=operation,
                streams=False,
                method="POST",
                target="/",
                headers=(
                    ("Content-Type", JSON_1_0),
                    ("X-Amz-Target", DATA_TARGET_PREFIX + operation),
                ),
                body=body,
                timeout_s=self._timeouts.read_s,
                repeatable=True,
            ),
            table,
        )

    async def fetch(self, plan: FetchPlan, *, consistent: bool) -> Fetched:
        """Read a whole item or a page.

        Raises:
            UpstreamFailed: no complete answer came.
        """
        asked_s = self._clock.monotonic_s()
        body = plan.fetch_body(consistent=consistent)
        reply = await self.ask(plan.operation, body, plan.table)
        return self.weigh(plan, reply, asked_s=asked_s, consistent=consistent)

    def weigh(
        self, plan: FetchPlan, reply: UpstreamReply, *, asked_s: float, consistent: bool
    ) -> Fetched:
        """Take a reply apart and report what it cost."""
        found = None
        if reply.status == _OK:
            found = plan.read_reply(reply.body, consistent=consistent)
        if found:
            units = read_units(found.size_bytes, consistent=consistent)
            self._emit(CapacityConsumed(plan.table, units))
        return Fetched(reply, found, asked_s)

    async def _send(self, request: UpstreamRequest, table: TableName | None) -> UpstreamReply:
        started_s = self._clock.monotonic_s()
        try:
            reply = await self._upstream.send(request)
        except UpstreamFailed as failed:
            self._emit(UpstreamSilent(request.operation, table, failed.failure))
            raise
        elapsed_s = self._clock.monotonic_s() - started_s
        throttled = is_throttle(reply.status, reply.body)
        self._emit(UpstreamAnswered(request.operation, table, reply.status, throttled, elapsed_s))
        return reply


def pass_on(reply: UpstreamReply, outcome: Outcome, table: TableName | None) -> Answer:
    """Answer with upstream's own status, headers and body."""
    return Answer(reply.status, reply.headers, reply.body, outcome, table=table)


def pass_fetched(reply: UpstreamReply, outcome: Outcome, table: TableName) -> Answer:
    """Answer with upstream's reply to a fetch of the proxy's own."""
    return replace(pass_on(reply, outcome, table), fetched=True)


def checksum(body: bytes) -> int:
    """Return a body's `x-amz-crc32`."""
    return zlib.crc32(body)
