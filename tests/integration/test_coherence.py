"""Real processes, one store: no reader ever sees an item older than what was acknowledged.

Each item has one writer, which writes 1, 2, 3, … through changing proxies, so "older" is "<". Every
reader's floor is what had been acknowledged, or seen by anybody, before its request left: that is
linearizability per item for this kind of history.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import pytest

from proxy.embedded.dynamodb import RunningDynamoDB
from proxy.embedded.valkey import RunningStore
from tests.support.proxy_process import RunningProxy, running_proxy

ITEMS: Final = 4
WRITES_EACH: Final = 60
READERS: Final = 16
PROXIES: Final = 3
SIGNED: Final = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=a/20261123/us-east-1/dynamodb/aws4_request, "
    "SignedHeaders=host, Signature=0",
    "Content-Type": "application/x-amz-json-1.0",
}


@dataclass
class History:
    """What clients know: per item the newest version started, acknowledged, and seen."""

    started: Counter[int] = field(default_factory=Counter)
    floor: Counter[int] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    writers_left: int = ITEMS


@pytest.fixture(params=["invalidate", "through"])
def proxies(
    request: pytest.FixtureRequest, valkey: RunningStore, dynamodb: RunningDynamoDB
) -> Iterator[list[RunningProxy]]:
    """Three proxies of one store; entries turn stale quickly, so that refreshes take part."""
    settings = {
        "store.namespace": f"coherence-{request.param}",
        "defaults.write_mode": request.param,
        "defaults.fresh_ttl_s": 0.2,
        "defaults.grace_s": 1.0,
    }
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                running_proxy(upstream=dynamodb.endpoint, store=valkey.url, settings=settings)
            )
            for _ in range(PROXIES)
        ]


async def test_no_read_is_older_than_an_acknowledged_write(proxies: list[RunningProxy]) -> None:
    """Readers and writers through three proxies: every read is at or above its floor."""
    table = f"coherence-{random.randrange(10**9)}"
    history = History()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        client = _Client(session, proxies, table)
        await client.create()
        writers = [_write(client, history, item) for item in range(ITEMS)]
        readers = [_read(client, history) for _ in range(READERS)]
        await asyncio.gather(*writers, *readers)
    assert not history.violations
    assert history.outcomes["hit"] > WRITES_EACH, history.outcomes
    assert history.outcomes["fwd=miss"] > ITEMS, history.outcomes
    assert history.outcomes["fwd=partial"] > ITEMS, history.outcomes


async def _write(client: _Client, history: History, item: int) -> None:
    for version in range(1, WRITES_EACH + 1):
        history.started[item] = version
        match random.randrange(3):
            case 0:
                await client.put(item, version)
            case 1:
                await client.update(item, version)
            case _:
                await client.refused_put(item)
                await client.put(item, version)
        history.floor[item] = max(history.floor[item], version)
        # Let readers fill in between; how many requests they get done is left to the machine.
        for _ in range(random.choice((0, 0, 5))):
            await client.get(item)
    history.writers_left -= 1


async def _read(client: _Client, history: History) -> None:
    while history.writers_left:
        items = random.sample(range(ITEMS), random.randint(1, ITEMS))
        floors = [history.floor[item] for item in items]
        consistent = random.random() < 0.05
        if random.random() < 0.5:
            version, outcome = await client.get(items[0], consistent=consistent)
            seen = {items[0]: version}
        else:
            seen, outcome = await client.batch_get(items, consistent=consistent)
        for item, floor in zip(items, floors, strict=True):
            version = seen.get(item, floor)
            if not floor <= version <= history.started[item]:
                history.violations.append(f"item {item}: read {version}, floor {floor}, {outcome}")
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
        status, _, _ = await self._call(
            "CreateTable",
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
        assert status == 200

    async def put(self, item: int, version: int) -> None:
        status, _, _ = await self._call("PutItem", Item={**_key(item), "v": {"N": str(version)}})
        assert status == 200

    async def update(self, item: int, version: int) -> None:
        status, _, _ = await self._call(
            "UpdateItem",
            Key=_key(item),
            UpdateExpression="SET v = :v",
            ExpressionAttributeValues={":v": {"N": str(version)}},
            ReturnValues="ALL_NEW",
        )
        assert status == 200

    async def refused_put(self, item: int) -> None:
        impossible = "attribute_exists(pk) AND attribute_not_exists(pk)"
        status, _, _ = await self._call(
            "PutItem",
            Item={**_key(item), "v": {"N": "999999"}},
            ConditionExpression=impossible,
        )
        assert status == 400

    async def get(self, item: int, *, consistent: bool = False) -> tuple[int, str]:
        status, answer, outcome = await self._call(
            "GetItem", Key=_key(item), ConsistentRead=consistent
        )
        assert status == 200
        return int(answer["Item"]["v"]["N"]) if "Item" in answer else 0, outcome

    async def batch_get(
        self, items: list[int], *, consistent: bool = False
    ) -> tuple[dict[int, int], str]:
        asked = {"Keys": [_key(item) for item in items], "ConsistentRead": consistent}
        status, answer, outcome = await self._post(
            "BatchGetItem", {"RequestItems": {self._table: asked}}
        )
        assert status == 200
        assert answer["UnprocessedKeys"] == {}
        found = {each["pk"]["S"]: int(each["v"]["N"]) for each in answer["Responses"][self._table]}
        return {item: found.get(f"item-{item}", 0) for item in items}, outcome

    async def _call(self, operation: str, **request: Any) -> tuple[int, dict[str, Any], str]:
        return await self._post(operation, {"TableName": self._table, **request})

    async def _post(self, operation: str, body: dict[str, Any]) -> tuple[int, dict[str, Any], str]:
        headers = {**SIGNED, "X-Amz-Target": f"DynamoDB_20120810.{operation}"}
        url = random.choice(self._endpoints)
        async with self._session.post(url, json=body, headers=headers) as answer:
            outcome = answer.headers["Cache-Status"].split("; ")[1]
            return answer.status, await answer.json(content_type=None), outcome


def _key(item: int) -> dict[str, Any]:
    return {"pk": {"S": f"item-{item}"}}
