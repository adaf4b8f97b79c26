"""Claims about plans: which requests meet the cache, which a fence, which neither."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.cache_key import KeySpace
from proxy.core.errors import RequestRejected
from proxy.core.key_schema import KeySchema
from proxy.core.operations import WRITES, ItemWrite
from proxy.core.page_plan import QueryPlan
from proxy.core.plan import (
    PassPlan,
    Plan,
    ReadPlan,
    TablesWritePlan,
    WritePlan,
    make_plan,
    write_identity,
)
from proxy.core.policy import QueryPolicy, TablePolicy
from proxy.core.request import ClientRequest
from proxy.core.table_writes import TABLE_WRITES
from proxy.core.values import BypassReason, Level, TableName, WriteMode

KEYS = KeySpace("shop", "eu-west-1")
KEY = {"pk": {"S": "a"}}
GET: dict[str, Any] = {"TableName": "orders", "Key": KEY}
POLICIES = {
    "off": TablePolicy(enabled=False),
    "around": TablePolicy(write_mode=WriteMode.AROUND),
    "strict": TablePolicy(level=Level.STRICT),
    "consistent-passes": TablePolicy(consistent_refresh=False),
    "pages": TablePolicy(queries=QueryPolicy(enabled=True, scans=True)),
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
) -> Plan:
    """Plan a request of this operation."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = ClientRequest(method, target, (("X-Amz-Target", prefix + operation),), raw)
    return make_plan(request, KEYS, policy_of)


def test_a_plain_get_reads_through_the_cache() -> None:
    """It carries the item's identity and its table's policy."""
    planned = plan("GetItem", GET | {"TableName": "strict"})
    assert isinstance(planned, ReadPlan)
    assert planned.identity == KEYS.item(TableName("strict"), KEY)
    assert planned.policy is POLICIES["strict"]
    assert planned.get.key == KEY


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
    [{"prefix": LEGACY}, {"method": "PUT"}, {"target": "/?x=1"}, {"target": "/orders"}],
)
def test_a_get_of_an_unusual_shape_passes(shape: dict[str, str]) -> None:
    """Only the request that SDKs send is answered without upstream's judgement."""
    assert plan("GetItem", GET, **shape) == PassPlan(BypassReason.UNDECODABLE)


@pytest.mark.parametrize("prefix", [DATA, LEGACY])
@pytest.mark.parametrize(
    "operation",
    ["Query", "Scan", "BatchGetItem", "TransactGetItems", "ListTables", "DescribeTable", "Odd", ""],
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
def test_every_item_write_is_fenced(operation: str, table: str, shape: dict[str, str]) -> None:
    """A table that is switched off is fenced too: another proxy may have it on."""
    planned = plan(operation, {"TableName": table, "Key": KEY, "Item": KEY}, **shape)
    assert isinstance(planned, WritePlan)
    assert planned.write.table == table
    assert planned.policy == policy_of(table)


@pytest.mark.parametrize("operation", sorted(WRITES))
def test_a_write_around_passes(operation: str) -> None:
    """The operator gave up coherence for this table."""
    planned = plan(operation, {"TableName": "around", "Key": KEY, "Item": KEY})
    assert planned == PassPlan(BypassReason.WRITE_AROUND, TableName("around"))


@pytest.mark.parametrize("operation", sorted(WRITES))
def test_a_write_without_a_table_passes(operation: str) -> None:
    """DynamoDB refuses it."""
    assert plan(operation, {}) == PassPlan(BypassReason.UNDECODABLE)


@pytest.mark.parametrize("operation", sorted(WRITES))
def test_writes_of_the_api_before_2012_fence_the_table(operation: str) -> None:
    """Their keys are not understood, so the whole table is fenced."""
    planned = plan(operation, {"TableName": "orders", "Key": {"HashKeyElement": {}}}, prefix=LEGACY)
    assert planned == TablesWritePlan(frozenset({TableName("orders")}), strict=False)


@pytest.mark.parametrize("operation", sorted(WRITES | TABLE_WRITES))
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
def test_a_batch_fences_its_tables(tables: list[str], fenced: set[str], *, strict: bool) -> None:
    """All but write-around tables, and strictly if one of them is strict."""
    planned = plan("BatchWriteItem", {"RequestItems": {table: [] for table in tables}})
    assert planned == TablesWritePlan(frozenset(map(TableName, fenced)), strict)


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("BatchWriteItem", {"RequestItems": {"around": []}}),
        ("BatchWriteItem", {}),
        ("ExecuteStatement", {"Statement": 'SELECT * FROM "orders"'}),
    ],
)
def test_a_batch_that_writes_to_no_cached_table_passes(
    operation: str, body: dict[str, Any]
) -> None:
    """Nothing to fence: it only reads, names no table, or only write-around tables."""
    assert plan(operation, body) == PassPlan(BypassReason.OPERATION)


def test_dropping_a_write_around_table_is_fenced() -> None:
    """Write-around is about items; a table that goes takes every entry with it."""
    planned = plan("DeleteTable", {"TableName": "around"})
    assert planned == TablesWritePlan(frozenset({TableName("around")}), strict=False)


@given(
    operation=st.sampled_from(["GetItem", *sorted(WRITES | TABLE_WRITES)]),
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


def test_a_scan_is_planned_where_its_table_caches_pages() -> None:
    """Elsewhere it passes, and so does one that is spelled so that only DynamoDB can judge it."""
    assert isinstance(plan("Scan", {"TableName": "pages"}), QueryPlan)
    passed = PassPlan(BypassReason.OPERATION, TableName("orders"))
    assert plan("Scan", {"TableName": "orders"}) == passed
    odd = plan("Scan", {"TableName": "pages", "Limit": None})
    assert odd == PassPlan(BypassReason.UNDECODABLE, TableName("pages"))
    for shape in ({"prefix": LEGACY}, {"method": "PUT"}, {"target": "/?a"}):
        assert plan("Scan", {"TableName": "pages"}, **shape) == PassPlan(BypassReason.OPERATION)


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
