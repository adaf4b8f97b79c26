"""Learns each table's key schema: from settings, from DescribeTable, or not at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from proxy.core.errors import UpstreamFailed
from proxy.core.json_text import compact
from proxy.core.plan import KeySchema
from proxy.core.values import TableName
from proxy.flow.exchange import Exchange
from proxy.flow.ports import Clock
from proxy.flow.tasks import TaskOwner

# A schema changes only when the table is deleted and made anew. Done through this proxy, that is
# forgotten at once; done elsewhere, it is unknown here for this long. One DescribeTable a minute.
_KNOWN_FOR_S: Final = 60.0
_UNKNOWN_FOR_S: Final = 30.0
_TABLES_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Learned:
    schema: KeySchema | None
    until_s: float


class SchemaBook:
    """Key schemas by table.

    Args:
        exchange: asks DescribeTable.
        configured: schemas from settings; those are never asked for.
        tasks: owns the questions.
        clock: ages what was learned.
    """

    def __init__(
        self,
        exchange: Exchange,
        *,
        configured: Mapping[TableName, KeySchema],
        tasks: TaskOwner,
        clock: Clock,
    ) -> None:
        self._exchange = exchange
        self._configured = configured
        self._tasks = tasks
        self._clock = clock
        self._learned: dict[TableName, _Learned] = {}
        self._asking: dict[TableName, asyncio.Task[KeySchema | None]] = {}

    async def schema_of(self, table: TableName) -> KeySchema | None:
        """Return a table's key schema, or None where nobody may tell it."""
        if (configured := self._configured.get(table)) is not None:
            return configured
        learned = self._learned.get(table)
        if learned is not None and self._clock.monotonic_s() < learned.until_s:
            return learned.schema
        if (asking := self._asking.get(table)) is None:
            asking = self._tasks.spawn(self._ask(table), "describe table")
            self._asking[table] = asking
            asking.add_done_callback(lambda task: self._asked(table, task))
        return await asyncio.shield(asking)

    def forget(self, table: TableName) -> None:
        """Ask again next time: the table may have been made anew with another key."""
        self._learned.pop(table, None)
        self._asking.pop(table, None)  # whose answer may be from before

    async def _ask(self, table: TableName) -> KeySchema | None:
        try:
            body = compact({"TableName": table})
            reply = await self._exchange.ask("DescribeTable", body, table)
            schema = read_key_schema(reply.body) if reply.status == 200 else None  # noqa: PLR2004
        except UpstreamFailed:
            schema = None
        if self._asking.get(table) is not asyncio.current_task():
            return schema  # forgotten meanwhile: good for who asked before, not to be kept
        kept_s = _KNOWN_FOR_S if schema else _UNKNOWN_FOR_S
        if len(self._learned) >= _TABLES_MAX:
            self._learned.clear()
        self._learned[table] = _Learned(schema, self._clock.monotonic_s() + kept_s)
        return schema

    def _asked(self, table: TableName, asking: asyncio.Task[KeySchema | None]) -> None:
        if self._asking.get(table) is asking:
            del self._asking[table]


def read_key_schema(body: bytes) -> KeySchema | None:
    """Read the key schema from a DescribeTable reply; None when it is not one."""
    try:
        described: dict[str, Any] = json.loads(body)
        by_type = {
            element["KeyType"]: element["AttributeName"]
            for element in described["Table"]["KeySchema"]
        }
        return KeySchema(by_type["HASH"], by_type.get("RANGE"))
    except (ValueError, LookupError, TypeError):
        return None
