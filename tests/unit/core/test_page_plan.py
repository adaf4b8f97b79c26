"""Claims about what may be done with a Query or Scan."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from proxy.core.cache_control import UNCONTROLLED
from proxy.core.cache_key import KeySpace
from proxy.core.fence import RecordState, Sighting
from proxy.core.operations import Undecodable
from proxy.core.page_plan import PagePlan, QueryPlan, place_page, plan_page
from proxy.core.pages import PageSighting
from proxy.core.policy import FencePolicy, QueryPolicy, TablePolicy
from proxy.core.values import BypassReason, Generation, Level, Mode, TableName

KEYS = KeySpace("test", "eu-west-1")
TABLE = TableName("orders")
ON = TablePolicy(queries=QueryPolicy(enabled=True, scans=True))
FENCE = FencePolicy(tombstone_s=30.0)
QUERY: dict[str, Any] = {
    "TableName": TABLE,
    "KeyConditionExpression": "pk = :p",
    "ExpressionAttributeValues": {":p": {"S": "a"}, ":s": {"S": "b"}},
}
BOTH: dict[str, Any] = {"KeyConditionExpression": "sk = :s AND pk = :p"}
INDEX: dict[str, Any] = {"IndexName": "by-date"}


def plan(operation: str = "Query", policy: TablePolicy = ON, **changes: Any) -> QueryPlan:
    """Plan QUERY, or a Scan, with other members."""
    request = (QUERY if operation == "Query" else {"TableName": TABLE}) | changes
    body = json.dumps(request).encode()
    return plan_page(operation, body, KEYS, lambda _table: policy, UNCONTROLLED)


def place(made: QueryPlan, *, local: bool = False) -> PagePlan:
    """Place a page that may be cached."""
    placed = place_page(made, KEYS, local=local)
    assert placed is not None
    return placed


def queries(**changes: Any) -> TablePolicy:
    """Return ON with other rules for queries."""
    return replace(ON, queries=replace(ON.queries, **changes))


def test_a_page_is_planned_where_the_table_says_so() -> None:
    """A plan carries the request and the table's policy."""
    assert plan().asked.operation == "Query"
    assert plan("Scan").policy is ON
    assert plan(policy=queries(scans=False)).asked.table == TABLE
    assert plan(policy=queries(indexes=("by-date",)), **INDEX).asked.index == "by-date"
    assert plan(policy=queries(indexes=())).asked.index is None


@pytest.mark.parametrize(
    ("operation", "policy", "changes", "reason"),
    [
        ("Query", TablePolicy(), {}, BypassReason.OPERATION),
        ("Query", replace(ON, mode=Mode.OFF), {}, BypassReason.OPERATION),
        ("Scan", queries(scans=False), {}, BypassReason.OPERATION),
        ("Query", ON, {"ConsistentRead": True}, BypassReason.CONSISTENT_READ),
        ("Query", queries(indexes=("other",)), INDEX, BypassReason.INDEX),
        ("Query", queries(indexes=()), INDEX, BypassReason.INDEX),
        ("Query", ON, {"Limit": None}, BypassReason.UNDECODABLE),
    ],
)
def test_a_page_that_is_not_cached_passes_and_says_why(
    operation: str, policy: TablePolicy, changes: dict[str, Any], reason: BypassReason
) -> None:
    """The reason names the setting, or the request, that stands in the way."""
    with pytest.raises(Undecodable) as bypass:
        plan(operation, policy, **changes)
    assert (bypass.value.reason, bypass.value.table) == (reason, TABLE)


def test_a_body_without_a_table_passes() -> None:
    """It is no operation that is cached."""
    with pytest.raises(Undecodable) as bypass:
        plan_page("Scan", b"{", KEYS, lambda _table: ON, UNCONTROLLED)
    assert (bypass.value.reason, bypass.value.table) == (BypassReason.OPERATION, None)


PARTITION = KEYS.partition_key(TABLE, "pk", {"S": "a"})
EVERYTHING = KEYS.scan_key(TABLE)


@pytest.mark.parametrize(
    ("operation", "changes", "local", "scope"),
    [
        ("Query", {}, False, PARTITION),
        ("Query", BOTH, False, PARTITION),
        ("Query", INDEX, True, PARTITION),
        ("Query", INDEX | BOTH, True, EVERYTHING),
        ("Query", INDEX, False, EVERYTHING),
        ("Scan", {}, False, EVERYTHING),
        ("Scan", INDEX, True, EVERYTHING),
        ("Scan", INDEX, False, EVERYTHING),
    ],
)
def test_a_page_is_in_a_scope_that_every_write_to_its_items_raises(
    operation: str, changes: dict[str, Any], scope: bytes, *, local: bool
) -> None:
    """One key value where all its items share it for sure, else all items of the table."""
    placed = place(plan(operation, **changes), local=local)
    assert placed.page.scope_key == scope
    assert placed.lags == ("IndexName" in changes and not local)


def test_scopes_are_among_those_that_a_writer_of_the_item_raises() -> None:
    """Whatever the item's key is, a page it is on has one of its writers' scopes."""
    scopes = KEYS.item(TABLE, {"sk": {"S": "b"}, "pk": {"S": "a"}}).name_scopes()
    for made in (plan(), plan(**BOTH), plan("Scan")):
        assert place(made).page.scope_key in scopes


@pytest.mark.parametrize("level", list(Level))
def test_limits_of_a_page_are_those_for_queries(level: Level) -> None:
    """Age and size are the queries' own, everything else the table's."""
    policy = replace(queries(fresh_ttl_s=7.0, entry_bytes_max=70), level=level)
    placed = place(plan(policy=policy))
    assert placed.policy == replace(policy, fresh_ttl_s=7.0, entry_bytes_max=70)


def test_a_global_index_is_never_cached_at_strict_and_always_read_as_it_is() -> None:
    """It cannot be read consistently, whatever the table promises."""
    assert (
        place_page(plan(policy=replace(ON, level=Level.STRICT), **INDEX), KEYS, local=False) is None
    )
    assert place(plan(policy=replace(ON, level=Level.STRICT), **INDEX), local=True).lags is False
    placed = place(plan(**INDEX))
    assert (placed.policy.level, placed.policy.fill_consistent) == (Level.EVENTUAL, False)


def test_a_page_plan_reads_and_answers_its_own_kind() -> None:
    """What the flows ask of any plan, a page answers for Query and Scan."""
    placed = place(plan(ReturnConsumedCapacity="TOTAL"))
    assert (placed.operation, placed.table, placed.is_page) == ("Query", TABLE, True)
    assert placed.identity is placed.page.record
    assert json.loads(placed.fetch_body(consistent=True))["ConsistentRead"] is True
    reply = b'{"Count":0,"ScannedCount":0}'
    page = placed.read_reply(reply, consistent=True)
    assert page is not None
    assert page.body == reply
    assert json.loads(placed.answer_body(reply, None))["ConsumedCapacity"]["CapacityUnits"] == 0


def sighting(*, pending: bool = False, ready: bool = True, quiet_s: float = 1000.0) -> PageSighting:
    """Return what a lookup found."""
    seen = Sighting(RecordState.ABSENT, None, Generation(bytes(8)), pending, 0)
    return PageSighting(seen, ready, quiet_s)


@pytest.mark.parametrize("changes", [{}, INDEX])
def test_the_store_has_no_part_while_a_write_is_in_flight_or_may_not_know(
    changes: dict[str, Any],
) -> None:
    """Pending first: it is over sooner."""
    placed = place(plan(**changes))
    after = placed.after(sighting(pending=True, ready=False), FENCE)
    assert after is BypassReason.PAGE_PENDING
    assert placed.after(sighting(ready=False), FENCE) is BypassReason.PAGES_SOON


@pytest.mark.parametrize(("quiet_s", "lagging"), [(9.9, True), (10.0, False)])
def test_a_global_index_must_have_been_quiet(quiet_s: float, *, lagging: bool) -> None:
    """For `index_lag_s` after a write nothing of the index is cached."""
    placed = place(plan(**INDEX))
    after = placed.after(sighting(quiet_s=quiet_s), FENCE)
    assert after == (BypassReason.INDEX_LAG if lagging else placed)


@pytest.mark.parametrize(
    ("fill_consistent", "quiet_s", "consistent"),
    [(True, 1000.0, True), (False, 29.9, True), (False, 30.0, False)],
)
def test_a_fill_is_consistent_unless_the_table_allows_and_replicas_know(
    quiet_s: float, *, fill_consistent: bool, consistent: bool
) -> None:
    """For `tombstone_s` after a write even an eventual table's page is read consistently."""
    placed = place(plan(policy=replace(ON, fill_consistent=fill_consistent)))
    after = placed.after(sighting(quiet_s=quiet_s), FENCE)
    assert isinstance(after, PagePlan)
    assert after.policy == replace(placed.policy, fill_consistent=consistent)
    assert after.page == placed.page


def test_pages_of_a_table_in_shadow_are_rehearsed() -> None:
    """The plan says so, and as if on it is an ordinary one."""
    made = plan(policy=replace(ON, mode=Mode.SHADOW))
    assert made.mode is Mode.SHADOW
    assert made.as_if_on().mode is Mode.ON


def test_pages_beyond_the_percentage_are_off() -> None:
    """Each page is on or off for good, by its whole request."""
    half = replace(ON, mode_percent=50)
    seen = set()
    for number in range(40):
        values = {":p": {"S": f"{number}"}}
        digest = KEYS.page_digest(TABLE, plan(ExpressionAttributeValues=values).asked.normal)
        seen.add(half.mode_of(digest))
        if half.mode_of(digest) is Mode.ON:
            assert plan(policy=half, ExpressionAttributeValues=values).mode is Mode.ON
            continue
        with pytest.raises(Undecodable) as passed:
            plan(policy=half, ExpressionAttributeValues=values)
        assert (passed.value.reason, passed.value.table) == (BypassReason.TABLE_OFF, TABLE)
    assert seen == {Mode.ON, Mode.OFF}
