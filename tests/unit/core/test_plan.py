"""Claims about plans: which requests meet the cache, which a fence, which neither."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.cache_control import FIELD, CacheControl, Wish
from proxy.core.cache_key import KeySpace
from proxy.core.errors import NotCached, RequestRejected
from proxy.core.key_schema import KeySchema
from proxy.core.operations import WRITES, ItemWrite
from proxy.core.plan import (
    FENCED,
    ITEM_FENCES_MAX,
    BatchReadPlan,
    PassPlan,
    Plan,
    ReadPlan,
    TablesWritePlan,
    WritePlan,
    make_plan,
    write_identity,
)
from proxy.core.policy import TablePolicy
from proxy.core.record import Entry
from proxy.core.request import ClientRequest, Headers
from proxy.core.values import (
    BypassReason,
    Digest,
    Generation,
    Incarnation,
    Level,
    TableName,
    WriteMode,
)

KEYS = KeySpace("shop", "eu-west-1")
KEY = {"pk": {"S": "a"}}
GET: dict[str, Any] = {"TableName": "orders", "Key": KEY}
POLICIES = {
    "off": TablePolicy(enabled=False),
    "around": TablePolicy(write_mode=WriteMode.AROUND),
    "around-too": TablePolicy(write_mode=WriteMode.AROUND),
    "strict": TablePolicy(level=Level.STRICT),
    "consistent-passes": TablePolicy(consistent_refresh=False),
}
DATA, STREAMS, LEGACY = "DynamoDB_20120810.", "DynamoDBStreams_20120810.", "DynamoDB_20111205."


def policy_of(table: str) -> TablePolicy:
    """Return the policy that a table's name stands for; others have the defaults."""
    return POLICIES.get(table, TablePolicy())


def plan(
    operation: str,
    body: dict[str, Any] | bytes,
    *,
    prefix: str = DATA,
    method: str = "POST",
    target: str = "/",
    headers: Headers = (),
) -> Plan:
    """Plan a request of this operation."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = (("X-Amz-Target", prefix + operation), *headers)
    request = ClientRequest(method, target, fields, raw)
    return make_plan(request, KEYS, policy_of)


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


@pytest.mark.parametrize("prefix", [DATA, LEGACY])
@pytest.mark.parametrize(
    "operation",
    ["Query", "Scan", "TransactGetItems", "ListTables", "DescribeTable", "Odd", ""],
)
def test_other_operations_pass(operation: str, prefix: str) -> None:
    """What is neither read through nor a write goes on as it came, whatever its body."""
    assert plan(operation, b"\xff", prefix=prefix) == PassPlan(BypassReason.OPERATION)


@pytest.mark.parametrize("operation", ["GetRecords", "GetItem", "PutItem", "BatchWriteItem"])
def test_streams_requests_pass_even_under_names_of_other_operations(operation: str) -> None:
    """DynamoDB Streams has no items to cache."""
    assert plan(operation, GET, prefix=STREAMS) == PassPlan(BypassReason.OPERATION)


@pytest.mark.parametrize("operation", sorted(WRITES))
@pytest.mark.parametrize("table", ["orders", "off", "strict"])
@pytest.mark.parametrize("shape", [{}, {"method": "PUT", "target": "/x"}])
def test_every_item_write_is_fenced(operation: str, table: str, shape: dict[str, Any]) -> None:
    """A table that is switched off is fenced too: another proxy may have it on."""
    planned = plan(operation, {"TableName": table, "Key": KEY, "Item": KEY}, **shape)
    assert isinstance(planned, WritePlan)
    (only,) = planned.writes
    assert (only.write.operation, only.write.table) == (operation, table)
    assert only.policy == policy_of(table)
    assert planned.strict == (table == "strict")


@pytest.mark.parametrize("operation", sorted(WRITES))
def test_a_write_around_passes(operation: str) -> None:
    """The operator gave up coherence for this table."""
    planned = plan(operation, {"TableName": "around", "Key": KEY, "Item": KEY})
    assert planned == PassPlan(BypassReason.WRITE_AROUND, TableName("around"))


@pytest.mark.parametrize("operation", sorted(WRITES))
def test_a_write_without_a_table_passes(operation: str) -> None:
    """DynamoDB refuses it."""
    assert plan(operation, {}) == PassPlan(BypassReason.UNDECODABLE)


@pytest.mark.parametrize("operation", [*sorted(WRITES), "BatchWriteItem", "DeleteTable"])
def test_writes_of_the_api_before_2012_fence_the_table(operation: str) -> None:
    """Their keys are not understood, so the whole table is fenced."""
    key = {"HashKeyElement": {"S": "a"}}
    body = {"TableName": "orders", "Key": key}
    if operation == "BatchWriteItem":
        body = {"RequestItems": {"orders": [{"DeleteRequest": {"Key": key}}]}}
    planned = plan(operation, body, prefix=LEGACY)
    assert planned == TablesWritePlan(frozenset({TableName("orders")}), strict=False)


@pytest.mark.parametrize("operation", sorted(FENCED))
@pytest.mark.parametrize("prefix", [DATA, LEGACY])
def test_a_write_that_cannot_be_read_is_refused(operation: str, prefix: str) -> None:
    """It must not reach upstream without a fence."""
    with pytest.raises(RequestRejected):
        plan(operation, b"{", prefix=prefix)


@pytest.mark.parametrize(
    ("tables", "fenced", "strict"),
    [
        (["orders"], {"orders"}, False),
        (["orders", "strict"], {"orders", "strict"}, True),
        (["orders", "around"], {"orders"}, False),
        (["off"], {"off"}, False),
    ],
)
def test_a_batch_fences_its_items(tables: list[str], fenced: set[str], *, strict: bool) -> None:
    """All but those of write-around tables, and strictly if one of the others is strict."""
    writes = [{"PutRequest": {"Item": KEY}}, {"DeleteRequest": {"Key": KEY}}]
    planned = plan("BatchWriteItem", {"RequestItems": dict.fromkeys(tables, writes)})
    assert isinstance(planned, WritePlan)
    expected = [(table, item) for table in tables if table in fenced for item in (KEY, None)]
    assert [(each.write.table, each.write.item) for each in planned.writes] == expected
    assert all(each.policy == policy_of(each.write.table) for each in planned.writes)
    assert planned.strict == strict


def test_a_request_with_more_writes_than_dynamodb_takes_is_fenced_by_tables() -> None:
    """The number of fences is bounded; such a request will be refused."""
    writes = [{"DeleteRequest": {"Key": {"pk": {"N": str(n)}}}} for n in range(ITEM_FENCES_MAX + 1)]
    assert isinstance(plan("BatchWriteItem", {"RequestItems": {"orders": writes[1:]}}), WritePlan)
    planned = plan("BatchWriteItem", {"RequestItems": {"orders": writes[1:], "strict": writes[:1]}})
    assert planned == TablesWritePlan(frozenset(map(TableName, ["orders", "strict"])), strict=True)


@pytest.mark.parametrize(
    ("tables", "table"), [(["around"], "around"), (["around", "around-too"], None)]
)
def test_a_batch_around_the_cache_passes(tables: list[str], table: str | None) -> None:
    """The reason names the table, where there is only one."""
    planned = plan("BatchWriteItem", {"RequestItems": {named: [] for named in tables}})
    assert planned == PassPlan(BypassReason.WRITE_AROUND, TableName(table) if table else None)


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("BatchWriteItem", {}),
        ("DeleteTable", {}),
        ("TransactWriteItems", {"TransactItems": [{"ConditionCheck": GET}]}),
        ("ExecuteStatement", {"Statement": 'SELECT * FROM "orders"'}),
    ],
)
def test_a_request_that_writes_nothing_passes(operation: str, body: dict[str, Any]) -> None:
    """Nothing to fence: it only reads, or names no table."""
    assert plan(operation, body) == PassPlan(BypassReason.OPERATION)


def test_dropping_a_write_around_table_is_fenced() -> None:
    """Write-around is about items; a table that goes takes every entry with it."""
    planned = plan("DeleteTable", {"TableName": "around"})
    assert planned == TablesWritePlan(frozenset({TableName("around")}), strict=False)


@given(
    operation=st.sampled_from(["GetItem", *sorted(FENCED)]),
    prefix=st.sampled_from([DATA, LEGACY]),
    body=st.binary(max_size=20) | st.just(json.dumps(GET).encode()),
)
def test_any_request_has_a_plan_or_is_rejected(operation: str, prefix: str, body: bytes) -> None:
    """Nothing but RequestRejected is raised, and never for a read."""
    try:
        planned = plan(operation, body, prefix=prefix)
    except RequestRejected:
        assert operation != "GetItem"
    else:
        assert isinstance(planned, Plan)


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


ITEM = {"pk": {"S": "a"}, "sk": {"N": "1"}, "other": {"S": "x"}}
SIMPLE, COMPOUND = KeySchema("pk"), KeySchema("pk", "sk")


@pytest.mark.parametrize(
    ("schema", "item", "key"),
    [
        (SIMPLE, ITEM, {"pk": {"S": "a"}}),
        (COMPOUND, ITEM, {"pk": {"S": "a"}, "sk": {"N": "1"}}),
        (COMPOUND, {"pk": {"S": "a"}}, None),
        (SIMPLE, {}, None),
    ],
)
def test_a_schema_finds_the_key_in_an_item(
    schema: KeySchema, item: dict[str, Any], key: dict[str, Any] | None
) -> None:
    """An item without one of its key attributes has no key."""
    assert schema.key_of(item) == key


def write(
    key: dict[str, Any] | None, item: dict[str, Any] | None, operation: str = "UpdateItem"
) -> ItemWrite:
    """Return a decoded write to `orders`."""
    return ItemWrite(operation, TableName("orders"), key, item, "NONE")


@pytest.mark.parametrize("schema", [None, SIMPLE, COMPOUND])
def test_a_write_with_a_key_names_its_item_without_a_schema(schema: KeySchema | None) -> None:
    """UpdateItem and DeleteItem spell the key out; any spelling of it is the same item."""
    identity = write_identity(write({"pk": {"N": "1.0"}}, None), schema, KEYS)
    assert identity == KEYS.item(TableName("orders"), {"pk": {"N": "1"}})


def test_a_put_names_its_item_by_the_schema() -> None:
    """The key is cut out of the item."""
    identity = write_identity(write(None, ITEM, "PutItem"), COMPOUND, KEYS)
    assert identity == KEYS.item(TableName("orders"), {"pk": {"S": "a"}, "sk": {"N": "1"}})


@pytest.mark.parametrize(
    ("key", "item", "schema"),
    [
        (None, ITEM, None),
        (None, {"sk": {"N": "1"}}, SIMPLE),
        (None, {"pk": {"BOOL": True}}, SIMPLE),
        (None, {}, SIMPLE),
        (None, None, SIMPLE),
        ({}, None, SIMPLE),
        ({"pk": {"N": "x"}}, None, SIMPLE),
        ({"a": {"S": "1"}, "b": {"S": "1"}, "c": {"S": "1"}}, None, SIMPLE),
    ],
)
def test_a_write_whose_item_is_not_sure_names_none(
    key: dict[str, Any] | None, item: dict[str, Any] | None, schema: KeySchema | None
) -> None:
    """Then the whole table is fenced: safe for every spelling."""
    assert write_identity(write(key, item), schema, KEYS) is None


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
