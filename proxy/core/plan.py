"""Decides what to do with a request: read through the cache, fence a write, or pass it on."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from proxy.core.attributes import NotCanonical
from proxy.core.batch_get import BatchGet, decode_batch_get
from proxy.core.cache_control import UNCONTROLLED, CacheControl, parse_cache_control
from proxy.core.cache_key import KeySpace
from proxy.core.errors import NotCached
from proxy.core.fence import ItemIdentity
from proxy.core.freshness import assess
from proxy.core.json_text import compact
from proxy.core.key_schema import KeySchema
from proxy.core.operations import (
    PRIMARY_KEY_ATTRIBUTES_MAX,
    WRITES,
    Capacity,
    GetItem,
    ItemWrite,
    Undecodable,
    decode_get,
)
from proxy.core.policy import TablePolicy
from proxy.core.record import Entry
from proxy.core.request import ClientRequest
from proxy.core.table_writes import TABLE_WRITES, written_tables
from proxy.core.values import BypassReason, Level, TableName, Verdict, WriteMode
from proxy.core.written_items import ITEM_WRITES, written_items

READ_OPERATIONS: Final = frozenset({"GetItem", "BatchGetItem"})
FENCED: Final = ITEM_WRITES | TABLE_WRITES
"""Every operation that may change an item."""
ITEM_FENCES_MAX: Final = 100
"""DynamoDB's own limit for the writes of one request; one with more is fenced by whole tables."""


@dataclass(frozen=True, slots=True)
class PassPlan:
    """Forward as it is. `table` where it could be read."""

    reason: BypassReason
    table: TableName | None = None


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """Answer from the cache, or fetch and fill: `policy` bounds entries, `control` answers."""

    get: GetItem
    identity: ItemIdentity
    policy: TablePolicy
    control: CacheControl = UNCONTROLLED

    @property
    def table(self) -> TableName:
        """The item's table."""
        return self.get.table

    def judge(self, entry: Entry | None, store_now_ms: int) -> Verdict:
        """Decide whether an entry may answer this very read; see `proxy.core.freshness.assess`."""
        age_s_max = self.control.age_s_max
        return assess(entry, self.policy, store_now_ms, age_s_max=age_s_max)

    @property
    def uncached(self) -> bool:
        """Whether the store has no part in it, by the request's wish or the operator's."""
        return self.get.consistent or not self.policy.enabled

    def fetch_body(self, *, consistent: bool) -> bytes:
        """Return the GetItem body that fetches the whole item, for any projection to share."""
        request: dict[str, object] = {"TableName": self.get.table, "Key": self.get.key}
        if consistent:
            request["ConsistentRead"] = True
        if self.get.capacity is not Capacity.NONE:
            request["ReturnConsumedCapacity"] = self.get.capacity.value
        return compact(request)


@dataclass(frozen=True, slots=True)
class BatchReadPlan:
    """Answer each key from the cache; fetch those that are not there together, and fill.

    Args:
        batch: what was asked.
        parts: for each key, in the request's order, the plan of reading it.
        control: what the request asks of the cache; the same in every part.
    """

    batch: BatchGet
    parts: tuple[ReadPlan, ...]
    control: CacheControl = UNCONTROLLED

    @property
    def table(self) -> TableName | None:
        """The table, where there is only one."""
        return self.batch.table


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


Plan = PassPlan | ReadPlan | BatchReadPlan | WritePlan | TablesWritePlan


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
        return _plan_read(request, keys, policy_of)
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


def _plan_read(
    request: ClientRequest, keys: KeySpace, policy_of: Callable[[str], TablePolicy]
) -> PassPlan | ReadPlan | BatchReadPlan:
    control = parse_cache_control(request.headers)
    coded = request.header("content-encoding") is not None
    plan: PassPlan | ReadPlan | BatchReadPlan
    if request.legacy or coded or not request.plain:
        plan = PassPlan(BypassReason.UNDECODABLE)
    elif request.operation == "GetItem":
        plan = _plan_get(request, keys, policy_of, control)
    else:
        plan = _plan_batch_get(request, keys, policy_of, control)
    if control.only_if_cached and isinstance(plan, PassPlan):
        raise NotCached(plan.reason, plan.table)
    if control.bypass and not isinstance(plan, PassPlan):
        return PassPlan(BypassReason.REQUESTED, plan.table)
    return plan


def _plan_get(
    request: ClientRequest,
    keys: KeySpace,
    policy_of: Callable[[str], TablePolicy],
    control: CacheControl,
) -> PassPlan | ReadPlan:
    try:
        get = decode_get(request.body)
        policy = policy_of(get.table)
        if not policy.enabled:
            return PassPlan(BypassReason.TABLE_OFF, get.table)
        identity = keys.item(get.table, get.key)
    except Undecodable as undecodable:
        return PassPlan(undecodable.reason, undecodable.table)
    refills = get.projection is None and policy.consistent_refresh and not control.only_if_cached
    if get.consistent and not refills and not control.refresh:
        return PassPlan(BypassReason.CONSISTENT_READ, get.table)
    return ReadPlan(get, identity, policy, control)


def _plan_batch_get(
    request: ClientRequest,
    keys: KeySpace,
    policy_of: Callable[[str], TablePolicy],
    control: CacheControl,
) -> PassPlan | BatchReadPlan:
    try:
        batch = decode_batch_get(request.body)
    except Undecodable as undecodable:
        return PassPlan(undecodable.reason, undecodable.table)
    parts = tuple(
        ReadPlan(get, keys.item(get.table, get.key), policy_of(get.table), control)
        for asked in batch.tables
        for get in asked.gets
    )
    if all(part.uncached for part in parts):
        off = not any(part.policy.enabled for part in parts)
        reason = BypassReason.TABLE_OFF if off else BypassReason.CONSISTENT_READ
        return PassPlan(reason, batch.table)
    return BatchReadPlan(batch, parts, control)


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
