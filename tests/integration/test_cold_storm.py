"""A cold storm with the store down: DynamoDB meets a bound, what exceeds it hears so at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.fakes.fake_upstream import FakeUpstream
from tests.support.dynamo_wire import Call
from tests.support.ports import free_port
from tests.support.serving import Serving, serving

TABLE = "t"
CONNECTIONS_MAX = 8
WAITING_MAX = 24
ROOM = CONNECTIONS_MAX + WAITING_MAX
CLIENTS = 200
"""Connections that the callers share: more than there is room for, so that the rest are refused."""

Request = tuple[str, dict[str, Any]]


def keys(first: int, count: int) -> list[dict[str, Any]]:
    """Return so many primary keys."""
    return [{"pk": {"S": f"item-{number}"}} for number in range(first, first + count)]


def get(number: int) -> Request:
    """Read one item."""
    return "GetItem", {"TableName": TABLE, "Key": keys(number, 1)[0]}


def batch(number: int) -> Request:
    """Read ten items that nobody else reads."""
    return "BatchGetItem", {"RequestItems": {TABLE: {"Keys": keys(10 * number, 10)}}}


def page(number: int) -> Request:
    """Read one partition."""
    condition = {"KeyConditionExpression": "pk = :p"}
    values = {"ExpressionAttributeValues": {":p": {"S": f"item-{number}"}}}
    return "Query", {"TableName": TABLE, **condition, **values}


STORMS = {"items": (get, 5000), "batches": (batch, 500), "pages": (page, 5000)}


@pytest.fixture
async def fake() -> AsyncIterator[FakeUpstream]:
    """A DynamoDB with table `t` that answers nobody yet."""
    async with FakeUpstream() as upstream:
        upstream.tables.add(TABLE, pk="S")
        yield upstream


@pytest.fixture
async def proxy(fake: FakeUpstream) -> AsyncIterator[Serving]:
    """A proxy with few connections to DynamoDB, whose store is not there."""
    settings = {
        "store.url": f"redis://127.0.0.1:{free_port()}/0",
        "upstream.connections_max": CONNECTIONS_MAX,
        "upstream.waiting_max": WAITING_MAX,
        "upstream.read_timeout_s": 300,
        "defaults.queries.enabled": True,
    }
    async with serving(fake.endpoint, settings=settings) as running:
        yield running


@pytest.mark.parametrize("storm", STORMS)
async def test_a_cold_storm_opens_no_more_connections_than_allowed(
    fake: FakeUpstream, proxy: Serving, storm: str
) -> None:
    """Excess is refused while the others still wait, so that SDKs retry, and it is counted."""
    make, total = STORMS[storm]
    operation = make(0)[0]
    gate = fake.hold(operation)
    says: Counter[tuple[int, str]] = Counter()
    refused = asyncio.Event()
    url = f"http://{proxy.host}:{proxy.port}"
    connector = aiohttp.TCPConnector(limit=CLIENTS)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.timeout(300):

        async def ask(number: int) -> None:
            call = Call(*make(number))
            fields = call.fields(f"{proxy.host}:{proxy.port}")
            async with session.post(url, data=call.raw_body, headers=fields) as reply:
                await reply.read()
                detail = reply.headers["Cache-Status"].partition("detail=")[2]
                says[reply.status, detail] += 1
                if says[503, "upstream-overload"] == total - ROOM:
                    refused.set()

        asking = [asyncio.create_task(ask(number)) for number in range(total)]
        await refused.wait()
        assert fake.count(operation) == CONNECTIONS_MAX
        assert says.total() == total - ROOM, says
        await gate.reached(CONNECTIONS_MAX)
        fake.release()
        await asyncio.gather(*asking)
    assert says == {(503, "upstream-overload"): total - ROOM, (200, "store-down"): ROOM}
    assert fake.count(operation) == ROOM
    assert fake.connections <= CONNECTIONS_MAX
    failures = "dynaside_upstream_failures_total", 'failure="overload"'
    assert await proxy.metric(*failures) == total - ROOM
