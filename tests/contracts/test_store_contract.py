"""The store port's contract: one suite for `MemoryStore`, and `RedisStore` on real stores."""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import cast

import pytest

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.fence import (
    ItemIdentity,
    LeaseReply,
    LeaseState,
    RecordState,
    WriteOutcome,
    stamp_of,
)
from proxy.core.pages import PageIdentity
from proxy.core.policy import TABLE_SURE_S, FencePolicy
from proxy.core.record import Entry, EntryDraft, Leased, Pending, Tombstone, decode_record
from proxy.core.values import (
    CacheKey,
    Digest,
    FenceResult,
    Generation,
    Incarnation,
    Layout,
    TableId,
    TableName,
    Token,
)
from proxy.edge.clock import SystemClock
from proxy.edge.redis_connection import Address
from proxy.edge.redis_options import StoreOptions
from proxy.embedded.valkey import RunningStore
from proxy.flow.ports import Store
from tests.fakes.memory_scripts import PENDING_MAX
from tests.fakes.memory_store import MemoryStore
from tests.fakes.record_bytes import (
    EntryBytes,
    LeaseBytes,
    PendingBytes,
    ScopeBytes,
    expired,
    timed,
    unpack,
)
from tests.support.live_lanes import KEYS, live_lanes, options, sentinel_of
from tests.support.raw_cluster import RawCluster
from tests.support.raw_store import RawStore
from tests.support.reader import BothWays, look_up
from tests.support.store_topologies import ClusterTopology, SentinelTopology

FENCE = FencePolicy(lease_s=100.0, marker_s=1000.0, tombstone_s=500.0)
CLOCK = SystemClock()
HOUR_MS = 3_600_000


@dataclass
class World:
    """A store under test, and a hand in its records. Records put by hand live for ever."""

    store: Store
    item: ItemIdentity
    layouts: Iterator[Layout]
    memory: MemoryStore | None = None
    real: RawStore | RawCluster | None = None

    def raw(self, key: CacheKey) -> bytes | None:
        found = self.stored(key)
        return found[0] if found is not None else None

    def stored(self, key: CacheKey) -> tuple[bytes, dict[bytes, bytes] | None] | None:
        """Return a record, and a hash's attributes."""
        if self.memory is not None:
            stored = self.memory.scripts.stored(key)
            if stored is None:
                return None
            return stored.raw, None if stored.fields is None else dict(stored.fields)
        raw = _real(self).run("GET", key)
        if not isinstance(raw, Exception):
            return None if raw is None else (raw, None)
        flat = _real(self).run("HGETALL", key)
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        return fields.pop(b""), fields

    def put(self, key: CacheKey, raw: bytes) -> None:
        """Put a string in a record's place."""
        if self.memory is not None:
            self.memory.put_raw(key, raw)
        else:
            _real(self).run("SET", key, raw)

    def change(self, key: CacheKey, raw: bytes) -> None:
        """Change a record in its place: a hash keeps its attributes."""
        if self.memory is not None:
            self.memory.put_raw(key, raw, attributes_stay=True)
        elif _real(self).run("TYPE", key) == b"hash":
            _real(self).pipeline([("HSET", key, b"", raw), ("PERSIST", key)])
        else:
            self.put(key, raw)

    def draft(self, text: str = "one", *, age_s: float = 0.0, fresh_s: float = 600.0) -> EntryDraft:
        """Return an entry that says `text`, for the next layout."""
        body = shows(text)
        return EntryDraft(
            age_s,
            fresh_s,
            6000.0,
            negative=not text,
            item_bytes=len(body),
            crc32=zlib.crc32(body),
            body=body,
            layout=next(self.layouts),
        )

    def page_draft(self, text: str) -> EntryDraft:
        """Return a page that says `text`: always one string."""
        return self.draft(text)._replace(layout=Layout.BLOB)

    def flush(self) -> None:
        if self.memory is not None:
            self.memory.flush()
        else:
            _real(self).run("FLUSHALL", "SYNC")

    def now_ms(self) -> int:
        return self.memory.now_ms() if self.memory is not None else _real(self).now_ms()

    def record(self) -> object:
        raw = self.raw(self.item.cache_key)
        return decode_record(raw) if raw is not None else None

    @property
    def page(self) -> PageIdentity:
        """A page of everything in the item's table."""
        return KEYS.page(self.item.table, b"{}", KEYS.scan_key(self.item.table))

    async def pages_ready(self) -> None:
        """Let pages of the table count from now on."""
        await self.store.lookup_page(self.page)
        table = self.parts(self.item.table_key)
        assert isinstance(table, ScopeBytes)
        self.put(self.item.table_key, replace(table, pages_from_ms=1).pack())

    async def fill_page(self, text: str) -> None:
        """Fill the page."""
        await self.pages_ready()
        seen, token = (await self.store.lookup_page(self.page)).sighting, CLOCK.token()
        lease, fill, record = self.store.lease, self.store.fill, self.page.record
        await lease(record, token=token, generation=seen.generation, force=False)
        new = self.page_draft(text)
        assert await fill(record, token=token, generation=seen.generation, draft=new)

    def parts(self, key: CacheKey | None = None) -> object:
        raw = self.raw(key or self.item.cache_key)
        assert raw is not None
        return unpack(raw)

    async def scope_parts(self, key: CacheKey | None = None) -> ScopeBytes:
        """Return a scope's record, of the table if not told otherwise; makes it if need be."""
        key = key or self.item.table_key
        if self.raw(key) is None:
            await self.store.lookup_page(self.page)
        record = self.parts(key)
        assert isinstance(record, ScopeBytes)
        return record

    def expire(self, key: CacheKey) -> None:
        """Let the lease or the markers in a record run out."""
        raw = self.raw(key)
        record = unpack(raw) if raw is not None else None
        assert record is not None
        self.change(key, expired(record).pack())

    def age(self, by_ms: int) -> None:
        """Let time pass for the item's record, which stays although its time to live is over."""
        record = self.parts()
        assert isinstance(record, EntryBytes | LeaseBytes | PendingBytes)
        self.change(self.item.cache_key, timed(record, lambda at_ms: at_ms - by_ms).pack())

    def become(self, incarnation: Incarnation) -> None:
        """Make the item's entry one of another incarnation."""
        record = self.parts()
        assert isinstance(record, EntryBytes)
        self.change(self.item.cache_key, replace(record, incarnation=incarnation).pack())


def _real(world: World) -> RawStore | RawCluster:
    assert world.real is not None
    return world.real


# One way of storing is enough where only the way to the server differs.
STORES = [
    *itertools.product(["memory", "valkey", "redis7"], ["blob", "hash", "mixed"]),
    ("sentinel", "mixed"),
    ("cluster", "mixed"),
]


@pytest.fixture(params=STORES, ids="-".join)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Make a store; "mixed" is one of proxies that differ in their layout, or changed it."""
    kind, layout = request.param
    item = KEYS.item(TableName("orders"), {"pk": {"S": "a"}})
    layouts = itertools.cycle([Layout.HASH, Layout.BLOB] if layout == "mixed" else [Layout(layout)])
    if kind == "memory":
        memory = MemoryStore(CLOCK, FENCE)
        yield World(both_ways(memory), item, layouts, memory=memory)
        return
    there, real = _server(kind, request)
    looked_for = Layout.HASH if layout == "hash" else Layout.BLOB
    with real:
        real.run("FLUSHALL", "SYNC")
        async with live_lanes(there) as live:
            await live.until(lambda: live.routes.serving and not live.routes.why_not_serving)
            yield World(both_ways(live.store(FENCE, looked_for)), item, layouts, real=real)


def both_ways(store: Store) -> Store:
    """Make every lookup of the suite one of each kind."""
    return cast("Store", BothWays(store))


def _server(
    kind: str, request: pytest.FixtureRequest
) -> tuple[StoreOptions, RawStore | RawCluster]:
    """Return where a real store is, and a connection past the proxy."""
    if kind == "sentinel":
        watched: SentinelTopology = request.getfixturevalue("sentinel_store")
        return options("", sentinel=sentinel_of(watched)), RawStore(watched.primary.address)
    if kind == "cluster":
        nodes: ClusterTopology = request.getfixturevalue("cluster_store")
        seed = nodes.servers[0].address
        return options("", cluster=(Address(*seed),)), RawCluster(seed)
    running: RunningStore = request.getfixturevalue(kind)
    return options(running.url), RawStore(running.address)


def shows(text: str) -> bytes:
    """Return the answer of which an entry says `text`; "" is an absence."""
    return b'{"Item":{"text":{"S":"%b"}}}' % text.encode() if text else b"{}"


async def leased(world: World, token: Token, *, force: bool = False) -> LeaseReply:
    seen = await world.store.lookup(world.item)
    return await world.store.lease(world.item, token=token, generation=seen.generation, force=force)


async def filled(world: World, text: str = "one", *, fresh_s: float = 600.0) -> Generation:
    """Fill the item and return the generation it was filled under."""
    generation = (await world.store.lookup(world.item)).generation
    token = CLOCK.token()
    reply = await world.store.lease(world.item, token=token, generation=generation, force=False)
    assert reply.state is LeaseState.LEASED
    new = world.draft(text, fresh_s=fresh_s)
    assert await world.store.fill(world.item, token=token, generation=generation, draft=new)
    return generation


async def body_seen(world: World) -> bytes | None:
    seen = await world.store.lookup(world.item)
    return seen.entry.body if seen.entry else None


# Lookup


async def test_lookup_of_nothing_learns_a_generation(world: World) -> None:
    """The first lookup makes the table's record; later ones see the same generation."""
    seen = await world.store.lookup(world.item)
    assert (seen.state, seen.entry, seen.table_pending) == (RecordState.ABSENT, None, False)
    assert len(seen.generation) == 8
    assert (await world.store.lookup(world.item)).generation == seen.generation


async def test_a_store_that_serves_says_nothing_else(world: World) -> None:
    """A store that serves has no reason not to."""
    assert world.store.serving
    assert world.store.why_not_serving == ""


async def test_an_entry_comes_back_as_it_was_filled(world: World) -> None:
    """What was filled is looked up with every field, and with times on the store's clock."""
    before_ms = world.now_ms()
    generation = await filled(world, "hello", fresh_s=600.0)
    seen = await world.store.lookup(world.item)
    assert seen.state is RecordState.ENTRY
    entry = seen.entry
    assert entry is not None
    assert (entry.body, entry.item_bytes, entry.negative) == (
        shows("hello"),
        len(shows("hello")),
        False,
    )
    assert (entry.crc32, entry.digest) == (zlib.crc32(shows("hello")), world.item.digest)
    assert entry.generation == generation
    # It may look older than it is, by what the proxy does not know of the store's clock.
    assert before_ms - 1000 <= entry.filled_ms <= world.now_ms()
    assert entry.soft_ms - entry.filled_ms == 600_000
    assert entry.hard_ms - entry.filled_ms == 6_000_000
    assert seen.store_now_ms >= entry.filled_ms


async def test_an_absence_is_an_entry(world: World) -> None:
    """A negative entry comes back as one."""
    await filled(world, "")
    entry = (await world.store.lookup(world.item)).entry
    assert entry is not None
    assert entry.negative


async def test_an_entry_of_another_item_does_not_count(world: World) -> None:
    """A record whose digest is not the asked item's is nobody's entry."""
    await filled(world)
    stranger = replace(world.item, digest=Digest(bytes(16)))
    seen = await world.store.lookup(stranger)
    assert (seen.state, seen.entry) == (RecordState.ABSENT, None)
    reply = await world.store.lease(
        stranger, token=CLOCK.token(), generation=seen.generation, force=False
    )
    assert reply.state is LeaseState.LEASED


async def test_an_entry_of_another_incarnation_does_not_count(world: World) -> None:
    """What another primary took is neither seen nor hit nor kept."""
    await filled(world)
    world.become(Incarnation(b"formerly"))
    seen = await world.store.lookup(world.item)
    assert (seen.state, seen.entry) == (RecordState.ABSENT, None)
    assert (await leased(world, CLOCK.token())).state is LeaseState.LEASED
    assert isinstance(kept := world.record(), Leased)
    assert kept.kept is None


async def test_an_entry_of_another_generation_does_not_count(world: World) -> None:
    """After a table-wide write older entries are neither seen nor hit nor kept."""
    await filled(world)
    token = CLOCK.token()
    await world.store.begin_table(world.item.table_key, token=token)
    await world.store.end_table(
        world.item.table_key, token=token, outcome=WriteOutcome.INVALIDATED, remade=False
    )
    assert await body_seen(world) is None
    assert (await leased(world, CLOCK.token())).state is LeaseState.LEASED
    assert isinstance(kept := world.record(), Leased)
    assert kept.kept is None


@pytest.mark.parametrize("foreign", [b"V\x02", b"X\x01", b"?", b"P\x02 of a later release"])
async def test_a_record_of_another_release_is_a_write_in_flight(
    world: World, foreign: bytes
) -> None:
    """Unknown bytes are never taken for "nothing there", and never for something to store over."""
    generation = (await world.store.lookup(world.item)).generation
    world.put(world.item.cache_key, foreign)
    assert (await world.store.lookup(world.item)).state is RecordState.PENDING
    assert (await leased(world, CLOCK.token())).state is LeaseState.PENDING
    assert world.raw(world.item.cache_key) == foreign
    token = CLOCK.token()
    await world.store.begin(world.item, token=token)
    result = await world.store.end(
        world.item, token=token, outcome=WriteOutcome.STORED, stored=(generation, world.draft())
    )
    assert result is FenceResult.INVALIDATED


async def test_a_table_record_of_another_release_is_left_alone(world: World) -> None:
    """Nothing is served under a table record that nobody here can read, and it stays as it is."""
    await filled(world)
    later = b"G\x02 of a later release"
    world.put(world.item.table_key, later)
    with pytest.raises(StoreUnavailable):
        await body_seen(world)
    assert world.raw(world.item.table_key) == later


async def test_a_reader_is_told_what_a_lookup_shows(world: World) -> None:
    """An entry, as soon as the table has a generation; a hash needs a look of its own kind."""
    await filled(world)
    told = await look_up(world.store, world.item)
    stored = world.stored(world.item.cache_key)
    assert stored is not None
    if told is None:
        assert world.memory is None  # what is in memory is never in doubt
        return
    assert told.entry is not None
    assert told.entry.body == shows("one")


# Layouts


PAIR = b'{"Item":{"text":{"S":"one"},"n":{"N":"1"}}}'


async def put_pair(world: World, layout: Layout, body: bytes = PAIR) -> None:
    """Fill the item with a body of our own, over whatever is there."""
    token = CLOCK.token()
    reply = await leased(world, token, force=True)
    assert reply.state is LeaseState.LEASED
    generation = (await world.store.lookup(world.item)).generation
    new = world.draft()._replace(body=body, crc32=zlib.crc32(body), layout=layout)
    assert await world.store.fill(world.item, token=token, generation=generation, draft=new)


@pytest.mark.parametrize("layout", Layout)
async def test_an_entry_lies_as_its_filler_wants_it(world: World, layout: Layout) -> None:
    """A string, or a hash of its attributes; readers see the same item, whatever they expect."""
    await put_pair(world, layout)
    stored = world.stored(world.item.cache_key)
    assert stored is not None
    attributes = {b'"text"': b'{"S":"one"}', b'"n"': b'{"N":"1"}'}
    assert stored[1] == (attributes if layout is Layout.HASH else None)
    entry = (await world.store.lookup(world.item)).entry
    assert entry is not None
    assert json.loads(entry.body) == json.loads(PAIR)
    assert (entry.crc32, entry.covers(None)) == (zlib.crc32(entry.body), True)


@pytest.mark.parametrize("layout", Layout)
async def test_a_lookup_of_some_attributes_finds_them_at_least(
    world: World, layout: Layout
) -> None:
    """What is missing in the item is missing in the entry; who asked for less gets no more."""
    await put_pair(world, layout)
    names = ("n", "none")
    entry = (await world.store.lookup(world.item, names)).entry
    assert entry is not None
    shown = json.loads(entry.body)["Item"]
    if layout is Layout.HASH:
        assert shown == {"n": {"N": "1"}}
        assert not entry.covers(None)
    else:
        assert shown == json.loads(PAIR)["Item"]
    assert entry.covers(("n",))
    assert entry.crc32 == zlib.crc32(entry.body)


@pytest.mark.parametrize(("body", "negative"), [(b"{}", True), (b'{"Item":{}}', False)])
@pytest.mark.parametrize("layout", Layout)
async def test_an_entry_without_attributes_is_one_in_either_layout(
    world: World, layout: Layout, body: bytes, *, negative: bool
) -> None:
    """An absence and an item without attributes stay apart, for whole and partial readers."""
    token = CLOCK.token()
    generation = (await world.store.lookup(world.item)).generation
    await leased(world, token)
    new = world.draft()._replace(body=body, negative=negative, layout=layout)
    await world.store.fill(world.item, token=token, generation=generation, draft=new)
    for names in (None, ("n",)):
        entry = (await world.store.lookup(world.item, names)).entry
        assert entry is not None
        assert (entry.body, entry.negative) == (body, negative)


async def test_a_hit_in_a_lease_is_whole(world: World) -> None:
    """Readers with other projections may share it."""
    await put_pair(world, Layout.HASH)
    entry = (await leased(world, CLOCK.token())).entry
    assert entry is not None
    assert json.loads(entry.body) == json.loads(PAIR)
    assert entry.covers(None)


@pytest.mark.parametrize("layout", Layout)
async def test_no_attribute_of_an_older_entry_shines_through(world: World, layout: Layout) -> None:
    """A fill replaces the older entry with all that belonged to it."""
    await put_pair(world, Layout.HASH)
    await put_pair(world, layout, shows("two"))
    assert await body_seen(world) == shows("two")


async def test_attributes_go_with_their_entry(world: World) -> None:
    """They stay while the entry is kept or hidden; once it is dropped the record is a string."""
    await put_pair(world, Layout.HASH)
    before = world.stored(world.item.cache_key)
    assert before is not None
    reader, writer = CLOCK.token(), CLOCK.token()
    await leased(world, reader, force=True)
    assert (await world.store.lookup(world.item, ("n",))).state is RecordState.LEASED
    await world.store.begin(world.item, token=writer)
    pending = world.stored(world.item.cache_key)
    assert pending is not None
    assert pending[1] == before[1]
    await world.store.invalidate(world.item)
    dropped = world.stored(world.item.cache_key)
    assert dropped is not None
    assert dropped[1] is None
    assert (await world.store.lookup(world.item, ("n",))).state is RecordState.PENDING


async def test_a_hash_of_another_release_is_a_write_in_flight(world: World) -> None:
    """Its record is unknown, so what stands beside it is too."""
    await put_pair(world, Layout.HASH)
    world.change(world.item.cache_key, b"V\x02 of a later release")
    assert (await world.store.lookup(world.item)).state is RecordState.PENDING
    assert (await leased(world, CLOCK.token())).state is LeaseState.PENDING
    await world.store.invalidate(world.item)
    assert isinstance(world.record(), Tombstone)


async def test_a_record_that_lost_its_attributes_is_not_served(world: World) -> None:
    """An entry that says that its body stands in fields is none as a string."""
    await put_pair(world, Layout.HASH)
    raw = world.raw(world.item.cache_key)
    assert raw is not None
    world.put(world.item.cache_key, raw)
    seen = await world.store.lookup(world.item)
    assert (seen.state, seen.entry) == (RecordState.PENDING, None)
    assert (await leased(world, CLOCK.token())).state is LeaseState.PENDING


# Lease


async def test_one_reader_gets_the_lease_and_others_wait(world: World) -> None:
    """While a lease is live others are told how long it still runs."""
    first = await leased(world, CLOCK.token())
    assert (first.state, first.strong) == (LeaseState.LEASED, False)
    assert (await world.store.lookup(world.item)).state is RecordState.LEASED
    second = await leased(world, CLOCK.token())
    assert second.state is LeaseState.WAIT
    assert 0 < second.wait_s <= FENCE.lease_s


async def test_a_lease_that_ran_out_is_granted_to_another(world: World) -> None:
    """After its deadline a lease is the next one's, and the former holder's fill is refused."""
    old, new = CLOCK.token(), CLOCK.token()
    generation = (await world.store.lookup(world.item)).generation
    await leased(world, old)
    world.expire(world.item.cache_key)
    assert (await world.store.lookup(world.item)).state is RecordState.ABSENT
    assert (await leased(world, new)).state is LeaseState.LEASED
    fill = world.store.fill
    assert not await fill(world.item, token=old, generation=generation, draft=world.draft("old"))
    assert await fill(world.item, token=new, generation=generation, draft=world.draft("new"))
    assert await body_seen(world) == shows("new")


async def test_a_fresh_entry_is_a_hit_in_the_lease(world: World) -> None:
    """Who asks for a lease after somebody filled gets the entry."""
    await filled(world)
    reply = await leased(world, CLOCK.token())
    assert reply.state is LeaseState.HIT
    assert reply.entry is not None
    assert reply.entry.body == shows("one")
    assert reply.store_now_ms >= reply.entry.filled_ms


async def test_a_forced_lease_over_a_fresh_entry_keeps_it_serving(world: World) -> None:
    """A forced lease is granted over a fresh entry, which is seen until the fill replaces it."""
    generation = await filled(world, "one")
    token = CLOCK.token()
    assert (await leased(world, token, force=True)).state is LeaseState.LEASED
    seen = await world.store.lookup(world.item)
    assert seen.state is RecordState.LEASED
    assert seen.entry is not None
    assert seen.entry.body == shows("one")
    assert await world.store.fill(
        world.item, token=token, generation=generation, draft=world.draft("two")
    )
    assert await body_seen(world) == shows("two")


async def test_an_entry_in_grace_is_kept_inside_the_lease(world: World) -> None:
    """A refresh keeps the older entry serving, also when its lease runs out or is taken over."""
    await filled(world, fresh_s=1.0)
    world.age(2000)
    assert (await leased(world, CLOCK.token())).state is LeaseState.LEASED
    assert await body_seen(world) == shows("one")
    world.expire(world.item.cache_key)
    seen = await world.store.lookup(world.item)
    assert seen.state is RecordState.ENTRY
    assert (await leased(world, CLOCK.token())).state is LeaseState.LEASED
    assert await body_seen(world) == shows("one")


async def test_release_brings_a_kept_entry_back(world: World) -> None:
    """A refresh that brought nothing leaves the older entry as it was."""
    await filled(world)
    before = world.stored(world.item.cache_key)
    token = CLOCK.token()
    await leased(world, token, force=True)
    await world.store.release(world.item, token=token)
    assert world.stored(world.item.cache_key) == before


async def test_release_of_a_plain_lease_leaves_nothing(world: World) -> None:
    """A lease given back is gone: the next reader gets one at once."""
    token = CLOCK.token()
    await leased(world, token)
    await world.store.release(world.item, token=CLOCK.token())  # not the holder
    assert isinstance(world.record(), Leased)
    await world.store.release(world.item, token=token)
    assert world.record() is None


async def test_a_lease_over_a_tombstone_is_strong_until_somebody_filled(world: World) -> None:
    """After an invalidation the fetch must be consistent, also for the next lease holders."""
    await world.store.invalidate(world.item)
    assert isinstance(world.record(), Tombstone)
    assert (await world.store.lookup(world.item)).state is RecordState.ABSENT
    first = CLOCK.token()
    assert (await leased(world, first)).strong
    world.expire(world.item.cache_key)
    second = CLOCK.token()
    assert (await leased(world, second)).strong
    await world.store.release(world.item, token=second)
    assert isinstance(world.record(), Tombstone)
    assert (await leased(world, CLOCK.token())).strong


async def test_a_lease_over_writers_that_died_is_strong(world: World) -> None:
    """What a dead writer did is unknown: the fetch must be consistent."""
    await world.store.begin(world.item, token=CLOCK.token())
    world.expire(world.item.cache_key)
    assert (await world.store.lookup(world.item)).state is RecordState.ABSENT
    reply = await leased(world, CLOCK.token())
    assert (reply.state, reply.strong) == (LeaseState.LEASED, True)


# Begin at a new primary


@pytest.mark.parametrize("kind", ["memory", "valkey", "redis7"])
async def test_a_begin_may_ask_for_a_settled_primary(
    kind: str, request: pytest.FixtureRequest
) -> None:
    """While an older one could still serve, such a begin is refused and leaves no marker."""
    item, page = KEYS.item(TableName("orders"), {"pk": {"S": "a"}}), b"scope"
    if kind == "memory":
        memory = MemoryStore(CLOCK, FENCE)
        memory.settled = False
        await _refuses_unsettled(memory, item, CacheKey(page))
        return
    running: RunningStore = request.getfixturevalue(kind)
    running.flush()
    closed = options(running.url, quarantine_s=36000.0, heartbeat_age_s_max=36000.0)
    async with live_lanes(closed) as live:
        await live.until(lambda: live.lanes.quarantined)
        await _refuses_unsettled(live.store(FENCE), item, CacheKey(page))
    running.flush()


async def _refuses_unsettled(store: Store, item: ItemIdentity, scope: CacheKey) -> None:
    token = CLOCK.token()
    for begin in (
        lambda settled: store.begin(item, token=token, settled=settled),
        lambda settled: store.begin_table(item.table_key, token=token, settled=settled),
        lambda settled: store.begin_scope(scope, token=token, settled=settled),
    ):
        with pytest.raises(StoreUnavailable) as refused:
            await begin(True)
        assert refused.value.failure is StoreFailure.UNSETTLED
    assert await store.end(item, token=token, outcome=WriteOutcome.ABORTED) is FenceResult.LOST
    await store.begin(item, token=token, settled=False)
    end = await store.end(item, token=token, outcome=WriteOutcome.ABORTED)
    assert end is FenceResult.INVALIDATED  # not solo: the gate is closed


# Fill


async def test_a_fill_is_refused_after_begin(world: World) -> None:
    """A writer takes the lease away: who fetched before it may not store."""
    generation, token = (await world.store.lookup(world.item)).generation, CLOCK.token()
    await leased(world, token)
    await world.store.begin(world.item, token=CLOCK.token())
    assert not await world.store.fill(
        world.item, token=token, generation=generation, draft=world.draft()
    )
    assert isinstance(world.record(), Pending)


async def test_a_fill_is_refused_after_invalidate_and_after_a_flush(world: World) -> None:
    """Without its lease a fill stores nothing."""
    generation, token = (await world.store.lookup(world.item)).generation, CLOCK.token()
    await leased(world, token)
    await world.store.invalidate(world.item)
    fill = world.store.fill
    assert not await fill(world.item, token=token, generation=generation, draft=world.draft())
    assert isinstance(world.record(), Tombstone)
    world.flush()
    assert not await fill(world.item, token=token, generation=generation, draft=world.draft())
    assert world.record() is None


async def test_an_entry_that_is_already_past_its_time_is_not_stored(world: World) -> None:
    """A fetch that took longer than the entry may live leaves nothing."""
    generation, token = (await world.store.lookup(world.item)).generation, CLOCK.token()
    await leased(world, token)
    assert not await world.store.fill(
        world.item, token=token, generation=generation, draft=world.draft(age_s=6000.0)
    )
    assert world.record() is None


async def test_age_counts_from_the_fetch(world: World) -> None:
    """An entry is as old as its fetch, not as its fill."""
    generation, token = (await world.store.lookup(world.item)).generation, CLOCK.token()
    await leased(world, token)
    await world.store.fill(
        world.item, token=token, generation=generation, draft=world.draft(age_s=100.0)
    )
    entry = world.record()
    assert isinstance(entry, Entry)
    assert 100_000 <= world.now_ms() - entry.filled_ms < 100_000 + HOUR_MS


# Begin and end


async def test_a_write_in_flight_is_seen_and_nobody_fills(world: World) -> None:
    """From begin to end nobody is served and nobody gets a lease."""
    await filled(world)
    await world.store.begin(world.item, token=CLOCK.token())
    seen = await world.store.lookup(world.item)
    assert (seen.state, seen.entry) == (RecordState.PENDING, None)
    assert (await leased(world, CLOCK.token())).state is LeaseState.PENDING


async def test_begin_returns_the_generation_to_write_through_under(world: World) -> None:
    """Without a settled generation a write-through has nothing to store under."""
    token = CLOCK.token()
    assert (await world.store.begin(world.item, token=token)).generation is None
    generation = (await world.store.lookup(world.item)).generation
    assert (await world.store.begin(world.item, token=token)).generation == generation
    await world.store.begin_table(world.item.table_key, token=CLOCK.token())
    assert (await world.store.begin(world.item, token=token)).generation is None


async def test_an_applied_write_leaves_a_tombstone(world: World) -> None:
    """After the end of an applied write the old entry is gone."""
    await filled(world)
    token = CLOCK.token()
    await world.store.begin(world.item, token=token)
    end = await world.store.end(world.item, token=token, outcome=WriteOutcome.INVALIDATED)
    assert end is FenceResult.INVALIDATED
    assert isinstance(world.record(), Tombstone)


async def test_an_aborted_write_brings_the_hidden_entry_back(world: World) -> None:
    """A write that changed nothing restores the very bytes."""
    await filled(world)
    before = world.stored(world.item.cache_key)
    token = CLOCK.token()
    await world.store.begin(world.item, token=token)
    end = await world.store.end(world.item, token=token, outcome=WriteOutcome.ABORTED)
    assert end is FenceResult.RESTORED
    assert world.stored(world.item.cache_key) == before


async def test_an_aborted_write_restores_what_a_lease_had_kept(world: World) -> None:
    """A begin hides the entry that a refresh kept; the refresh itself is lost."""
    generation = await filled(world)
    before = world.stored(world.item.cache_key)
    reader, writer = CLOCK.token(), CLOCK.token()
    await leased(world, reader, force=True)
    await world.store.begin(world.item, token=writer)
    assert await body_seen(world) is None
    end = await world.store.end(world.item, token=writer, outcome=WriteOutcome.ABORTED)
    assert end is FenceResult.RESTORED
    assert world.stored(world.item.cache_key) == before
    assert not await world.store.fill(
        world.item, token=reader, generation=generation, draft=world.draft("old")
    )


async def test_an_aborted_write_without_an_entry_leaves_a_tombstone(world: World) -> None:
    """There is nothing to restore."""
    token = CLOCK.token()
    await world.store.begin(world.item, token=token)
    end = await world.store.end(world.item, token=token, outcome=WriteOutcome.ABORTED)
    assert end is FenceResult.INVALIDATED
    assert isinstance(world.record(), Tombstone)


async def test_a_lone_write_through_stores(world: World) -> None:
    """A writer that met no other puts the new entry."""
    await filled(world, "old")
    token = CLOCK.token()
    generation = (await world.store.begin(world.item, token=token)).generation
    assert generation is not None
    end = await world.store.end(
        world.item,
        token=token,
        outcome=WriteOutcome.STORED,
        stored=(generation, world.draft("new")),
    )
    assert end is FenceResult.STORED
    assert await body_seen(world) == shows("new")


@pytest.mark.parametrize("first_ends_first", [True, False])
async def test_overlapping_write_throughs_store_nothing(
    world: World, *, first_ends_first: bool
) -> None:
    """Nobody knows the order in which DynamoDB applied them: the last end leaves a tombstone."""
    generation = await filled(world, "old")
    tokens = [CLOCK.token(), CLOCK.token()]
    for token in tokens:
        await world.store.begin(world.item, token=token)
    stored = (generation, world.draft("new"))
    results = [
        await world.store.end(world.item, token=token, outcome=WriteOutcome.STORED, stored=stored)
        for token in (tokens if first_ends_first else reversed(tokens))
    ]
    assert results == [FenceResult.OVERLAPPED, FenceResult.INVALIDATED]
    assert isinstance(world.record(), Tombstone)


async def test_an_overlapped_aborted_write_restores_nothing(world: World) -> None:
    """The other writer may have changed the item."""
    await filled(world)
    tokens = [CLOCK.token(), CLOCK.token()]
    for token in tokens:
        await world.store.begin(world.item, token=token)
    for token in tokens:
        await world.store.end(world.item, token=token, outcome=WriteOutcome.ABORTED)
    assert isinstance(world.record(), Tombstone)


async def test_a_write_after_one_that_died_is_not_alone(world: World) -> None:
    """A dead writer's effect is unknown, so the next one stores nothing."""
    generation = await filled(world)
    await world.store.begin(world.item, token=CLOCK.token())
    world.expire(world.item.cache_key)
    token = CLOCK.token()
    await world.store.begin(world.item, token=token)
    end = await world.store.end(
        world.item,
        token=token,
        outcome=WriteOutcome.STORED,
        stored=(generation, world.draft("new")),
    )
    assert end is FenceResult.INVALIDATED


async def test_a_writer_without_its_marker_leaves_a_tombstone(world: World) -> None:
    """After a flush nobody knows who came in between: the end drops what is there."""
    generation = await filled(world)
    token = CLOCK.token()
    await world.store.begin(world.item, token=token)
    world.flush()
    await filled(world, "between")
    end = await world.store.end(
        world.item,
        token=token,
        outcome=WriteOutcome.STORED,
        stored=(generation, world.draft("late")),
    )
    assert end is FenceResult.LOST
    assert isinstance(world.record(), Tombstone)


async def test_a_writer_that_begins_again_keeps_its_rights(world: World) -> None:
    """A paused process moves its marker's deadline and is still alone, its entry still hidden."""
    await filled(world)
    before = world.stored(world.item.cache_key)
    token = CLOCK.token()
    await world.store.begin(world.item, token=token)
    world.expire(world.item.cache_key)
    await world.store.begin(world.item, token=token)
    assert isinstance(pending := world.parts(), PendingBytes)
    assert len(pending.markers) == 1
    assert pending.markers[0].deadline_ms > world.now_ms()
    await world.store.end(world.item, token=token, outcome=WriteOutcome.ABORTED)
    assert world.stored(world.item.cache_key) == before


async def test_an_end_in_another_incarnation_stores_nothing(world: World) -> None:
    """A marker of another primary gives no right to store."""
    generation, token = await filled(world), CLOCK.token()
    await world.store.begin(world.item, token=token)
    pending = world.parts()
    assert isinstance(pending, PendingBytes)
    (marker,) = pending.markers
    other = replace(pending, markers=(replace(marker, incarnation=b"formerly"),))
    world.put(world.item.cache_key, other.pack())
    end = await world.store.end(
        world.item,
        token=token,
        outcome=WriteOutcome.STORED,
        stored=(generation, world.draft("new")),
    )
    assert end is FenceResult.INVALIDATED


async def test_writers_in_flight_on_one_item_are_bounded(world: World) -> None:
    """The writer past the bound is told so; the others end as ever."""
    first = CLOCK.token()
    await world.store.begin(world.item, token=first)
    pending = world.parts()
    assert isinstance(pending, PendingBytes)
    (marker,) = pending.markers
    crowd = [replace(marker, token=CLOCK.token()) for _ in range(PENDING_MAX - 1)]
    world.put(world.item.cache_key, PendingBytes((marker, *crowd)).pack())
    with pytest.raises(StoreUnavailable) as full:
        await world.store.begin(world.item, token=CLOCK.token())
    assert full.value.failure is StoreFailure.FULL
    await world.store.begin(world.item, token=first)  # again: it is there already
    end = await world.store.end(world.item, token=first, outcome=WriteOutcome.INVALIDATED)
    assert end is FenceResult.OVERLAPPED


# Invalidate


async def test_invalidate_drops_an_entry(world: World) -> None:
    """After an invalidation the entry is gone, and a second one changes nothing."""
    await filled(world)
    await world.store.invalidate(world.item)
    await world.store.invalidate(world.item)
    assert await body_seen(world) is None
    assert isinstance(world.record(), Tombstone)


async def test_invalidate_takes_a_writers_right_to_store(world: World) -> None:
    """A writer in flight stays, but neither stores nor restores."""
    generation = await filled(world)
    for outcome in (WriteOutcome.STORED, WriteOutcome.ABORTED):
        token = CLOCK.token()
        await world.store.begin(world.item, token=token)
        await world.store.invalidate(world.item)
        assert isinstance(world.record(), Pending)
        stored = (generation, world.draft()) if outcome is WriteOutcome.STORED else None
        end = await world.store.end(world.item, token=token, outcome=outcome, stored=stored)
        assert end is FenceResult.INVALIDATED


# Whole tables


async def test_a_table_is_not_served_while_a_write_to_it_is_in_flight(world: World) -> None:
    """A pending table shows no entry; once the write was aborted its entries count again."""
    await filled(world)
    token = CLOCK.token()
    await world.store.begin_table(world.item.table_key, token=token)
    seen = await world.store.lookup(world.item)
    assert (seen.table_pending, seen.entry) == (True, None)
    await world.store.end_table(
        world.item.table_key, token=token, outcome=WriteOutcome.ABORTED, remade=False
    )
    assert await body_seen(world) == shows("one")


async def test_a_table_stays_pending_until_its_last_write_ended(world: World) -> None:
    """Each write has a marker of its own."""
    first, second = CLOCK.token(), CLOCK.token()
    key = world.item.table_key
    await world.store.begin_table(key, token=first)
    await world.store.begin_table(key, token=second)
    await world.store.end_table(key, token=first, outcome=WriteOutcome.INVALIDATED, remade=False)
    assert (await world.store.lookup(world.item)).table_pending
    await world.store.end_table(key, token=second, outcome=WriteOutcome.ABORTED, remade=False)
    assert not (await world.store.lookup(world.item)).table_pending


async def test_a_write_of_items_raises_the_generation_but_not_the_stamp(world: World) -> None:
    """What was learned of the table itself stays true while its items change."""
    key = world.item.table_key
    before = await world.store.generation(key)
    assert await world.store.generation(key) == before
    token = CLOCK.token()
    await world.store.begin_table(key, token=token)
    assert await world.store.generation(key) == before
    await world.store.end_table(key, token=token, outcome=WriteOutcome.INVALIDATED, remade=False)
    after = await world.store.generation(key)
    assert after != before
    assert stamp_of(after) == stamp_of(before)


@pytest.mark.parametrize("how", ["remade", "marker lost", "writer died"])
async def test_a_stamp_is_void_where_the_table_may_be_another(world: World, how: str) -> None:
    """After a change of the table, or one that nobody can rule out."""
    key, token = world.item.table_key, CLOCK.token()
    before = await world.store.generation(key)
    if how != "marker lost":
        await world.store.begin_table(key, token=token)
    if how == "writer died":
        world.expire(key)
    else:
        await world.store.end_table(
            key, token=token, outcome=WriteOutcome.INVALIDATED, remade=how == "remade"
        )
    assert stamp_of(await world.store.generation(key)) != stamp_of(before)


async def test_a_table_writer_that_died_raises_the_generation(world: World) -> None:
    """What it wrote is unknown: nothing from before counts."""
    generation = await filled(world)
    await world.store.begin_table(world.item.table_key, token=CLOCK.token())
    world.expire(world.item.table_key)
    seen = await world.store.lookup(world.item)
    assert (seen.table_pending, seen.entry) == (False, None)
    assert seen.generation != generation


async def test_an_aborted_table_write_without_its_marker_raises(world: World) -> None:
    """It was not protected all the time, so it counts as one that changed something."""
    generation = await filled(world)
    await world.store.end_table(
        world.item.table_key, token=CLOCK.token(), outcome=WriteOutcome.ABORTED, remade=False
    )
    assert (await world.store.lookup(world.item)).generation != generation


async def test_a_fill_under_an_older_generation_does_not_count(world: World) -> None:
    """Who looked up before a table-wide write ended fills for nobody."""
    token = CLOCK.token()
    generation = (await world.store.lookup(world.item)).generation
    await leased(world, token)
    await world.store.end_table(
        world.item.table_key, token=CLOCK.token(), outcome=WriteOutcome.INVALIDATED, remade=False
    )
    await world.store.fill(world.item, token=token, generation=generation, draft=world.draft("old"))
    assert await body_seen(world) is None


# Pages


async def test_nobody_may_use_a_page_before_every_writer_knows(world: World) -> None:
    """The first lookup announces pages; they count when each write begun before it is over."""
    token = CLOCK.token()
    assert not (await world.store.begin(world.item, token=token)).pages
    assert not (await world.store.lookup_page(world.page)).ready
    assert (await world.store.begin(world.item, token=token)).pages
    await world.pages_ready()
    assert (await world.store.lookup_page(world.page)).ready
    table = world.parts(world.item.table_key)
    assert isinstance(table, ScopeBytes)
    soon = replace(table, pages_from_ms=world.now_ms() + HOUR_MS)
    world.put(world.item.table_key, soon.pack())
    assert not (await world.store.lookup_page(world.page)).ready
    assert world.parts(world.item.table_key) == soon


async def test_pages_are_announced_for_as_long_as_a_marker_lives(world: World) -> None:
    """A writer that began just before the announcement may run for its marker's whole time."""
    before_ms = world.now_ms()
    await world.store.lookup_page(world.page)
    table = world.parts(world.item.table_key)
    assert isinstance(table, ScopeBytes)
    marker_ms = round(FENCE.marker_s * 1000)
    assert before_ms + marker_ms <= table.pages_from_ms <= world.now_ms() + marker_ms


async def test_an_announcement_leaves_a_known_generation_as_it_is(world: World) -> None:
    """Items stay cached when the first page of their table is asked for."""
    await filled(world)
    await world.store.lookup_page(world.page)
    assert await body_seen(world) == shows("one")


async def test_a_writer_that_cannot_read_its_tables_record_fences_pages(world: World) -> None:
    """A record of a later release may well say that pages are cached."""
    world.put(world.item.table_key, b"G\x02 of a later release")
    begun = await world.store.begin(world.item, token=CLOCK.token())
    assert (begun.generation, begun.pages) == (None, True)


async def test_a_page_comes_back_as_it_was_filled(world: World) -> None:
    """Pages are leased, filled and found like items."""
    await world.fill_page("page")
    seen = (await world.store.lookup_page(world.page)).sighting
    assert seen.entry is not None
    assert seen.entry.body == shows("page")


@pytest.mark.parametrize("scope", ["table", "scope"])
@pytest.mark.parametrize("outcome", [WriteOutcome.INVALIDATED, WriteOutcome.ABORTED])
async def test_a_page_counts_only_without_writes_to_its_table_and_scope(
    world: World, outcome: WriteOutcome, scope: str
) -> None:
    """A write in flight hides it, an applied one drops it, an aborted one brings it back."""
    await world.fill_page("page")
    token = CLOCK.token()
    if scope == "table":
        await world.store.begin_table(world.item.table_key, token=token)
    else:
        await world.store.begin_scope(world.page.scope_key, token=token)
    during = (await world.store.lookup_page(world.page)).sighting
    assert (during.table_pending, during.entry) == (True, None)
    if scope == "table":
        key = world.item.table_key
        await world.store.end_table(key, token=token, outcome=outcome, remade=False)
    else:
        await world.store.end_scope(world.page.scope_key, token=token, outcome=outcome)
    after = (await world.store.lookup_page(world.page)).sighting
    assert not after.table_pending
    assert (after.entry is not None) == (outcome is WriteOutcome.ABORTED)


async def test_a_write_to_another_scope_leaves_a_page(world: World) -> None:
    """Only what may change a page drops it."""
    await world.fill_page("page")
    token, other = CLOCK.token(), KEYS.partition_key(world.item.table, "pk", {"S": "b"})
    await world.store.begin_scope(other, token=token)
    await world.store.end_scope(other, token=token, outcome=WriteOutcome.INVALIDATED)
    assert (await world.store.lookup_page(world.page)).sighting.entry is not None


async def test_a_page_filled_under_an_older_generation_does_not_count(world: World) -> None:
    """Who fetched before a write began fills for nobody."""
    seen = (await world.store.lookup_page(world.page)).sighting
    token, writer = CLOCK.token(), CLOCK.token()
    record, scope = world.page.record, world.page.scope_key
    await world.store.lease(record, token=token, generation=seen.generation, force=False)
    await world.store.begin_scope(scope, token=writer)
    await world.store.end_scope(scope, token=writer, outcome=WriteOutcome.INVALIDATED)
    new = world.page_draft("old")
    await world.store.fill(record, token=token, generation=seen.generation, draft=new)
    assert (await world.store.lookup_page(world.page)).sighting.entry is None


async def test_a_scope_stays_pending_until_its_last_write_ended(world: World) -> None:
    """Each write has a marker of its own."""
    first, second = CLOCK.token(), CLOCK.token()
    scope = world.page.scope_key
    await world.store.begin_scope(scope, token=first)
    await world.store.begin_scope(scope, token=second)
    await world.store.end_scope(scope, token=first, outcome=WriteOutcome.INVALIDATED)
    assert (await world.store.lookup_page(world.page)).sighting.table_pending
    await world.store.end_scope(scope, token=second, outcome=WriteOutcome.INVALIDATED)
    assert not (await world.store.lookup_page(world.page)).sighting.table_pending


async def test_a_scope_writer_that_died_drops_its_pages(world: World) -> None:
    """What it wrote is unknown."""
    await world.fill_page("page")
    await world.store.begin_scope(world.page.scope_key, token=CLOCK.token())
    world.expire(world.page.scope_key)
    seen = (await world.store.lookup_page(world.page)).sighting
    assert (seen.table_pending, seen.entry) == (False, None)


@pytest.mark.parametrize("outcome", [WriteOutcome.INVALIDATED, WriteOutcome.ABORTED])
async def test_a_scope_writer_without_its_marker_drops_its_pages(
    world: World, outcome: WriteOutcome
) -> None:
    """It was not protected all the time."""
    await world.fill_page("page")
    await world.store.end_scope(world.page.scope_key, token=CLOCK.token(), outcome=outcome)
    assert (await world.store.lookup_page(world.page)).sighting.entry is None


async def test_a_scope_that_only_writers_used_leaves_nothing(world: World) -> None:
    """The store keeps no record for what nobody reads."""
    token, scope = CLOCK.token(), world.page.scope_key
    await world.store.begin_scope(scope, token=token)
    await world.store.end_scope(scope, token=token, outcome=WriteOutcome.INVALIDATED)
    assert world.raw(scope) is None


async def test_a_page_is_quiet_from_its_scopes_last_raise(world: World) -> None:
    """Quiet time counts from the younger of the table's and the scope's raise, never too long."""
    await world.fill_page("page")
    for key in (world.page.scope_key, world.item.table_key):
        assert (await world.store.lookup_page(world.page)).quiet_s < HOUR_MS / 1000
        record = world.parts(key)
        assert isinstance(record, ScopeBytes)
        world.put(key, replace(record, raised_ms=record.raised_ms - 2 * HOUR_MS).pack())
    quiet_s = (await world.store.lookup_page(world.page)).quiet_s
    assert 2 * HOUR_MS / 1000 - 1 <= quiet_s < 3 * HOUR_MS / 1000
    token = CLOCK.token()
    await world.store.begin_table(world.item.table_key, token=token)
    await world.store.end_table(
        world.item.table_key, token=token, outcome=WriteOutcome.INVALIDATED, remade=False
    )
    assert (await world.store.lookup_page(world.page)).quiet_s < HOUR_MS / 1000


async def test_writers_in_flight_on_one_scope_are_bounded(world: World) -> None:
    """The writer past the bound is told so."""
    live_ms = world.now_ms() + HOUR_MS
    crowd = tuple((CLOCK.token(), live_ms) for _ in range(PENDING_MAX))
    for key in (world.page.scope_key, world.item.table_key):
        record = await world.scope_parts(key)
        world.put(key, replace(record, markers=crowd).pack())
    with pytest.raises(StoreUnavailable) as full:
        await world.store.begin_scope(world.page.scope_key, token=CLOCK.token())
    assert full.value.failure is StoreFailure.FULL
    with pytest.raises(StoreUnavailable):
        await world.store.begin_table(world.item.table_key, token=CLOCK.token())


@pytest.mark.parametrize("scope", ["table", "scope"])
async def test_a_scope_of_another_release_is_left_alone(world: World, scope: str) -> None:
    """No page is served under a record that nobody here can read, and it stays as it is."""
    await world.fill_page("page")
    key = world.item.table_key if scope == "table" else world.page.scope_key
    later = b"G\x02 of a later release"
    world.put(key, later)
    with pytest.raises(StoreUnavailable):
        await world.store.lookup_page(world.page)
    assert world.raw(key) == later


# Which table it is


ONE_TABLE, OTHER_TABLE = TableId(b"this is a table."), TableId(b"this is another.")


async def test_a_check_is_claimed_once_per_interval(world: World) -> None:
    """All others are told when the next is due; then again one of them gets it."""
    claim, key = world.store.claim_check, world.item.table_key
    assert await claim(key, interval_s=100.0) == 0.0
    assert 90.0 < await claim(key, interval_s=100.0) <= 100.0
    table = await world.scope_parts()
    world.put(key, replace(table, checked_ms=table.checked_ms - 100_000).pack())
    assert await claim(key, interval_s=100.0) == 0.0
    assert await claim(key, interval_s=100.0) > 0.0


async def test_a_claim_leaves_entries_and_pages(world: World) -> None:
    """Looking which table it is changes nothing."""
    await world.fill_page("page")
    await filled(world)
    await world.store.claim_check(world.item.table_key, interval_s=100.0)
    assert await body_seen(world) == shows("one")
    assert (await world.store.lookup_page(world.page)).sighting.entry is not None


async def test_the_same_table_keeps_its_entries(world: World) -> None:
    """Both when it is told for the first time, soon after the first entries, and ever after."""
    await filled(world)
    for _ in range(2):
        assert not await world.store.identify_table(world.item.table_key, ONE_TABLE)
        assert await body_seen(world) == shows("one")


async def test_another_table_voids_entries_and_stamp(world: World) -> None:
    """As often as it is another one."""
    key = world.item.table_key
    await world.store.identify_table(key, ONE_TABLE)
    for table_id in (OTHER_TABLE, ONE_TABLE):
        generation = await filled(world)
        assert await world.store.identify_table(key, table_id)
        seen = await world.store.lookup(world.item)
        assert seen.entry is None
        assert stamp_of(seen.generation) != stamp_of(generation)


async def test_a_table_unknown_for_long_voids_entries(world: World) -> None:
    """They may be of a table that was there before the first answer."""
    await filled(world)
    table = await world.scope_parts()
    long_ago_ms = table.raised_ms - round(2 * TABLE_SURE_S * 1000)
    world.put(world.item.table_key, replace(table, raised_ms=long_ago_ms).pack())
    assert await world.store.identify_table(world.item.table_key, ONE_TABLE)
    assert await body_seen(world) is None
    assert not await world.store.identify_table(world.item.table_key, ONE_TABLE)


@pytest.mark.parametrize("remade", [True, False])
async def test_writes_leave_what_is_known_of_the_table(world: World, *, remade: bool) -> None:
    """A write to all items keeps id and claim, also one that may have made the table anew."""
    key, token = world.item.table_key, CLOCK.token()
    await world.store.identify_table(key, ONE_TABLE)
    await world.store.claim_check(key, interval_s=100.0)
    before = await world.scope_parts()
    await world.store.lookup_page(world.page)
    await world.store.begin_table(key, token=token)
    await world.store.end_table(key, token=token, outcome=WriteOutcome.INVALIDATED, remade=remade)
    after = await world.scope_parts()
    assert (after.table_id, after.checked_ms) == (ONE_TABLE, before.checked_ms)
    assert before.checked_ms > 0


async def test_a_check_keeps_writes_in_flight(world: World) -> None:
    """A table that is written to stays pending, whichever it is."""
    await world.store.begin_table(world.item.table_key, token=CLOCK.token())
    for table_id in (ONE_TABLE, OTHER_TABLE):
        await world.store.claim_check(world.item.table_key, interval_s=0.0)
        await world.store.identify_table(world.item.table_key, table_id)
        assert (await world.store.lookup(world.item)).table_pending


async def test_a_table_of_another_release_is_not_checked(world: World) -> None:
    """Its record is left as it is."""
    later = b"G\x02 of a later release"
    world.put(world.item.table_key, later)
    assert await world.store.claim_check(world.item.table_key, interval_s=7.0) == 7.0
    assert not await world.store.identify_table(world.item.table_key, ONE_TABLE)
    assert world.raw(world.item.table_key) == later


# Scopes of another incarnation


ELSEWHERE = Incarnation(b"elsewher")


@pytest.mark.parametrize("scope", ["table", "scope"])
async def test_a_scope_of_another_incarnation_does_not_count(world: World, scope: str) -> None:
    """Its generation is no longer any entry's, whatever the entry's own incarnation."""
    await filled(world)
    await world.fill_page("page")
    key = world.item.table_key if scope == "table" else world.page.scope_key
    before = await world.scope_parts(key)
    world.put(key, replace(before, incarnation=ELSEWHERE, table_id=ONE_TABLE).pack())
    assert (await world.store.lookup_page(world.page)).sighting.entry is None
    assert (await body_seen(world) is None) == (scope == "table")
    after = await world.scope_parts(key)
    assert after.incarnation != ELSEWHERE
    assert after.generation != before.generation
    assert after.table_id == bytes(16)


async def test_pages_are_announced_anew_in_another_incarnation(world: World) -> None:
    """The record may be from before an announcement that a writer of today did not see."""
    await world.pages_ready()
    table = await world.scope_parts()
    world.put(world.item.table_key, replace(table, incarnation=ELSEWHERE).pack())
    begun = await world.store.begin(world.item, token=CLOCK.token())
    assert (begun.generation, begun.pages) == (None, True)
    assert not (await world.store.lookup_page(world.page)).ready


@pytest.mark.parametrize("scope", ["table", "scope"])
async def test_writes_in_flight_count_in_every_incarnation(world: World, scope: str) -> None:
    """A write that began before a fail-over keeps its scope unserved until it ends."""
    await world.fill_page("page")
    token = CLOCK.token()
    if scope == "table":
        key = world.item.table_key
        await world.store.begin_table(key, token=token)
    else:
        key = world.page.scope_key
        await world.store.begin_scope(key, token=token)
    world.put(key, replace(await world.scope_parts(key), incarnation=ELSEWHERE).pack())
    assert (await world.store.lookup_page(world.page)).sighting.table_pending
    outcome = WriteOutcome.ABORTED
    if scope == "table":
        await world.store.end_table(key, token=token, outcome=outcome, remade=False)
    else:
        await world.store.end_scope(key, token=token, outcome=outcome)
    sighting = (await world.store.lookup_page(world.page)).sighting
    assert (sighting.table_pending, sighting.entry) == (False, None)
