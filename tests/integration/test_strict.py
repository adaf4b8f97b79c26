"""Level `strict` over real processes and servers: one proxy's write is every proxy's next read."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, closing
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from proxy.embedded.valkey import RunningStore, start_valkey
from tests.fakes.fake_upstream import FakeUpstream
from tests.support.dynamo_wire import Call
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.proxy_process import RunningProxy, running_proxy
from tests.support.serving import Serving, item, key, serving, store_serves, until_told

pytestmark = pytest.mark.store

PROXIES = 3
ROUNDS = 20
TABLE = "orders"
KEY = {"pk": {"S": "a"}}
READS: dict[str, dict[str, Any]] = {
    "GetItem": {"TableName": TABLE, "Key": KEY},
    "BatchGetItem": {"RequestItems": {TABLE: {"Keys": [KEY]}}},
    "Query": {
        "TableName": TABLE,
        "KeyConditionExpression": "pk = :p",
        "ExpressionAttributeValues": {":p": KEY["pk"]},
    },
}


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """A DynamoDB whose eventually consistent reads are always one write behind."""
    async with FakeUpstream() as fake:
        fake.tables.add(TABLE, pk="S")
        fake.tables.add("t", pk="S")
        fake.tables.lag_versions = 1
        yield fake


@pytest.fixture(params=["invalidate", "through"])
def proxies(
    request: pytest.FixtureRequest, upstream: FakeUpstream, valkey: RunningStore
) -> Iterator[list[RunningProxy]]:
    """Three processes on one store; pages are cached too."""
    settings = {
        "store.namespace": uuid.uuid4().hex,
        "defaults.level": "strict",
        "defaults.write_mode": request.param,
        "defaults.queries.enabled": True,
    }
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                running_proxy(upstream=upstream.endpoint, store=valkey.url, settings=settings)
            )
            for _ in range(PROXIES)
        ]


async def test_a_write_through_one_process_is_read_through_every_other(
    upstream: FakeUpstream, proxies: list[RunningProxy]
) -> None:
    """Acknowledged through one of three, a version is what all show from then on, in every read."""
    says: set[str] = set()
    async with aiohttp.ClientSession() as session:

        async def call(proxy: RunningProxy, operation: str, body: dict[str, Any]) -> Any:
            made = Call(operation, body)
            headers = made.fields(proxy.endpoint.removeprefix("http://"))
            async with session.post(proxy.endpoint, data=made.raw_body, headers=headers) as reply:
                assert reply.status == 200
                says.add(reply.headers["Cache-Status"].split("; ")[1])
                return await reply.json(content_type=None)

        for version, writer in zip(range(ROUNDS), itertools.cycle(proxies), strict=False):
            put = {"TableName": TABLE, "Item": {**KEY, "n": {"N": str(version)}}}
            await call(writer, "PutItem", put)
            for proxy, operation in itertools.product(proxies, READS):
                shown = await call(proxy, operation, READS[operation])
                assert f"'N': '{version}'" in str(shown), (operation, shown)
    assert "hit" in says
    assert upstream.count("GetItem") <= ROUNDS


@dataclass
class Split:
    """Two servers, one of which was promoted while the other lives on; a proxy sees each."""

    old: RunningStore
    new: RunningStore
    ways: list[FaultProxy]

    def promote(self) -> None:
        """Make the replica a primary, and lead the second proxy to it; the first sees nothing."""
        self.new.ask("REPLICAOF", "NO", "ONE")
        assert not isinstance(self.new.address, str)
        self.ways[1].replace_server(self.new.address)
        self.ways[1].cut()


@pytest.fixture
async def split() -> AsyncIterator[Split]:
    """A primary that waits for its replica, the replica, and two ways to the primary."""
    async with AsyncExitStack() as stack:
        old = stack.enter_context(closing(start_valkey()))
        new = stack.enter_context(closing(start_valkey()))
        assert not isinstance(old.address, str)
        for server in (old, new):
            server.ask("CONFIG", "SET", "min-replicas-max-lag", "1")
        old.ask("CONFIG", "SET", "repl-diskless-sync-delay", "0")
        new.ask("REPLICAOF", old.address[0], str(old.address[1]))
        new.child.wait_until(lambda: b"master_link_status:up" in new.ask("INFO"))
        old.ask("CONFIG", "SET", "min-replicas-to-write", "1")
        ways = [await stack.enter_async_context(fault_proxy(old.address)) for _ in range(2)]
        yield Split(old, new, ways)


async def two_ways(
    stack: AsyncExitStack, upstream: FakeUpstream, split: Split, fail_over: str
) -> list[Serving]:
    """Run a strict proxy on each way to the store."""
    settings = {
        "store.namespace": uuid.uuid4().hex,
        "store.accept_unfit": False,
        "store.fail_over": fail_over,
        "store.quarantine_s": 3,
        "store.heartbeat_s": 0.2,
        "store.heartbeat_age_s_max": 1,
        "fence.marker_s": 3,
        "upstream.write_timeout_s": 1,
        "defaults.level": "strict",
    }
    return [
        await stack.enter_async_context(
            serving(upstream.endpoint, store=way.url, settings=settings)
        )
        for way in split.ways
    ]


async def version(proxy: Serving) -> int:
    """Return what a proxy shows of the item."""
    reply = await proxy.call("GetItem", key("a"))
    assert reply.status == 200, reply.body
    return int(reply.content["Item"]["n"]["N"])


async def test_a_write_at_a_new_primary_waits_for_the_last_hit_at_the_older_one(
    upstream: FakeUpstream, split: Split
) -> None:
    """Refused so that SDKs retry, unsent, until no proxy serves from the older one any more."""
    async with AsyncExitStack() as stack:
        behind, ahead = await two_ways(stack, upstream, split, "safe")
        assert (await behind.call("PutItem", item("a", 1))).status == 200
        assert [await version(proxy) for proxy in (behind, ahead)] == [1, 1]
        split.promote()
        writes = upstream.count("PutItem")
        refused: set[str] = set()

        async def written() -> bool:
            reply = await ahead.call("PutItem", item("a", 2))
            if reply.status != 200:
                assert reply.status == 500
                assert upstream.count("PutItem") == writes
                refused.add(reply.cache.partition("detail=")[2])
            return reply.status == 200

        await until_told(written)
        assert "store-unsettled" in refused
        assert [await version(proxy) for proxy in (behind, ahead)] == [2, 2]
        assert (await behind.ops("/status")).content["store"]["serving"] is False
        await store_serves(ahead)
        assert [await version(proxy) for proxy in (ahead, behind)] == [2, 2]


async def test_available_writes_at_once_and_the_older_primary_catches_up_by_silence(
    upstream: FakeUpstream, split: Split
) -> None:
    """Nothing is refused but what meets no connection; what the older one shows ends with it."""
    async with AsyncExitStack() as stack:
        behind, ahead = await two_ways(stack, upstream, split, "available")
        assert (await behind.call("PutItem", item("a", 1))).status == 200
        assert await version(behind) == 1
        split.promote()

        async def written() -> bool:
            reply = await ahead.call("PutItem", item("a", 2))
            assert "store-unsettled" not in reply.cache
            return reply.status == 200

        await until_told(written)
        assert await version(ahead) == 2
        await store_serves(behind, wanted=False)
        assert await version(behind) == 2


async def test_a_primary_without_its_replica_is_never_trusted_again(
    upstream: FakeUpstream, split: Split
) -> None:
    """Where min-replicas-to-write is lifted, strict reads bypass, whatever is left of the rest."""
    async with AsyncExitStack() as stack:
        behind, _ = await two_ways(stack, upstream, split, "safe")
        assert (await behind.call("PutItem", item("a", 1))).status == 200
        split.old.ask("CONFIG", "SET", "min-replicas-to-write", "0")

        async def bypassed() -> bool:
            return "store-unfit" in (await behind.call("GetItem", key("a"))).cache

        await until_told(bypassed)
        split.new.ask("REPLICAOF", "NO", "ONE")
        split.old.child.wait_until(lambda: b"connected_slaves:0" in split.old.ask("INFO"))
        assert await bypassed()
        assert (await behind.ops("/status")).content["store"]["flaws"] == ["replicas"]
