"""After any kind of write, a read through the proxy shows the new state of a cached item.

The kinds are all operations that `proxy.core.catalogue` says may change an item.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from proxy.core.catalogue import Treatment, named
from proxy.core.plan import FENCED
from tests.conformance.pair import THROUGH, Pair, create_table, table_definition
from tests.support.dynamo_wire import Call, Json, Reply

KEY: Json = {"pk": {"S": "$id"}}
OLD: Json = {**KEY, "v": {"S": "old"}}
NEW: Json = {**KEY, "v": {"S": "new"}}
EXISTS = {"ConditionExpression": "attribute_exists(v)"}
SET = {"UpdateExpression": "SET v = :v", "ExpressionAttributeValues": {":v": {"S": "new"}}}

NOT_EMULATED = {
    "ImportTable": "creates a table and fills it from S3",
    "RestoreTableFromBackup": "creates a table with a backup's items",
    "RestoreTableToPointInTime": "creates a table with former items",
    "CreateGlobalTable": "joins tables of several regions: their items appear here",
    "UpdateGlobalTable": "the same for more regions",
    "UpdateTable": "may add a replica that brings items, or take one away",
}
"""Operations that change items, or whole tables, but that no engine here really performs."""

TIME_TO_LIVE = "UpdateTimeToLive"  # DynamoDB then deletes items by itself; fenced to be sure


@dataclass(frozen=True)
class Change:
    """One kind of write: what is sent, and the item it leaves.

    Args:
        name: the operation, and which use of it.
        calls: what the client sends, in order.
        after: the item that a read must show, None for none.
        before: the item that was cached, None for a cached absence.
    """

    name: str
    calls: tuple[Call, ...]
    after: Json | None
    before: Json | None = None

    @property
    def operations(self) -> set[str]:
        """The operations it uses."""
        return {call.operation for call in self.calls}


def one(name: str, operation: str, after: Json | None, body: Json, **more: Json | None) -> Change:
    """Make a change of a single call; the cached item is OLD unless `before` says otherwise."""
    return Change(name, (Call(operation, body),), after, more.get("before", OLD))


def item_write(operation: str, after: Json | None, **members: object) -> Change:
    """Make a change by one of the plain writes."""
    return one(operation, operation, after, {"TableName": "$table", **members})


def transaction(name: str, after: Json | None, kind: str, action: Json) -> Change:
    """Make a change by TransactWriteItems."""
    items = [{kind: {"TableName": "$table", **action}}]
    return one(f"TransactWriteItems-{name}", "TransactWriteItems", after, {"TransactItems": items})


def batch(name: str, after: Json | None, request: Json) -> Change:
    """Make a change by BatchWriteItem."""
    body = {"RequestItems": {"$table": [request]}}
    return one(f"BatchWriteItem-{name}", "BatchWriteItem", after, body)


UPDATE = "UPDATE \"$table\" SET v='new' WHERE pk='$id'"
DELETE = "DELETE FROM \"$table\" WHERE pk='$id'"
INSERT = "INSERT INTO \"$table\" VALUE {'pk': '$id', 'v': 'new'}"
RECREATION = Change(
    "DeleteTable-CreateTable",
    (
        Call("DeleteTable", {"TableName": "$table"}),
        Call("CreateTable", table_definition("$table", (("pk", "S"),))),
    ),
    None,
    OLD,
)
OTHER_KEY = table_definition("$table", (("pk", "S"), ("sk", "S")))

CHANGES = [
    item_write("PutItem", NEW, Item=NEW),
    item_write("UpdateItem", NEW, Key=KEY, **SET),
    item_write("DeleteItem", None, Key=KEY),
    one("PutItem-of-absent", "PutItem", NEW, {"TableName": "$table", "Item": NEW}, before=None),
    Change(
        "UpdateItem-of-absent",
        (Call("UpdateItem", {"TableName": "$table", "Key": KEY, **SET}),),
        NEW,
    ),
    batch("put", NEW, {"PutRequest": {"Item": NEW}}),
    batch("delete", None, {"DeleteRequest": {"Key": KEY}}),
    RECREATION,
]
CHANGES_OF_ONE_ENGINE = [
    transaction("Put", NEW, "Put", {"Item": NEW}),
    transaction("Update", NEW, "Update", {"Key": KEY, **SET}),
    transaction("Delete", None, "Delete", {"Key": KEY}),
    one("ExecuteStatement-update", "ExecuteStatement", NEW, {"Statement": UPDATE}),
    one("ExecuteStatement-delete", "ExecuteStatement", None, {"Statement": DELETE}),
    one("ExecuteStatement-insert", "ExecuteStatement", NEW, {"Statement": INSERT}, before=None),
    one(
        "BatchExecuteStatement",
        "BatchExecuteStatement",
        NEW,
        {"Statements": [{"Statement": UPDATE}]},
    ),
    one(
        "ExecuteTransaction",
        "ExecuteTransaction",
        NEW,
        {"TransactStatements": [{"Statement": UPDATE}]},
    ),
]
ALL_CHANGES = [*CHANGES, *CHANGES_OF_ONE_ENGINE]


def test_every_write_of_the_catalogue_is_tried() -> None:
    """Each operation that may change an item has a change here, or a reason why it has none."""
    tried = set().union(*(change.operations for change in ALL_CHANGES))
    fenced = named(Treatment.WRITE, Treatment.TABLE_CHANGE)
    assert tried | NOT_EMULATED.keys() | {TIME_TO_LIVE} == fenced == FENCED


class Bench:
    """A table of one test, read and written through the proxy."""

    def __init__(self, pair: Pair, table: str) -> None:
        self.pair = pair
        self.table = table
        self._names = {"table": table, "id": "item-1"}

    def send(self, call: Call) -> Reply:
        """Send a call through the proxy."""
        return self.pair.ask_proxy(call.naming(self._names))

    def call(self, call: Call) -> Json:
        """Send a call through the proxy, which must succeed; a table is active afterwards."""
        if call.operation == "CreateTable":
            named = call.naming(self._names)
            create_table(self.pair.proxy.endpoint, json.loads(named.raw_body))
            return {}
        reply = self.send(call)
        assert reply.status == 200, reply.content
        content: Json = reply.content
        return content

    def read(self) -> tuple[Json | None, str]:
        """Read the item through the proxy; return it with `$id` and what the cache says."""
        body = {"TableName": "$table", "Key": KEY}
        reply = self.pair.ask_proxy(Call("GetItem", body).naming(self._names))
        assert reply.status == 200, reply.content
        item = reply.content.get("Item")
        return (item and item | KEY), reply.cache_status

    def cached(self, item: Json | None) -> None:
        """Bring the item, or its absence, into the cache."""
        if item is not None:
            self.call(Call("PutItem", {"TableName": "$table", "Item": item}))
        assert self.read()[0] == item
        state, cache_status = self.read()
        assert state == item
        assert "; hit" in cache_status


@pytest.fixture
def new_bench(cold_pair: Pair) -> Callable[[str], Bench]:
    """Give a maker of benches; each has a table of its own, or one that writes through."""

    def make(mode: str) -> Bench:
        if mode in THROUGH:
            return Bench(cold_pair, cold_pair.names[mode])
        table = f"e-{uuid.uuid4().hex[:8]}"
        create_table(cold_pair.direct, table_definition(table, (("pk", "S"),)))
        return Bench(cold_pair, table)

    return make


@pytest.mark.parametrize("mode", ["invalidate", "through"])
@pytest.mark.parametrize("change", ALL_CHANGES, ids=lambda change: change.name)
def test_read_after_write_shows_the_new_state(
    new_bench: Callable[[str], Bench], change: Change, mode: str
) -> None:
    """Although the item was cached before, the next read and the one after it see the write."""
    bench = new_bench("doomed" if mode == "through" and change is RECREATION else mode)
    if change in CHANGES_OF_ONE_ENGINE and bench.pair.engine == "dynalite":
        reply = bench.pair.ask_proxy(change.calls[0])
        assert reply.content["__type"].endswith("UnknownOperationException")
        return
    if change.before is None:
        bench.call(Call("DeleteItem", {"TableName": "$table", "Key": KEY}))
    bench.cached(change.before)
    for call in change.calls:
        bench.call(call)
    assert bench.read()[0] == change.after
    assert bench.read()[0] == change.after


def test_recreated_table_with_another_key_is_not_answered_from_the_cache(
    new_bench: Callable[[str], Bench],
) -> None:
    """After a table came back with a sort key, a read by the former key is the engine's error."""
    bench = new_bench("invalidate")
    bench.cached(OLD)
    bench.call(Call("DeleteTable", {"TableName": "$table"}))
    bench.call(Call("CreateTable", OTHER_KEY))
    names = {"table": bench.table, "id": "item-1"}
    reply = bench.pair.ask_proxy(Call("GetItem", {"TableName": "$table", "Key": KEY}).naming(names))
    assert reply.status == 400
    full = {**KEY, "sk": {"S": "s"}}
    bench.call(Call("PutItem", {"TableName": "$table", "Item": {**NEW, **full}}))
    for _ in range(2):
        found = bench.call(Call("GetItem", {"TableName": "$table", "Key": full}))
        assert found["Item"]["v"] == {"S": "new"}


OTHER: Json = {"pk": {"S": "other"}}
OTHER_NEW: Json = {**OTHER, "v": {"S": "new"}}
PUT_OTHER = {"Put": {"TableName": "$table", "Item": OTHER_NEW}}
UPDATE_OTHER = {"Statement": 'UPDATE "$table" SET v=? WHERE pk=?'}
UPDATE_OTHER_PARAMETERS: Json = {**UPDATE_OTHER, "Parameters": [{"S": "new"}, {"S": "other"}]}
INSERT_OTHER = {"Statement": "INSERT INTO \"$table\" VALUE {'pk': 'other', 'v': 'new'}"}
DELETE_OTHER = {"Statement": "DELETE FROM \"$table\" WHERE pk='other' RETURNING ALL OLD *"}
NEIGHBOURS = [
    Call("PutItem", {"TableName": "$table", "Item": OTHER_NEW}),
    Call("UpdateItem", {"TableName": "$table", "Key": OTHER, **SET}),
    Call("DeleteItem", {"TableName": "$table", "Key": OTHER}),
    Call("BatchWriteItem", {"RequestItems": {"$table": [{"PutRequest": {"Item": OTHER_NEW}}]}}),
    Call("BatchWriteItem", {"RequestItems": {"$table": [{"DeleteRequest": {"Key": OTHER}}]}}),
]
NEIGHBOURS_OF_ONE_ENGINE = [
    Call("TransactWriteItems", {"TransactItems": [PUT_OTHER]}),
    Call("ExecuteStatement", INSERT_OTHER),
    Call("BatchExecuteStatement", {"Statements": [INSERT_OTHER]}),
    Call("ExecuteTransaction", {"TransactStatements": [INSERT_OTHER]}),
]


@pytest.mark.parametrize("call", NEIGHBOURS, ids=lambda call: call.operation)
def test_write_of_one_item_leaves_others_cached(
    new_bench: Callable[[str], Bench], call: Call
) -> None:
    """A write's fence is around its items only: their neighbour still hits."""
    bench = new_bench("invalidate")
    bench.cached(OLD)
    bench.call(call)
    assert "; hit" in bench.read()[1]


of_one_engine = pytest.mark.parametrize(
    "pair", [pytest.param("dynamodb", marks=pytest.mark.engine)], indirect=True, scope="session"
)
"""The other engine knows neither transactions nor PartiQL."""


@of_one_engine
@pytest.mark.parametrize("call", NEIGHBOURS_OF_ONE_ENGINE, ids=lambda call: call.operation)
def test_transaction_or_statement_on_one_item_leaves_others_cached(
    new_bench: Callable[[str], Bench], call: Call
) -> None:
    """They name their items as well as single writes do."""
    bench = new_bench("invalidate")
    bench.cached(OLD)
    bench.call(call)
    assert "; hit" in bench.read()[1]


@of_one_engine
@pytest.mark.parametrize("statement", [UPDATE_OTHER_PARAMETERS, DELETE_OTHER])
def test_statement_with_parameters_or_tail_leaves_others_cached(
    new_bench: Callable[[str], Bench], statement: Json
) -> None:
    """A parameter stands where it stands, and what is returned changes nothing."""
    bench = new_bench("invalidate")
    bench.call(Call("PutItem", {"TableName": "$table", "Item": {**OTHER, "v": {"S": "o"}}}))
    bench.cached(OLD)
    bench.call(Call("ExecuteStatement", statement))
    assert "; hit" in bench.read()[1]


@of_one_engine
def test_transaction_of_several_items_and_tables_invalidates_each(
    new_bench: Callable[[str], Bench],
) -> None:
    """Every item is seen anew, in whichever table it is; a check writes nothing."""
    bench, other = new_bench("invalidate"), new_bench("invalidate")
    for each in (bench, other):
        each.cached(OLD)
    bench.call(Call("PutItem", {"TableName": "$table", "Item": OTHER_NEW}))
    update = {"TableName": other.table, "Key": KEY, **SET}
    actions: list[Json] = [
        {"Delete": {"TableName": "$table", "Key": KEY}},
        {"ConditionCheck": {"TableName": "$table", "Key": OTHER, **EXISTS}},
        {"Update": update},
    ]
    bench.call(Call("TransactWriteItems", {"TransactItems": actions}))
    assert (bench.read()[0], other.read()[0]) == (None, NEW)


@of_one_engine
def test_cancelled_transaction_leaves_its_items_cached(new_bench: Callable[[str], Bench]) -> None:
    """It changed nothing, so the entries come back."""
    bench = new_bench("invalidate")
    bench.cached(OLD)
    actions: list[Json] = [
        {"Delete": {"TableName": "$table", "Key": KEY}},
        {"ConditionCheck": {"TableName": "$table", "Key": OTHER, **EXISTS}},  # there is none
    ]
    call = Call("TransactWriteItems", {"TransactItems": actions})
    reply = bench.send(call)
    assert reply.content["__type"].endswith("TransactionCanceledException")
    assert bench.read()[0] == OLD
    assert "; hit" in bench.read()[1]


@of_one_engine
def test_repeated_transaction_is_not_taken_for_a_write(new_bench: Callable[[str], Bench]) -> None:
    """With the ClientRequestToken of one that was applied it is answered 200 and writes nothing."""
    bench = new_bench("invalidate")
    bench.cached(None)
    put = {"Put": {"TableName": "$table", "Item": NEW}}
    call = Call(
        "TransactWriteItems", {"TransactItems": [put], "ClientRequestToken": uuid.uuid4().hex}
    )
    bench.call(call)
    bench.call(Call("DeleteItem", {"TableName": "$table", "Key": KEY}))
    bench.call(call)
    for _ in range(2):
        assert bench.read()[0] is None
