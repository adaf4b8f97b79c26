"""What `RedisStore` does beyond the contract: lost scripts, a full store, no store at all."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.fence import Begun, LeaseState, RecordState, WriteOutcome
from proxy.core.policy import FencePolicy
from proxy.core.record import EntryDraft, Packing
from proxy.core.values import (
    FenceResult,
    Generation,
    Layout,
    TableId,
    TableName,
    Token,
)
from proxy.edge.clock import SystemClock
from proxy.edge.redis_connection import Address
from proxy.edge.redis_lane import LaneLimits
from proxy.edge.redis_store import RedisStore
from proxy.embedded.valkey import RunningStore, start_valkey
from tests.support.heard_feed import HeardFeed
from tests.support.live_lanes import KEYS, LiveLanes, live_lanes, options
from tests.support.raw_cluster import RawCluster
from tests.support.raw_store import RawStore
from tests.support.reader import look_up
from tests.support.scripted_cluster import ScriptedNode, scripted_cluster
from tests.support.store_topologies import ClusterTopology

pytestmark = pytest.mark.store

ITEM = KEYS.item(TableName("orders"), {"pk": {"S": "a"}})
PAGE = KEYS.page(ITEM.table, b"{}", KEYS.scan_key(ITEM.table))
CLOCK = SystemClock()
DRAFT = EntryDraft(0.0, 60.0, 60.0, False, 3, zlib.crc32(b"one"), b"one")
TOKEN = Token(b"t" * 16)
BRISK = LaneLimits(timeout_s=0.2, connect_timeout_s=0.2, queue_max=100)
NOW = Generation(b"g" * 8)

STEPS: dict[str, Callable[[RedisStore], Awaitable[object]]] = {
    "lookup": lambda store: store.lookup(ITEM),
    "look_up": lambda store: look_up(store, ITEM),
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
    "claim_check": lambda store: store.claim_check(ITEM.table_key, interval_s=1.0),
    "identify_table": lambda store: store.identify_table(ITEM.table_key, TableId(b"i" * 16)),
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
    """Without a connection each step fails in the port's own words, if it waits for one or not."""
    async with live_lanes(options("redis://127.0.0.1:1/0", limits=BRISK)) as live:
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
    for step in (*steps, "begin_scope", "end_scope", "claim_check", "identify_table"):
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


async def filled(store: RedisStore, draft: EntryDraft) -> Generation:
    """Fill the item with a draft and return the generation it was filled under."""
    generation = (await store.lookup(ITEM)).generation
    await store.lease(ITEM, token=TOKEN, generation=generation, force=False)
    assert await store.fill(ITEM, token=TOKEN, generation=generation, draft=draft)
    return generation


HASHED = DRAFT._replace(body=b'{"Item":{"a":{"S":"x"},"b":{"S":"y"}}}', layout=Layout.HASH)


@pytest.mark.parametrize("expected", Layout)
@pytest.mark.parametrize("filled_as", Layout)
async def test_a_record_of_the_other_layout_costs_one_more_round_trip(
    own: RunningStore, live: LiveLanes, expected: Layout, filled_as: Layout
) -> None:
    """A table's setting decides what is asked first, the record what is found."""
    store = live.store(FencePolicy(), expected)
    await filled(store, HASHED._replace(layout=filled_as))
    for names in (None, ("a",)):
        own.ask("CONFIG", "RESETSTAT")
        entry = (await store.lookup(ITEM, names)).entry
        assert entry is not None
        assert entry.covers(names)
        assert json.loads(entry.body)["Item"]["a"] == {"S": "x"}
        with RawStore(own.address) as raw:
            calls = raw.run("INFO", "commandstats").decode()
        asked = set(re.findall("cmdstat_(get|hgetall|hmget):", calls))
        read = "hmget" if names else "hgetall"
        needed = {"get"} | ({read} if Layout.HASH in {expected, filled_as} else set())
        assert asked == needed


async def test_another_type_in_a_records_place_is_a_write_in_flight(
    own: RunningStore, live: LiveLanes
) -> None:
    """What nobody of us put there is fetched past, and an invalidation replaces it."""
    store = live.store(FencePolicy())
    generation = (await store.lookup(ITEM)).generation
    with RawStore(own.address) as raw:
        raw.run("LPUSH", ITEM.cache_key, "stranger")
    assert (await store.lookup(ITEM)).state is RecordState.PENDING
    reply = await store.lease(ITEM, token=TOKEN, generation=generation, force=False)
    assert reply.state is LeaseState.PENDING
    await store.invalidate(ITEM)
    assert (await store.lookup(ITEM)).state is RecordState.ABSENT


TEXT = b'{"Item":{"text":{"S":"' + b"to be or not to be " * 100 + b'"}}}'
LARGE = EntryDraft(0.0, 60.0, 60.0, False, 9, zlib.crc32(TEXT), TEXT, compress_above_bytes=1000)


async def test_a_compressed_entry_is_seen_as_it_was_filled(
    own: RunningStore, live: LiveLanes
) -> None:
    """The store holds a frame; lookup and lease show the very body, in a lease's hands too."""
    store = live.store(FencePolicy())
    generation = await filled(store, LARGE)
    with RawStore(own.address) as raw:
        assert len(raw.run("GET", ITEM.cache_key)) < len(TEXT) // 2
    seen = (await store.lookup(ITEM)).entry
    hit = await store.lease(ITEM, token=TOKEN, generation=generation, force=False)
    assert hit.state is LeaseState.HIT
    assert seen is not None
    assert (seen.body, seen.crc32, seen.packing) == (TEXT, zlib.crc32(TEXT), Packing.PLAIN)
    assert hit.entry == seen
    forced = await store.lease(ITEM, token=TOKEN, generation=generation, force=True)
    assert forced.state is LeaseState.LEASED
    assert (await store.lookup(ITEM)).entry == seen


@pytest.mark.parametrize("at", [70, -1], ids=["frame", "content"])
async def test_a_damaged_frame_is_fetched_past_and_replaced(
    own: RunningStore, live: LiveLanes, at: int
) -> None:
    """It counts as a write in flight for readers; a write's end, or a forced fill, replaces it."""
    store = live.store(FencePolicy())
    generation = await filled(store, LARGE)
    with RawStore(own.address) as raw:
        damaged = bytearray(raw.run("GET", ITEM.cache_key))
        damaged[at] ^= 0xFF
        raw.run("SET", ITEM.cache_key, bytes(damaged), "KEEPTTL")
    seen = await store.lookup(ITEM)
    assert (seen.state, seen.entry) == (RecordState.PENDING, None)
    reply = await store.lease(ITEM, token=TOKEN, generation=generation, force=False)
    assert (reply.state, reply.entry) == (LeaseState.PENDING, None)
    await store.lease(ITEM, token=TOKEN, generation=generation, force=True)
    assert (await store.lookup(ITEM)).entry is None
    assert await store.fill(ITEM, token=TOKEN, generation=generation, draft=LARGE)
    assert (await store.lookup(ITEM)).entry is not None


@pytest.mark.parametrize("step", ["fill", "end"])
async def test_entry_ages_while_its_command_waits_in_a_stopped_store(
    own: RunningStore, step: str
) -> None:
    """A store that stood still runs the command late: the entry is as old as its item all the same.

    Were its age counted from then, it would be served past its hard time by as long as that.
    """
    stood_still_ms = 1000
    async with live_lanes(options(own.url)) as live:
        await live.until(lambda: live.lanes.serving)
        store = live.store(FencePolicy())
        generation = (await store.lookup(ITEM)).generation
        if step == "fill":
            await store.lease(ITEM, token=TOKEN, generation=generation, force=False)
        else:
            await store.begin(ITEM, token=TOKEN)
        with RawStore(own.address) as raw:
            asked_ms = raw.now_ms()
            raw.run("CLIENT", "PAUSE", stood_still_ms, "ALL")
        if step == "fill":
            await store.fill(ITEM, token=TOKEN, generation=generation, draft=DRAFT)
        else:
            stored = (generation, DRAFT)
            await store.end(ITEM, token=TOKEN, outcome=WriteOutcome.STORED, stored=stored)
        seen = await store.lookup(ITEM)
        assert seen.entry is not None
        assert seen.store_now_ms - asked_ms >= stood_still_ms
        assert seen.entry.filled_ms < asked_ms + stood_still_ms


async def test_what_the_routes_say_of_the_store_is_passed_on(live: LiveLanes) -> None:
    """Whether it serves, and why not."""
    store = live.store(FencePolicy())
    assert (store.serving, store.quarantined, store.why_not_serving) == (True, False, "")


async def test_an_entry_is_used_though_its_table_is_on_another_node(
    cluster_store: ClusterTopology,
) -> None:
    """Items, tables, pages and scopes on three nodes: each step finds its record."""
    seed = Address(*cluster_store.servers[0].address)
    with RawCluster(seed) as raw:
        raw.run("FLUSHALL", "SYNC")
    async with live_lanes(options("", cluster=(seed,), lanes=1), feed=HeardFeed()) as live:
        await live.until(lambda: live.routes.serving and not live.routes.why_not_serving)
        homes = {live.routes.lanes_for(key) for key in (ITEM.cache_key, ITEM.table_key)}
        assert len(homes) == 2
        store = live.store(FencePolicy())
        await store.generation(ITEM.table_key)
        assert (await store.begin(ITEM, token=TOKEN)).generation is not None
        await store.end(ITEM, token=TOKEN, outcome=WriteOutcome.INVALIDATED)
        seen = await store.lookup(ITEM)
        await store.lease(ITEM, token=TOKEN, generation=seen.generation, force=True)
        assert await store.fill(ITEM, token=TOKEN, generation=seen.generation, draft=DRAFT)
        seen = await store.lookup(ITEM)
        assert seen.entry is not None
        assert len(seen.sources) == 2
        assert not (await store.lookup_page(PAGE)).ready
        await store.begin_scope(PAGE.scope_key, token=TOKEN)
        assert (await store.lookup_page(PAGE)).sighting.table_pending
        await store.end_scope(PAGE.scope_key, token=TOKEN, outcome=WriteOutcome.ABORTED)


async def test_a_write_goes_on_without_its_tables_node() -> None:
    """Its item is fenced; the table may ask for page fences, and nothing is written through."""
    async with scripted_cluster(ScriptedNode(), ScriptedNode(silent=True)) as (first, _):
        there = options("", cluster=(first.address,), lanes=1)
        async with live_lanes(replace(there, limits=BRISK)) as live:
            await live.until(lambda: live.routes.serving)
            begun = await live.store(FencePolicy()).begin(ITEM, token=TOKEN)
            assert begun == Begun(None, pages=True)


async def test_a_strict_write_asks_only_a_settled_node_about_its_table() -> None:
    """An older primary may not know yet that pages are cached: then they are fenced."""
    unsettled = ScriptedNode(gate_ms=10**7)
    async with (
        scripted_cluster(ScriptedNode(), unsettled) as (first, second),
        live_lanes(options("", cluster=(first.address,), lanes=1)) as live,
    ):
        await live.until(lambda: live.routes.serving)
        await live.until(lambda: live.routes.lanes_for(ITEM.table_key).connected)
        begun = await live.store(FencePolicy()).begin(ITEM, token=TOKEN, settled=True)
        assert begun == Begun(None, pages=True)
        assert second.seen == []
