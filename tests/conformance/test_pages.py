"""Queries and Scans get the engine's own answer: cold, from the cache, and after every write."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any, Final

import pytest

from proxy.embedded.valkey import RunningStore, start_valkey
from tests.conformance.accepted_differences import Step
from tests.conformance.comparison import assert_conforms
from tests.conformance.page_cases import ITEMS, PAGE_CASES, PARTITION, pages_table
from tests.conformance.pair import TRIES_MAX, Pair, create_table
from tests.conformance.read_cases import ReadCase
from tests.conformance.test_every_write import Change, batch, item_write, one, transaction
from tests.support.dynamo_wire import Call, Json, Reply
from tests.support.proxy_process import running_proxy

TABLES: Final = ("pages", "written", "doomed")
# Short, so that pages count soon after somebody asked for them.
SETTINGS: Final[Json] = {
    "upstream.connect_timeout_s": 0.2,
    "upstream.write_timeout_s": 1.5,
    "fence.marker_s": 2.0,
    "defaults.queries.enabled": True,
    "defaults.queries.scans": True,
    "defaults.queries.index_lag_s": 0.2,
}
POLL_S: Final = 0.02


@pytest.fixture(scope="session")
def kept_valkey() -> Iterator[RunningStore]:
    """Run a store that no other test flushes: it knows that pages are cached."""
    with closing(start_valkey()) as store:
        yield store


@pytest.fixture(scope="session")
def page_pair(pair: Pair, kept_valkey: RunningStore) -> Iterator[Pair]:
    """Give an engine with the tables of pages, and a proxy whose writers all know of pages."""
    mark = uuid.uuid4().hex[:8]
    names = {logical: f"p-{mark}-{logical}" for logical in TABLES}
    for name in names.values():
        create_table(pair.direct, pages_table(name))
    with running_proxy(upstream=pair.direct, store=kept_valkey.url, settings=SETTINGS) as proxy:
        made = Pair(pair.engine, pair.direct, proxy, names)
        for item in ITEMS:
            made.put("pages", item)
        for logical in TABLES:
            until(made, Call("Scan", {"TableName": f"${logical}", "Limit": 7}), "; hit")
        yield made


def until(pair: Pair, call: Call, status: str) -> Reply:
    """Ask the proxy until its Cache-Status says so: only its own time can bring that about."""
    reply = pair.ask_proxy(call)
    for _ in range(TRIES_MAX):
        if status in reply.cache_status:
            return reply
        time.sleep(POLL_S)
        reply = pair.ask_proxy(call)
    raise AssertionError(reply.cache_status)


@pytest.mark.parametrize("case", PAGE_CASES, ids=lambda case: case.name)
def test_page_is_answered_as_by_the_engine(page_pair: Pair, case: ReadCase) -> None:
    """Status, type, checksum and body are the engine's, on a miss and on a hit."""
    direct = page_pair.ask_engine(case.call)
    for step in Step:
        proxied = page_pair.ask_proxy(case.call)
        assert_conforms(page_pair.engine, case.name, step, direct=direct, proxied=proxied)
        hit = "; hit" in proxied.cache_status
        assert hit == (case.cached and step is Step.WARM), proxied.cache_status


@pytest.mark.parametrize("limit", [1, 2, 5])
@pytest.mark.parametrize("body", [{}, PARTITION], ids=["Scan", "Query"])
def test_pages_follow_each_other(page_pair: Pair, body: Json, limit: int) -> None:
    """From LastEvaluatedKey to LastEvaluatedKey, cold and cached, all items come once."""
    operation = "Query" if body else "Scan"

    def walk(*, proxied: bool) -> list[Any]:
        found: list[Any] = []
        more: Json = {}
        while True:
            call = Call(operation, {"TableName": "$pages", "Limit": limit, **body, **more})
            reply = page_pair.ask_proxy(call) if proxied else page_pair.ask_engine(call)
            assert reply.status == 200, reply.content
            found += reply.content["Items"]
            if "LastEvaluatedKey" not in reply.content:
                return found
            more = {"ExclusiveStartKey": reply.content["LastEvaluatedKey"]}

    expected = walk(proxied=False)
    assert len(expected) == (6 if body else len(ITEMS))
    assert walk(proxied=True) == expected
    assert walk(proxied=True) == expected


KEY: Json = {"pk": {"S": "$id"}, "sk": {"N": "1"}}
OLD: Json = {**KEY, "weight": {"N": "1"}, "kind": {"S": "$id"}, "v": {"S": "old"}}
NEW: Json = {**OLD, "v": {"S": "new"}}
SET: Json = {"UpdateExpression": "SET v = :v", "ExpressionAttributeValues": {":v": {"S": "new"}}}
UPDATE = "UPDATE \"$table\" SET v='new' WHERE pk='$id' AND sk=1"
DELETE = "DELETE FROM \"$table\" WHERE pk='$id' AND sk=1"
INSERT = (
    "INSERT INTO \"$table\" VALUE {'pk': '$id', 'sk': 1, 'weight': 1, 'kind': '$id', 'v': 'new'}"
)

CHANGES = [
    item_write("PutItem", NEW, Item=NEW),
    item_write("UpdateItem", NEW, Key=KEY, **SET),
    item_write("DeleteItem", None, Key=KEY),
    one("PutItem-of-absent", "PutItem", NEW, {"TableName": "$table", "Item": NEW}, before=None),
    batch("put", NEW, {"PutRequest": {"Item": NEW}}),
    batch("delete", None, {"DeleteRequest": {"Key": KEY}}),
    Change(
        "DeleteTable-CreateTable",
        (
            Call("DeleteTable", {"TableName": "$table"}),
            Call("CreateTable", pages_table("$table")),
        ),
        None,
        OLD,
    ),
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
OF_ONE_ENGINE = set().union(*(change.operations for change in CHANGES_OF_ONE_ENGINE))
ALL_CHANGES = [
    replace(change, before=change.before and OLD) for change in [*CHANGES, *CHANGES_OF_ONE_ENGINE]
]
OF_ID: Json = {":p": {"S": "$id"}}
READS: dict[str, Call] = {
    "query": Call(
        "Query",
        {
            "TableName": "$table",
            "KeyConditionExpression": "pk = :p",
            "ExpressionAttributeValues": OF_ID,
        },
    ),
    "scan": Call(
        "Scan",
        {
            "TableName": "$table",
            "FilterExpression": "pk = :p",
            "ExpressionAttributeValues": OF_ID,
        },
    ),
    "local": Call(
        "Query",
        {
            "TableName": "$table",
            "IndexName": "by-weight",
            "KeyConditionExpression": "pk = :p",
            "ExpressionAttributeValues": OF_ID,
        },
    ),
}
GLOBAL = Call(
    "Query",
    {
        "TableName": "$table",
        "IndexName": "by-kind",
        "KeyConditionExpression": "kind = :p",
        "ExpressionAttributeValues": OF_ID,
    },
)


class Bench:
    """One partition of a table, written and read through the proxy."""

    def __init__(self, pair: Pair, logical: str) -> None:
        self.pair = pair
        self.names = {"table": pair.names[logical], "id": f"item-{uuid.uuid4().hex[:8]}"}

    def call(self, call: Call) -> Reply:
        """Send a call through the proxy, which must succeed; a table is active afterwards."""
        named = call.naming(self.names)
        if call.operation == "CreateTable":
            create_table(self.pair.proxy.endpoint, pages_table(self.names["table"]))
            return Reply(200, {}, b"")
        reply = self.pair.ask_proxy(named)
        assert reply.status == 200, reply.content
        return reply

    def read(self, call: Call) -> tuple[list[Json], str]:
        """Read a page; return its items with `$id` in place of the id, and what the cache says."""
        reply = self.call(call)
        tokens = {"pk": KEY["pk"], "kind": {"S": "$id"}}
        items = [
            item | {n: t for n, t in tokens.items() if n in item} for item in reply.content["Items"]
        ]
        return items, reply.cache_status

    def cached(self, item: Json | None) -> None:
        """Bring an item, or its absence, onto cached pages of every kind."""
        if item is not None:
            self.call(Call("PutItem", {"TableName": "$table", "Item": item}))
        for read in READS.values():
            assert self.read(read)[0] == ([] if item is None else [item])
            items, cache_status = self.read(read)
            assert items == ([] if item is None else [item])
            assert "; hit" in cache_status


@pytest.mark.parametrize("change", ALL_CHANGES, ids=lambda each: each.name)
def test_page_after_write_shows_the_new_state(page_pair: Pair, change: Change) -> None:
    """Although it was cached before, the next Query, Scan and local Query see the write."""
    bench = Bench(page_pair, "doomed" if len(change.calls) > 1 else "written")
    if change.operations & OF_ONE_ENGINE and page_pair.engine == "dynalite":
        reply = page_pair.ask_proxy(change.calls[0].naming(bench.names))
        assert reply.content["__type"].endswith("UnknownOperationException")
        return
    bench.cached(change.before)
    for call in change.calls:
        bench.call(call)
    expected = [] if change.after is None else [change.after]
    for _ in range(2):
        for name, read in READS.items():
            assert bench.read(read)[0] == expected, name
        items, cache_status = bench.read(GLOBAL)
        assert items == expected
        assert "detail=index-lag" in cache_status or change.before is None


def test_global_index_is_cached_while_its_table_is_quiet(page_pair: Pair) -> None:
    """After `index_lag_s` it is a hit, until the table's next write, of whatever item."""
    bench = Bench(page_pair, "written")
    bench.call(Call("PutItem", {"TableName": "$table", "Item": OLD}))
    named = GLOBAL.naming(bench.names)
    until(page_pair, named, "; hit")
    assert bench.read(GLOBAL)[0] == [OLD]
    other = OLD | {"pk": {"S": "other"}}
    bench.call(Call("PutItem", {"TableName": "$table", "Item": other}))
    items, cache_status = bench.read(GLOBAL)
    assert len(items) == 2
    assert "detail=index-lag" in cache_status


def test_write_of_another_partition_leaves_a_query_cached(page_pair: Pair) -> None:
    """A Query hangs on its own partition only."""
    bench, other = Bench(page_pair, "written"), Bench(page_pair, "written")
    bench.cached(OLD)
    other.call(Call("PutItem", {"TableName": "$table", "Item": OLD}))
    assert "; hit" in bench.read(READS["query"])[1]
    assert "; hit" in bench.read(READS["local"])[1]
    assert "; hit" not in bench.read(READS["scan"])[1]
