"""Sends requests upstream and reports each exchange; the only way from a flow to DynamoDB."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from proxy.core.batch_fetch import (
    FetchedBatch,
    WantedItem,
    batch_fetch_body,
    consistent_tables,
    read_batch_reply,
)
from proxy.core.errors import UpstreamFailed
from proxy.core.fetches import FetchPlan, Found
from proxy.core.item_size import read_units
from proxy.core.operations import Capacity
from proxy.core.request import (
    DATA_TARGET_PREFIX,
    Answer,
    ClientRequest,
    HeaderShape,
    ShapedHeaders,
    shaped,
)
from proxy.core.responses import JSON_1_0, is_throttle
from proxy.core.table_identity import is_no_table
from proxy.core.values import Outcome, TableName
from proxy.flow.events import CapacityConsumed, Emit, UpstreamAnswered, UpstreamSilent
from proxy.flow.ports import Clock, Upstream, UpstreamReply, UpstreamRequest

_OK: Final = 200
_SERVER_ERROR: Final = 500
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
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
        batched: `reply` is to a batch: what it refuses may be another item's fault.
        unprocessed: a batch was answered, and upstream left this item for another time.
    """

    reply: UpstreamReply
    found: Found | None
    asked_s: float
    batched: bool = False
    unprocessed: bool = False

    @property
    def failed(self) -> bool:
        """Whether upstream refused for load or broke: an old answer may be better than this."""
        return self.reply.status >= _SERVER_ERROR or is_throttle(self.reply.status, self.reply.body)

    @property
    def others(self) -> bool:
        """Whether this says nothing about the item to whoever did not send the batch.

        A failure does: DynamoDB fails a whole batch only where no item of it could be read.
        """
        return self.batched and self.found is None and not self.failed


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
        self._read_s = timeouts.read_s
        self._write_s = timeouts.write_s
        self._headers: dict[str, ShapedHeaders] = {}
        self._lost: Callable[[TableName], Awaitable[None]] | None = None

    def when_lost(self, tell: Callable[[TableName], Awaitable[None]]) -> None:
        """Have `tell` awaited whenever upstream refuses a request since it knows no such table.

        Not for DescribeTable: whoever asks that is looking. Nor where a request names several
        tables: nobody can tell which one is meant.
        """
        self._lost = tell

    def forward(
        self, request: ClientRequest, table: TableName | None
    ) -> Coroutine[Any, Any, UpstreamReply]:
        """Send the client's own bytes.

        Raises:
            UpstreamFailed: no complete answer came.
        """
        operation, method = request.operation, request.method
        repeatable = operation in _READS or method in _SAFE
        # By position: that takes half of the time.
        sent = UpstreamRequest(
            operation or "other",
            request.streams,
            method,
            request.target,
            request.headers,
            request.body,
            self._read_s if repeatable else self._write_s,
            repeatable,
        )
        return self._send(sent, table)

    def ask(
        self, operation: str, body: bytes, table: TableName | None
    ) -> Coroutine[Any, Any, UpstreamReply]:
        """Send a read of the proxy's own.

        Raises:
            UpstreamFailed: no complete answer came.
        """
        if (headers := self._headers.get(operation)) is None:
            plain = ("Content-Type", JSON_1_0), ("X-Amz-Target", DATA_TARGET_PREFIX + operation)
            headers = self._headers[operation] = shaped(plain, HeaderShape(plain))
        sent = UpstreamRequest(operation, False, "POST", "/", headers, body, self._read_s, True)
        return self._send(sent, table)

    async def fetch(self, plan: FetchPlan, *, consistent: bool) -> Fetched:
        """Read a whole item or a page.

        Raises:
            UpstreamFailed: no complete answer came.
        """
        asked_s = self._clock.monotonic_s()
        body = plan.fetch_body(consistent=consistent)
        reply = await self.ask(plan.operation, body, plan.table)
        return self.weigh(plan, reply, asked_s=asked_s, consistent=consistent)

    async def fetch_batch(
        self, wanted: Sequence[WantedItem], capacity: Capacity
    ) -> tuple[list[Fetched], tuple[dict[str, Any], ...]]:
        """Read whole items, 100 at most.

        Returns:
            For each item what came of it, in their order, and upstream's ConsumedCapacity.

        Raises:
            UpstreamFailed: no complete answer came.
        """
        asked_s = self._clock.monotonic_s()
        tables = {each.table for each in wanted}
        table = tables.pop() if len(tables) == 1 else None
        reply = await self.ask("BatchGetItem", batch_fetch_body(wanted, capacity), table)
        content = read_batch_reply(reply.body, wanted) if reply.status == _OK else None
        if content is None:
            return [Fetched(reply, None, asked_s, batched=True) for _ in wanted], ()
        self._weigh_batch(wanted, content)
        fetched = [
            Fetched(reply, found, asked_s, batched=True, unprocessed=found is None)
            for found in content.found
        ]
        return fetched, content.consumed

    def _weigh_batch(self, wanted: Iterable[WantedItem], content: FetchedBatch) -> None:
        consistent = consistent_tables(wanted)
        units: defaultdict[TableName, float] = defaultdict(float)
        for each, found in zip(wanted, content.found, strict=True):
            if found is not None:
                consistently = each.table in consistent
                units[each.table] += read_units(found.size_bytes, consistent=consistently)
        for table, spent in units.items():
            self._emit(CapacityConsumed(table, spent))

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
        now_s = self._clock.monotonic_s
        started_s = now_s()
        try:
            reply = await self._upstream.send(request)
        except UpstreamFailed as failed:
            self._emit(UpstreamSilent(request.operation, table, failed.failure))
            raise
        elapsed_s = now_s() - started_s
        operation, status = request.operation, reply.status
        throttled = is_throttle(status, reply.body)
        self._emit(UpstreamAnswered(operation, table, status, throttled, elapsed_s))
        looking = operation == "DescribeTable"
        if table and self._lost and not looking and is_no_table(status, reply.body):
            await self._lost(table)
        return reply


def pass_on(reply: UpstreamReply, outcome: Outcome, table: TableName | None) -> Answer:
    """Answer with upstream's own status, headers and body."""
    return Answer(reply.status, reply.headers, reply.body, outcome, table=table)


def pass_fetched(reply: UpstreamReply, outcome: Outcome, table: TableName | None) -> Answer:
    """Answer with upstream's reply to a fetch of the proxy's own."""
    return Answer(reply.status, reply.headers, reply.body, outcome, table=table, fetched=True)


def checksum(body: bytes) -> int:
    """Return a body's `x-amz-crc32`."""
    return zlib.crc32(body)
