"""Learns each table's key schema: from settings, from DescribeTable, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from proxy.core.cache_key import KeySpace
from proxy.core.errors import StoreUnavailable, UpstreamFailed
from proxy.core.fence import stamp_of
from proxy.core.json_text import compact
from proxy.core.key_schema import KeySchema, read_key_schema
from proxy.core.values import TableName
from proxy.flow.exchange import Exchange
from proxy.flow.ports import Clock, Store
from proxy.flow.tasks import TaskOwner

# A schema changes only when the table is deleted and made anew. Through any proxy of the store,
# that raises the table's stamp; past every proxy, it is unknown here for this long.
_KNOWN_FOR_S: Final = 60.0
_UNKNOWN_FOR_S: Final = 30.0
_TABLES_MAX: Final = 10_000

_Question = tuple[TableName, bytes | None]
"""A table, and the stamp under which the answer will be good."""


@dataclass(frozen=True, slots=True)
class _Learned:
    schema: KeySchema | None
    stamp: bytes | None
    until_s: float


class SchemaBook:
    """Key schemas by table.

    Args:
        exchange: asks DescribeTable.
        store: holds the stamp under which each answer is good.
        keys: names the tables' records.
        configured: schemas from settings; those are never asked for.
        tasks: owns the questions.
        clock: ages what was learned.
    """

    def __init__(
        self,
        exchange: Exchange,
        store: Store,
        *,
        keys: KeySpace,
        configured: Mapping[TableName, KeySchema],
        tasks: TaskOwner,
        clock: Clock,
    ) -> None:
        self._exchange = exchange
        self._store = store
        self._keys = keys
        self._configured = configured
        self._tasks = tasks
        self._clock = clock
        self._learned: dict[TableName, _Learned] = {}
        self._asking: dict[_Question, asyncio.Task[KeySchema | None]] = {}

    async def schema_of(self, table: TableName) -> KeySchema | None:
        """Return a table's key schema, or None where nobody may tell it."""
        if (configured := self._configured.get(table)) is not None:
            return configured
        stamp = await self._stamp(table)
        learned = self._learned.get(table)
        # Without the store's stamp, what was learned is the best there is.
        if learned is not None and stamp in (None, learned.stamp) and self._is_young(learned):
            return learned.schema
        question = (table, stamp)
        if (asking := self._asking.get(question)) is None:
            asking = self._tasks.spawn(self._ask(question), "describe table")
            self._asking[question] = asking
            asking.add_done_callback(lambda task: self._asked(question, task))
        return await asyncio.shield(asking)

    def recall(self, table: TableName) -> KeySchema | None:
        """Return what was learned a moment ago, without asking whether it still is so.

        Only for decisions that an outdated schema makes slower, not wrong.
        """
        learned = self._learned.get(table)
        return learned.schema if learned is not None and self._is_young(learned) else None

    def forget(self, table: TableName) -> None:
        """Ask again next time: the table may have been made anew with another key."""
        self._learned.pop(table, None)
        for question in [each for each in self._asking if each[0] == table]:
            del self._asking[question]  # its answer may be from before

    def _is_young(self, learned: _Learned) -> bool:
        return self._clock.monotonic_s() < learned.until_s

    async def _stamp(self, table: TableName) -> bytes | None:
        try:
            return stamp_of(await self._store.generation(self._keys.table_key(table)))
        except StoreUnavailable:
            return None

    async def _ask(self, question: _Question) -> KeySchema | None:
        table, stamp = question
        try:
            body = compact({"TableName": table})
            reply = await self._exchange.ask("DescribeTable", body, table)
            schema = read_key_schema(reply.body) if reply.status == 200 else None  # noqa: PLR2004
        except UpstreamFailed:
            schema = None
        if self._asking.get(question) is not asyncio.current_task():
            return schema  # forgotten meanwhile: good for who asked before, not to be kept
        kept_s = _KNOWN_FOR_S if schema else _UNKNOWN_FOR_S
        if len(self._learned) >= _TABLES_MAX:
            self._learned.clear()
        until_s = self._clock.monotonic_s() + kept_s
        self._learned[table] = _Learned(schema, stamp, until_s)
        return schema

    def _asked(self, question: _Question, asking: asyncio.Task[KeySchema | None]) -> None:
        if self._asking.get(question) is asking:
            del self._asking[question]
