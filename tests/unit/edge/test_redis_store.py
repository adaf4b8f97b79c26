"""What `RedisStore` does beyond the contract: lost scripts, a full store, no store at all."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing

import pytest

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.fence import LeaseState, WriteOutcome
from proxy.core.policy import FencePolicy
from proxy.core.record import EntryDraft
from proxy.core.values import FenceResult, Generation, TableName, Token
from proxy.edge.clock import SystemClock
from proxy.edge.redis_store import RedisStore
from proxy.embedded.valkey import RunningStore, start_valkey
from tests.support.live_lanes import KEYS, LiveLanes, live_lanes, options
from tests.support.raw_store import RawStore

pytestmark = pytest.mark.store

ITEM = KEYS.item(TableName("orders"), {"pk": {"S": "a"}})
PAGE = KEYS.page(ITEM.table, b"{}", KEYS.scan_key(ITEM.table))
CLOCK = SystemClock()
DRAFT = EntryDraft(0.0, 60.0, 60.0, False, 3, zlib.crc32(b"one"), b"one")
TOKEN = Token(b"t" * 16)
NOW = Generation(b"g" * 8)

STEPS: dict[str, Callable[[RedisStore], Awaitable[object]]] = {
    "lookup": lambda store: store.lookup(ITEM),
    "lease": lambda store: store.lease(ITEM, token=TOKEN, generation=NOW, force=False),
    "fill": lambda store: store.fill(ITEM, token=TOKEN, generation=NOW, draft=DRAFT),
    "release": lambda store: store.release(ITEM, token=TOKEN),
    "begin": lambda store: store.begin(ITEM, token=TOKEN),
    "end": lambda store: store.end(ITEM, token=TOKEN, outcome=WriteOutcome.INVALIDATED),
    "invalidate": lambda store: store.invalidate(ITEM),
    "begin_table": lambda store: store.begin_table(ITEM.table_key, token=TOKEN),
    "end_table": lambda store: store.end_table(
        ITEM.table_key, token=TOKEN, outcome=WriteOutcome.ABORTED, remade=False
    ),
    "lookup_page": lambda store: store.lookup_page(PAGE),
    "begin_scope": lambda store: store.begin_scope(PAGE.scope_key, token=TOKEN),
    "end_scope": lambda store: store.end_scope(
        PAGE.scope_key, token=TOKEN, outcome=WriteOutcome.ABORTED
    ),
}


@pytest.fixture
def own() -> Iterator[RunningStore]:
    """Run a store that the test may spoil."""
    with closing(start_valkey(maxmemory="8mb")) as store:
        yield store


@pytest.fixture
async def live(own: RunningStore) -> AsyncIterator[LiveLanes]:
    async with live_lanes(options(own.url, heartbeat_s=3600.0, heartbeat_age_s_max=7200.0)) as live:
        await live.until(lambda: live.lanes.serving)
        yield live


@pytest.mark.parametrize("step", STEPS)
async def test_a_step_gives_the_store_its_lost_script_again(
    own: RunningStore, live: LiveLanes, step: str
) -> None:
    """After SCRIPT FLUSH each step works at once, without a reconnect."""
    own.ask("SCRIPT", "FLUSH")
    await STEPS[step](live.store(FencePolicy()))
    assert live.lanes.serving


@pytest.mark.parametrize("step", STEPS)
async def test_every_step_says_that_there_is_no_store(step: str) -> None:
    """Without a connection each step fails at once, in the port's own words."""
    async with live_lanes(options("redis://127.0.0.1:1/0")) as live:
        with pytest.raises(StoreUnavailable) as closed:
            await STEPS[step](live.store(FencePolicy()))
        assert closed.value.failure is StoreFailure.CLOSED


async def test_a_full_store_takes_fences_but_no_fills(own: RunningStore, live: LiveLanes) -> None:
    """With `noeviction` and no memory left an invalidation is never refused; a fill is."""
    store = live.store(FencePolicy())
    generation = (await store.lookup(ITEM)).generation
    reply = await store.lease(ITEM, token=TOKEN, generation=generation, force=False)
    assert reply.state is LeaseState.LEASED
    own.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    own.ask("CONFIG", "SET", "maxmemory", "1")
    with RawStore(own.address) as raw:
        assert "OOM" in str(raw.run("SET", "a", "b"))
    with pytest.raises(StoreUnavailable) as refused:
        await store.fill(ITEM, token=TOKEN, generation=generation, draft=DRAFT)
    assert refused.value.failure is StoreFailure.REFUSED
    assert "maxmemory" in str(refused.value)
    await store.release(ITEM, token=TOKEN)
    assert (await store.begin(ITEM, token=TOKEN)).generation == generation
    stored = (generation, DRAFT)
    end = await store.end(ITEM, token=TOKEN, outcome=WriteOutcome.STORED, stored=stored)
    assert end is FenceResult.STORED
    assert (await store.lookup(ITEM)).entry is not None
    await store.invalidate(ITEM)
    assert (await store.lookup(ITEM)).entry is None
    assert (
        await store.lease(ITEM, token=TOKEN, generation=generation, force=False)
    ).state is LeaseState.LEASED
    await store.begin_table(ITEM.table_key, token=TOKEN)
    await store.end_table(
        ITEM.table_key, token=TOKEN, outcome=WriteOutcome.INVALIDATED, remade=False
    )
    await store.begin_scope(PAGE.scope_key, token=TOKEN)
    await store.end_scope(PAGE.scope_key, token=TOKEN, outcome=WriteOutcome.INVALIDATED)
    assert live.lanes.serving


async def test_a_server_that_became_a_replica_refuses_each_script(
    own: RunningStore, live: LiveLanes, valkey: RunningStore
) -> None:
    """Before the heartbeat notices, a demoted server can grant no lease and take no fence."""
    assert isinstance(valkey.address, tuple)
    host, port = valkey.address
    own.ask("REPLICAOF", host, str(port))
    store = live.store(FencePolicy())
    steps = ("lease", "fill", "begin", "end", "invalidate", "begin_table", "end_table")
    for step in (*steps, "begin_scope", "end_scope"):
        with pytest.raises(StoreUnavailable) as refused:
            await STEPS[step](store)
        assert refused.value.failure is StoreFailure.REFUSED


async def test_a_damaged_record_is_a_refusal_not_a_crash(
    own: RunningStore, live: LiveLanes
) -> None:
    """A record cut short is not served, and an invalidation repairs it."""
    store = live.store(FencePolicy())
    await store.lookup(ITEM)
    with RawStore(own.address) as raw:
        for cut in (b"V\x01", b"L\x01 short", b"P\x01", b"T\x01"):
            raw.run("SET", ITEM.cache_key, cut)
            assert (await store.lookup(ITEM)).entry is None
        raw.run("SET", ITEM.cache_key, b"T\x01")
        with pytest.raises(StoreUnavailable) as refused:
            await store.lease(ITEM, token=TOKEN, generation=NOW, force=False)
        assert refused.value.failure is StoreFailure.REFUSED
        await store.invalidate(ITEM)
        reply = await store.lease(ITEM, token=TOKEN, generation=NOW, force=False)
        assert reply.state is LeaseState.LEASED
