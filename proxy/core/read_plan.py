"""Decides how to answer a read: from the cache, by a fetch that fills it, or by DynamoDB alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final, assert_never

from proxy.core.batch_get import BatchGet, decode_batch_get
from proxy.core.cache_control import FIELD, UNCONTROLLED, CacheControl, parse_cache_control
from proxy.core.cache_key import KeySpace
from proxy.core.errors import NotCached
from proxy.core.fence import ItemIdentity
from proxy.core.freshness import assess
from proxy.core.json_text import compact
from proxy.core.operations import Capacity, GetItem, Undecodable, decode_get
from proxy.core.page_plan import QueryPlan, plan_page
from proxy.core.page_request import PAGE_OPERATIONS
from proxy.core.policy import TablePolicy
from proxy.core.record import Entry
from proxy.core.request import ClientRequest
from proxy.core.responses import FetchedBody, get_body, read_get_reply
from proxy.core.values import BypassReason, Mode, TableName, Verdict

READ_OPERATIONS: Final = frozenset({"GetItem", "BatchGetItem"}) | PAGE_OPERATIONS
"""Operations that the cache may answer."""


@dataclass(frozen=True, slots=True)
class PassPlan:
    """Forward as it is. `table` where it could be read; `shows` are items whose answer it is."""

    reason: BypassReason
    table: TableName | None = None
    shows: tuple[ItemIdentity, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """Answer a GetItem from the cache, or fetch and fill; a `FetchPlan`.

    `policy` bounds entries, `control` answers. `plain` ones ask for the body of a whole entry as it
    is, and for nothing else.
    """

    get: GetItem
    identity: ItemIdentity
    policy: TablePolicy
    control: CacheControl = UNCONTROLLED
    plain: bool = field(default=False, compare=False)

    @property
    def table(self) -> TableName:
        """The item's table."""
        return self.get.table

    def judge(self, entry: Entry | None, store_now_ms: int) -> Verdict:
        """Decide whether an entry may answer this very read; see `proxy.core.freshness.assess`."""
        age_s_max = self.control.age_s_max
        return assess(entry, self.policy, store_now_ms, age_s_max=age_s_max)

    @property
    def operation(self) -> str:
        """GetItem."""
        return "GetItem"

    @property
    def is_page(self) -> bool:
        """False: writers fence the entry itself."""
        return False

    @property
    def lags(self) -> bool:
        """False: every item can be read consistently."""
        return False

    @property
    def names(self) -> tuple[str, ...] | None:
        """The attributes that its projection needs; None for all."""
        return self.get.names

    @property
    def uncached(self) -> bool:
        """Whether the store has no part in it, by the request's wish or the operator's."""
        return self.get.consistent or self.mode is not Mode.ON

    @property
    def mode(self) -> Mode:
        """What the cache does in reads of this very item."""
        return self.policy.mode_of(self.identity.digest)

    def as_if_on(self) -> ReadPlan:
        """Return the same read, for the cache to answer if it only rehearses."""
        if self.mode is not Mode.SHADOW:
            return self
        return replace(self, policy=replace(self.policy, mode=Mode.ON))

    def fetch_body(self, *, consistent: bool) -> bytes:
        """Return the GetItem body that fetches the whole item, for any projection to share."""
        request: dict[str, object] = {"TableName": self.get.table, "Key": self.get.key}
        if consistent:
            request["ConsistentRead"] = True
        if self.get.capacity is not Capacity.NONE:
            request["ReturnConsumedCapacity"] = self.get.capacity.value
        return compact(request)

    def read_reply(self, body: bytes, *, consistent: bool) -> FetchedBody | None:  # noqa: ARG002 - an item's size does not depend on how it was read
        """Take a 200 reply apart."""
        return read_get_reply(body)

    def answer_body(self, whole: bytes, consumed: dict[str, Any] | None) -> bytes:
        """Answer from the whole item's body."""
        return get_body(self.get, whole, consumed)


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

    @property
    def mode(self) -> Mode:
        """ON if the cache may answer any key, else SHADOW if it rehearses any.

        One request cannot be answered by DynamoDB alone and keep what is promised for keys that
        are on. So beside such keys those in shadow are fetched, and nothing is rehearsed.
        """
        modes = {part.mode for part in self.parts if not part.get.consistent}
        return next((mode for mode in (Mode.ON, Mode.SHADOW) if mode in modes), Mode.OFF)

    def as_if_on(self) -> BatchReadPlan:
        """Return the same read, for the cache to answer where it only rehearses."""
        return replace(self, parts=tuple(part.as_if_on() for part in self.parts))


AnyRead = ReadPlan | BatchReadPlan | QueryPlan


def plan_read(
    request: ClientRequest, keys: KeySpace, policy_of: Callable[[str], TablePolicy]
) -> PassPlan | AnyRead:
    """Decide what to do with one of READ_OPERATIONS.

    Raises:
        RequestRejected: it asks of the cache what cannot be understood.
        NotCached: only the cache may answer, and never does.
    """
    control = parse_cache_control(request.headers)
    coded = request.header("content-encoding") is not None
    plan: PassPlan | AnyRead
    if request.legacy or coded or not request.plain:
        plan = PassPlan(BypassReason.UNDECODABLE)
    else:
        plan = _plan(request, keys, policy_of, control)
    if control.only_if_cached and isinstance(plan, PassPlan):
        raise NotCached(plan.reason, plan.table)
    if control.only_if_cached and not isinstance(plan, PassPlan) and plan.mode is Mode.SHADOW:
        raise NotCached(BypassReason.SHADOW, plan.table)
    if control.bypass and not isinstance(plan, PassPlan):
        return PassPlan(BypassReason.REQUESTED, plan.table, _shown_by(plan))
    return plan


def _shown_by(plan: AnyRead) -> tuple[ItemIdentity, ...]:
    match plan:
        case ReadPlan():
            return (plan.identity,)
        case BatchReadPlan():
            return tuple(part.identity for part in plan.parts)
        case QueryPlan():
            return ()
        case _:
            assert_never(plan)


def _plan(
    request: ClientRequest,
    keys: KeySpace,
    policy_of: Callable[[str], TablePolicy],
    control: CacheControl,
) -> PassPlan | AnyRead:
    try:
        match request.operation:
            case "GetItem":
                return _plan_get(request.body, keys, policy_of, control)
            case "BatchGetItem":
                return _plan_batch_get(request, keys, policy_of, control)
            case page:
                return plan_page(page, request.body, keys, policy_of, control)
    except Undecodable as undecodable:
        return PassPlan(undecodable.reason, undecodable.table)


def is_plain_get(request: ClientRequest) -> bool:
    """Tell whether this is a GetItem whose plan follows from its body alone: see `plan_get`."""
    if request.operation != "GetItem" or request.legacy or not request.plain:
        return False
    return request.header("content-encoding") is None and request.header(FIELD.lower()) is None


def plan_get(
    body: bytes, keys: KeySpace, policy_of: Callable[[str], TablePolicy]
) -> PassPlan | ReadPlan:
    """Decide what to do with a GetItem whose header fields ask for nothing of their own."""
    try:
        return _plan_get(body, keys, policy_of, UNCONTROLLED)
    except Undecodable as undecodable:
        return PassPlan(undecodable.reason, undecodable.table)


def _plan_get(
    body: bytes,
    keys: KeySpace,
    policy_of: Callable[[str], TablePolicy],
    control: CacheControl,
) -> PassPlan | ReadPlan:
    get = decode_get(body)
    policy = policy_of(get.table)
    if policy.mode is Mode.OFF:
        return PassPlan(BypassReason.TABLE_OFF, get.table)
    identity = keys.item(get.table, get.key)
    mode = policy.mode_of(identity.digest)
    if mode is Mode.OFF:
        return PassPlan(BypassReason.TABLE_OFF, get.table)
    if get.consistent and mode is Mode.SHADOW:
        return PassPlan(BypassReason.CONSISTENT_READ, get.table, (identity,))
    refills = get.projection is None and policy.consistent_refresh and not control.only_if_cached
    if get.consistent and not refills and not control.refresh:
        return PassPlan(BypassReason.CONSISTENT_READ, get.table, (identity,))
    asks_more = get.consistent or get.projection is not None or get.capacity is not Capacity.NONE
    plain = mode is Mode.ON and not asks_more and control is UNCONTROLLED
    return ReadPlan(get, identity, policy, control, plain=plain)


def _plan_batch_get(
    request: ClientRequest,
    keys: KeySpace,
    policy_of: Callable[[str], TablePolicy],
    control: CacheControl,
) -> PassPlan | BatchReadPlan:
    batch = decode_batch_get(request.body)
    parts = tuple(
        ReadPlan(get, keys.item(get.table, get.key), policy_of(get.table), control)
        for asked in batch.tables
        for get in asked.gets
    )
    plan = BatchReadPlan(batch, parts, control)
    if plan.mode is Mode.OFF:
        off = all(part.mode is Mode.OFF for part in parts)
        reason = BypassReason.TABLE_OFF if off else BypassReason.CONSISTENT_READ
        return PassPlan(reason, batch.table, _shown_by(plan))
    return plan
