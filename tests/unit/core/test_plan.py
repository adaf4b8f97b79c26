"""Claims about which requests are fenced, read through the cache, or passed on."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import RequestRejected
from proxy.core.key_schema import KeySchema
from proxy.core.operations import WRITES, ItemWrite
from proxy.core.plan import (
    FENCED,
    ITEM_FENCES_MAX,
    Plan,
    TablesWritePlan,
    WritePlan,
    write_identity,
)
from proxy.core.read_plan import PassPlan
from proxy.core.values import (
    BypassReason,
    TableName,
)
from tests.support.planning import DATA, GET, KEY, KEYS, LEGACY, STREAMS, plan, policy_of


@pytest.mark.parametrize("prefix", [DATA, LEGACY])
@pytest.mark.parametrize(
    "operation",
    ["TransactGetItems", "ListTables", "DescribeTable", "Odd", ""],
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
