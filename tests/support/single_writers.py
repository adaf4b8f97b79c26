"""Clients of one table whose every item has one writer, and what they may conclude from it.

The writer of an item writes 1, 2, 3, …, so "older" is "<". Every reader's floor is what had been
acknowledged, or seen by anybody, before its request left: that is linearizability per item for this
kind of history.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from tests.support.proxy_process import RunningProxy

ITEMS: Final = 4
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


async def write(client: Client, history: History, item: int, versions: Iterable[int]) -> None:
    """Write an item again and again, in one way or another; and read now and then."""
    for version in versions:
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


async def read(client: Client, history: History) -> None:
    """Read items while anybody writes, and note what is older than it may be."""
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


class Client:
    """Sends each request to one proxy or another."""

    def __init__(
        self, session: aiohttp.ClientSession, proxies: list[RunningProxy], table: str
    ) -> None:
        self._session = session
        self._endpoints = [proxy.endpoint for proxy in proxies]
        self._table = table

    async def create(self) -> None:
        """Create the table."""
        status, _, _ = await self._call(
            "CreateTable",
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
        assert status == 200

    async def put(self, item: int, version: int) -> None:
        """Write a version as a whole."""
        status, _, _ = await self._call("PutItem", Item={**_key(item), "v": {"N": str(version)}})
        assert status == 200

    async def update(self, item: int, version: int) -> None:
        """Write a version into what is there."""
        status, _, _ = await self._call(
            "UpdateItem",
            Key=_key(item),
            UpdateExpression="SET v = :v",
            ExpressionAttributeValues={":v": {"N": str(version)}},
            ReturnValues="ALL_NEW",
        )
        assert status == 200

    async def refused_put(self, item: int) -> None:
        """Write nothing: its condition never holds."""
        impossible = "attribute_exists(pk) AND attribute_not_exists(pk)"
        status, _, _ = await self._call(
            "PutItem",
            Item={**_key(item), "v": {"N": "999999"}},
            ConditionExpression=impossible,
        )
        assert status == 400

    async def get(self, item: int, *, consistent: bool = False) -> tuple[int, str]:
        """Return an item's version, 0 for none, and how it was answered."""
        status, answer, outcome = await self._call(
            "GetItem", Key=_key(item), ConsistentRead=consistent
        )
        assert status == 200
        return int(answer["Item"]["v"]["N"]) if "Item" in answer else 0, outcome

    async def batch_get(
        self, items: list[int], *, consistent: bool = False
    ) -> tuple[dict[int, int], str]:
        """Return versions by item, and how they were answered."""
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
        while True:
            url = random.choice(self._endpoints)
            async with self._session.post(url, json=body, headers=headers) as answer:
                if answer.status < 500:
                    outcome = answer.headers["Cache-Status"].split("; ")[1]
                    return answer.status, await answer.json(content_type=None), outcome
            await asyncio.sleep(0.02)  # a store that fails over refuses strict writes


def _key(item: int) -> dict[str, Any]:
    return {"pk": {"S": f"item-{item}"}}
