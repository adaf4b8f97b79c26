"""Writes that pass no proxy, learned from a table's stream: real sockets, stores and engines."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any, Final

import pytest

from proxy.embedded.dynamodb import RunningDynamoDB
from proxy.embedded.valkey import RunningStore
from tests.fakes.fake_upstream import FakeUpstream
from tests.support.dynamo_wire import Call, Json, ask
from tests.support.serving import Serving, serving, until_told

pytestmark = pytest.mark.store

VIEWS: Final = ["KEYS_ONLY", "NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES"]
STREAMED: Final[Json] = {
    "streams.idle_poll_s": 0.25,
    "defaults.fresh_ttl_s": 3600,
    "defaults.negative_ttl_s": 3600,
}


class Table:
    """A table with a stream, at an endpoint; writes pass every proxy."""

    def __init__(self, endpoint: str, view: str | None = "NEW_AND_OLD_IMAGES") -> None:
        self.endpoint = endpoint
        self.name = f"streamed-{uuid.uuid4().hex[:8]}"
        self.call(
            "CreateTable",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
            **self._specification(view),
        )

    def _specification(self, view: str | None) -> Json:
        if view is None:
            return {}
        return {"StreamSpecification": {"StreamEnabled": True, "StreamViewType": view}}

    def call(self, operation: str, **members: Any) -> Json:
        """Call the engine itself."""
        reply = ask(self.endpoint, Call(operation, {"TableName": self.name, **members}))
        assert reply.status == 200, reply.content
        content: Json = reply.content
        return content

    def put(self, pk: str, v: str) -> None:
        """Write an item."""
        self.call("PutItem", Item={"pk": {"S": pk}, "v": {"S": v}})

    def delete(self, pk: str) -> None:
        """Delete an item."""
        self.call("DeleteItem", Key={"pk": {"S": pk}})

    def turn(self, view: str | None) -> None:
        """Turn the stream on or off."""
        specification = {"StreamEnabled": view is not None}
        if view is not None:
            specification["StreamViewType"] = view  # type: ignore[assignment]
        self.call("UpdateTable", StreamSpecification=specification)

    @property
    def settings(self) -> Json:
        """What a proxy needs to read the stream."""
        return {**STREAMED, "tables": {self.name: {"streams": True}}}


async def get(served: Serving, table: Table, pk: str) -> tuple[str | None, bool]:
    """Return an item's value as a proxy answers, and whether that was a hit."""
    reply = await served.call("GetItem", {"TableName": table.name, "Key": {"pk": {"S": pk}}})
    shown = reply.content.get("Item")
    return (None if shown is None else shown["v"]["S"]), "hit" in reply.cache.split("; ")[1]


async def warm(served: Serving, table: Table, pk: str) -> str | None:
    """Read an item until it comes from the cache."""
    value: str | None = None

    async def hit() -> bool:
        nonlocal value
        value, is_hit = await get(served, table, pk)
        return is_hit

    await until_told(hit)
    return value


async def status(served: Serving, table: Table) -> Json:
    """Return what is shown of the table's stream."""
    shown: Json = (await served.ops("/status")).content["streams"][table.name]
    return shown


async def caught_up(*fleet: Serving, table: Table) -> None:
    """Wait until every proxy knows that the table is within its bound."""

    async def told() -> bool:
        return not any([(await status(each, table))["over"] for each in fleet])

    await until_told(told)


async def shows(served: Serving, table: Table, pk: str, v: str | None) -> None:
    """Wait until a proxy answers with a value."""

    async def told() -> bool:
        return (await get(served, table, pk))[0] == v

    await until_told(told)


@pytest.fixture(params=["fake", pytest.param("ministack", marks=pytest.mark.engine)])
async def endpoint(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """Run a DynamoDB with Streams."""
    if request.param == "fake":
        async with FakeUpstream() as fake:
            yield fake.endpoint
        return
    engine: RunningDynamoDB = request.getfixturevalue("dynamodb")
    yield engine.endpoint


async def made(build: Callable[[], Table]) -> Table:
    """Make a table beside the loop, which may be what answers."""
    return await asyncio.to_thread(build)


@pytest.mark.parametrize("view", VIEWS)
async def test_a_write_past_every_proxy_is_seen_in_all_of_them(
    endpoint: str, valkey: RunningStore, view: str
) -> None:
    """Updates, deletions and new items, whatever the stream shows."""
    table = await made(lambda: Table(endpoint, view))
    await asyncio.to_thread(table.put, "a", "0")
    settings = {**table.settings, "store.namespace": table.name}
    async with AsyncExitStack() as stack:
        fleet = [
            await stack.enter_async_context(serving(endpoint, store=valkey.url, settings=settings))
            for _ in range(2)
        ]
        await caught_up(*fleet, table=table)
        for each in fleet:
            assert await warm(each, table, "a") == "0"
            assert await warm(each, table, "new") is None
        await asyncio.to_thread(table.put, "a", "1")
        await asyncio.to_thread(table.put, "new", "1")
        for each in fleet:
            await shows(each, table, "a", "1")
            await shows(each, table, "new", "1")
        await asyncio.to_thread(table.delete, "a")
        for each in fleet:
            await shows(each, table, "a", None)
        held = [(await status(each, table))["held"] for each in fleet]
        assert sum(held) >= 1


@pytest.mark.parametrize("mode", ["invalidate", "through"])
async def test_own_writes_keep_their_entries(valkey: RunningStore, mode: str) -> None:
    """What a write stored, or what was read after it, equals its record's image."""
    async with FakeUpstream() as fake:
        table = await made(lambda: Table(fake.endpoint))
        settings = {**table.settings, "defaults.write_mode": mode}
        async with serving(fake.endpoint, store=valkey.url, settings=settings) as proxy:
            await caught_up(proxy, table=table)
            stream = fake.tables.stream(table.name)
            stream.hold()
            for number in range(3):
                item: Json = {"pk": {"S": f"k{number}"}, "v": {"S": "1"}, "n": {"N": "1.50"}}
                item["set"] = {"SS": ["b", "a"]}
                reply = await proxy.call("PutItem", {"TableName": table.name, "Item": item})
                assert reply.status == 200
                await warm(proxy, table, f"k{number}")
            stream.release()

            async def applied() -> bool:
                return await proxy.metric("dynaside_stream_records_total") == 3

            await until_told(applied)
            assert await proxy.metric("dynaside_stream_records_total", 'result="same"') == 3
            found = [await get(proxy, table, f"k{number}") for number in range(3)]
            assert found == [("1", True)] * 3


async def test_a_stream_that_is_switched_on_again_is_read(
    endpoint: str, valkey: RunningStore
) -> None:
    """What was written meanwhile is seen: the table was voided."""
    table = await made(lambda: Table(endpoint))
    await asyncio.to_thread(table.put, "a", "0")
    settings = {**table.settings, "streams.discover_s": 1}
    async with serving(endpoint, store=valkey.url, settings=settings) as proxy:
        await caught_up(proxy, table=table)
        await warm(proxy, table, "a")
        await asyncio.to_thread(table.turn, None)
        await asyncio.to_thread(table.put, "a", "1")
        await asyncio.to_thread(table.turn, "KEYS_ONLY")
        await shows(proxy, table, "a", "1")

        async def gap() -> bool:
            return await proxy.metric("dynaside_stream_gaps_total", 'reason="new"') >= 2

        await until_told(gap)


async def test_a_table_without_a_stream_degrades(endpoint: str, valkey: RunningStore) -> None:
    """Its entries answer for a short time only; status and metrics say so."""
    table = await made(lambda: Table(endpoint, None))
    await asyncio.to_thread(table.put, "a", "0")
    settings = {**table.settings, "streams.short_ttl_s": 0}
    async with serving(endpoint, store=valkey.url, settings=settings) as proxy:

        async def told() -> bool:
            return bool((await status(proxy, table))["state"] == "no-stream")

        await until_told(told)
        assert [(await get(proxy, table, "a"))[1] for _ in range(3)] == [False] * 3
        assert await proxy.metric("dynaside_stream_degraded") == 1
        assert await proxy.metric("dynaside_stream_lag_seconds") == float("inf")
        assert (await status(proxy, table))["lag_s"] is None


async def test_shards_split_under_load(valkey: RunningStore) -> None:
    """No record is lost, whatever splits when."""
    async with FakeUpstream() as fake:
        table = await made(lambda: Table(fake.endpoint))
        stream = fake.tables.stream(table.name)
        async with serving(fake.endpoint, store=valkey.url, settings=table.settings) as proxy:
            await caught_up(proxy, table=table)
            written = 0
            for number in range(40):
                item = {"pk": {"S": f"k{number % 8}"}, "v": {"S": str(number)}}
                fake.tables.call("PutItem", {"TableName": table.name, "Item": item})
                written += 1
                if number % 5 == 0:
                    stream.split() if number % 2 else stream.roll_over()
                await asyncio.sleep(0.01)

            async def applied() -> bool:
                return await proxy.metric("dynaside_stream_records_total") >= written

            await until_told(applied)
            assert await proxy.metric("dynaside_stream_records_total") == written
