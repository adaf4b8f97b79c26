"""What `RedisStreamStore` does beyond the contract: what it asks, and what it makes of oddities."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from proxy.core.errors import StoreUnavailable
from proxy.core.policy import FencePolicy
from proxy.core.record import EntryDraft
from proxy.core.shard_tree import Checkpoint, Growth, Kept, Lease, NewShard, Start
from proxy.core.values import Layout, TableName, Token
from proxy.edge.clock import SystemClock
from proxy.edge.redis_store import RedisStore
from proxy.edge.redis_stream_store import RedisStreamStore
from proxy.embedded.valkey import RunningStore
from tests.support.live_lanes import KEYS, LiveLanes, live_lanes, options
from tests.support.raw_store import RawStore

pytestmark = pytest.mark.store

TABLE = TableName("orders")
ITEM = KEYS.item(TABLE, {"pk": {"S": "a"}})
STREAM, PARKED = KEYS.stream_key(TABLE), KEYS.parked_key(TABLE)
ME = Token(b"m" * 16)
CLOCK = SystemClock()
BODY = b'{"Item":{"pk":{"S":"a"}}}'

STEPS: dict[str, Callable[[RedisStreamStore], Awaitable[object]]] = {
    "peek": lambda store: store.peek(ITEM),
    "pages_cached": lambda store: store.pages_cached(ITEM.table_key),
    "look": lambda store: store.look_at_stream(STREAM, ME, present_s=1.0, discover_s=1.0),
    "grow": lambda store: store.grow_stream(STREAM, "arn", Growth((), (), lost=False)),
    "claim": lambda store: store.claim_shard(STREAM, "a", ME, lease_s=1.0),
    "keep": lambda store: store.keep_shard(STREAM, Lease("a", ME, 1), Kept(1.0)),
    "park": lambda store: store.park(PARKED, b"one"),
    "parked": lambda store: store.parked(PARKED),
    "unpark": lambda store: store.unpark(PARKED, b"one"),
}


@pytest.fixture
async def live(empty_valkey: RunningStore) -> AsyncIterator[LiveLanes]:
    """Give lanes to an empty store."""
    async with live_lanes(options(empty_valkey.url)) as lanes:
        await lanes.until(lambda: lanes.routes.serving)
        yield lanes


@pytest.mark.parametrize("step", STEPS)
async def test_without_a_connection_every_step_says_so(step: str) -> None:
    """Within the time-out, and as the port has it."""
    async with live_lanes(options("redis://127.0.0.1:1")) as lanes:
        with pytest.raises(StoreUnavailable):
            await STEPS[step](RedisStreamStore(lanes.routes))


@pytest.mark.parametrize("step", sorted(STEPS.keys() - {"peek", "pages_cached"}))
async def test_a_record_of_another_kind_is_refused(
    live: LiveLanes, empty_valkey: RunningStore, step: str
) -> None:
    """Nothing of ours writes one."""
    with RawStore(empty_valkey.address) as raw:
        for key in (STREAM, PARKED):
            raw.run("SET", key, "text")
    with pytest.raises(StoreUnavailable):
        await STEPS[step](RedisStreamStore(live.routes))


@pytest.mark.parametrize("layout", Layout)
async def test_peeking_sees_an_entry_of_either_layout(live: LiveLanes, layout: Layout) -> None:
    """By a command that writes nothing and that a replica refuses."""
    store = RedisStore(live.routes, fence=FencePolicy(), clock=CLOCK, layout_of=lambda _: layout)
    streams, token = RedisStreamStore(live.routes), CLOCK.token()
    assert await streams.peek(ITEM) == (False, None)
    generation = (await store.lookup(ITEM)).generation
    await store.lease(ITEM, token=token, generation=generation, force=False)
    assert await streams.peek(ITEM) == (True, None)
    draft = EntryDraft(0.0, 60.0, 60.0, False, 3, zlib.crc32(BODY), BODY, layout)
    await store.fill(ITEM, token=token, generation=generation, draft=draft)
    _, entry = await streams.peek(ITEM)
    assert entry is not None
    assert entry.body == BODY


async def test_a_shard_comes_back_as_it_was_kept(live: LiveLanes) -> None:
    """Parents, places and numbers, with or without."""
    streams = RedisStreamStore(live.routes)
    added = (NewShard("a", None, Start.LATEST), NewShard("b", "a", Start.HORIZON))
    assert await streams.grow_stream(STREAM, "arn", Growth(added, (), lost=False))
    assert await streams.claim_shard(STREAM, "b", ME, lease_s=9.0) is None
    claimed = await streams.claim_shard(STREAM, "a", ME, lease_s=9.0)
    assert claimed is not None
    at = Checkpoint(Start.AFTER, "17")
    assert await streams.keep_shard(STREAM, Lease("a", ME, 1), Kept(9.0, 1_700_000_000_000, at))
    seen = await streams.look_at_stream(STREAM, ME, present_s=9.0, discover_s=9.0)
    assert (seen.arn, seen.due, seen.readers) == ("arn", True, frozenset({ME}))
    shard = seen.shards["a"]
    assert (shard.checkpoint, shard.fence, shard.as_of_ms) == (at, 1, 1_700_000_000_000)
    assert (seen.shards["b"].parent, seen.shards["b"].holder) == ("a", None)


async def test_another_releases_stream_is_none_that_we_know(
    live: LiveLanes, empty_valkey: RunningStore
) -> None:
    """It begins anew, which voids its table."""
    with RawStore(empty_valkey.address) as raw:
        raw.run("HSET", STREAM, "", b"\x02arn")
    streams = RedisStreamStore(live.routes)
    seen = await streams.look_at_stream(STREAM, None, present_s=1.0, discover_s=1.0)
    assert seen.arn == ""
    assert await streams.grow_stream(STREAM, "arn", Growth((), (), lost=False))


async def test_a_stream_nobody_reads_is_forgotten_in_time(
    live: LiveLanes, empty_valkey: RunningStore
) -> None:
    """So is what was parked; both outlive what DynamoDB keeps."""
    streams = RedisStreamStore(live.routes)
    await streams.look_at_stream(STREAM, ME, present_s=1.0, discover_s=1.0)
    await streams.park(PARKED, b"one")
    with RawStore(empty_valkey.address) as raw:
        assert 86_400 < raw.run("TTL", STREAM) <= 2 * 86_400
        assert 86_400 < raw.run("TTL", PARKED) <= 30 * 86_400


async def test_pages_are_cached_once_one_was_asked_for(live: LiveLanes) -> None:
    """The table's record says so."""
    store = RedisStore(
        live.routes, fence=FencePolicy(), clock=CLOCK, layout_of=lambda _: Layout.BLOB
    )
    streams = RedisStreamStore(live.routes)
    assert not await streams.pages_cached(ITEM.table_key)
    await store.lookup_page(KEYS.page(TABLE, b"{}", KEYS.scan_key(TABLE)))
    assert await streams.pages_cached(ITEM.table_key)


async def test_parked_records_come_and_go(live: LiveLanes) -> None:
    """Newest first, each taken off once."""
    streams = RedisStreamStore(live.routes)
    assert [await streams.park(PARKED, each) for each in (b"one", b"two")] == [0, 0]
    assert await streams.parked(PARKED) == [b"two", b"one"]
    assert await streams.unpark(PARKED, b"one")
    assert not await streams.unpark(PARKED, b"one")
