"""What the cache costs and saves: one upstream read for a stampede, one round trip for a hit."""

from __future__ import annotations

import asyncio
import itertools
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial

import aiohttp
import pytest

from proxy.embedded.valkey import RunningStore, start_valkey
from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.fake_upstream_script import THROTTLED
from tests.support.dynamo_wire import Call, connected, spelled
from tests.support.proxy_process import RunningProxy, running_proxy

pytestmark = pytest.mark.store

READERS = 10_000
REPEATS = 1000
TABLE = "orders"
KEY = {"pk": {"S": "hot"}}
ITEM = {**KEY, "v": {"S": "x" * 2000}}
READ = Call("GetItem", {"TableName": TABLE, "Key": KEY})
PATIENT = {
    # Longer than any pause of a busy machine: what is counted must not depend on time.
    "fence.lease_s": 60,
    "fence.lease_wait_s": 60,
    "upstream.read_timeout_s": 60,
    # No heartbeat, and no look at the table, between two looks at the store's counters.
    "store.heartbeat_s": 60,
    "store.heartbeat_age_s_max": 300,
    "upstream.table_check_s": 0,
}


@pytest.fixture(scope="module")
def own_store() -> Iterator[RunningStore]:
    """Run a store that nobody else talks to, so that its counters are ours."""
    with closing(start_valkey()) as store:
        yield store


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """Run the fake DynamoDB with the hot item."""
    async with FakeUpstream() as fake:
        fake.tables.add(TABLE, pk="S")
        fake.tables.call("PutItem", {"TableName": TABLE, "Item": ITEM})
        yield fake


@contextmanager
def fleet(
    upstream: FakeUpstream, store: RunningStore, count: int, **settings: object
) -> Iterator[list[RunningProxy]]:
    """Run that many proxy processes that share one store and namespace."""
    given = PATIENT | {"store.namespace": f"test-{uuid.uuid4().hex[:8]}"} | settings
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                running_proxy(upstream=upstream.endpoint, store=store.url, settings=given)
            )
            for _ in range(count)
        ]


@pytest.fixture
async def two_proxies(
    upstream: FakeUpstream, own_store: RunningStore
) -> AsyncIterator[list[RunningProxy]]:
    """Run two proxy processes that share one store and namespace."""
    with fleet(upstream, own_store, 2) as proxies:
        yield proxies


async def read(
    session: aiohttp.ClientSession, proxy: RunningProxy, *, status: int = 200
) -> tuple[str, object]:
    """Read the hot item; return what the cache says, without its numbers, and the answer."""
    headers = READ.fields(proxy.endpoint.removeprefix("http://"))
    async with session.post(proxy.endpoint, data=READ.raw_body, headers=headers) as reply:
        assert reply.status == status
        says = reply.headers["Cache-Status"].partition("; ttl")[0]
        return says, json.loads(await reply.read())


def down(proxy: RunningProxy) -> bool:
    """Tell whether a proxy knows that it has no store."""
    return not proxy.status()["store"]["serving"]


async def arrived(proxy: RunningProxy, total: int) -> None:
    """Wait until a proxy has that many requests in flight."""
    await asyncio.to_thread(
        proxy.child.wait_until, lambda: proxy.metric("dynaside_in_flight_requests") >= total
    )


async def stampede(
    upstream: FakeUpstream, proxies: list[RunningProxy], readers: int
) -> Counter[str]:
    """Let readers that nobody answers pile up in every proxy, then answer; return what was said."""
    gate = upstream.hold("GetItem")
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.timeout(300):
        ways = itertools.cycle(proxies)
        reading = [asyncio.create_task(read(session, next(ways))) for _ in range(readers)]
        await gate.reached()
        for proxy in proxies:
            await arrived(proxy, readers // len(proxies))
        upstream.release()
        answers = await asyncio.gather(*reading)
    assert all(answer == {"Item": ITEM} for _, answer in answers)
    return Counter(what for what, _ in answers)


async def test_ten_thousand_misses_over_four_proxies_read_upstream_once(
    upstream: FakeUpstream, own_store: RunningStore
) -> None:
    """All readers of an item that nobody has cached wait for one read, and get its answer."""
    with fleet(upstream, own_store, 4) as proxies:
        says = await stampede(upstream, proxies, READERS)
    assert upstream.count("GetItem") == 1
    assert says["dynaside; fwd=miss; stored"] == 1
    assert says.total() == READERS


async def test_a_filler_that_was_killed_costs_one_more_read(
    upstream: FakeUpstream, own_store: RunningStore
) -> None:
    """Its lease ends by itself; then one of the others fills, and the rest wait for that one."""
    times = {"fence.lease_s": 3, "fence.lease_wait_s": 3}
    with fleet(upstream, own_store, 3, **times) as (filler, *others):
        gate = upstream.hold("GetItem")
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session, asyncio.timeout(120):
            lost = asyncio.create_task(read(session, filler))
            await gate.reached()
            filler.child.process.kill()
            with pytest.raises(aiohttp.ClientError):
                await lost
            ways = itertools.cycle(others)
            reading = [asyncio.create_task(read(session, next(ways))) for _ in range(100)]
            await gate.reached(2)
            upstream.release()
            answers = await asyncio.gather(*reading)
        says = Counter(what for what, _ in answers)
        assert upstream.count("GetItem") == 2
        assert says["dynaside; fwd=miss; stored"] == 1
        assert all(answer == {"Item": ITEM} for _, answer in answers)


async def test_without_a_store_each_process_reads_upstream_twice_at_most(
    upstream: FakeUpstream,
) -> None:
    """What is left of the leases is single flight: one read, one more for all who came after it."""
    beats = {"store.heartbeat_s": 0.2, "store.heartbeat_age_s_max": 1}
    with closing(start_valkey()) as store, fleet(upstream, store, 3, **beats) as proxies:
        store.close()
        for proxy in proxies:
            proxy.child.wait_until(partial(down, proxy))
        says = await stampede(upstream, proxies, 300)
    assert len(proxies) <= upstream.count("GetItem") <= 2 * len(proxies)
    assert set(says) == {"dynaside; fwd=bypass; detail=store-down"}


async def test_thousand_reads_of_a_cached_item_never_ask_upstream(
    upstream: FakeUpstream, two_proxies: list[RunningProxy]
) -> None:
    """After one miss through one proxy, every read through either of them is a hit."""
    connector = aiohttp.TCPConnector(limit=64)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.timeout(120):
        await read(session, two_proxies[0])
        answers = await asyncio.gather(
            *(read(session, two_proxies[number % 2]) for number in range(REPEATS))
        )
    assert upstream.count("GetItem") == 1
    assert {says for says, _ in answers} == {"dynaside; hit"}


async def test_refused_read_is_repeated_once_for_all(
    upstream: FakeUpstream, two_proxies: list[RunningProxy]
) -> None:
    """When DynamoDB refuses a read for load, its hundred readers do not all ask once more.

    Those that came after it was sent may not take its refusal for theirs: they share another.
    """
    gate = upstream.hold("GetItem")
    upstream.fail("GetItem", THROTTLED, times=REPEATS)
    proxy = two_proxies[0]
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.timeout(120):
        readers = [asyncio.create_task(read(session, proxy, status=400)) for _ in range(100)]
        await gate.reached()
        await arrived(proxy, len(readers))
        upstream.release()
        await asyncio.gather(*readers)
    assert upstream.count("GetItem") <= 2


class Counters:
    """A store's own counters, read on one connection that costs the same each time."""

    def __init__(self, store: RunningStore) -> None:
        self._store = store

    def read(self) -> dict[str, int]:
        """Return reads from sockets and commands so far."""
        lines = self._store.ask("INFO", "stats").decode().splitlines()
        found = dict(line.split(":", 1) for line in lines if ":" in line)
        names = ("total_reads_processed", "total_commands_processed")
        return {name: int(found[name]) for name in names}

    def spent(self, before: dict[str, int]) -> dict[str, int]:
        """Return what was counted since `before`, this look included."""
        return {name: number - before[name] for name, number in self.read().items()}


async def test_hit_costs_one_store_round_trip_and_no_upstream_call(
    upstream: FakeUpstream, own_store: RunningStore
) -> None:
    """One read from the store's socket, with the entry's and the table's GET, where no copy is."""
    hits = 50
    counters = Counters(own_store)

    def send(proxy: RunningProxy, times: int) -> None:
        with connected(proxy.endpoint) as connection:
            for _ in range(times):
                connection.send(spelled(READ, connection.host))
                assert connection.receive().status == 200

    with fleet(upstream, own_store, 1, **{"near.bytes_max": 0}) as (proxy,):
        await asyncio.to_thread(send, proxy, 2)  # a miss, and a first hit
        asked = upstream.count("GetItem")
        look = counters.spent(counters.read())
        before = counters.read()
        await asyncio.to_thread(send, proxy, hits)
        spent = counters.spent(before)
    assert upstream.count("GetItem") == asked == 1
    assert spent["total_commands_processed"] - look["total_commands_processed"] == 2 * hits
    assert spent["total_reads_processed"] - look["total_reads_processed"] == hits
