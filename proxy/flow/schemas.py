"""Learns each table's key schema: from settings, from DescribeTable, or from accepted requests."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from proxy.core.cache_key import KeySpace
from proxy.core.errors import StoreUnavailable, UpstreamFailed
from proxy.core.fence import stamp_of
from proxy.core.json_text import compact
from proxy.core.key_schema import KeySchema, key_schema_of_names, read_key_schema
from proxy.core.values import TableName
from proxy.flow.exchange import Exchange
from proxy.flow.ports import Clock, Store
from proxy.flow.tasks import TaskOwner, result_of

# A schema changes only when the table is deleted and made anew. Through any proxy of the store,
# that raises the table's stamp; past every proxy, it is unknown here for this long.
_KNOWN_FOR_S: Final = 60.0
_UNKNOWN_FOR_S: Final = 30.0
_TABLES_MAX: Final = 10_000
_SURE_FOR_S: Final = 5.0  # callers that send wrong keys must not make us ask all the time

_Question = tuple[TableName, bytes | None]
"""A table, and the stamp under which the answer will be good."""


@dataclass(frozen=True, slots=True)
class _Learned:
    """What is known of one table.

    Args:
        schema: its key schema, or None where nobody told.
        stamp: the table's stamp before the question was asked: what is learned under it, now or
            later, is void under another.
        asked_s: when it was asked.
        until_s: when it is asked again.
        taught_s: when an accepted request told `schema` last; None where DescribeTable did.
    """

    schema: KeySchema | None
    stamp: bytes | None
    asked_s: float
    until_s: float
    taught_s: float | None = None


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
        return await result_of(asking)

    def presume(self, table: TableName) -> tuple[KeySchema, bytes] | None:
        """Return what was learned a moment ago, and the stamp that it is good under.

        Whoever goes by it must make sure that the table `bears` that stamp later on.
        """
        learned = self._learned.get(table)
        if learned is None or learned.schema is None or learned.stamp is None:
            return None
        return (learned.schema, learned.stamp) if self._is_young(learned) else None

    async def bears(self, table: TableName, stamp: bytes) -> bool:
        """Tell whether a table has this stamp now, as far as anybody knows."""
        return await self._stamp(table) in (None, stamp)

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

    def learn(self, table: TableName, names: Collection[str], sent_s: float) -> None:
        """Take the names of a primary key that upstream accepted, where DescribeTable told none.

        Args:
            table: the table.
            names: of the key's attributes.
            sent_s: monotonic time, not after the request was sent. One sent before the question
                may have been answered by a table of before the question's stamp.
        """
        learned = self._learned.get(table)
        if learned is None or sent_s <= learned.asked_s:
            return
        if learned.schema is not None and learned.taught_s is None:
            return
        if (told := key_schema_of_names(names)) is None:
            return
        now_s = self._clock.monotonic_s()
        if learned.schema is None:
            learned = replace(learned, schema=told, until_s=now_s + _KNOWN_FOR_S)
        elif learned.schema != told:
            # The table was made anew past every proxy, or upstream takes any key: who knows.
            learned = replace(learned, schema=None, asked_s=now_s)
        self._learned[table] = replace(learned, taught_s=now_s if learned.schema else None)

    def doubt(self, table: TableName) -> None:
        """Ask again next time: upstream refused a key. What was just learned stays for a while."""
        learned = self._learned.get(table)
        if learned is None or learned.schema is None:
            return
        if self._clock.monotonic_s() - learned.asked_s >= _SURE_FOR_S:
            self.forget(table)

    def _is_young(self, learned: _Learned) -> bool:
        return self._clock.monotonic_s() < learned.until_s

    async def _stamp(self, table: TableName) -> bytes | None:
        try:
            return stamp_of(await self._store.generation(self._keys.table_key(table)))
        except StoreUnavailable:
            return None

    async def _ask(self, question: _Question) -> KeySchema | None:
        table, stamp = question
        asked_s = self._clock.monotonic_s()
        try:
            body = compact({"TableName": table})
            reply = await self._exchange.ask("DescribeTable", body, table)
            schema = read_key_schema(reply.body) if reply.status == 200 else None  # noqa: PLR2004
        except UpstreamFailed:
            schema = None
        if self._asking.get(question) is not asyncio.current_task():
            return schema  # forgotten meanwhile: good for who asked before, not to be kept
        now_s = self._clock.monotonic_s()
        if schema is None and (taught := self._taught(question, now_s)) is not None:
            self._learned[table] = replace(taught, until_s=now_s + _UNKNOWN_FOR_S)
            return taught.schema
        kept_s = _KNOWN_FOR_S if schema else _UNKNOWN_FOR_S
        if len(self._learned) >= _TABLES_MAX:
            self._learned.clear()
        self._learned[table] = _Learned(schema, stamp, asked_s, now_s + kept_s)
        return schema

    def _taught(self, question: _Question, now_s: float) -> _Learned | None:
        """Return what requests told under this stamp, if one did lately."""
        learned = self._learned.get(question[0])
        if learned is None or learned.taught_s is None or learned.stamp != question[1]:
            return None
        return learned if now_s - learned.taught_s < _KNOWN_FOR_S else None

    def _asked(self, question: _Question, asking: asyncio.Task[KeySchema | None]) -> None:
        if self._asking.get(question) is asking:
            del self._asking[question]
