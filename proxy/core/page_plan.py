"""Decides what may be done with one Query or Scan: which scope its page is in, and how to fill it.

A page of a table, or of a local index, can be read consistently: writes bound it exactly. A page of
a global index cannot. It is filled only once its table has been quiet for `index_lag_s`, so that a
write is missing from it only if the index lags longer than that, and never at level `strict`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from proxy.core.cache_control import UNCONTROLLED, CacheControl
from proxy.core.cache_key import KeySpace
from proxy.core.fence import ItemIdentity
from proxy.core.freshness import assess
from proxy.core.operations import Undecodable
from proxy.core.page_reply import FetchedPage, page_body, read_page_reply
from proxy.core.page_request import PageRequest, decode_page, load_page_request
from proxy.core.pages import PageIdentity, PageSighting
from proxy.core.policy import FencePolicy, TablePolicy
from proxy.core.record import Entry
from proxy.core.values import BypassReason, CacheKey, Layout, Level, Mode, TableName, Verdict


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """Answer from a page, or fetch and fill it, once it is known what kind of index is meant."""

    asked: PageRequest
    policy: TablePolicy
    control: CacheControl = UNCONTROLLED
    mode: Mode = Mode.ON

    @property
    def table(self) -> TableName:
        """The table's plain name."""
        return self.asked.table

    def as_if_on(self) -> QueryPlan:
        """Return the same read of a page that the cache may answer."""
        return replace(self, mode=Mode.ON)


@dataclass(frozen=True, slots=True)
class PagePlan:
    """A page to look up; a `FetchPlan`.

    Args:
        asked: the request.
        page: the page's record and scope.
        policy: limits of the page.
        lags: it is of an index that cannot be read consistently.
        control: what the request asks of the cache.
    """

    asked: PageRequest
    page: PageIdentity
    policy: TablePolicy
    lags: bool
    control: CacheControl = UNCONTROLLED

    @property
    def operation(self) -> str:
        """Query or Scan."""
        return self.asked.operation

    @property
    def table(self) -> TableName:
        """The table's plain name."""
        return self.asked.table

    @property
    def identity(self) -> ItemIdentity:
        """The page's record."""
        return self.page.record

    @property
    def is_page(self) -> bool:
        """True: see `proxy.core.pages`."""
        return True

    @property
    def names(self) -> None:
        """None: a page is read as a whole."""
        return

    def judge(self, entry: Entry | None, store_now_ms: int) -> Verdict:
        """Decide whether a page may answer this very read; see `proxy.core.freshness.assess`."""
        age_s_max = self.control.age_s_max
        return assess(entry, self.policy, store_now_ms, age_s_max=age_s_max)

    def fetch_body(self, *, consistent: bool) -> bytes:
        """Return the request as it is sent."""
        return self.asked.fetch_body(consistent=consistent)

    def read_reply(self, body: bytes, *, consistent: bool) -> FetchedPage | None:
        """Take a 200 reply apart."""
        return read_page_reply(body, consistent=consistent)

    def answer_body(self, whole: bytes, consumed: dict[str, Any] | None) -> bytes:
        """Answer from the page's body."""
        return page_body(self.asked, whole, consumed)

    def after(self, seen: PageSighting, fence: FencePolicy) -> PagePlan | BypassReason:
        """Decide, after the lookup, how the page may be filled, or why the store has no part.

        Args:
            seen: what the lookup found.
            fence: says for how long replicas may lag.
        """
        if seen.sighting.table_pending:
            return BypassReason.PAGE_PENDING
        if not seen.ready:
            return BypassReason.PAGES_SOON
        if self.lags:
            quiet = seen.quiet_s >= self.policy.queries.index_lag_s
            return self if quiet else BypassReason.INDEX_LAG
        consistent = self.policy.fill_consistent or seen.quiet_s < fence.tombstone_s
        return replace(self, policy=replace(self.policy, fill_consistent=consistent))


def plan_page(
    operation: str,
    body: bytes,
    keys: KeySpace,
    policy_of: Callable[[str], TablePolicy],
    control: CacheControl,
) -> QueryPlan:
    """Decide whether a Query or Scan may be answered with a page.

    Raises:
        Undecodable: it passes through, and why.
    """
    loaded = load_page_request(body)
    if loaded is None:
        raise Undecodable(BypassReason.OPERATION)
    request, table = loaded
    policy = policy_of(table)
    queries = policy.queries
    cached = queries.enabled and (operation == "Query" or queries.scans)
    if policy.mode is Mode.OFF or not cached:
        raise Undecodable(BypassReason.OPERATION, table)
    asked = decode_page(operation, request, table)
    if asked.consistent:
        raise Undecodable(BypassReason.CONSISTENT_READ, table)
    wanted = queries.indexes is None or asked.index in (None, *queries.indexes)
    if not wanted:
        raise Undecodable(BypassReason.INDEX, table)
    mode = policy.mode_of(keys.page_digest(table, asked.normal))
    if mode is Mode.OFF:
        raise Undecodable(BypassReason.TABLE_OFF, table)
    return QueryPlan(asked, policy, control, mode)


def place_page(plan: QueryPlan, keys: KeySpace, *, local: bool) -> PagePlan | None:
    """Name a page's record and scope; None when its index may not be cached at this level.

    Args:
        plan: what was asked.
        keys: names records.
        local: whether the index, if one is asked, is local for sure. If it is not after all,
            DynamoDB refuses the consistent read, and nothing is cached.
    """
    asked, queries = plan.asked, plan.policy.queries
    lags = asked.index is not None and not local
    if lags and plan.policy.level is Level.STRICT:
        return None
    policy = replace(
        plan.policy,
        fresh_ttl_s=queries.fresh_ttl_s,
        entry_bytes_max=queries.entry_bytes_max,
        layout=Layout.BLOB,  # a page has no attributes of its own
    )
    if lags:
        # Whatever the table promises, such an index is read as it is.
        policy = replace(policy, level=Level.EVENTUAL, fill_consistent=False)
    scope_key = _scope_key(asked, keys, lags=lags)
    page = keys.page(asked.table, asked.normal, scope_key)
    return PagePlan(asked, page, policy, lags, plan.control)


def _scope_key(asked: PageRequest, keys: KeySpace, *, lags: bool) -> CacheKey:
    """Name the smallest scope that every write which may change the page raises.

    On a table both equalities are of the primary key, and either will do. On a local index one may
    be of the index's own key, which no writer knows; alone it is the partition key's.
    """
    of_one_value = len(asked.equalities) == 1 or (asked.index is None and asked.equalities)
    if of_one_value and not lags:
        return keys.partition_key(asked.table, *asked.equalities[0])
    return keys.scan_key(asked.table)
