"""Claims about which reads the cache may answer, and what the flows ask of their plans."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.core.cache_control import FIELD, CacheControl, Wish
from proxy.core.errors import NotCached, RequestRejected
from proxy.core.page_plan import QueryPlan
from proxy.core.plan import Plan, make_plan
from proxy.core.policy import TablePolicy
from proxy.core.read_plan import (
    BatchReadPlan,
    PassPlan,
    ReadPlan,
    is_plain_get,
    plan_get,
    plan_read,
)
from proxy.core.record import Entry
from proxy.core.request import ClientRequest
from proxy.core.values import (
    BypassReason,
    Digest,
    Generation,
    Incarnation,
    Mode,
    TableName,
)
from tests.support.flow_world import client_request
from tests.support.planning import GET, KEY, KEYS, LEGACY, POLICIES, STREAMS, plan, policy_of


def test_a_plain_get_reads_through_the_cache() -> None:
    """It carries the item's identity and its table's policy."""
    planned = plan("GetItem", GET | {"TableName": "strict"})
    assert isinstance(planned, ReadPlan)
    assert planned.identity == KEYS.item(TableName("strict"), KEY)
    assert planned.policy is POLICIES["strict"]
    assert planned.get.key == KEY


def batch(**tables: dict[str, Any]) -> dict[str, Any]:
    """Return a BatchGetItem of one key in each of these tables; `_` in names for `-`."""
    return {
        "RequestItems": {
            name.replace("_", "-"): {"Keys": [KEY], **wishes} for name, wishes in tables.items()
        }
    }


def test_a_batch_plans_each_key_as_a_get() -> None:
    """Each key has its identity and its table's policy; tables without the cache stay apart."""
    planned = plan(
        "BatchGetItem", batch(orders={}, strict={}, off={}, users={"ConsistentRead": True})
    )
    assert isinstance(planned, BatchReadPlan)
    assert [
        (part.get.table, part.identity, part.policy, part.uncached) for part in planned.parts
    ] == [
        (table, KEYS.item(TableName(table), KEY), policy_of(table), uncached)
        for table, uncached in [
            ("orders", False),
            ("strict", False),
            ("off", True),
            ("users", True),
        ]
    ]


@pytest.mark.parametrize(
    ("body", "reason", "table"),
    [
        (b"{", BypassReason.UNDECODABLE, None),
        ({"RequestItems": {"orders": {"Keys": []}}}, BypassReason.UNDECODABLE, "orders"),
        (batch(off={}), BypassReason.TABLE_OFF, "off"),
        (batch(off={"ConsistentRead": True}), BypassReason.TABLE_OFF, "off"),
        (batch(orders={"ConsistentRead": True}), BypassReason.CONSISTENT_READ, "orders"),
        (batch(orders={"ConsistentRead": True}, off={}), BypassReason.CONSISTENT_READ, None),
    ],
)
def test_a_batch_without_a_cached_key_passes_through(
    body: dict[str, Any] | bytes, reason: BypassReason, table: str | None
) -> None:
    """Byte for byte, for one reason."""
    assert plan("BatchGetItem", body) == PassPlan(reason, TableName(table) if table else None)


@pytest.mark.parametrize(
    ("body", "reason", "table"),
    [
        (GET | {"TableName": "off"}, BypassReason.TABLE_OFF, "off"),
        (GET | {"Key": {}}, BypassReason.UNDECODABLE, "orders"),
        (b"{", BypassReason.UNDECODABLE, None),
        (GET | {"TableName": "arn:aws:dynamodb:r:1:table/t"}, BypassReason.TABLE_ARN, "t"),
        (
            GET | {"ConsistentRead": True, "ProjectionExpression": "a"},
            BypassReason.CONSISTENT_READ,
            "orders",
        ),
        (
            GET | {"ConsistentRead": True, "TableName": "consistent-passes"},
            BypassReason.CONSISTENT_READ,
            "consistent-passes",
        ),
    ],
)
def test_a_get_that_the_cache_may_not_answer_passes(
    body: dict[str, Any] | bytes, reason: BypassReason, table: str | None
) -> None:
    """The plan says why, and for which table."""
    assert plan("GetItem", body) == PassPlan(reason, TableName(table) if table else None)


def test_a_consistent_get_of_the_whole_item_may_refresh_the_entry() -> None:
    """It is planned as a read; the flow forwards it untouched."""
    planned = plan("GetItem", GET | {"ConsistentRead": True})
    assert isinstance(planned, ReadPlan)
    assert planned.get.consistent


@pytest.mark.parametrize(
    "shape",
    [
        {"prefix": LEGACY},
        {"method": "PUT"},
        {"target": "/?x=1"},
        {"target": "/orders"},
        {"headers": (("Content-Encoding", "gzip"),)},
    ],
)
def test_a_get_of_an_unusual_shape_passes(shape: dict[str, Any]) -> None:
    """Only the request that SDKs send is answered without upstream's judgement."""
    assert plan("GetItem", GET, **shape) == PassPlan(BypassReason.UNDECODABLE)


@pytest.mark.parametrize(
    ("options", "consistent", "members"),
    [
        ({}, False, {}),
        ({}, True, {"ConsistentRead": True}),
        ({"ConsistentRead": True}, False, {}),
        ({"ReturnConsumedCapacity": "TOTAL"}, False, {"ReturnConsumedCapacity": "TOTAL"}),
        ({"ReturnConsumedCapacity": "NONE"}, False, {}),
        ({"ProjectionExpression": "a", "ReturnConsumedCapacity": "INDEXES"}, True,
         {"ConsistentRead": True, "ReturnConsumedCapacity": "INDEXES"}),
    ],
)  # fmt: skip
def test_a_fetch_asks_for_the_whole_item(
    options: dict[str, Any], members: dict[str, Any], *, consistent: bool
) -> None:
    """No projection, so that every read of the item can share it; the key as it was spelled."""
    planned = plan("GetItem", GET | {"Key": {"pk": {"N": "1.0"}}} | options)
    assert isinstance(planned, ReadPlan)
    fetch = json.loads(planned.fetch_body(consistent=consistent))
    assert fetch == {"TableName": "orders", "Key": {"pk": {"N": "1.0"}}} | members


def asking(text: str, body: dict[str, Any] | bytes = GET, **shape: Any) -> Plan:
    """Plan a GetItem that asks something of the cache."""
    return plan("GetItem", body, headers=((FIELD, text),), **shape)


@pytest.mark.parametrize("text", ["refresh", "max-age=5", "only-if-cached, max-age=5"])
def test_a_read_carries_what_it_asks_of_the_cache(text: str) -> None:
    """The policy stays the table's: what is accepted and what is stored are two things."""
    planned, usual = asking(text), plan("GetItem", GET)
    assert isinstance(planned, ReadPlan)
    assert isinstance(usual, ReadPlan)
    assert planned.control != usual.control
    assert (planned.policy, planned.get) == (usual.policy, usual.get)


@pytest.mark.parametrize(("text", "verdict"), [("max-age=2", "fresh"), ("max-age=1", "too_old")])
def test_a_read_judges_entries_by_its_own_limit_too(text: str, verdict: str) -> None:
    """An entry that answers others may be too old for it."""
    planned = asking(text)
    assert isinstance(planned, ReadPlan)
    none = b"\x00" * 16
    owner = (Incarnation(none), Generation(none), Digest(none))
    entry = Entry(
        *owner, filled_ms=0, soft_ms=9000, hard_ms=9000, negative=False, item_bytes=0, crc32=0,
        body=b"{}",
    )  # fmt: skip
    assert planned.judge(entry, 1500) == verdict


def test_a_read_that_asks_for_a_bypass_passes() -> None:
    """It says so, unless there is a better reason not to look."""
    assert asking("bypass") == PassPlan(BypassReason.REQUESTED, TableName("orders"))
    off = GET | {"TableName": "off"}
    assert asking("bypass", off) == PassPlan(BypassReason.TABLE_OFF, TableName("off"))


@pytest.mark.parametrize("table", ["orders", "consistent-passes"])
def test_a_consistent_read_of_a_projection_can_demand_a_refresh(table: str) -> None:
    """A refresh reads consistently whatever the policy does with other ConsistentReads."""
    body = GET | {"TableName": table, "ConsistentRead": True, "ProjectionExpression": "a"}
    planned = asking("refresh", body)
    assert isinstance(planned, ReadPlan)
    assert planned.control == CacheControl(Wish.REFRESH)


@pytest.mark.parametrize(
    ("body", "shape", "why"),
    [
        (GET | {"TableName": "off"}, {}, BypassReason.TABLE_OFF),
        (GET | {"ConsistentRead": True}, {}, BypassReason.CONSISTENT_READ),
        (b"{", {}, BypassReason.UNDECODABLE),
        (GET, {"prefix": LEGACY}, BypassReason.UNDECODABLE),
        (GET, {"target": "/x"}, BypassReason.UNDECODABLE),
    ],
)
def test_a_read_for_the_cache_alone_never_passes(
    body: dict[str, Any] | bytes, shape: dict[str, Any], why: BypassReason
) -> None:
    """Where the cache never answers, nothing is sent."""
    with pytest.raises(NotCached, match=why):
        asking("only-if-cached", body, **shape)


@pytest.mark.parametrize("body", [GET, b"{", GET | {"TableName": "off"}])
def test_a_read_that_asks_nonsense_is_refused(body: dict[str, Any] | bytes) -> None:
    """Also where the cache would have had no part in it."""
    with pytest.raises(RequestRejected, match=FIELD):
        asking("no-cache", body)


@pytest.mark.parametrize("text", ["bypass", "refresh", "only-if-cached", "nonsense"])
@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("PutItem", {"TableName": "orders", "Item": KEY}),
        ("UpdateItem", GET),
        ("DeleteItem", GET),
        ("BatchWriteItem", {"RequestItems": {"orders": []}}),
        ("DeleteTable", {"TableName": "orders"}),
        ("DescribeTable", {"TableName": "orders"}),
    ],
)
def test_the_field_means_nothing_on_other_operations(
    operation: str, body: dict[str, Any], text: str
) -> None:
    """Writes are fenced as ever; a bypass could leave an older entry behind them."""
    assert plan(operation, body, headers=((FIELD, text),)) == plan(operation, body)
    streams = plan("GetItem", GET, prefix=STREAMS, headers=((FIELD, text),))
    assert streams == PassPlan(BypassReason.OPERATION)


def test_a_scan_is_planned_where_its_table_caches_pages() -> None:
    """Elsewhere it passes, and so does one that is spelled so that only DynamoDB can judge it."""
    assert isinstance(plan("Scan", {"TableName": "pages"}), QueryPlan)
    passed = PassPlan(BypassReason.OPERATION, TableName("orders"))
    assert plan("Scan", {"TableName": "orders"}) == passed
    odd = plan("Scan", {"TableName": "pages", "Limit": None})
    assert odd == PassPlan(BypassReason.UNDECODABLE, TableName("pages"))
    shapes: list[dict[str, Any]] = [{"prefix": LEGACY}, {"method": "PUT"}, {"target": "/?a"}]
    for shape in shapes:
        assert plan("Scan", {"TableName": "pages"}, **shape) == PassPlan(BypassReason.UNDECODABLE)


def test_a_read_plan_answers_what_any_plan_is_asked() -> None:
    """The flows ask an item's plan the same as a page's."""
    planned = plan("GetItem", GET)
    assert isinstance(planned, ReadPlan)
    assert (planned.operation, planned.table, planned.is_page) == ("GetItem", "orders", False)
    found = planned.read_reply(b'{"Item":{"pk":{"S":"a"}}}', consistent=True)
    assert found is not None
    assert (found.size_bytes, found.negative) == (3, False)
    absent = planned.read_reply(b"{}", consistent=True)
    assert absent is not None
    assert (absent.size_bytes, absent.negative) == (0, True)
    assert planned.answer_body(found.body, None) == found.body


SHADOWED = TablePolicy(mode=Mode.SHADOW)


def planned(operation: str, body: dict[str, Any], *fields: tuple[str, str]) -> Plan:
    """Plan a request where `shadow` is in shadow, `half` in part on, and others as ever."""
    policies = {"shadow": SHADOWED, "half": TablePolicy(mode_percent=50)}
    headers = (("X-Amz-Target", f"DynamoDB_20120810.{operation}"), *fields)
    request = ClientRequest("POST", "/", headers, json.dumps(body).encode())
    return make_plan(request, KEYS, lambda table: policies.get(table) or policy_of(table))


def test_a_get_in_shadow_is_planned_and_can_be_rehearsed() -> None:
    """The plan says so, and as if on it may be answered from the cache."""
    made = planned("GetItem", GET | {"TableName": "shadow"})
    assert isinstance(made, ReadPlan)
    assert (made.mode, made.uncached) == (Mode.SHADOW, True)
    rehearsed = made.as_if_on()
    assert (rehearsed.mode, rehearsed.uncached) == (Mode.ON, False)
    assert rehearsed.as_if_on() is rehearsed


def test_a_consistent_get_in_shadow_passes() -> None:
    """There is nothing to rehearse: the cache would not answer it."""
    body = GET | {"TableName": "shadow", "ConsistentRead": True}
    expected = PassPlan(BypassReason.CONSISTENT_READ, TableName("shadow"))
    assert planned("GetItem", body) == expected


@pytest.mark.parametrize(
    ("operation", "body", "wish", "items"),
    [
        ("GetItem", GET, "bypass", 1),
        ("GetItem", GET | {"TableName": "shadow", "ConsistentRead": True}, "", 1),
        ("GetItem", GET | {"ProjectionExpression": "a", "ConsistentRead": True}, "", 1),
        ("BatchGetItem", batch(orders={}, strict={}), "bypass", 2),
        ("BatchGetItem", batch(orders={"ConsistentRead": True}), "", 1),
        ("GetItem", GET | {"TableName": "off"}, "", 0),
    ],
)
def test_a_read_that_passes_says_which_items_it_shows(
    operation: str, body: dict[str, Any], wish: str, items: int
) -> None:
    """No older copy may be shown after it; a table that is off has none."""
    passed = planned(operation, body, *([(FIELD, wish)] if wish else []))
    assert isinstance(passed, PassPlan)
    assert [identity.cache_key for identity in passed.shows] == [
        KEYS.item(identity.table, KEY).cache_key for identity in passed.shows
    ]
    assert len(passed.shows) == items


def test_a_page_that_passes_names_no_items() -> None:
    """Nobody knows which are on it."""
    passed = planned("Scan", {"TableName": "pages"}, (FIELD, "bypass"))
    assert isinstance(passed, PassPlan)
    assert passed.shows == ()


@pytest.mark.parametrize("operation", ["GetItem", "BatchGetItem"])
def test_nothing_in_shadow_is_answered_from_the_cache_only(operation: str) -> None:
    """Nothing of the cache is served in shadow, not even to whoever wants nothing else."""
    body = GET | {"TableName": "shadow"} if operation == "GetItem" else batch(shadow={})
    with pytest.raises(NotCached, match="shadow"):
        planned(operation, body, (FIELD, "only-if-cached"))


def test_keys_beyond_the_percentage_are_off() -> None:
    """Each key is on or off for good, by itself and in a batch."""
    seen = set()
    for number in range(40):
        key = {"pk": {"S": f"item-{number}"}}
        made = planned("GetItem", {"TableName": "half", "Key": key})
        on = isinstance(made, ReadPlan)
        assert on or made == PassPlan(BypassReason.TABLE_OFF, TableName("half"))
        whole = planned("BatchGetItem", {"RequestItems": {"half": {"Keys": [key]}}})
        assert isinstance(whole, BatchReadPlan) is on
        seen.add(on)
    assert seen == {True, False}


@pytest.mark.parametrize(
    ("tables", "mode", "uncached"),
    [
        ({"shadow": {}}, Mode.SHADOW, [True]),
        ({"shadow": {}, "off": {}}, Mode.SHADOW, [True, True]),
        ({"shadow": {}, "orders": {"ConsistentRead": True}}, Mode.SHADOW, [True, True]),
        ({"shadow": {}, "orders": {}}, Mode.ON, [True, False]),
    ],
)
def test_a_batch_is_rehearsed_unless_a_key_is_on(
    tables: dict[str, Any], mode: Mode, uncached: list[bool]
) -> None:
    """What is promised for a key that is on comes first; beside it the others are fetched."""
    made = planned("BatchGetItem", batch(**tables))
    assert isinstance(made, BatchReadPlan)
    assert made.mode is mode
    assert [part.uncached for part in made.parts] == uncached
    assert made.as_if_on().parts[0].mode is Mode.ON


def test_a_consistent_batch_in_shadow_passes() -> None:
    """As any other consistent batch does."""
    made = planned("BatchGetItem", batch(shadow={"ConsistentRead": True}))
    assert made == PassPlan(BypassReason.CONSISTENT_READ, TableName("shadow"))


@pytest.mark.parametrize(
    ("request_", "plain"),
    [
        (client_request("GetItem", b"{"), True),
        (client_request("BatchGetItem", b"{"), False),
        (client_request("GetItem", b"{", X_Dynaside_Cache="refresh"), False),
        (client_request("GetItem", b"{", Content_Encoding="gzip"), False),
        (client_request("GetItem", b"{")._replace(target="/?x"), False),
        (
            ClientRequest("POST", "/", (("X-Amz-Target", "DynamoDB_20111205.GetItem"),), b"{"),
            False,
        ),
    ],
    ids=["plain", "batch", "control", "coded", "target", "legacy"],
)
def test_a_plain_get_is_planned_by_its_body_alone(request_: ClientRequest, *, plain: bool) -> None:
    """Where that is said, the whole request's plan is the body's."""
    assert is_plain_get(request_) is plain
    if plain:
        assert plan_read(request_, KEYS, policy_of) == plan_get(request_.body, KEYS, policy_of)
