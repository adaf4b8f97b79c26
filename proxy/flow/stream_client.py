"""Asks DynamoDB Streams, by way of the proxy's own client for upstream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from proxy.core.errors import UpstreamFailed
from proxy.core.request import DATA_TARGET_PREFIX
from proxy.core.responses import JSON_1_0, is_throttle
from proxy.core.shard_tree import SHARDS_MAX, Checkpoint, Shard
from proxy.core.stream_answers import (
    STREAMS_TARGET_PREFIX,
    Batch,
    StreamRefused,
    StreamTrouble,
    describe_body,
    iterator_body,
    read_batch,
    read_date,
    read_description,
    read_iterator,
    read_stream_arn,
    records_body,
    table_body,
)
from proxy.core.values import TableName
from proxy.flow.events import Emit, UpstreamAnswered, UpstreamSilent
from proxy.flow.ports import Clock, Upstream, UpstreamReply, UpstreamRequest

_PAGE_PAUSE_S: Final = 0.15
"""DynamoDB takes ten DescribeStream a second of an account."""


class Listing(NamedTuple):
    """All shards of a stream, and whether changes still go into it."""

    enabled: bool
    shards: tuple[Shard, ...]


class Got(NamedTuple):
    """Records, their bytes on the wire, and when they were sent by upstream's own clock."""

    batch: Batch
    size_bytes: int
    now_s: float


class StreamClient:
    """Performs the operations that a reader needs.

    Args:
        upstream: DynamoDB and its Streams.
        clock: measures; stands in where an answer has no date.
        emit: takes events.
        timeout_s: for one exchange.
    """

    def __init__(self, upstream: Upstream, *, clock: Clock, emit: Emit, timeout_s: float) -> None:
        self._upstream = upstream
        self._clock = clock
        self._emit = emit
        self._timeout_s = timeout_s

    async def stream_of(self, table: TableName) -> str | None:
        """Return the ARN of a table's latest stream, None where it never had one.

        Raises:
            StreamRefused: as of all methods here: it cannot be told now.
        """
        reply = await self._ask("DescribeTable", table_body(table), table, streams=False)
        return read_stream_arn(reply.status, reply.body)

    async def shards(self, table: TableName, arn: str) -> Listing:
        """List all shards of a stream."""
        shards: list[Shard] = []
        enabled, after = True, None
        while True:
            reply = await self._ask("DescribeStream", describe_body(arn, after), table)
            page = read_description(reply.status, reply.body)
            shards += page.shards
            enabled, after = page.enabled, page.last
            if after is None:
                return Listing(enabled, tuple(shards))
            if len(shards) > SHARDS_MAX:
                raise StreamRefused(StreamTrouble.TOO_MANY)
            await self._clock.sleep(_PAGE_PAUSE_S)

    async def iterator(
        self, table: TableName, arn: str, shard_id: str, checkpoint: Checkpoint
    ) -> str:
        """Return an iterator that goes on at a checkpoint."""
        body = iterator_body(arn, shard_id, checkpoint)
        reply = await self._ask("GetShardIterator", body, table)
        return read_iterator(reply.status, reply.body)

    async def records(self, table: TableName, iterator: str) -> Got:
        """Return the next records."""
        reply = await self._ask("GetRecords", records_body(iterator), table)
        now_s = _sent_s(reply.headers)
        if now_s is None:
            now_s = self._clock.wall_s()
        return Got(read_batch(reply.status, reply.body), len(reply.body), now_s)

    async def _ask(
        self, operation: str, body: bytes, table: TableName, *, streams: bool = True
    ) -> UpstreamReply:
        prefix = STREAMS_TARGET_PREFIX if streams else DATA_TARGET_PREFIX
        request = UpstreamRequest(
            operation=operation,
            streams=streams,
            method="POST",
            target="/",
            headers=(("Content-Type", JSON_1_0), ("X-Amz-Target", prefix + operation)),
            body=body,
            timeout_s=self._timeout_s,
            repeatable=True,
        )
        started_s = self._clock.monotonic_s()
        try:
            reply = await self._upstream.send(request)
        except UpstreamFailed as failed:
            self._emit(UpstreamSilent(operation, table, failed.failure))
            raise StreamRefused(StreamTrouble.FAILED) from failed
        elapsed_s = self._clock.monotonic_s() - started_s
        throttled = is_throttle(reply.status, reply.body)
        self._emit(UpstreamAnswered(operation, table, reply.status, throttled, elapsed_s))
        return reply


def _sent_s(headers: Sequence[tuple[str, str]]) -> float | None:
    dates = (text for name, text in headers if name.lower() == "date")
    return read_date(next(dates, ""))
