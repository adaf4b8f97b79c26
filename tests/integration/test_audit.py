"""Audits, shadow and modes over real sockets, a real store and a DynamoDB of our own.

Each item has one writer, which writes 1, 2, 3, …, so "older" is "<".
"""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Final

import pytest

from proxy.embedded.valkey import RunningStore
from tests.fakes.fake_upstream import FakeUpstream
from tests.support.serving import Reply, Serving, Wire, serving, until_told

pytestmark = pytest.mark.store

TABLE: Final = "orders"
PROXIES: Final = 3
ITEMS: Final = ("a", "b")
WRITES_EACH: Final = 60
READERS: Final = 8
AUDIT_ALL: Final = {
    "audit.share": 1,
    "audit.reads_per_s_max": 100_000,
    "audit.read_units_per_s_max": 100_000,
    "audit.concurrency_max": 1000,
}


def key(name: str) -> dict[str, Any]:
    """Return the body of a GetItem."""
    return {"TableName": TABLE, "Key": {"pk": {"S": name}}}


def item(name: str, version: int) -> dict[str, Any]:
    """Return the body of a PutItem."""
    return {"TableName": TABLE, "Item": {"pk": {"S": name}, "n": {"N": str(version)}}}


@pytest.fixture
async def fake() -> AsyncIterator[FakeUpstream]:
    """A DynamoDB with a table that holds the items `a` and `b`."""
    async with FakeUpstream() as upstream:
        upstream.tables.add(TABLE, pk="S")
        for name in ITEMS:
            upstream.tables.call("PutItem", item(name, 0))
        yield upstream


async def audits(proxy: Serving) -> Counter[str]:
    """Return how many audits came to which result."""
    results = ("match", "stale", "inconclusive", "dropped", "failed")
    counts = {name: await metric(proxy, "audits_total", name) for name in results}
    return Counter(counts)


async def metric(proxy: Serving, name: str, result: str) -> int:
    """Return one count of the table."""
    return int(await proxy.metric(f"dynaside_{name}", 'table="orders"', f'result="{result}"'))


async def switch(proxy: Serving, mode: str, percent: float = 100.0) -> Reply:
    """Switch the mode of the table on the ops port."""
    body = json.dumps({"mode": mode, "percent": percent})
    head = f"POST /tables/orders/mode HTTP/1.1\r\nHost: ops\r\nContent-Length: {len(body)}\r\n\r\n"
    async with Wire(proxy.host, proxy.ops_port) as wire:
        await wire.send((head + body).encode())
        return await wire.reply()


def number(reply: Reply) -> int:
    """Return the version that an answer shows."""
    assert reply.status == 200, reply.body
    return int(reply.content["Item"]["n"]["N"])


async def test_out_of_band_write_is_reported_with_its_age(
    fake: FakeUpstream, valkey: RunningStore
) -> None:
    """The hit is counted as stale, no older than its entry, and the item is read anew."""
    async with serving(fake.endpoint, store=valkey.url, settings=AUDIT_ALL) as proxy:
        before_s = time.monotonic()
        await proxy.call("GetItem", key("a"))
        assert number(await proxy.call("GetItem", key("a"))) == 0

        async def matched() -> bool:
            return (await audits(proxy))["match"] == 1

        await until_told(matched)
        fake.tables.call("PutItem", item("a", 7))
        assert number(await proxy.call("GetItem", key("a"))) == 0

        async def found() -> bool:
            return (await audits(proxy))["stale"] == 1

        await until_told(found)
        age_s = await proxy.metric("dynaside_stale_age_seconds_sum", 'found_by="audit"')
        # The store's clock is estimated, so that entries look older than they are, never younger.
        assert 0 < age_s <= time.monotonic() - before_s + 1

        async def read_anew() -> bool:
            return number(await proxy.call("GetItem", key("a"))) == 7

        await until_told(read_anew)
        assert (await audits(proxy))["stale"] == 1


@pytest.mark.parametrize("write_mode", ["invalidate", "through"])
async def test_no_write_through_a_proxy_is_taken_for_an_error(
    fake: FakeUpstream, valkey: RunningStore, write_mode: str
) -> None:
    """Writers and readers on two items through three proxies, every hit audited: none is stale."""
    settings = {
        **AUDIT_ALL,
        "store.namespace": f"audit-{uuid.uuid4().hex[:8]}",
        "defaults.write_mode": write_mode,
    }
    async with AsyncExitStack() as stack:
        proxies = [
            await stack.enter_async_context(
                serving(fake.endpoint, store=valkey.url, settings=settings)
            )
            for _ in range(PROXIES)
        ]
        await _load(proxies, asyncio.Event())
        await _overtake(fake, *proxies[:2])

        async def settled() -> bool:
            return not any(len(proxy.services.tasks) for proxy in proxies)

        await until_told(settled)
        totals = sum([await audits(proxy) for proxy in proxies], Counter[str]())
    assert totals["stale"] == totals["failed"] == totals["dropped"] == 0
    assert totals["match"] > WRITES_EACH, totals
    assert totals["inconclusive"] > 0, totals


async def _overtake(fake: FakeUpstream, reader: Serving, writer: Serving) -> None:
    """Let a write by another proxy come between a hit and what its audit reads."""

    async def hit() -> bool:
        return "; hit;" in (await reader.call("GetItem", key("a"))).cache

    await until_told(hit)
    gate = fake.hold("GetItem")
    assert await hit()
    await gate.reached()
    assert (await writer.call("PutItem", item("a", WRITES_EACH + 1))).status == 200
    gate.release()


async def _load(proxies: list[Serving], ended: asyncio.Event) -> None:
    """Write and read through all proxies; no read may be older than what was acknowledged."""
    floor: Counter[str] = Counter()

    async def write(name: str) -> None:
        for version in range(1, WRITES_EACH + 1):
            reply = await random.choice(proxies).call("PutItem", item(name, version))
            assert reply.status == 200
            floor[name] = version
            for _ in range(random.choice((0, 4))):
                await read(name)

    async def read(name: str) -> None:
        least = floor[name]
        reply = await random.choice(proxies).call("GetItem", key(name))
        assert number(reply) >= least, reply.cache

    async def read_on() -> None:
        while not ended.is_set():
            await read(random.choice(ITEMS))

    readers = [asyncio.ensure_future(read_on()) for _ in range(READERS)]
    try:
        await asyncio.gather(*(write(name) for name in ITEMS))
    finally:
        ended.set()
        await asyncio.gather(*readers)


async def test_shadow_serves_what_dynamodb_said_and_reports(
    fake: FakeUpstream, valkey: RunningStore
) -> None:
    """No answer is the cache's, not even a fresh one; what it would have said is counted."""
    settings: dict[str, Any] = {**AUDIT_ALL, "defaults.mode": "shadow"}
    async with serving(fake.endpoint, store=valkey.url, settings=settings) as proxy:

        async def read(expected: int, result: str) -> None:
            before = await metric(proxy, "shadow_reads_total", result)
            reply = await proxy.call("GetItem", key("a"))
            assert number(reply) == expected
            assert reply.cache == "dynaside; fwd=bypass; detail=shadow"

            async def counted() -> bool:
                return await metric(proxy, "shadow_reads_total", result) == before + 1

            await until_told(counted)

        await read(0, "would-miss")
        await read(0, "agree")
        fake.tables.call("PutItem", item("a", 7))
        await read(7, "differ")
        await read(7, "would-miss")
        assert (await proxy.call("PutItem", item("a", 8))).status == 200
        await read(8, "would-miss")
        assert sum((await audits(proxy)).values()) == 0
        assert await proxy.metric("dynaside_stale_age_seconds_count", 'found_by="shadow"') == 1


async def test_modes_switch_under_load(fake: FakeUpstream, valkey: RunningStore) -> None:
    """Under writers and readers no answer is older than what was acknowledged, in any mode."""
    async with serving(fake.endpoint, store=valkey.url) as proxy:
        ended = asyncio.Event()
        load = asyncio.ensure_future(_load([proxy], ended))
        while not load.done():
            for mode, percent in (("off", 100), ("shadow", 100), ("on", 50), ("on", 100)):
                reply = await switch(proxy, mode, percent)
                shown = {"table": TABLE, "mode": mode, "percent": percent, "switched": True}
                assert (reply.status, reply.content) == (200, shown)
                await proxy.call("GetItem", key("a"))
        await load
        outcomes = {
            name: await proxy.metric("dynaside_requests_total", f'outcome="{name}"')
            for name in ("hit", "miss", "bypass")
        }
        assert all(outcomes.values()), outcomes
        assert (await proxy.ops("/status")).content["switched"] == [TABLE]
        assert await proxy.metric("dynaside_mode_switches_total", 'mode="shadow"') > 0
