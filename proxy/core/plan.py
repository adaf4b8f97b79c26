"""Decides what to do with a request: read through the cache, fence a write, or pass it on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from proxy.core.attributes import NotCanonical
from proxy.core.cache_key import KeySpace
from proxy.core.fence import ItemIdentity
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
    decode_write,
)
from proxy.core.page_plan import QueryPlan, plan_page
from proxy.core.page_request import PAGE_OPERATIONS
from proxy.core.policy import TablePolicy
from proxy.core.request import ClientRequest
from proxy.core.responses import FetchedBody, get_body, read_get_reply
from proxy.core.table_writes import ITEM_BATCHES, TABLE_WRITES, written_tables
from proxy.core.values import BypassReason, Level, TableName, WriteMode

READ_OPERATIONS: Final = frozenset({"GetItem"})
FENCED: Final = WRITES | TABLE_WRITES
"""Every operation that may change an item."""


@dataclass(frozen=True, slots=True)
class PassPlan:
    """Forward as it is. `table` where it could be read."""

    reason: BypassReason
    table: TableName | None = None


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """Answer a GetItem from the cache, or fetch and fill; a `FetchPlan`."""

    get: GetItem
    identity: ItemIdentity
    policy: TablePolicy

    @property
    def operation(self) -> str:
        """GetItem."""
        return "GetItem"

    @property
    def table(self) -> TableName:
        """The table's plain name."""
        return self.get.table

    @property
    def is_page(self) -> bool:
        """False: writers fence the entry itself."""
        return False

    def read_reply(self, body: bytes, *, consistent: bool) -> FetchedBody | None:  # noqa: ARG002 - an item's size does not depend on how it was read
        """Take a 200 reply apart."""
        return read_get_reply(body)

    def answer_body(self, whole: bytes, consumed: dict[str, Any] | None) -> bytes:
        """Answer from the whole item's body."""
        return get_body(self.get, whole, consumed)

    def fetch_body(self, *, consistent: bool) -> bytes:
        """Return the GetItem body that fetches the whole item, for any projection to share."""
        request: dict[str, object] = {"TableName": self.get.table, "Key": self.get.key}
        if consistent:
            request["ConsistentRead"] = True
        if self.get.capacity is not Capacity.NONE:
            request["ReturnConsumedCapacity"] = self.get.capacity.value
        return compact(request)


@dataclass(frozen=True, slots=True)
class WritePlan:
    """Forward between begin and end of one item's fence."""

    write: ItemWrite
    policy: TablePolicy


@dataclass(frozen=True, slots=True)
class TablesWritePlan:
    """Forward between begin and end of whole tables' fences; `strict` if any table is."""

    tables: frozenset[TableName]
    strict: bool


Plan = PassPlan | ReadPlan | QueryPlan | WritePlan | TablesWritePlan


def make_plan(
    request: ClientRequest, keys: KeySpace, policy_of: Callable[[str], TablePolicy]
) -> Plan:
    """Decide what to do with a request.

    Args:
        request: as the client sent it; its body not compressed.
        keys: names records.
        policy_of: gives a table's policy.

    Raises:
        RequestRejected: a write that cannot be read.
    """
    operation = request.operation
    if request.streams:
        return PassPlan(BypassReason.OPERATION)
    if request.legacy and operation in FENCED:
        return _plan_tables_write(operation, request, policy_of)
    if operation in READ_OPERATIONS:
        if request.legacy or not request.plain:
            return PassPlan(BypassReason.UNDECODABLE)
        return _plan_get(request, keys, policy_of)
    if operation in PAGE_OPERATIONS and request.plain and not request.legacy:
        return _plan_page(operation, request, policy_of)
    if operation in WRITES:
        return _plan_write(operation, request, policy_of)
    if operation in TABLE_WRITES:
        return _plan_tables_write(operation, request, policy_of)
    return PassPlan(BypassReason.OPERATION)


def _plan_write(
    operation: str, request: ClientRequest, policy_of: Callable[[str], TablePolicy]
) -> Plan:
    write = decode_write(operation, request.body)
    if write is None:
        return PassPlan(BypassReason.UNDECODABLE)
    policy = policy_of(write.table)
    if policy.write_mode is WriteMode.AROUND:
        return PassPlan(BypassReason.WRITE_AROUND, write.table)
    return WritePlan(write, policy)


def _plan_tables_write(
    operation: str, request: ClientRequest, policy_of: Callable[[str], TablePolicy]
) -> Plan:
    tables = frozenset(
        table
        for table in written_tables(operation, request.body)
        if operation not in ITEM_BATCHES or policy_of(table).write_mode is not WriteMode.AROUND
    )
    if not tables:
        return PassPlan(BypassReason.OPERATION)
    return TablesWritePlan(tables, any(policy_of(t).level is Level.STRICT for t in tables))


def _plan_get(
    request: ClientRequest, keys: KeySpace, policy_of: Callable[[str], TablePolicy]
) -> Plan:
    try:
        get = decode_get(request.body)
        policy = policy_of(get.table)
        if not policy.enabled:
            return PassPlan(BypassReason.TABLE_OFF, get.table)
        identity = keys.item(get.table, get.key)
    except Undecodable as undecodable:
        return PassPlan(undecodable.reason, undecodable.table)
    if get.consistent and (get.projection is not None or not policy.consistent_refresh):
        return PassPlan(BypassReason.CONSISTENT_READ, get.table)
    return ReadPlan(get, identity, policy)


def _plan_page(
    operation: str, request: ClientRequest, policy_of: Callable[[str], TablePolicy]
) -> Plan:
    try:
        return plan_page(operation, request.body, policy_of)
    except Undecodable as undecodable:
        return PassPlan(undecodable.reason, undecodable.table)


def write_identity(
    write: ItemWrite, schema: KeySchema | None, keys: KeySpace
) -> ItemIdentity | None:
    """Name the one item that a write may change; None when only the whole table is sure.

    Args:
        write: the decoded write.
        schema: of its table, or None where unknown; only PutItem needs it.
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
