"""Claims about a store that is down, silent, full or unreachable: a real Valkey, really broken."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from proxy.embedded import valkey as embedded
from proxy.embedded.valkey import RunningStore, start_valkey, valkey_binary
from proxy.flow import debts
from tests.fakes.fake_upstream import FakeUpstream
from tests.support.relay import Relay
from tests.support.serving import (
    Reply,
    Serving,
    item,
    key,
    serving,
    store_serves,
    total,
    until_told,
)

pytestmark = pytest.mark.store

QUICK = {
    "store.heartbeat_s": 0.2,
    "store.heartbeat_age_s_max": 0.6,
    "breaker.open_s": 0.2,
}
PAUSE_MS = "2500"


@dataclass
class Outage:
    """A store between this test and its proxies, and how to break and mend it."""

    store: RunningStore
    relay: Relay
    stack: AsyncExitStack

    @property
    def url(self) -> str:
        """Where the proxies find it."""
        return f"redis://127.0.0.1:{self.relay.port}/0"

    async def killed(self) -> None:
        """End it as an out-of-memory kill does."""
        os.kill(self.store.child.pid, signal.SIGKILL)
        self.store.child.process.wait()

    async def restarted(self) -> None:
        """Start an empty one at the same address."""
        binary = valkey_binary()
        assert binary is not None, "the first one had it"
        port = int(self.store.address[1])
        again = embedded._launch(binary, port=port, maxmemory=embedded.MAXMEMORY)
        self.stack.callback(again.close)

    async def stopped(self) -> None:
        """Freeze it: it accepts connections, by its kernel, and answers nothing."""
        os.kill(self.store.child.pid, signal.SIGSTOP)

    async def continued(self) -> None:
        """Let it go on; it then obeys what it was sent meanwhile."""
        os.kill(self.store.child.pid, signal.SIGCONT)

    async def filled(self) -> None:
        """Let it have no memory left and evict nothing."""
        self.store.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        self.store.ask("CONFIG", "SET", "maxmemory", "1")

    async def emptied(self) -> None:
        """Give it memory again."""
        self.store.ask("CONFIG", "SET", "maxmemory", "64mb")

    async def swallowed(self) -> None:
        """Let the network between drop everything."""
        self.relay.swallowing = True

    async def connected(self) -> None:
        """Mend the network."""
        self.relay.swallowing = False

    async def paused(self) -> None:
        """Let it accept commands and carry none out for a while."""
        self.store.ask("CLIENT", "PAUSE", PAUSE_MS, "ALL")

    async def waited(self) -> None:
        """Nothing: the pause ends by itself."""


Step = Callable[[Outage], Awaitable[None]]

FAULTS: dict[str, tuple[Step, Step]] = {
    "kill -9": (Outage.killed, Outage.restarted),
    "stop": (Outage.stopped, Outage.continued),
    "black hole": (Outage.swallowed, Outage.connected),
    "client pause": (Outage.paused, Outage.waited),
}


@pytest.fixture
async def fake() -> AsyncIterator[FakeUpstream]:
    """A DynamoDB with table `t`."""
    async with FakeUpstream() as upstream:
        upstream.tables.add("t", pk="S")
        yield upstream


@pytest.fixture
async def outage() -> AsyncIterator[Outage]:
    """A Valkey of the test's own, behind a relay."""
    async with AsyncExitStack() as stack:
        store = start_valkey()
        stack.callback(store.close)
        stack.callback(store.child.process.send_signal, signal.SIGCONT)  # not to the dead
        relay = await stack.enter_async_context(Relay(int(store.address[1])))
        yield Outage(store, relay, stack)


@asynccontextmanager
async def two_proxies(
    fake: FakeUpstream, outage: Outage, **settings: Any
) -> AsyncIterator[tuple[Serving, Serving]]:
    """Run two proxies that share the store."""
    common = {"store.namespace": uuid.uuid4().hex, **QUICK, **settings}
    async with (
        serving(fake.endpoint, store=outage.url, settings=common) as one,
        serving(fake.endpoint, store=outage.url, settings=common) as other,
    ):
        yield one, other


async def write(proxy: Serving, version: int) -> None:
    """Write the next version; the write must be accepted."""
    reply = await proxy.call("PutItem", item("a", version))
    assert reply.status == 200, reply.body


async def read(proxy: Serving) -> tuple[int, Reply]:
    """Read the item; return its version and the answer."""
    reply = await proxy.call("GetItem", key("a"))
    assert reply.status == 200, reply.body
    return int(reply.content["Item"]["n"]["N"]), reply


async def warm(proxy: Serving, version: int) -> None:
    """Write a version and read it until it is a hit."""
    await write(proxy, version)

    async def hits() -> bool:
        found, reply = await read(proxy)
        assert found == version
        return reply.cache.startswith("dynaside; hit")

    await until_told(hits)


async def asked(proxy: Serving) -> float:
    """Return how many steps were really tried in the store: answered, or failed otherwise."""
    scrape = (await proxy.ops("/metrics")).body.decode()
    answered = total(scrape, "dynaside_store_duration_seconds_count")
    failed = total(scrape, "dynaside_store_failures_total")
    return answered + failed - total(scrape, "dynaside_store_failures_total", 'failure="closed"')


async def recovered(one: Serving, other: Serving, version: int) -> None:
    """Wait until the store is back and told of everything, then demand the newest version as a hit.

    The one that wrote shows nothing older meanwhile: what it owes, it does not read.
    """

    async def paid() -> bool:
        assert (await read(one))[0] == version
        return await one.metric("dynaside_debts") == 0

    await until_told(paid)
    await store_serves(one)
    await store_serves(other)
    for proxy in (other, one):
        found, _ = await read(proxy)
        assert found == version

        async def hits(proxy: Serving = proxy) -> bool:
            found, reply = await read(proxy)
            assert found == version
            return reply.cache.startswith("dynaside; hit")

        await until_told(hits)


@pytest.mark.parametrize("name", FAULTS)
async def test_requests_go_on_through_an_outage(
    fake: FakeUpstream, outage: Outage, name: str
) -> None:
    """Reads and writes work on DynamoDB, nobody reads backwards, and hits come back alone.

    Through one proxy each read shows that proxy's last acknowledged write. When the store is
    back the debts are paid, and the other proxy shows the newest version too.
    """
    strike, mend = FAULTS[name]
    async with two_proxies(fake, outage) as (one, other):
        await warm(one, 1)
        assert (await read(other))[0] == 1
        await strike(outage)
        for version in range(2, 8):
            await write(one, version)
            assert [(await read(one))[0] for _ in range(3)] == [version] * 3
        assert await one.metric("dynaside_debts") > 0
        await mend(outage)
        await recovered(one, other, 7)
        await write(other, 8)
        assert (await read(one))[0] == 8


async def test_own_writes_are_read_until_the_store_knows_of_them(
    fake: FakeUpstream, outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that is back still holds the older entry: who owes it a write does not read it."""
    monkeypatch.setattr(debts, "_PAY_EVERY_S", 1.5)
    async with two_proxies(fake, outage) as (one, other):
        await warm(one, 1)
        await outage.swallowed()
        await write(one, 2)
        await outage.connected()
        await store_serves(one)
        found, reply = await read(one)
        assert (found, reply.cache) == (2, "dynaside; fwd=bypass; detail=debt")
        assert (await read(other))[0] in {1, 2}  # the other one cannot know yet
        await recovered(one, other, 2)


async def test_full_store_still_takes_invalidations(fake: FakeUpstream, outage: Outage) -> None:
    """Without memory nothing is filled, but every write is seen at once through both proxies."""
    async with two_proxies(fake, outage) as (one, other):
        await warm(one, 1)
        await outage.filled()
        for version in range(2, 8):
            await write(one, version)
            found, reply = await read(one)
            assert (found, reply.cache) == (version, "dynaside; fwd=miss")
            assert (await read(other))[0] == version
        assert await one.metric("dynaside_debts") == 0
        assert await one.metric("dynaside_fills_total", 'result="store-failed"') == 6
        await outage.emptied()
        await recovered(one, other, 7)


@pytest.mark.parametrize("name", ["kill -9", "stop", "black hole"])
async def test_dead_store_is_not_asked_again_and_again(
    fake: FakeUpstream, outage: Outage, name: str
) -> None:
    """Once the outage is known, requests cost no store time-out: no step is even tried."""
    strike, mend = FAULTS[name]
    async with two_proxies(fake, outage) as (one, other):
        await warm(one, 1)
        await strike(outage)
        await write(one, 2)  # meets the silence, if there is one
        await store_serves(one, wanted=False)
        tried = await asked(one)
        fetches = fake.count("GetItem")
        for version in range(3, 13):
            await write(one, version)
            assert (await read(one))[0] == version
        assert await asked(one) == tried
        assert fake.count("GetItem") == fetches + 10
        assert await one.metric("dynaside_bypasses_total", 'reason="debt"') >= 10
        await mend(outage)
        await recovered(one, other, 12)


async def test_open_breaker_sends_nothing(fake: FakeUpstream, outage: Outage) -> None:
    """While it is open, steps fail here: a store that connects but never answers costs nothing."""
    settings = {"breaker.failures_to_open": 1, "breaker.open_s": 60, "store.lanes": 2}
    async with two_proxies(fake, outage, **settings) as (one, _):
        await warm(one, 1)
        await outage.stopped()
        await write(one, 2)
        assert await one.metric("dynaside_store_breaker_state", 'state="open"') == 1
        await outage.continued()
        await store_serves(one)
        tried = await asked(one)
        for version in range(3, 6):
            await write(one, version)
            assert (await read(one))[0] == version
        assert await asked(one) == tried
        assert await one.metric("dynaside_store_breaker_state", 'state="open"') == 1


async def test_strict_tables_refuse_writes_without_the_store(
    fake: FakeUpstream, outage: Outage
) -> None:
    """At level `strict` no write is sent that the store could not be told of; reads go on."""
    async with two_proxies(fake, outage, **{"defaults.level": "strict"}) as (one, other):
        await warm(one, 1)
        await outage.killed()
        writes = fake.count("PutItem")
        reply = await one.call("PutItem", item("a", 2))
        assert (reply.status, reply.error) == (500, "InternalServerError")
        assert fake.count("PutItem") == writes
        assert (await read(one))[0] == 1
        await outage.restarted()
        await store_serves(one)
        await store_serves(other)
        await write(one, 3)
        assert (await read(other))[0] == 3


async def test_restarted_store_waits_for_older_writes(fake: FakeUpstream, outage: Outage) -> None:
    """A store that lost its memory serves nothing until every write from before has ended.

    A write is held in DynamoDB, the store forgets its marker, and a reader comes: in quarantine
    nothing it reads may stay, for the write will change the item behind it.
    """
    settings = {
        "store.quarantine_s": 4,
        "fence.marker_s": 4,
        "upstream.write_timeout_s": 2,
        "upstream.connect_timeout_s": 0.5,
    }
    async with AsyncExitStack() as stack:
        common = {"store.namespace": uuid.uuid4().hex, **QUICK, **settings}
        proxy = await stack.enter_async_context(
            serving(fake.endpoint, store=outage.url, settings=common)
        )
        await warm(proxy, 1)
        await outage.killed()
        await outage.restarted()

        async def quarantined() -> bool:
            shown = (await proxy.ops("/status")).content["store"]["why"]
            return "quarantine" in shown

        await until_told(quarantined)
        fills = await proxy.metric("dynaside_fills_total", 'result="stored"')
        found, reply = await read(proxy)
        assert found == 1
        assert reply.cache == "dynaside; fwd=bypass; detail=store-quarantine"
        assert await proxy.metric("dynaside_fills_total", 'result="stored"') == fills
        await store_serves(proxy)
        assert "stored" in (await read(proxy))[1].cache
