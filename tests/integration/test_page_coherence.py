"""Real processes, one store: no page is older than what was acknowledged before it was asked for.

Each item of one partition has one writer, which writes 1, 2, 3, … through changing proxies. A
reader's floor is, item by item, what had been acknowledged, or seen by anybody, before its request
left. One of the proxies caches no pages: its writers must let the others' pages go all the same.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final

import aiohttp
import pytest

from proxy.embedded.dynamodb import RunningDynamoDB
from proxy.embedded.valkey import RunningStore
from tests.support.proxy_process import RunningProxy, running_proxy
from tests.support.single_writers import ITEMS, SIGNED, History

WRITES_EACH: Final = 60
READERS: Final = 12
PARTITION: Final[dict[str, Any]] = {
    "KeyConditionExpression": "pk = :p",
    "ExpressionAttributeValues": {":p": {"S": "p"}},
}
READS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("Query", PARTITION),
    ("Query", PARTITION | {"ScanIndexForward": False}),
    ("Query", PARTITION | {"IndexName": "by-v"}),
    ("Scan", {}),
)


@pytest.fixture(params=["session", "strict"])
def proxies(
    request: pytest.FixtureRequest, valkey: RunningStore, dynamodb: RunningDynamoDB
) -> Iterator[list[RunningProxy]]:
    """Three proxies of one store; pages turn stale quickly, so that refreshes take part."""
    settings: dict[str, Any] = {
        "store.namespace": f"pages-{request.param}",
        "defaults.level": request.param,
        "upstream.connect_timeout_s": 0.5,
        "upstream.write_timeout_s": 3.0,
        "fence.marker_s": 4.0,
    }
    pages = {
        "defaults.queries.enabled": True,
        "defaults.queries.scans": True,
        "defaults.queries.fresh_ttl_s": 0.2,
    }
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                running_proxy(upstream=dynamodb.endpoint, store=valkey.url, settings=each)
            )
            for each in (settings | pages, settings | pages, settings)
        ]


async def test_no_page_is_older_than_an_acknowledged_write(proxies: list[RunningProxy]) -> None:
    """Readers and writers through three proxies: every item of every page is at its floor."""
    history = History()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        client = _Client(session, proxies, f"pages-{random.randrange(10**9)}")
        await client.create()
        # Writers begin before pages count, and go on when they do.
        reading = asyncio.gather(*(_read(client, history) for _ in range(READERS)))
        await asyncio.gather(*(_write(client, history, item) for item in range(ITEMS)))
        await reading
    assert not history.violations
    assert history.outcomes["hit"] > WRITES_EACH, history.outcomes
    assert history.outcomes["fwd=miss"] > ITEMS, history.outcomes
    assert history.outcomes["fwd=bypass"] > ITEMS, history.outcomes


async def _write(client: _Client, history: History, item: int) -> None:
    version = 0
    while version < WRITES_EACH or history.outcomes["hit"] <= WRITES_EACH:
        version += 1
        history.started[item] = version
        match random.randrange(4):
            case 0:
                await client.put(item, version)
            case 1:
                await client.update(item, version)
            case 2:
                await client.batch_put(item, version)
            case _:
                await client.refused_put(item)
                await client.put(item, version)
        history.floor[item] = max(history.floor[item], version)
        # Let readers fill in between; how many requests they get done is left to the machine.
        for _ in range(random.choice((0, 0, 5, 20))):
            await client.page()
    history.writers_left -= 1


async def _read(client: _Client, history: History) -> None:
    while history.writers_left:
        floor = Counter(history.floor)
        seen, outcome = await client.page()
        for item in range(ITEMS):
            version = seen.get(item, 0)
            if not floor[item] <= version <= history.started[item]:
                history.violations.append(f"item {item}: {version}, floor {floor[item]}, {outcome}")
            history.floor[item] = max(history.floor[item], version)
        history.outcomes[outcome] += 1


class _Client:
    """Sends each request to one proxy or another."""

    def __init__(
        self, session: aiohttp.ClientSession, proxies: list[RunningProxy], table: str
    ) -> None:
        self._session = session
        self._endpoints = [proxy.endpoint for proxy in proxies]
        self._table = table

    async def create(self) -> None:
        keys = (("pk", "S"), ("sk", "N"), ("v", "N"))
        projection = {"ProjectionType": "ALL"}
        status, _, _ = await self._call(
            "CreateTable",
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": kind} for name, kind in keys
            ],
            KeySchema=_keys("pk", "sk"),
            LocalSecondaryIndexes=[
                {"IndexName": "by-v", "KeySchema": _keys("pk", "v"), "Projection": projection}
            ],
            BillingMode="PAY_PER_REQUEST",
        )
        assert status == 200

    async def put(self, item: int, version: int) -> None:
        status, _, _ = await self._call("PutItem", Item=_item(item, version))
        assert status == 200

    async def batch_put(self, item: int, version: int) -> None:
        items = {self._table: [{"PutRequest": {"Item": _item(item, version)}}]}
        status, _, _ = await self._call("BatchWriteItem", RequestItems=items)
        assert status == 200

    async def update(self, item: int, version: int) -> None:
        status, _, _ = await self._call(
            "UpdateItem",
            Key=_key(item),
            UpdateExpression="SET v = :v",
            ExpressionAttributeValues={":v": {"N": str(version)}},
        )
        assert status == 200

    async def refused_put(self, item: int) -> None:
        status, _, _ = await self._call(
            "PutItem",
            Item=_item(item, 999_999),
            ConditionExpression="attribute_exists(pk) AND attribute_not_exists(pk)",
        )
        assert status == 400

    async def page(self) -> tuple[dict[int, int], str]:
        """Read a page of some kind; return the version of each item on it."""
        operation, body = random.choice(READS)
        status, answer, outcome = await self._call(operation, **body)
        assert status == 200, answer
        return {int(each["sk"]["N"]): int(each["v"]["N"]) for each in answer["Items"]}, outcome

    async def _call(self, operation: str, **request: Any) -> tuple[int, dict[str, Any], str]:
        headers = {**SIGNED, "X-Amz-Target": f"DynamoDB_20120810.{operation}"}
        url = random.choice(self._endpoints)
        body = request if "RequestItems" in request else {"TableName": self._table, **request}
        async with self._session.post(url, json=body, headers=headers) as answer:
            outcome = answer.headers["Cache-Status"].split("; ")[1]
            return answer.status, await answer.json(content_type=None), outcome


def _keys(partition: str, sort: str) -> list[dict[str, str]]:
    return [
        {"AttributeName": partition, "KeyType": "HASH"},
        {"AttributeName": sort, "KeyType": "RANGE"},
    ]


def _key(item: int) -> dict[str, Any]:
    return {"pk": {"S": "p"}, "sk": {"N": str(item)}}


def _item(item: int, version: int) -> dict[str, Any]:
    return _key(item) | {"v": {"N": str(version)}}
