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
from tests.support.dynamo_wire import Call, Json

KEY: Json = {"pk": {"S": "$id"}}
OLD: Json = {**KEY, "v": {"S": "old"}}
NEW: Json = {**KEY, "v": {"S": "new"}}
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

    def call(self, call: Call) -> Json:
        """Send a call through the proxy, which must succeed; a table is active afterwards."""
        named = call.naming(self._names)
        if call.operation == "CreateTable":
            create_table(self.pair.proxy.endpoint, json.loads(named.raw_body))
            return {}
        reply = self.pair.ask_proxy(named)
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


def test_write_of_one_item_leaves_others_cached(new_bench: Callable[[str], Bench]) -> None:
    """A plain write's fence is around one item only: its neighbour still hits."""
    bench = new_bench("invalidate")
    bench.cached(OLD)
    neighbour = {**NEW, "pk": {"S": "other"}}
    bench.call(Call("PutItem", {"TableName": "$table", "Item": neighbour}))
    assert "; hit" in bench.read()[1]
