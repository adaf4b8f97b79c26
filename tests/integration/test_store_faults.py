"""`RedisStore` against servers that stop, freeze, restart and lose replies."""

from __future__ import annotations

import asyncio
import os
import signal
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import pytest

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.fence import LeaseState, RecordState, WriteOutcome
from proxy.core.policy import FencePolicy
from proxy.core.record import EntryDraft
from proxy.core.values import FenceResult, TableName
from proxy.edge.clock import SystemClock
from proxy.edge.redis_lane import LaneLimits
from proxy.edge.redis_store import RedisStore
from proxy.embedded.valkey import RunningStore, start_valkey
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.live_lanes import KEYS, LiveLanes, live_lanes, options

pytestmark = pytest.mark.store

ITEM = KEYS.item(TableName("orders"), {"pk": {"S": "a"}})
CLOCK = SystemClock()
DRAFT = EntryDraft(0.0, 60.0, 60.0, False, 3, zlib.crc32(b"one"), b"one")
BRISK = LaneLimits(timeout_s=0.3, connect_timeout_s=1.0, queue_max=10_000)


@pytest.fixture
def own() -> Iterator[RunningStore]:
    """Run a store that the test may spoil."""
    with closing(start_valkey()) as store:
        yield store


@pytest.fixture
async def proxy(own: RunningStore) -> AsyncIterator[FaultProxy]:
    async with fault_proxy(own.address) as running:
        yield running


@pytest.fixture
async def live(proxy: FaultProxy) -> AsyncIterator[LiveLanes]:
    async with live_lanes(options(proxy.url, limits=BRISK, lanes=1)) as live:
        await live.until(lambda: live.lanes.serving)
        yield live


async def fill(store: RedisStore) -> None:
    generation, token = (await store.lookup(ITEM)).generation, CLOCK.token()
    reply = await store.lease(ITEM, token=token, generation=generation, force=False)
    assert reply.state is LeaseState.LEASED
    assert await store.fill(ITEM, token=token, generation=generation, draft=DRAFT)


async def hits(store: RedisStore) -> bool:
    return (await store.lookup(ITEM)).entry is not None


async def test_a_stopped_server_fails_steps_and_works_again_when_it_goes_on(
    own: RunningStore, live: LiveLanes
) -> None:
    """SIGSTOP looks like silence; after SIGCONT the same entries are served again."""
    store = live.store(FencePolicy())
    await fill(store)
    os.kill(own.child.pid, signal.SIGSTOP)
    try:
        with pytest.raises(StoreUnavailable) as silent:
            await store.lookup(ITEM)
        assert silent.value.failure is StoreFailure.TIMEOUT
        assert not store.serving
        with pytest.raises(StoreUnavailable) as down:
            await store.begin(ITEM, token=CLOCK.token())
        assert down.value.failure is StoreFailure.CLOSED
    finally:
        os.kill(own.child.pid, signal.SIGCONT)
    await live.until(lambda: live.lanes.serving)
    assert await hits(store)


async def test_a_hundred_lookups_fail_together_in_one_time_out(
    proxy: FaultProxy, live: LiveLanes
) -> None:
    """Behind a black hole nobody waits for more than the one time-out of the lane."""
    store = live.store(FencePolicy())
    await store.lookup(ITEM)
    proxy.freeze()
    downs = len(live.events)
    lookups = [store.lookup(ITEM) for _ in range(100)]
    failures = await asyncio.gather(*lookups, return_exceptions=True)
    assert all(isinstance(failure, StoreUnavailable) for failure in failures)
    assert len(live.events) == downs + 2  # one connection closed, serving stopped
    proxy.thaw()
    await live.until(lambda: live.lanes.serving)


async def test_a_fence_waits_for_lanes_that_were_just_cut_off(proxy: FaultProxy) -> None:
    """A reconnect takes milliseconds; a write that goes unfenced leaves others a stale entry."""
    async with live_lanes(options(proxy.url, lanes=1)) as live:
        await live.until(lambda: live.lanes.serving)
        store = live.store(FencePolicy())
        await fill(store)
        proxy.cut()
        await live.until(lambda: not live.lanes.serving)
        await store.begin(ITEM, token=CLOCK.token())
        await live.until(lambda: live.lanes.serving)
        assert (await store.lookup(ITEM)).state is RecordState.PENDING


async def test_a_begin_whose_reply_was_lost_still_protects(
    proxy: FaultProxy, live: LiveLanes
) -> None:
    """The marker is there although the writer does not know: nobody fills until it ends."""
    store = live.store(FencePolicy())
    await fill(store)
    token = CLOCK.token()
    proxy.hold_replies()
    with pytest.raises(StoreUnavailable):
        await store.begin(ITEM, token=token)
    proxy.thaw()
    await live.until(lambda: live.lanes.serving)
    assert (await store.lookup(ITEM)).state is RecordState.PENDING
    end = await store.end(ITEM, token=token, outcome=WriteOutcome.ABORTED)
    assert end is FenceResult.RESTORED
    assert await hits(store)


async def test_a_fill_whose_reply_was_lost_has_happened(proxy: FaultProxy, live: LiveLanes) -> None:
    """The entry is there although the filler does not know; giving the lease back leaves it."""
    store = live.store(FencePolicy())
    generation, token = (await store.lookup(ITEM)).generation, CLOCK.token()
    await store.lease(ITEM, token=token, generation=generation, force=False)
    proxy.hold_replies()
    with pytest.raises(StoreUnavailable):
        await store.fill(ITEM, token=token, generation=generation, draft=DRAFT)
    proxy.thaw()
    await live.until(lambda: live.lanes.serving)
    await store.release(ITEM, token=token)
    assert await hits(store)


async def test_a_slow_server_is_waited_for(proxy: FaultProxy, live: LiveLanes) -> None:
    """Replies that come late, but in time, are replies."""
    store = live.store(FencePolicy())
    await fill(store)
    proxy.delay_s = 0.02
    assert all([await hits(store) for _ in range(5)])


async def test_a_killed_server_is_found_again_as_another_incarnation(
    own: RunningStore, proxy: FaultProxy, live: LiveLanes
) -> None:
    """After kill -9 and a restart nothing of before counts, and a writer in flight has lost."""
    store = live.store(FencePolicy())
    await fill(store)
    before, token = live.incarnation, CLOCK.token()
    await store.begin(ITEM, token=token)
    os.kill(own.child.pid, signal.SIGKILL)
    own.child.process.wait()
    with pytest.raises(StoreUnavailable):
        await store.lookup(ITEM)
    with closing(start_valkey()) as successor:
        proxy.replace_server(successor.address)
        await live.until(lambda: live.lanes.serving)
        assert live.incarnation != before
        assert not await hits(store)
        end = await store.end(ITEM, token=token, outcome=WriteOutcome.INVALIDATED)
        assert end is FenceResult.LOST


async def test_entries_of_a_promoted_replica_do_not_count(
    own: RunningStore, proxy: FaultProxy, live: LiveLanes
) -> None:
    """What a fail-over brings back may be older than a write it has not heard of."""
    store = live.store(FencePolicy())
    await fill(store)
    own.ask("CONFIG", "SET", "repl-diskless-sync-delay", "0")
    assert isinstance(own.address, tuple)
    host, port = own.address
    with closing(start_valkey()) as replica:
        replica.ask("REPLICAOF", host, str(port))
        replica.child.wait_until(lambda: b"master_link_status:up" in replica.ask("INFO"))
        replica.child.wait_until(lambda: b"keys=" in replica.ask("INFO", "keyspace"))
        replica.ask("REPLICAOF", "NO", "ONE")
        proxy.replace_server(replica.address)
        proxy.cut()
        with pytest.raises(StoreUnavailable):
            await store.lookup(ITEM)
        await live.until(lambda: live.lanes.serving)
        seen = await store.lookup(ITEM)
        assert (seen.state, seen.entry) == (RecordState.ABSENT, None)
        reply = await store.lease(
            ITEM, token=CLOCK.token(), generation=seen.generation, force=False
        )
        assert reply.state is LeaseState.LEASED


async def test_a_connection_to_nowhere_is_tried_until_it_works(
    proxy: FaultProxy, live: LiveLanes
) -> None:
    """A refused connection is reported as such and found again."""
    store = live.store(FencePolicy())
    await proxy.refuse()
    with pytest.raises(StoreUnavailable):
        await store.lookup(ITEM)
    await live.until(lambda: "cannot connect" in store.why_not_serving)
    await proxy.listen()
    await live.until(lambda: live.lanes.serving)
    assert not await hits(store)
