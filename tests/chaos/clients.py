"""Clients that read and write a few items through all proxies, and note what they saw and when.

They do not retry: what a client of an SDK would see after its retries is a later call here.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from tests.chaos.profiles import CALM, Setting
from tests.chaos.recording import PENDING
from tests.chaos.world import Slot, World
from tests.sim.history import ABSENT, Call, Kind
from tests.sim.rig import CALL_HEADER, TABLE
from tests.sim.simulation import WRITES

MakeBody = Callable[[int, str], dict[str, Any]]
HEADERS: Final = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=a/20261123/us-east-1/dynamodb/aws4_request, "
    "SignedHeaders=host, Signature=0",
    "X-Amz-Date": "20261123T000000Z",
    "Content-Type": "application/x-amz-json-1.0",
}
CLIENTS: Final = 12
STRANGERS_PACES_S: Final = (1.0, 5.0)
"""Often, so that something is always under way; seldom, so that nothing makes up for a loss."""

PACES_S: Final = (0.002, 0.02, 0.1)
NO_PROXY: Final = 0
PATIENCES_S: Final = (0.3, 3.0)
"""How long a client waits before it hangs up; the call then stays unanswered."""


@dataclass
class Clients:
    """The clients of one round.

    Args:
        world: whose proxies they call.
        chances: decides what each of them does.
        numbers: gives calls their numbers.
        items: numbers of the items.
        writes: which kinds of writes they make.
        setting: their habits, and how many more write past every proxy, to the upstream itself.
    """

    world: World
    chances: random.Random
    numbers: Iterator[int]
    items: range
    writes: Sequence[tuple[str, MakeBody]] = WRITES
    setting: Setting = CALM
    calls: list[Call] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    going_home: bool = False

    async def work(self) -> None:
        """Call until `going_home`."""
        strangers = self.setting.strangers
        own = [random.Random(self.chances.random()) for _ in range(CLIENTS + strangers)]
        apart = [own.pop() for _ in range(strangers)]
        write_share, consistent_share = self.chances.choice(self.setting.habits)
        pace_s = self.chances.choice(STRANGERS_PACES_S)
        outside = [self._stranger(chances, pace_s) for chances in apart]
        clients = [
            self._client(chances, write_share=write_share, consistent_share=consistent_share)
            for chances in own
        ]
        await asyncio.gather(*outside, *clients)

    async def look(self) -> None:
        """Read every item through every proxy, twice, so that the cache has its say."""
        for _ in range(2):
            for slot in self.world.slots:
                for item in self.items:
                    await self._patiently(self._read(slot, item, consistent=False), 10.0)

    async def _client(
        self, chances: random.Random, *, write_share: float, consistent_share: float
    ) -> None:
        pace_s = chances.choice(PACES_S)
        while not self.going_home:
            slot, item = chances.choice(self.world.slots), chances.choice(self.items)
            if slot.proxy is not None:
                write = chances.random() < write_share
                consistent = chances.random() < consistent_share
                operation, make = chances.choice(self.writes)
                await self._patiently(
                    self._write(slot, item, operation, make)
                    if write
                    else self._read(slot, item, consistent=consistent),
                    chances.choice(PATIENCES_S),
                )
            await asyncio.sleep(chances.expovariate(1 / pace_s))

    async def _stranger(self, chances: random.Random, pace_s: float) -> None:
        while not self.going_home:
            call = self._begun(NO_PROXY, chances.choice(self.items), Kind.WRITE)
            operation, make = chances.choice(WRITES)
            endpoint = self.world.upstream.endpoint
            await self._patiently(self._write_to(endpoint, call, operation, make), PATIENCES_S[-1])
            await asyncio.sleep(chances.expovariate(1 / pace_s))

    async def _patiently(self, call: Awaitable[None], patience_s: float) -> None:
        try:
            async with asyncio.timeout(patience_s):
                await call
        except (TimeoutError, aiohttp.ClientError, ConnectionError):
            self.outcomes["no answer"] += 1

    async def _read(self, slot: Slot, item: int, *, consistent: bool) -> None:
        body: dict[str, Any] = {"TableName": TABLE, "Key": {"pk": {"S": str(item)}}}
        if consistent:
            body["ConsistentRead"] = True
        call = self._begun(slot.number, item, Kind.READ)
        status, answer, how = await self._post(_endpoint(slot), call, "GetItem", body)
        if status == 200:
            shown = answer.get("Item")
            call.value = ABSENT if shown is None else shown["v"]["S"]
        self._ended(call, how)

    async def _write(self, slot: Slot, item: int, operation: str, make: MakeBody) -> None:
        call = self._begun(slot.number, item, Kind.WRITE)
        await self._write_to(_endpoint(slot), call, operation, make)

    async def _write_to(self, endpoint: str, call: Call, operation: str, make: MakeBody) -> None:
        body = make(call.item, str(call.number))
        status, _, how = await self._post(endpoint, call, operation, body)
        call.acknowledged = status == 200
        self._ended(call, how)

    def _begun(self, proxy: int, item: int, kind: Kind) -> Call:
        call = Call(next(self.numbers), kind, proxy, item, PENDING, time.monotonic())
        self.calls.append(call)
        return call

    def _ended(self, call: Call, how: str) -> None:
        call.ended_s = time.monotonic()
        call.ended = PENDING
        call.how = how
        words = [word for word in how.split("; ")[1:] if not word.startswith("ttl=")]
        self.outcomes[f"{call.kind} {' '.join(words)}"] += 1

    async def _post(
        self, endpoint: str, call: Call, operation: str, body: dict[str, Any]
    ) -> tuple[int, dict[str, Any], str]:
        headers = {
            **HEADERS,
            "X-Amz-Target": f"DynamoDB_20120810.{operation}",
            CALL_HEADER: str(call.number),
        }
        async with self.world.session.post(endpoint, json=body, headers=headers) as answer:
            text = await answer.text()
            return answer.status, json.loads(text), answer.headers.get("Cache-Status", "")


def _endpoint(slot: Slot) -> str:
    if slot.proxy is None:
        raise ConnectionError("killed")
    return slot.proxy.endpoint
