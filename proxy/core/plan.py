"""Decides what to do with a request: read through the cache, fence a write, or pass it on."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from proxy.core.attributes import NotCanonical
from proxy.core.cache_key import KeySpace
from proxy.core.fence import ItemIdentity
from proxy.core.key_schema import KeySchema
from proxy.core.operations import PRIMARY_KEY_ATTRIBUTES_MAX, WRITES, ItemWrite
from proxy.core.policy import TablePolicy
from proxy.core.read_plan import READ_OPERATIONS, AnyRead, PassPlan, plan_read
from proxy.core.request import ClientRequest
from proxy.core.table_writes import TABLE_WRITES, written_tables
from proxy.core.values import BypassReason, Level, TableName, WriteMode
from proxy.core.written_items import ITEM_WRITES, written_items

FENCED: Final = ITEM_WRITES | TABLE_WRITES
"""Every operation that may change an item."""
ITEM_FENCES_MAX: Final = 100
"""DynamoDB's own limit for the writes of one request; one with more is fenced by whole tables."""


@dataclass(frozen=True, slots=True)
class PlannedWrite:
    """One item's write under its table's policy."""

    write: ItemWrite
    policy: TablePolicy


@dataclass(frozen=True, slots=True)
class WritePlan:
    """Forward between begin and end of the fences of some items, at least one."""

    writes: tuple[PlannedWrite, ...]

    @property
    def strict(self) -> bool:
        """Whether any of the tables is."""
        return any(each.policy.level is Level.STRICT for each in self.writes)


@dataclass(frozen=True, slots=True)
class TablesWritePlan:
    """Forward between begin and end of whole tables' fences; `strict` if any table is."""

    tables: frozenset[TableName]
    strict: bool


Plan = PassPlan | AnyRead | WritePlan | TablesWritePlan


def make_plan(
    request: ClientRequest, keys: KeySpace, policy_of: Callable[[str], TablePolicy]
) -> Plan:
    """Decide what to do with a request.

    Args:
        request: as the client sent it; its body not compressed.
        keys: names records.
        policy_of: gives a table's policy.

    Raises:
        RequestRejected: a write that cannot be read, or a read that asks of the cache what
            cannot be understood.
        NotCached: a read that only the cache may answer, and never does.
    """
    operation = request.operation
    if request.streams:
        return PassPlan(BypassReason.OPERATION)
    if operation in READ_OPERATIONS:
        return plan_read(request, keys, policy_of)
    if operation in ITEM_WRITES:
        return _plan_writes(request, policy_of)
    if operation in TABLE_WRITES:
        return _plan_tables_write(written_tables(operation, request.body), policy_of)
    return PassPlan(BypassReason.OPERATION)


def _plan_writes(request: ClientRequest, policy_of: Callable[[str], TablePolicy]) -> Plan:
    written = written_items(request.operation, request.body)
    if not written:
        single = request.operation in WRITES
        return PassPlan(BypassReason.UNDECODABLE if single else BypassReason.OPERATION)
    planned = [PlannedWrite(write, policy_of(write.table)) for write in written]
    writes = tuple(each for each in planned if each.policy.write_mode is not WriteMode.AROUND)
    if not writes:
        tables = {write.table for write in written}
        return PassPlan(BypassReason.WRITE_AROUND, tables.pop() if len(tables) == 1 else None)
    if request.legacy or len(writes) > ITEM_FENCES_MAX:
        # The API before 2012 spells keys in a way of its own.
        return _plan_tables_write({each.write.table for each in writes}, policy_of)
    return WritePlan(writes)


def _plan_tables_write(
    tables: AbstractSet[TableName], policy_of: Callable[[str], TablePolicy]
) -> Plan:
    if not tables:
        return PassPlan(BypassReason.OPERATION)
    strict = any(policy_of(table).level is Level.STRICT for table in tables)
    return TablesWritePlan(frozenset(tables), strict)


def write_identity(
    write: ItemWrite, schema: KeySchema | None, keys: KeySpace
) -> ItemIdentity | None:
    """Name the one item that a write may change; None when only the whole table is sure.

    Args:
        write: the decoded write.
        schema: of its table, or None where unknown; only a write that carries no key needs it.
        keys: names records.
    """
    key = write.key
    if write.item is not None:
        key = schema.key_of(write.item) if schema else None
    if key is None or len(key) > PRIMARY_KEY_ATTRIBUTES_MAX:
        return None
    try:
        return keys.item(write.table, key)
    except NotCanonical:
        return None
