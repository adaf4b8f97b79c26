"""Readers of a stream that are killed or stopped: real processes, a store and a fake DynamoDB."""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, closing
from typing import Any, Final

import pytest

from proxy.embedded.valkey import RunningStore, start_valkey
from tests.fakes.fake_upstream import FakeUpstream
from tests.support.dynamo_wire import Call, ask
from tests.support.proxy_process import READ, SERVE, RunningProxy, running_proxy
from tests.support.serving import until_told

pytestmark = pytest.mark.store

TABLE: Final = "orders"
LEASE_S: Final = 2.0
ITEMS: Final = 8


def read(proxy: RunningProxy, pk: str) -> str | None:
    """Return an item's value as a proxy answers."""
    reply = ask(proxy.endpoint, Call("GetItem", {"TableName": TABLE, "Key": {"pk": {"S": pk}}}))
    assert reply.status == 200, reply.content
    shown = reply.content.get("Item")
    return None if shown is None else str(shown["v"]["S"])


def stream_of(proxy: RunningProxy) -> dict[str, Any]:
    """Return what `/status` shows of the table's stream."""
    shown: dict[str, Any] = proxy.status()["streams"][TABLE]
    return shown


class Fleet:
    """Proxies that share the shards of one table's stream."""

    def __init__(self, fake: FakeUpstream, proxies: list[RunningProxy]) -> None:
        self.fake = fake
        self.proxies = proxies
        self.written = 0

    def write(self) -> str:
        """Change every item past the proxies; return the value they have now."""
        self.written += 1
        value = str(self.written)
        for number in range(ITEMS):
            item = {"pk": {"S": f"k{number}"}, "v": {"S": value}}
            self.fake.tables.call("PutItem", {"TableName": TABLE, "Item": item})
        return value

    async def shows(self, value: str, *proxies: RunningProxy) -> None:
        """Wait until these proxies answer with a value, for every item."""

        async def told() -> bool:
            for proxy in proxies:
                for number in range(ITEMS):
                    if await asyncio.to_thread(read, proxy, f"k{number}") != value:
                        return False
            return True

        await until_told(told)

    async def share(self, *held: int) -> None:
        """Wait until the proxies hold so many shards each, and the table is within its bound."""

        async def told() -> bool:
            shown = [await asyncio.to_thread(stream_of, each) for each in self.proxies]
            over = any(each["over"] for each in shown)
            return not over and tuple(each["held"] for each in shown) == held

        await until_told(told)


@asynccontextmanager
async def fleet_of(
    size: int, store: RunningStore, shards: int, *, readers: int = 0
) -> AsyncIterator[Fleet]:
    """Run proxies that share a stream; beside `readers` they only watch. Readers come last."""
    async with FakeUpstream() as fake:
        fake.tables.streams.shards_at_first = shards
        fake.tables.add(TABLE, pk="S")
        fake.tables.enable_stream(TABLE)
        settings = {
            "store.namespace": f"fleet-{uuid.uuid4().hex[:8]}",
            "defaults.fresh_ttl_s": 3600,
            "streams.reads": not readers,
            "streams.lease_s": LEASE_S,
            "streams.idle_poll_s": 0.25,
            "tables": {TABLE: {"streams": True}},
        }
        with ExitStack() as stack:
            # Here and not beside the loop: a process is tied to the thread that starts it.
            proxies = [
                stack.enter_context(
                    running_proxy(
                        upstream=fake.endpoint,
                        store=store.url,
                        settings=settings,
                        command=command,
                    )
                )
                for command in [SERVE] * size + [READ] * readers
            ]
            yield Fleet(fake, proxies)


async def test_a_killed_readers_shards_are_taken_over(valkey: RunningStore) -> None:
    """Also in the middle of what it reads: nothing is skipped."""
    async with fleet_of(2, valkey, shards=2) as fleet:
        await fleet.share(1, 1)
        victim, survivor = fleet.proxies
        await fleet.shows(fleet.write(), victim, survivor)
        value = fleet.write()
        victim.child.process.kill()
        await fleet.shows(value, survivor)
        assert (await asyncio.to_thread(stream_of, survivor))["held"] == 2


async def test_a_stopped_reader_that_goes_on_keeps_no_place(valkey: RunningStore) -> None:
    """Stopped for longer than its lease, with another in its place: two readers, and no gap."""
    async with fleet_of(2, valkey, shards=2) as fleet:
        await fleet.share(1, 1)
        stopped, other = fleet.proxies
        await fleet.shows(fleet.write(), stopped, other)
        stopped.child.process.send_signal(signal.SIGSTOP)
        await fleet.shows(fleet.write(), other)

        async def taken_over() -> bool:
            return bool((await asyncio.to_thread(stream_of, other))["held"] == 2)

        await until_told(taken_over)
        stopped.child.process.send_signal(signal.SIGCONT)
        await fleet.shows(fleet.write(), stopped, other)
        await fleet.share(1, 1)
        for each in fleet.proxies:
            gaps = each.metric("dynaside_stream_gaps_total", reason="trimmed")
            assert gaps + each.metric("dynaside_stream_gaps_total", reason="lost") == 0


async def test_a_reader_that_ends_gives_its_shards_back(valkey: RunningStore) -> None:
    """At once: nobody waits for its lease."""
    async with fleet_of(2, valkey, shards=2) as fleet:
        await fleet.share(1, 1)
        leaving, staying = fleet.proxies
        assert await asyncio.to_thread(leaving.stop) == 0
        await fleet.shows(fleet.write(), staying)
        fleet.proxies = [staying]
        await fleet.share(2)


async def test_a_flushed_store_is_a_new_stream(empty_valkey: RunningStore) -> None:
    """All that is known of it is gone, and so is what was cached: it begins anew."""
    async with fleet_of(1, empty_valkey, shards=2) as fleet:
        await fleet.share(2)
        (proxy,) = fleet.proxies
        await fleet.shows(fleet.write(), proxy)
        empty_valkey.flush()
        await fleet.shows(fleet.write(), proxy)
        await fleet.share(2)


async def test_readers_of_their_own_read_for_proxies_that_only_watch(valkey: RunningStore) -> None:
    """They share the shards; where one is killed the other takes over; SIGTERM ends it cleanly."""
    async with fleet_of(1, valkey, shards=2, readers=2) as fleet:
        watching, killed, ending = fleet.proxies
        await fleet.share(0, 1, 1)
        await fleet.shows(fleet.write(), watching)
        killed.child.process.kill()
        await fleet.shows(fleet.write(), watching)
        fleet.proxies = [watching, ending]
        await fleet.share(0, 2)
        assert await asyncio.to_thread(ending.stop) == 0
        assert ending.log()[-1]["event"] == "stopped"


async def test_a_reader_ends_in_time_though_its_store_is_silent() -> None:
    """It cannot give its shards back, and does not wait for that until it is killed."""
    with closing(start_valkey()) as store:
        async with fleet_of(0, store, shards=2, readers=1) as fleet:
            await fleet.share(2)
            (reader,) = fleet.proxies
            store.child.process.send_signal(signal.SIGSTOP)
            try:
                assert await asyncio.to_thread(reader.stop) == 0
            finally:
                store.child.process.send_signal(signal.SIGCONT)
