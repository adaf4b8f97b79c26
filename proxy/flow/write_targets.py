"""Chooses the fences of a write: items where they can be named, whole tables where they cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from proxy.core.cache_key import KeySpace
from proxy.core.key_schema import KeySchema
from proxy.core.plan import PlannedWrite, TablesWritePlan, WritePlan, write_identity
from proxy.core.table_writes import TABLE_WRITES
from proxy.core.values import CacheKey, TableName, Token, WriteMode
from proxy.flow.fences import Fence, ItemFence, TableFence
from proxy.flow.ports import Store
from proxy.flow.schemas import SchemaBook


@dataclass(frozen=True, slots=True)
class Targets:
    """What a write is fenced by.

    Args:
        fences: all of them, tables first; no record twice.
        through: by record, the one write of an item whose result may become its entry.
        presumed: of tables whose key schema was taken as it was learned last: the stamp that each
            must bear once the fences have begun. Then all of these are around items.
    """

    fences: list[Fence]
    through: dict[CacheKey, PlannedWrite]
    presumed: Mapping[TableName, bytes] = field(default_factory=dict)

    @property
    def table(self) -> TableName | None:
        """The one table written to, or None where there are several."""
        if len(self.fences) == 1:
            return self.fences[0].table
        tables = {fence.table for fence in self.fences}
        return tables.pop() if len(tables) == 1 else None

    @property
    def only(self) -> PlannedWrite | None:
        """The write of one item that is all this request does, if its result may be stored."""
        if len(self.fences) != 1 or not self.through:
            return None
        return next(iter(self.through.values()))


class TargetChooser:
    """Names what a planned write may change.

    Args:
        store: the fences' store.
        schemas: tell the key attributes of writes that carry no key.
        keys: names records.
    """

    def __init__(self, store: Store, schemas: SchemaBook, keys: KeySpace) -> None:
        self._store = store
        self._schemas = schemas
        self._keys = keys

    async def choose(
        self,
        plan: WritePlan | TablesWritePlan,
        operation: str,
        token: Token,
        *,
        presumes: bool = False,
    ) -> Targets:
        """Return the fences of one request, none of them begun.

        With `presumes`, the caller will make sure that they are `right` once they have begun.
        """
        if presumes and (targets := self._presumed(plan, token)) is not None:
            return targets
        if isinstance(plan, TablesWritePlan):
            remakes = operation in TABLE_WRITES
            tables = sorted(plan.tables)
            return Targets([self.table(each, token, remakes=remakes) for each in tables], {})
        schemas = await self._schemas_for(plan)
        return self._targets(plan, schemas, token)

    async def right(self, targets: Targets) -> bool:
        """Tell whether fences that have begun are around what the request writes."""
        for table, stamp in targets.presumed.items():
            told = _stamp_told(targets.fences, table)
            if told is None and not await self._schemas.bears(table, stamp):
                return False
            if told not in (None, stamp):
                return False
        return True

    def _presumed(self, plan: WritePlan | TablesWritePlan, token: Token) -> Targets | None:
        """Name items by the key schemas learned last; None where one is missing, or not enough."""
        if isinstance(plan, TablesWritePlan):
            return None
        schemas: dict[TableName, KeySchema] = {}
        stamps: dict[TableName, bytes] = {}
        for planned in plan.writes:
            table = planned.write.table
            if planned.write.item is None or table in stamps:
                continue
            if (learned := self._schemas.presume(table)) is None:
                return None
            schemas[table], stamps[table] = learned
        targets = self._targets(plan, schemas, token)
        if not all(isinstance(fence, ItemFence) for fence in targets.fences):
            return None
        return replace(targets, presumed=stamps)

    def _targets(
        self, plan: WritePlan, schemas: Mapping[TableName, KeySchema | None], token: Token
    ) -> Targets:
        items: dict[CacheKey, ItemFence] = {}
        through: dict[CacheKey, PlannedWrite] = {}
        whole: set[TableName] = set()
        for planned in plan.writes:
            write = planned.write
            identity = write_identity(write, schemas.get(write.table), self._keys)
            if identity is None:
                whole.add(write.table)
                continue
            if identity.cache_key in items:
                # DynamoDB refuses two writes of one item; whichever came last, it is not known.
                through.pop(identity.cache_key, None)
                continue
            items[identity.cache_key] = ItemFence(self._store, identity, token)
            if planned.policy.write_mode is WriteMode.THROUGH:
                through[identity.cache_key] = planned
        fences: list[Fence] = [self.table(each, token) for each in sorted(whole)]
        fences += [each for each in items.values() if each.table not in whole]
        if through:
            kept = {fence.record for fence in fences}
            through = {name: each for name, each in through.items() if name in kept}
        return Targets(fences, through)

    def table(self, table: TableName, token: Token, *, remakes: bool = False) -> TableFence:
        """Return a fence around a whole table."""
        table_key = self._keys.table_key(table)
        return TableFence(self._store, table, table_key, token, remakes=remakes)

    async def _schemas_for(self, plan: WritePlan) -> dict[TableName, KeySchema | None]:
        """Return the key schemas of the tables where a write carries no key, asked for at once."""
        writes = [each.write for each in plan.writes]
        tables = sorted({each.table for each in writes if each.item is not None})
        if not tables:
            return {}
        found = await asyncio.gather(*(self._schemas.schema_of(table) for table in tables))
        return dict(zip(tables, found, strict=True))


def _stamp_told(fences: Iterable[Fence], table: TableName) -> bytes | None:
    """Return a table's stamp as the begin of one of its items' fences told it."""
    for fence in fences:
        if isinstance(fence, ItemFence) and fence.table == table and fence.stamp is not None:
            return fence.stamp
    return None
