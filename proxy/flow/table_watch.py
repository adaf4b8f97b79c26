"""Notices that a table was deleted or made anew past every proxy, and voids what is cached of it.

Tables that were read from the cache lately are looked at in the background: one proxy of the store
claims the check and asks DescribeTable which table the name stands for now. The answer is kept in
the table's record, so that every proxy's answers are compared with the same one.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Final

from proxy.core.cache_key import KeySpace
from proxy.core.errors import StoreUnavailable, UpstreamFailed
from proxy.core.fence import WriteOutcome
from proxy.core.json_text import compact
from proxy.core.table_identity import NO_TABLE, is_no_table, read_table_id
from proxy.core.values import TableCheck, TableId, TableName
from proxy.flow.events import Emit, TableChecked
from proxy.flow.exchange import Exchange
from proxy.flow.ports import Clock, Store
from proxy.flow.schemas import SchemaBook
from proxy.flow.tasks import TaskOwner

_LOOK_EVERY_S: Final = 0.5
_WATCHED_FOR_S: Final = 300.0
_TABLES_MAX: Final = 1_000
_CHECKS_MAX: Final = 8
"""Checks at one time: DescribeTable shares its quota with whatever else runs in the account."""
_WAIT_S_MAX: Final = 600.0
_VOID_EVERY_S: Final = 5.0  # callers that name a wrong table must not cost a step each


@dataclass(slots=True, eq=False)
class _Watched:
    """One table: monotonic times of its last cached read and of its next check."""

    read_s: float
    next_s: float = -math.inf
    failures: int = 0
    checking: bool = False


class TableWatch:
    """Checks tables of cached reads.

    Args:
        exchange: asks DescribeTable, and tells of tables that upstream does not know.
        store: holds which table each is, and who checks next.
        schemas: forgets the key schema of a table that is another one now.
        keys: names the tables' records.
        tasks: owns the checks.
        clock: time.
        emit: takes events.
        check_s: how often a table is checked by one of all proxies; 0 for never.
    """

    def __init__(
        self,
        exchange: Exchange,
        store: Store,
        *,
        schemas: SchemaBook,
        keys: KeySpace,
        tasks: TaskOwner,
        clock: Clock,
        emit: Emit,
        check_s: float,
    ) -> None:
        self._exchange = exchange
        self._store = store
        self._schemas = schemas
        self._keys = keys
        self._tasks = tasks
        self._clock = clock
        self._emit = emit
        self._check_s = check_s
        self._noted: set[TableName] = set()
        self._watched: dict[TableName, _Watched] = {}
        self._voided_s: dict[TableName, float] = {}
        self._room = asyncio.Semaphore(_CHECKS_MAX)

    def note(self, table: TableName) -> None:
        """Remember that an entry of a table may have been served just now."""
        if len(self._noted) < _TABLES_MAX:
            self._noted.add(table)

    async def watch(self) -> None:
        """Check tables whenever they are due, for ever; cancel to stop."""
        while True:
            await self._clock.sleep(_LOOK_EVERY_S)
            if self._check_s > 0:
                self.look()

    def look(self) -> None:
        """Start the checks that are due now."""
        now_s = self._clock.monotonic_s()
        for table in self._noted:
            if (known := self._watched.get(table)) is not None:
                known.read_s = now_s
            elif len(self._watched) < _TABLES_MAX:
                self._watched[table] = _Watched(now_s)
        self._noted.clear()
        for table, watched in list(self._watched.items()):
            if now_s - watched.read_s > _WATCHED_FOR_S:
                del self._watched[table]
            elif watched.next_s <= now_s and not watched.checking:
                watched.checking = True
                self._tasks.spawn(self._check(table, watched), "table check")

    async def lost(self, table: TableName) -> None:
        """Void a table that upstream does not know: whatever was cached is of another one."""
        now_s = self._clock.monotonic_s()
        if now_s - self._voided_s.get(table, -math.inf) < _VOID_EVERY_S:
            return
        if len(self._voided_s) >= _TABLES_MAX:
            self._voided_s.clear()
        self._voided_s[table] = now_s
        self._schemas.forget(table)
        try:
            await self._store.end_table(
                self._keys.table_key(table),
                token=self._clock.token(),
                outcome=WriteOutcome.INVALIDATED,
                remade=True,
            )
        except StoreUnavailable:
            del self._voided_s[table]  # the next refusal tries again

    async def _check(self, table: TableName, watched: _Watched) -> None:
        wait_s = self._check_s
        try:
            async with self._room:
                wait_s = await self._checked(table, watched)
        except StoreUnavailable:
            pass  # nothing is served without it either
        finally:
            watched.next_s = self._clock.monotonic_s() + wait_s
            watched.checking = False

    async def _checked(self, table: TableName, watched: _Watched) -> float:
        """Check a table if nobody else did lately; return the seconds until the next check.

        Raises:
            StoreUnavailable: the store can neither be asked nor told.
        """
        table_key = self._keys.table_key(table)
        claimed_in_s = await self._store.claim_check(table_key, interval_s=self._check_s)
        if claimed_in_s > 0:
            return claimed_in_s
        table_id = await self._ask(table)
        if table_id is None:
            watched.failures += 1
            if watched.failures == 1:
                self._emit(TableChecked(table, TableCheck.UNKNOWN))
            return min(self._check_s * 2.0**watched.failures, max(self._check_s, _WAIT_S_MAX))
        watched.failures = 0
        if await self._store.identify_table(table_key, table_id):
            self._schemas.forget(table)
            self._emit(TableChecked(table, TableCheck.REMADE))
        else:
            self._emit(TableChecked(table, TableCheck.SAME))
        return self._check_s

    async def _ask(self, table: TableName) -> TableId | None:
        """Ask upstream which table the name stands for; None where it does not tell."""
        try:
            reply = await self._exchange.ask("DescribeTable", compact({"TableName": table}), table)
        except UpstreamFailed:
            return None
        if is_no_table(reply.status, reply.body):
            return NO_TABLE
        return read_table_id(reply.body) if reply.status == 200 else None  # noqa: PLR2004
