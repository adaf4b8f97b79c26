"""BatchGetItem through real processes: one round trip for hits, one fetch per item, the bounds."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import closing
from functools import partial
from typing import Any, Final

import aiohttp
import pytest

from proxy.embedded.valkey import RunningStore, start_valkey
from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.fake_upstream_script import UNPROCESSED
from tests.support.dynamo_wire import Call, Reply, ask, connected, spelled
from tests.support.proxy_process import RunningProxy, running_proxy

pytestmark = pytest.mark.store

CROWD: Final = 200
TABLE: Final = "orders"
NAMES: Final = [f"item-{number}" for number in range(25)]
PATIENT: Final = {
    # Longer than any pause of a busy machine: what is counted must not depend on time.
    "fence.lease_s": 60,
    "fence.lease_wait_s": 60,
    "upstream.read_timeout_s": 60,
    "store.timeout_s": 10,
    # One connection, and no heartbeat between two looks at the store's counters.
    "store.lanes": 1,
    "store.heartbeat_s": 60,
    "store.heartbeat_age_s_max": 300,
}


@pytest.fixture(scope="module")
def own_store() -> Iterator[RunningStore]:
    """Run a store that nobody else talks to, so that its counters are ours."""
    with closing(start_valkey()) as store:
        yield store


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """Run the fake DynamoDB with the items of NAMES."""
    async with FakeUpstream() as fake:
        fake.tables.add(TABLE, pk="S")
        put(fake, NAMES, "x" * 1000)
        yield fake


@pytest.fixture
async def two_proxies(
    upstream: FakeUpstream, own_store: RunningStore
) -> AsyncIterator[list[RunningProxy]]:
    """Run two proxy processes that share one store and namespace."""
    given = PATIENT | {"store.namespace": f"test-{uuid.uuid4().hex[:8]}"}
    with (
        running_proxy(upstream=upstream.endpoint, store=own_store.url, settings=given) as one,
        running_proxy(upstream=upstream.endpoint, store=own_store.url, settings=given) as other,
    ):
        yield [one, other]


def put(fake: FakeUpstream, names: Iterable[str], content: str) -> None:
    """Put items behind the proxies' back."""
    for name in names:
        item = {"pk": {"S": name}, "v": {"S": content}}
        fake.tables.call("PutItem", {"TableName": TABLE, "Item": item})


def batch(names: Iterable[str]) -> Call:
    """Return a BatchGetItem of these items."""
    keys = [{"pk": {"S": name}} for name in names]
    return Call("BatchGetItem", {"RequestItems": {TABLE: {"Keys": keys}}})


async def read(proxy: RunningProxy, names: Iterable[str]) -> Reply:
    """Read items in one batch."""
    return await asyncio.to_thread(ask, proxy.endpoint, batch(names))


def found(content: Any) -> list[str]:
    """Return the names of the items in an answer, in its order."""
    return [item["pk"]["S"] for item in content["Responses"].get(TABLE, [])]


def left(content: Any) -> list[str]:
    """Return the names of the items that an answer left unprocessed."""
    return [key["pk"]["S"] for key in content["UnprocessedKeys"].get(TABLE, {"Keys": []})["Keys"]]


def fetched(fake: FakeUpstream) -> Counter[str]:
    """Return how often each item was asked for upstream, in batches."""
    bodies = [json.loads(each.body) for each in fake.log if each.operation == "BatchGetItem"]
    keys = [key for body in bodies for key in body["RequestItems"][TABLE]["Keys"]]
    return Counter(key["pk"]["S"] for key in keys)


async def test_crowd_of_batches_fetches_each_item_once(
    upstream: FakeUpstream, two_proxies: list[RunningProxy]
) -> None:
    """200 equal batches over two proxies that find nothing wait for one fetch of each item."""
    gate = upstream.hold("BatchGetItem")
    call = batch(NAMES)

    async def ask_once(session: aiohttp.ClientSession, proxy: RunningProxy) -> Any:
        fields = call.fields(proxy.endpoint.removeprefix("http://"))
        async with session.post(proxy.endpoint, data=call.raw_body, headers=fields) as reply:
            assert reply.status == 200
            return json.loads(await reply.read())

    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        asyncio.timeout(120),
    ):
        crowd = [
            asyncio.create_task(ask_once(session, two_proxies[number % 2]))
            for number in range(CROWD)
        ]
        await gate.reached()
        for proxy in two_proxies:
            await asyncio.to_thread(proxy.child.wait_until, partial(in_flight, proxy))
        upstream.release()
        answers = await asyncio.gather(*crowd)
    assert all(found(each) == NAMES and left(each) == [] for each in answers)
    assert fetched(upstream) == dict.fromkeys(NAMES, 1)
    assert upstream.count("GetItem") == 0


def in_flight(proxy: RunningProxy) -> bool:
    """Tell whether a proxy's part of the crowd has arrived."""
    return proxy.metric("dynaside_in_flight_requests") >= CROWD // 2


async def test_batch_of_hits_costs_one_store_round_trip(
    upstream: FakeUpstream, own_store: RunningStore
) -> None:
    """All keys of a cached batch that no copy answers are read from the store's socket at once."""

    def reads() -> int:
        lines = own_store.ask("INFO", "stats").decode().splitlines()
        stats = dict(line.split(":", 1) for line in lines if ":" in line)
        return int(stats["total_reads_processed"])

    def send(proxy: RunningProxy, times: int) -> list[Reply]:
        with connected(proxy.endpoint) as connection:
            replies = []
            for _ in range(times):
                connection.send(spelled(batch(NAMES), connection.host))
                replies.append(connection.receive())
            return replies

    given = PATIENT | {"near.bytes_max": 0, "store.namespace": f"test-{uuid.uuid4().hex[:8]}"}
    with running_proxy(upstream=upstream.endpoint, store=own_store.url, settings=given) as proxy:
        await asyncio.to_thread(send, proxy, 2)  # a miss, and a first hit
        start = reads()
        look = reads() - start
        before = reads()
        replies = await asyncio.to_thread(send, proxy, 20)
        spent = reads() - before - look
    assert spent == 20
    assert all("; hit" in each.cache_status for each in replies)
    assert upstream.count("BatchGetItem") == 1


async def test_items_beyond_one_answer_come_with_the_next(
    upstream: FakeUpstream, two_proxies: list[RunningProxy]
) -> None:
    """Of 50 items of almost 400 KB an answer holds 16 MiB, from upstream as from the store."""
    large = [f"large-{number}" for number in range(50)]
    put(upstream, large, "y" * (390 * 1024))
    for proxy in two_proxies:
        first = await read(proxy, large)
        second = await read(proxy, left(first.content))
        assert [*found(first.content), *found(second.content)] == large
        assert (len(found(first.content)), left(second.content)) == (42, [])
        assert first.crc_is_right
        assert "; hit" in second.cache_status
    assert fetched(upstream) == dict.fromkeys(large, 1)


async def test_what_upstream_left_out_is_told_and_not_cached(
    upstream: FakeUpstream, two_proxies: list[RunningProxy]
) -> None:
    """The client asks again for exactly those keys, and neither proxy takes them for absent."""
    upstream.fail("BatchGetItem", UNPROCESSED)
    first = await read(two_proxies[0], NAMES)
    assert (found(first.content), left(first.content)) == (NAMES[::2], NAMES[1::2])
    there = await read(two_proxies[1], NAMES[::2])
    assert "; hit" in there.cache_status
    second = await read(two_proxies[1], left(first.content))
    assert (found(second.content), left(second.content)) == (NAMES[1::2], [])
    assert second.cache_status == "dynaside; fwd=miss; stored"


async def test_write_is_seen_by_the_next_batch(
    upstream: FakeUpstream, two_proxies: list[RunningProxy]
) -> None:
    """Whichever proxy wrote: only the item that was written is fetched once more."""
    await read(two_proxies[0], NAMES)
    item = {"pk": {"S": NAMES[3]}, "v": {"S": "new"}}
    written = Call("PutItem", {"TableName": TABLE, "Item": item})
    assert (await asyncio.to_thread(ask, two_proxies[1].endpoint, written)).status == 200
    after = await read(two_proxies[0], NAMES)
    assert after.content["Responses"][TABLE][3] == item
    assert after.cache_status == "dynaside; fwd=partial; stored; detail=hits-24-of-25"
    assert fetched(upstream) == {name: 1 + (name == NAMES[3]) for name in NAMES}
