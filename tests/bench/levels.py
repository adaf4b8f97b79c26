"""Counts what each level and write mode costs: `python -m tests.bench.levels --out FILE`.

A real proxy process between a DynamoDB of our own and a real Valkey takes one request after the
other. Between proxy and store everything is read along: commands, and pieces of bytes as they were
written to the socket. The proxy has one connection to the store here, so a piece is a round trip.
Nothing is timed: counts do not depend on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import hiredis

from proxy.core.values import Level, WriteMode
from proxy.embedded.valkey import RunningStore, start_valkey
from tests.bench.setting import setting
from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.fake_upstream_script import Received
from tests.support.dynamo_wire import Call
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.proxy_process import RunningProxy, start_proxy
from tests.support.raw_store import RawStore
from tests.support.serving import until_told

ITEMS: Final = "items"
PAGES: Final = "pages"
BATCH: Final = 25
ITEM_READS: Final = frozenset({"GetItem", "BatchGetItem", "Query"})

SETTINGS: Final = {
    # No heartbeat and no PING among what is counted; pages count soon after they were announced.
    "store.lanes": 1,
    "near.bytes_max": 0,
    "store.heartbeat_s": 60,
    "store.heartbeat_age_s_max": 300,
    "fence.marker_s": 1,
    "upstream.write_timeout_s": 0.5,
    "upstream.connect_timeout_s": 0.3,
    "tables": {PAGES: {"queries": {"enabled": True}}},
}
WAYS: Final = tuple(
    (level, mode)
    for level, mode in itertools.product(Level, WriteMode)
    if (level, mode) != (Level.STRICT, WriteMode.AROUND)  # refused by the settings
)


@dataclass(frozen=True, slots=True)
class Counted:
    """One cell: what one request made the proxy send.

    Args:
        level, write_mode: of the table.
        request: what was asked, and what was there.
        round_trips: pieces of bytes to the store.
        commands: commands in them; a script is one.
        upstream: requests to DynamoDB.
        read_units: read capacity units that these cost; items are smaller than 4 KB.
    """

    level: str
    write_mode: str
    request: str
    round_trips: int
    commands: int
    upstream: int
    read_units: float


class Bench:
    """One proxy of one level and write mode, and what it sends.

    Args:
        session: sends requests.
        proxy: takes them.
        way: reads along between proxy and store.
        upstream: answers the proxy.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        proxy: RunningProxy,
        way: FaultProxy,
        upstream: FakeUpstream,
    ) -> None:
        self._session = session
        self._proxy = proxy
        self._way = way
        self._upstream = upstream

    async def ask(self, operation: str, body: dict[str, Any]) -> str:
        """Send one request; return what the cache says."""
        call = Call(operation, body)
        fields = call.fields(self._proxy.endpoint.removeprefix("http://"))
        url = self._proxy.endpoint
        async with self._session.post(url, data=call.raw_body, headers=fields) as reply:
            assert reply.status == 200, await reply.read()
            await reply.read()
            return reply.headers["Cache-Status"]

    async def count(self, operation: str, body: dict[str, Any]) -> tuple[int, int, int, float]:
        """Send one request; return round trips, commands, upstream requests and read units."""
        pieces, asked = len(self._way.requests), len(self._upstream.log)
        await self.ask(operation, body)
        sent, received = self._way.requests[pieces:], self._upstream.log[asked:]
        units = sum(read_units(each) for each in received)
        return len(sent), commands(sent), len(received), units

    async def cells(self, samples: int) -> dict[str, tuple[int, int, int, float]]:
        """Count every request `samples` times on items of its own; all must cost the same."""
        await self._warm_up()
        found: dict[str, tuple[int, int, int, float]] = {}
        for sample in range(samples):
            for name, operation, body in requests(f"sample-{sample}"):
                counted = await self.count(operation, body)
                assert found.setdefault(name, counted) == counted, (name, found[name], counted)
        return found

    async def _warm_up(self) -> None:
        """Wait for the store, let the proxy learn tables and keys, and wait until pages count."""

        async def serves() -> bool:
            return "; hit" in await self.ask("GetItem", get(ITEMS, "cold"))

        await until_told(serves)
        for table in (ITEMS, PAGES):
            await self.ask("PutItem", put(table, "warm"))
            await self.ask("GetItem", get(table, "warm"))

        async def counts() -> bool:
            return "; hit" in await self.ask("Query", query("warm"))

        await until_told(counts)


def get(table: str, name: str) -> dict[str, Any]:
    """Return a GetItem's body."""
    return {"TableName": table, "Key": {"pk": {"S": name}}}


def put(table: str, name: str) -> dict[str, Any]:
    """Return a PutItem's body."""
    return {"TableName": table, "Item": {"pk": {"S": name}, "v": {"S": "x" * 100}}}


def query(name: str) -> dict[str, Any]:
    """Return the body of a Query for one partition."""
    return {
        "TableName": PAGES,
        "KeyConditionExpression": "pk = :p",
        "ExpressionAttributeValues": {":p": {"S": name}},
    }


def requests(name: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield what is asked, in this order: each leaves behind what the next one finds."""
    update = {
        **get(ITEMS, name),
        "UpdateExpression": "SET v = :v",
        "ExpressionAttributeValues": {":v": {"S": "y"}},
    }
    names = [f"{name}-{number}" for number in range(BATCH)]
    batch_get = {"RequestItems": {ITEMS: {"Keys": [get(ITEMS, each)["Key"] for each in names]}}}
    puts = [{"PutRequest": {"Item": put(ITEMS, each)["Item"]}} for each in names]
    yield "PutItem, nothing cached", "PutItem", put(ITEMS, name)
    yield "GetItem after PutItem", "GetItem", get(ITEMS, name)
    yield "GetItem, hit", "GetItem", get(ITEMS, name)
    yield "GetItem, miss", "GetItem", get(ITEMS, f"{name}-other")
    yield "UpdateItem, item cached", "UpdateItem", update
    yield "GetItem after UpdateItem", "GetItem", get(ITEMS, name)
    yield "DeleteItem, item cached", "DeleteItem", get(ITEMS, name)
    yield f"BatchWriteItem of {BATCH}", "BatchWriteItem", {"RequestItems": {ITEMS: puts}}
    yield f"BatchGetItem of {BATCH} after it", "BatchGetItem", batch_get
    yield f"BatchGetItem of {BATCH}, hits", "BatchGetItem", batch_get
    yield "PutItem where pages are cached", "PutItem", put(PAGES, name)
    yield "Query after PutItem", "Query", query(name)
    yield "Query, hit", "Query", query(name)


def commands(pieces: Sequence[bytes]) -> int:
    """Count the commands in what was sent to the store."""
    reader = hiredis.Reader()
    for piece in pieces:
        reader.feed(piece)
    count = 0
    while reader.gets() is not False:
        count += 1
    return count


def read_units(received: Received) -> float:
    """Return the read capacity of a request whose items are all smaller than 4 KB."""
    if received.operation not in ITEM_READS:
        return 0.0
    body = json.loads(received.body)
    asked = body["RequestItems"].values() if "RequestItems" in body else [body]
    return sum(
        len(each.get("Keys", [None])) * (1.0 if each.get("ConsistentRead") else 0.5)
        for each in asked
    )


async def measure(store: RunningStore, way: tuple[Level, WriteMode], samples: int) -> list[Counted]:
    """Run a proxy of one level and write mode, and count."""
    level, mode = way
    given = {
        **SETTINGS,
        "store.namespace": uuid.uuid4().hex,
        "defaults.level": level.value,
        "defaults.write_mode": mode.value,
    }
    async with (
        FakeUpstream() as upstream,
        fault_proxy(store.address) as line,
        aiohttp.ClientSession() as session,
    ):
        for table in (ITEMS, PAGES):
            upstream.tables.add(table, pk="S")
        # Its store lies behind this very loop: nobody may wait here until that one serves.
        proxy = start_proxy(
            upstream=upstream.endpoint,
            store=None,
            settings=given,
            environ={"DYNASIDE__STORE__URL": line.url},
        )
        try:
            cells = await Bench(session, proxy, line, upstream).cells(samples)
        finally:
            proxy.child.stop()
    return [Counted(level, mode, name, *counted) for name, counted in cells.items()]


def lines(cells: Sequence[Counted]) -> Iterator[str]:
    """Yield the table."""
    yield f"{'':>20} {'request':>32} {'round trips':>12} {'commands':>9} {'upstream':>9} {'RCU':>5}"
    for cell in cells:
        yield (
            f"{cell.level + ' ' + cell.write_mode:>20} {cell.request:>32} {cell.round_trips:12d}"
            f" {cell.commands:9d} {cell.upstream:9d} {cell.read_units:5.1f}"
        )


def run(ways: Sequence[tuple[Level, WriteMode]], *, samples: int) -> dict[str, Any]:
    """Count on a Valkey of our own; return the result file's content."""
    cells: list[Counted] = []
    with closing(start_valkey()) as store:
        for way in ways:
            cells += asyncio.run(measure(store, way, samples))
        with RawStore(store.address) as raw:
            about = raw.run("INFO", "server").decode().splitlines()
    result = setting("redis", "aiohttp")
    result["versions"] |= dict(line.split(":") for line in about if line.startswith("valkey_ver"))
    return result | {"samples": samples, "cells": [asdict(cell) for cell in cells]}


def main(arguments: Sequence[str] | None = None) -> None:
    """Count, print the table, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where the result goes, as JSON")
    parser.add_argument("--samples", type=int, default=5, help="how often; all must cost the same")
    parser.add_argument("--ways", type=int, default=len(WAYS), help="only the first so many")
    given = parser.parse_args(arguments)
    result = run(WAYS[: given.ways], samples=given.samples)
    print("\n".join(lines([Counted(**cell) for cell in result["cells"]])))  # noqa: T201
    given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
