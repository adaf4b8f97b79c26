"""Reads the streams of all tables that have one, and tells how far each is behind."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from proxy.core.values import TableName, Token
from proxy.flow.shard_reader import ShardPorts
from proxy.flow.stream_policies import StreamPolicies
from proxy.flow.stream_reader import StreamReader, StreamStatus
from proxy.flow.tasks import TaskOwner

_LEAVE_S: Final = 2.0


class Streams:
    """The streams of one process.

    Args:
        ports: what reading works with.
        tables: each with its stream's ARN, None to ask DynamoDB for it.
        reader: this process, None if it only watches.
        policies: told of lags.
    """

    def __init__(
        self,
        ports: ShardPorts,
        tables: Mapping[TableName, str | None],
        *,
        reader: Token | None,
        policies: StreamPolicies,
    ) -> None:
        self.policies = policies
        self._clock = ports.clock
        self._tasks = TaskOwner(ports.emit)
        self._readers = {
            table: StreamReader(
                ports, table, reader=reader, tasks=self._tasks, policies=policies, arn=arn
            )
            for table, arn in tables.items()
        }
        for table in tables:  # until the first look nobody knows how far it is behind
            policies.distrust(table)

    async def watch(self) -> None:
        """Read and watch, for ever; cancel to stop."""
        async with asyncio.TaskGroup() as group:
            for reader in self._readers.values():
                group.create_task(reader.watch(), name="stream watch")

    async def close(self) -> None:
        """Give all shards back, so that others go on at once, and end."""
        for reader in self._readers.values():
            reader.leave()
        await self._tasks.settle(_LEAVE_S, self._clock.sleep)

    def status(self) -> dict[TableName, StreamStatus]:
        """Return what is known of each table's stream now."""
        return {table: reader.status() for table, reader in self._readers.items()}
