"""A table that is deleted and made anew past every proxy: noticed, and asked for by one of them."""

from __future__ import annotations

import uuid
from contextlib import AsyncExitStack
from typing import Any, Final

import pytest

from proxy.embedded.valkey import RunningStore
from tests.conformance.pair import ENGINES, create_table, table_definition
from tests.fakes.fake_upstream import FakeUpstream
from tests.support.dynamo_wire import Call, Json, ask
from tests.support.serving import Reply, Serving, serving, until_told

pytestmark = pytest.mark.store

SETTINGS: Final[Json] = {
    "upstream.table_check_s": 0.2,
    "defaults.fresh_ttl_s": 3600,
    "defaults.negative_ttl_s": 3600,
    "defaults.queries.enabled": True,
    "defaults.queries.scans": True,
    # Short, so that pages count soon after somebody asked for them.
    "upstream.connect_timeout_s": 0.5,
    "upstream.write_timeout_s": 1.0,
    "fence.marker_s": 2.0,
}
PARTITION: Final[Json] = {
    "KeyConditionExpression": "pk = :p",
    "ExpressionAttributeValues": {":p": {"S": "a"}},
}
each_engine = pytest.mark.parametrize(
    "engine", [pytest.param(each, marks=pytest.mark.engine) for each in ENGINES]
)


class Table:
    """A table of an engine, with one item; `reads` are what proxies keep of it."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.name = f"w-{uuid.uuid4().hex[:8]}"

    @property
    def reads(self) -> list[Call]:
        """An item, an absence, a Query and a Scan."""
        named = {"TableName": self.name}
        return [
            Call("GetItem", {**named, "Key": {"pk": {"S": "a"}}}),
            Call("GetItem", {**named, "Key": {"pk": {"S": "b"}}}),
            Call("Query", {**named, **PARTITION}),
            Call("Scan", named),
        ]

    def make(self, *items: Json) -> None:
        """Make it with these items, past every proxy."""
        create_table(self.endpoint, table_definition(self.name, (("pk", "S"),)))
        for item in items:
            call = Call("PutItem", {"TableName": self.name, "Item": item})
            assert ask(self.endpoint, call).status == 200

    def delete(self) -> None:
        """Delete it past every proxy; it takes a moment."""
        reply = ask(self.endpoint, Call("DeleteTable", {"TableName": self.name}))
        assert reply.status == 200, reply.content

    def direct(self) -> list[Any]:
        """Return what the engine itself answers to every read."""
        return [ask(self.endpoint, read).content for read in self.reads]


def item(name: str, v: str) -> Json:
    """Return an item."""
    return {"pk": {"S": name}, "v": {"S": v}}


async def answer(served: Serving, read: Call) -> Reply:
    """Return what the proxy answers to a read."""
    assert isinstance(read.body, dict)
    return await served.call(read.operation, read.body)


async def answers(served: Serving, table: Table) -> list[Any]:
    """Return what the proxy answers to every read."""
    return [(await answer(served, read)).content for read in table.reads]


async def until_cached(served: Serving, table: Table) -> None:
    """Return once every read is a hit: pages take their time."""
    for read in table.reads:

        async def hit(read: Call = read) -> bool:
            return "; hit" in (await answer(served, read)).cache

        await until_told(hit)


async def until_checked(served: Serving, *, result: str, times: int) -> None:
    """Return once that many more checks of the proxy had this result."""
    label = f'result="{result}"'
    before = await served.metric("dynaside_table_checks_total", label)

    async def told() -> bool:
        now = await served.metric("dynaside_table_checks_total", label)
        return now >= before + times

    await until_told(told)


@each_engine
async def test_a_table_made_anew_past_the_proxy_is_answered_fresh(
    engine: str, request: pytest.FixtureRequest, valkey: RunningStore
) -> None:
    """Items, absences and pages of the older table are gone once the proxy has looked."""
    table = Table(request.getfixturevalue(engine).endpoint)
    table.make(item("a", "old"))
    async with serving(table.endpoint, store=valkey.url, settings=SETTINGS) as served:
        await until_cached(served, table)
        await until_checked(served, result="same", times=1)
        older = await answers(served, table)
        assert older == table.direct()
        table.delete()
        table.make(item("a", "new"), item("b", "new"))
        # One check may have been under way; the one after it has seen the new table.
        await until_checked(served, result="same", times=2)
        newer = await answers(served, table)
        assert newer == table.direct()
        assert newer != older
        assert await served.metric("dynaside_table_checks_total", 'result="remade"') >= 1


@each_engine
async def test_a_table_that_is_gone_is_void_once_a_request_shows_it(
    engine: str, request: pytest.FixtureRequest, valkey: RunningStore
) -> None:
    """Also where nobody looks, one refused read is enough for every item."""
    table = Table(request.getfixturevalue(engine).endpoint)
    table.make(item("a", "old"))
    settings = {**SETTINGS, "upstream.table_check_s": 0}
    async with serving(table.endpoint, store=valkey.url, settings=settings) as served:
        await until_cached(served, table)
        table.delete()

        async def refused() -> bool:
            body = {"TableName": table.name, "Key": {"pk": {"S": uuid.uuid4().hex}}}
            return (await served.call("GetItem", body)).status == 400

        await until_told(refused)
        table.make(item("a", "new"), item("b", "new"))
        assert await answers(served, table) == table.direct()


async def test_one_of_several_proxies_asks(valkey: RunningStore) -> None:
    """All have read and looked, and DescribeTable was asked once."""
    settings = {
        **SETTINGS,
        "upstream.table_check_s": 3600,
        "store.namespace": f"test-{uuid.uuid4().hex[:8]}",
    }
    body = {"TableName": "t", "Key": {"pk": {"S": "a"}}}
    async with FakeUpstream() as upstream, AsyncExitStack() as stack:
        upstream.tables.add("t", pk="S")
        for _ in range(3):
            proxy = await stack.enter_async_context(
                serving(upstream.endpoint, store=valkey.url, settings=settings)
            )
            assert (await proxy.call("GetItem", body)).status == 200

            async def looked(proxy: Serving = proxy) -> bool:
                step = 'step="claim_check"'
                return await proxy.metric("dynaside_store_duration_seconds_count", step) >= 1

            await until_told(looked)
        await upstream.counted("DescribeTable", 1)
        assert upstream.count("DescribeTable") == 1
