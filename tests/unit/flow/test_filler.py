"""Claims about `proxy.flow.filler`, two proxies on one memory store."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from itertools import count, pairwise

import pytest

from proxy.core.cache_control import CacheControl, Wish
from proxy.core.errors import StoreFailure, UpstreamFailed, UpstreamFailure
from proxy.core.fetches import FetchPlan
from proxy.core.read_plan import ReadPlan
from proxy.core.record import Entry, Leased, Pending, Tombstone
from proxy.core.values import FillResult, Generation, Level
from proxy.flow.coalescer import Flight
from proxy.flow.events import CapacityConsumed, FillEnded
from proxy.flow.exchange import Fetched
from proxy.flow.filler import Filler, Landing
from proxy.flow.ports import UpstreamReply
from tests.fakes.fake_upstream_script import FAILED, RESET_AFTER, THROTTLED
from tests.fakes.memory_store import MemoryStore, Step
from tests.support.flow_world import TABLE, Proxy, World, client_request, key_of
from tests.support.virtual_time import quiesce


class Flyer:
    """One proxy's filler, and what its flights state."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.proxy: Proxy = world.proxy()
        self.filler: Filler = self.proxy.filler
        self.store: MemoryStore = self.proxy.store
        self.flight: Flight[Landing] = Flight(count(1).__next__)

    async def generation(self, pk: str = "a") -> Generation:
        """Return the table's generation as a lookup shows it."""
        return (await self.store.lookup(self.world.identity(pk))).generation

    async def fly(self, plan: ReadPlan | None = None) -> Landing:
        """Do the work of one flight for item a."""
        self.flight = Flight(count(1).__next__)
        plan = plan or self.world.read_plan("a")
        return await self.filler.fly(self.flight, plan, await self.generation())

    def soon(self) -> asyncio.Task[Landing]:
        """Start a flight in the background."""
        return asyncio.ensure_future(self.fly())

    async def refill(self) -> tuple[UpstreamReply, bool]:
        """Let a ConsistentRead of item a refresh its entry."""
        body = {"TableName": TABLE, "Key": key_of("a"), "ConsistentRead": True}
        plan = self.world.read_plan("a", ConsistentRead=True)
        request = client_request("GetItem", body)
        return await self.filler.refill(plan, request, await self.generation())

    @property
    def record(self) -> object:
        """The record of item a."""
        return self.store.record(self.world.identity("a"))

    @property
    def fills(self) -> list[FillResult]:
        """What became of each fill."""
        return [told.result for told in self.proxy.told(FillEnded)]


@pytest.fixture
async def flyer(world: World) -> Flyer:
    """Give one proxy's filler; item a holds "1"."""
    world.put_elsewhere("a", "1")
    return Flyer(world)


@pytest.fixture
async def other(world: World, flyer: Flyer) -> Flyer:
    """Give another proxy's filler."""
    return Flyer(world)


async def begin(flyer: Flyer, v: str = "2") -> bytes:
    """Begin a write elsewhere and let it take effect; return its token."""
    token = flyer.world.clock.token()
    await flyer.world.store.begin(flyer.world.identity("a"), token=token)
    flyer.world.put_elsewhere("a", v)
    return token


async def test_fetched_item_becomes_the_entry(flyer: Flyer) -> None:
    """Lease, fetch, fill: the entry is the answer's body with its checksum, size and times."""
    flyer.world.policy = replace(flyer.world.policy, fresh_ttl_s=60.0, grace_s=20.0)
    landing = await flyer.fly()
    entry = flyer.record
    assert isinstance(entry, Entry)
    assert landing.fetched is not None
    assert landing.fetched.found is not None
    assert (landing.stored, entry.body) == (True, landing.fetched.found.body)
    assert (entry.negative, entry.item_bytes) == (False, 5)
    assert (entry.soft_ms, entry.hard_ms) == (entry.filled_ms + 60_000, entry.filled_ms + 80_000)
    assert [step.name for step in flyer.store.steps] == ["lookup", "lease", "fill"]
    assert flyer.fills == [FillResult.STORED]


async def test_absence_becomes_an_entry_of_its_own(flyer: Flyer) -> None:
    """An absence is stored with its own, shorter time and no grace."""
    flyer.world.policy = replace(flyer.world.policy, negative_ttl_s=5.0)
    await flyer.fly(flyer.world.read_plan("nobody"))
    entry = flyer.store.record(flyer.world.identity("nobody"))
    assert isinstance(entry, Entry)
    assert (entry.negative, entry.body, entry.item_bytes) == (True, b"{}", 0)
    assert entry.soft_ms == entry.hard_ms == entry.filled_ms + 5000


async def test_entry_is_as_old_as_its_question(flyer: Flyer) -> None:
    """The time that upstream took counts: an entry never looks younger than its fetch."""
    gate = flyer.world.upstream.hold("GetItem")
    asked_ms = flyer.store.now_ms()
    flying = flyer.soon()
    await gate.reached()
    flyer.world.clock.pause(2.5)
    gate.release()
    await flying
    assert isinstance(flyer.record, Entry)
    assert flyer.record.filled_ms == asked_ms


async def test_jitter_shortens_the_times(flyer: Flyer) -> None:
    """Entries filled together do not expire together."""
    flyer.world.policy = replace(flyer.world.policy, fresh_ttl_s=100.0, jitter=0.1)
    flyer.world.clock.chance = 1.0
    await flyer.fly()
    assert isinstance(flyer.record, Entry)
    assert flyer.record.soft_ms == flyer.record.filled_ms + 90_000


@pytest.mark.parametrize("consistent", [True, False])
async def test_fill_reads_as_consistently_as_the_policy_says(
    flyer: Flyer, *, consistent: bool
) -> None:
    """The fetch uses ConsistentRead unless the table allows otherwise."""
    flyer.world.policy = replace(flyer.world.policy, fill_consistent=consistent)
    await flyer.fly()
    sent = json.loads(flyer.world.upstream.sent[0].body)
    assert sent.get("ConsistentRead", False) is consistent


async def test_fill_after_an_invalidation_reads_consistently(flyer: Flyer) -> None:
    """Over a tombstone a replica may not know of the write yet: the fetch is consistent."""
    flyer.world.policy = replace(flyer.world.policy, fill_consistent=False)
    await flyer.store.invalidate(flyer.world.identity("a"))
    flyer.world.put_elsewhere("a", "2")
    flyer.world.upstream.tables.lag_versions = 1
    await flyer.fly()
    assert isinstance(flyer.record, Entry)
    assert b'"2"' in flyer.record.body


async def test_flight_is_current_as_of_its_question_until_its_fill_is_accepted(
    flyer: Flyer,
) -> None:
    """The flight states when it asked, and moves on only with an accepted fill."""
    gate = flyer.world.upstream.hold("GetItem")
    flying = flyer.soon()
    await gate.reached()
    asked = flyer.flight.current_as_of
    came_later = flyer.flight.tick()
    assert asked < came_later
    gate.release()
    await flying
    assert flyer.flight.current_as_of > came_later


async def test_reader_that_came_while_the_lease_was_asked_for_may_share(flyer: Flyer) -> None:
    """The item is asked for after the lease: whoever came before that gets nothing too old."""
    came: list[int] = []

    async def come(step: Step) -> None:
        if step.name == "lease":
            came.append(flyer.flight.tick())

    flyer.store.before = come
    flyer.store.fail_next(StoreFailure.REFUSED, step="fill")
    await flyer.fly()
    assert came[0] < flyer.flight.current_as_of


async def test_reader_that_came_while_waiting_may_share_what_another_proxy_filled(
    flyer: Flyer, other: Flyer
) -> None:
    """An entry got by asking for the lease is current as of the last time it was asked for."""
    gate = flyer.world.upstream.hold("GetItem")
    first, second = flyer.soon(), other.soon()
    await gate.reached()
    await flyer.world.clock.sleep(0.1)
    came = other.flight.tick()
    gate.release()
    await asyncio.gather(first, second)
    assert (await second).entry is not None
    assert came < other.flight.current_as_of


@pytest.mark.parametrize("meanwhile", ["begin", "invalidate", "flush", "other lease"])
async def test_refused_fill_stores_nothing_and_proves_nothing(flyer: Flyer, meanwhile: str) -> None:
    """Once the lease has gone, the fetched item is answered but not stored, and not shared."""
    gate = flyer.world.upstream.hold("GetItem", after_effect=True)
    flying = flyer.soon()
    await gate.reached()
    came_later = flyer.flight.tick()
    identity = flyer.world.identity("a")
    match meanwhile:
        case "begin":
            await begin(flyer)
        case "invalidate":
            await flyer.store.invalidate(identity)
        case "flush":
            flyer.store.flush()
        case _:
            flyer.store.expire(identity.cache_key)
            await flyer.store.lease(
                identity,
                token=flyer.world.clock.token(),
                generation=await flyer.generation(),
                force=False,
            )
    before = flyer.record
    gate.release()
    landing = await flying
    assert (landing.stored, flyer.fills) == (False, [FillResult.REFUSED])
    assert flyer.record == before
    assert flyer.flight.current_as_of < came_later


async def test_item_of_just_the_allowed_size_is_stored(flyer: Flyer) -> None:
    """The bound itself is allowed."""
    size = len(json.dumps({"Item": {**key_of("a"), "v": {"S": "1"}}}))
    flyer.world.policy = replace(flyer.world.policy, entry_bytes_max=size)
    assert (await flyer.fly()).stored


async def test_item_too_large_is_answered_but_not_stored(flyer: Flyer) -> None:
    """An item beyond the bound takes no room in the store and holds no lease."""
    flyer.world.policy = replace(flyer.world.policy, entry_bytes_max=10)
    landing = await flyer.fly()
    assert landing.fetched is not None
    assert (landing.stored, flyer.record) == (False, None)
    assert flyer.fills == [FillResult.TOO_LARGE]


@pytest.mark.parametrize("pk", ["nobody", "a"])
async def test_time_of_zero_stores_nothing(flyer: Flyer, pk: str) -> None:
    """A policy that gives an entry no time at all keeps it out."""
    flyer.world.policy = replace(
        flyer.world.policy, grace_s=0.0, fresh_ttl_s=0.0, negative_ttl_s=0.0
    )
    await flyer.fly(flyer.world.read_plan(pk))
    assert flyer.fills == [FillResult.NOT_CACHEABLE]
    assert flyer.record is None


@pytest.mark.parametrize("fault", [THROTTLED, FAILED])
async def test_refusal_of_upstream_is_not_stored_and_gives_the_lease_back(
    flyer: Flyer, fault: object
) -> None:
    """An error answer comes home; nobody waits for a fill that will not come."""
    flyer.world.upstream.fail("GetItem", THROTTLED if fault is THROTTLED else FAILED)
    landing = await flyer.fly()
    assert landing.fetched is not None
    assert landing.fetched.failed
    assert (flyer.record, flyer.fills) == (None, [FillResult.NOT_CACHEABLE])


@pytest.mark.parametrize("failure", list(UpstreamFailure))
async def test_silence_of_upstream_gives_the_lease_back(
    flyer: Flyer, failure: UpstreamFailure
) -> None:
    """Whatever the reason, a fetch without an answer leaves no lease behind."""
    match failure:
        case UpstreamFailure.TIMEOUT:
            flyer.world.upstream.hold("GetItem")
        case UpstreamFailure.RESET:
            flyer.world.upstream.fail("GetItem", RESET_AFTER)
        case _:
            flyer.world.upstream.refuse("GetItem", failure)
    with pytest.raises(UpstreamFailed) as raised:
        await flyer.fly()
    assert raised.value.failure is failure
    assert flyer.record is None
    assert flyer.store.asked("release") == 1


async def test_given_back_lease_leaves_the_older_entry(flyer: Flyer) -> None:
    """A refresh that fails brings the entry back that was kept inside its lease."""
    await flyer.fly()
    entry = flyer.record
    await flyer.world.clock.sleep(310.0)
    gate = flyer.world.upstream.hold("GetItem")
    flyer.world.upstream.fail("GetItem", THROTTLED)
    flying = flyer.soon()
    await gate.reached()
    lease = flyer.record
    assert isinstance(lease, Leased)
    assert lease.kept == entry
    gate.release()
    await flying
    assert flyer.record == entry


@pytest.mark.parametrize("failure", list(StoreFailure))
@pytest.mark.parametrize("step", ["lease", "fill", "release"])
async def test_failing_store_never_fails_a_flight(
    flyer: Flyer, step: str, failure: StoreFailure
) -> None:
    """Every step of a flight may fail in every way: the item comes home all the same."""
    flyer.store.fail_next(failure, step=step)
    if step == "release":
        flyer.world.policy = replace(flyer.world.policy, entry_bytes_max=10)
    landing = await flyer.fly()
    assert landing.fetched is not None
    assert landing.fetched.found is not None
    assert not landing.stored
    results = {
        "lease": FillResult.NO_LEASE,
        "fill": FillResult.STORE_FAILED,
        "release": FillResult.TOO_LARGE,
    }
    assert flyer.fills == [results[step]]


async def test_fill_whose_reply_was_lost_is_not_given_out_as_current(flyer: Flyer) -> None:
    """A fill that may have been accepted proves nothing; what it stored stays a good entry."""
    flyer.store.lose_next_reply(step="fill")
    gate = flyer.world.upstream.hold("GetItem")
    flying = flyer.soon()
    await gate.reached()
    came_later = flyer.flight.tick()
    gate.release()
    assert not (await flying).stored
    assert flyer.flight.current_as_of < came_later
    assert isinstance(flyer.record, Entry)


async def test_writer_in_flight_means_fetch_without_fill(flyer: Flyer) -> None:
    """While a write is in flight the item is read upstream and not stored."""
    await begin(flyer)
    landing = await flyer.fly()
    assert landing.fetched is not None
    assert isinstance(flyer.record, Pending)
    assert flyer.fills == [FillResult.NO_LEASE]


@pytest.mark.parametrize("level", Level)
async def test_fetch_without_a_lease_is_consistent_below_eventual(
    flyer: Flyer, level: Level
) -> None:
    """What stands in the way of a fill is mostly a write that a replica may not show yet."""
    flyer.world.policy = replace(flyer.world.policy, fill_consistent=False, level=level)
    await begin(flyer)
    await flyer.fly()
    sent = json.loads(flyer.world.upstream.sent[-1].body)
    assert sent.get("ConsistentRead", False) is (level is not Level.EVENTUAL)


async def test_refusal_without_a_lease_is_not_told_as_a_missed_fill(flyer: Flyer) -> None:
    """An error answer could not have been stored anyway."""
    await begin(flyer)
    flyer.world.upstream.fail("GetItem", FAILED)
    await flyer.fly()
    assert flyer.fills == []


async def test_other_proxy_waits_for_the_first_ones_fill(flyer: Flyer, other: Flyer) -> None:
    """Two proxies that miss the same item cost one read upstream."""
    gate = flyer.world.upstream.hold("GetItem")
    first, second = flyer.soon(), other.soon()
    await gate.reached()
    await quiesce()
    gate.release()
    assert (await first).stored
    landing = await second
    assert (landing.entry, landing.fetched) == (flyer.record, None)
    assert flyer.world.upstream.count("GetItem") == 1


async def test_wait_for_another_proxys_fill_is_bounded(flyer: Flyer, other: Flyer) -> None:
    """After `lease_wait_s` a waiting reader fetches by itself, without filling."""
    flyer.world.upstream.hold("GetItem").release()
    await flyer.store.lease(
        flyer.world.identity("a"),
        token=flyer.world.clock.token(),
        generation=await flyer.generation(),
        force=False,
    )
    started_s = flyer.world.clock.monotonic_s()
    landing = await other.fly()
    waited_s = flyer.world.clock.monotonic_s() - started_s
    assert landing.fetched is not None
    assert waited_s == pytest.approx(flyer.world.fence.lease_wait_s, abs=0.02)
    assert other.fills == [FillResult.NO_LEASE]
    assert isinstance(flyer.record, Leased)


def late(flyer: Flyer, by_s: float, *, until_s: float = 0.0) -> asyncio.Event:
    """Let this proxy's loop come late to each of its steps at the store.

    Returns: an event that comes when `until_s` were lost.
    """
    lost = asyncio.Event()
    began_s = flyer.world.clock.monotonic_s()

    async def pause(_: Step) -> None:
        flyer.world.clock.pause(by_s)
        if flyer.world.clock.monotonic_s() - began_s >= until_s:
            lost.set()

    flyer.store.before = pause
    return lost


async def test_a_reader_whose_own_loop_is_late_has_not_waited(flyer: Flyer, other: Flyer) -> None:
    """What counts against `lease_wait_s` is looking, not time in which it could not look.

    An overloaded machine makes everybody slow, the filler too: readers that gave up would add a
    read per process to what is too much already.
    """
    gate = flyer.world.upstream.hold("GetItem")
    first = flyer.soon()
    await gate.reached()
    lost = late(other, 0.1, until_s=2 * flyer.world.fence.lease_wait_s)
    second = other.soon()
    await lost.wait()
    gate.release()
    assert (await first).stored
    assert (await second).entry == flyer.record
    assert flyer.world.upstream.count("GetItem") == 1


async def test_a_late_loop_makes_no_reader_wait_longer_than_a_lease(
    flyer: Flyer, other: Flyer
) -> None:
    """However late its loop: what it waited for when it came has ended by then."""
    world = flyer.world
    world.store.scripts = flyer.store.scripts = other.store.scripts = MemoryStore(
        world.clock, replace(world.fence, lease_s=60.0)
    ).scripts
    gate = world.upstream.hold("GetItem")
    first = flyer.soon()
    await gate.reached()
    late(other, 0.1)
    began_s = world.clock.monotonic_s()
    second = other.soon()
    await gate.reached(2)
    waited_s = world.clock.monotonic_s() - began_s
    assert waited_s == pytest.approx(world.fence.lease_s, abs=0.35)
    gate.release()
    assert (await second).fetched is not None
    assert (await first).stored


async def test_dead_fillers_lease_ends_and_another_proxy_fills(world: World) -> None:
    """A filler that dies holds the others up for its lease at most."""
    world.put_elsewhere("a", "1")
    world.fence = replace(world.fence, lease_s=0.5)
    world.store = MemoryStore(world.clock, world.fence)
    dead, heir = Flyer(world), Flyer(world)
    gate = world.upstream.hold("GetItem")
    dying = dead.soon()
    await gate.reached()
    dead.store.down = StoreFailure.CLOSED  # and so it cannot give its lease back
    dying.cancel()
    await asyncio.wait({dying})
    world.upstream.release()
    started_s = world.clock.monotonic_s()
    assert (await heir.fly()).stored
    assert world.clock.monotonic_s() - started_s == pytest.approx(0.5, abs=0.02)


async def test_cancelled_flight_gives_its_lease_back(flyer: Flyer, other: Flyer) -> None:
    """A flight that ends at stop does not hold other proxies up."""
    gate = flyer.world.upstream.hold("GetItem")
    flying = flyer.soon()
    await gate.reached()
    flying.cancel()
    await asyncio.wait({flying})
    flyer.world.upstream.release()
    assert flyer.record is None
    assert (await other.fly()).stored


async def test_shorter_ttl_of_our_own_overrules_the_entrys_times(
    flyer: Flyer, other: Flyer
) -> None:
    """An entry that another proxy's longer TTL calls fresh is replaced, not taken as the answer."""
    flyer.world.policy = replace(flyer.world.policy, fresh_ttl_s=300.0)
    await flyer.fly()
    flyer.world.put_elsewhere("a", "2")
    await flyer.world.clock.sleep(60.0)
    flyer.world.policy = replace(flyer.world.policy, fresh_ttl_s=10.0)
    landing = await other.fly()
    assert landing.fetched is not None
    assert landing.stored
    assert isinstance(flyer.record, Entry)
    assert b'"2"' in flyer.record.body


async def test_bypassing_flight_leaves_the_store_alone(flyer: Flyer) -> None:
    """Without a generation the item is fetched, and the store is not asked at all."""
    flight: Flight[Landing] = Flight(count(1).__next__)
    landing = await flyer.filler.fly(flight, flyer.world.read_plan("a"), None)
    assert landing.fetched is not None
    assert (flight.current_as_of, flyer.store.steps) == (1, [])


class OtherSource:
    """A source that notes what a flight asks of it, and asks the exchange."""

    def __init__(self, flyer: Flyer) -> None:
        self._exchange = flyer.proxy.exchange
        self.noted: list[str] = []

    def waits(self) -> None:
        """Note that another proxy is filling."""
        self.noted.append("waits")

    async def fetch(self, plan: FetchPlan, *, consistent: bool) -> Fetched:
        """Note the question and ask it."""
        self.noted.append(f"fetch, consistent {consistent}")
        return await self._exchange.fetch(plan, consistent=consistent)


async def test_flight_fetches_from_the_source_it_is_given(flyer: Flyer) -> None:
    """With a lease and without a store: a batch fetches for many flights at once."""
    source = OtherSource(flyer)
    flight: Flight[Landing] = Flight(count(1).__next__)
    plan = flyer.world.read_plan("a")
    landing = await flyer.filler.fly(flight, plan, await flyer.generation(), source)
    assert landing.stored
    await flyer.filler.fly(flight, plan, None, source)
    assert source.noted == ["fetch, consistent True"] * 2


async def test_source_is_told_when_another_proxy_fills(flyer: Flyer, other: Flyer) -> None:
    """So that nobody waits for a fetch that may never come; here the other's fill comes."""
    gate = flyer.world.upstream.hold("GetItem")
    leading = other.soon()
    await gate.reached()
    source = OtherSource(flyer)
    flight: Flight[Landing] = Flight(count(1).__next__)
    plan, generation = flyer.world.read_plan("a"), await flyer.generation()
    waiting = asyncio.ensure_future(flyer.filler.fly(flight, plan, generation, source))
    await quiesce()
    gate.release()
    await leading
    assert (await waiting).entry is not None
    assert set(source.noted) == {"waits"}


async def test_only_a_batch_that_brought_nothing_says_nothing(flyer: Flyer) -> None:
    """Who joined such a flight must ask again; an item, an entry or a failure is an answer."""
    landing = await flyer.fly()
    assert landing.fetched is not None
    assert not landing.says_nothing
    assert not Landing(None, None).says_nothing
    empty = replace(landing.fetched, found=None, batched=True)
    assert Landing(None, empty).says_nothing


async def test_consistent_read_replaces_a_fresh_entry(flyer: Flyer) -> None:
    """Its answer is stored before the caller gets it, over an entry that is still fresh."""
    await flyer.fly()
    flyer.world.put_elsewhere("a", "2")
    reply, stored = await flyer.refill()
    assert stored
    assert isinstance(flyer.record, Entry)
    assert flyer.record.body == reply.body
    assert flyer.proxy.told(CapacityConsumed)[-1] == CapacityConsumed(TABLE, 1.0)
    assert b'"2"' in reply.body


async def test_entry_keeps_serving_while_a_consistent_read_is_under_way(
    flyer: Flyer, other: Flyer
) -> None:
    """The fresh entry stays inside the lease and answers other readers meanwhile."""
    await flyer.fly()
    gate = flyer.world.upstream.hold("GetItem")
    refilling = asyncio.ensure_future(flyer.refill())
    await gate.reached()
    sighting = await other.store.lookup(flyer.world.identity("a"))
    gate.release()
    await refilling
    assert sighting.entry is not None
    assert b'"1"' in sighting.entry.body


@pytest.mark.parametrize("why", ["pending", "down"])
async def test_consistent_read_without_a_lease_is_just_forwarded(flyer: Flyer, why: str) -> None:
    """While a write is in flight, or the store is out, nothing is stored."""
    if why == "pending":
        await begin(flyer)
    else:
        flyer.store.fail_next(StoreFailure.TIMEOUT, step="lease")
    reply, stored = await flyer.refill()
    assert (reply.status, stored, flyer.fills) == (200, False, [])


async def test_consistent_read_that_loses_its_lease_stores_nothing(flyer: Flyer) -> None:
    """A write that begins meanwhile has the last word."""
    gate = flyer.world.upstream.hold("GetItem", after_effect=True)
    refilling = asyncio.ensure_future(flyer.refill())
    await gate.reached()
    await begin(flyer)
    gate.release()
    assert not (await refilling)[1]
    assert flyer.fills == [FillResult.REFUSED]
    assert isinstance(flyer.record, Pending)


async def test_failed_consistent_read_leaves_the_entry(flyer: Flyer) -> None:
    """Silence and refusal bring the older entry back out of the lease."""
    await flyer.fly()
    entry = flyer.record
    flyer.world.upstream.fail("GetItem", RESET_AFTER)
    with pytest.raises(UpstreamFailed):
        await flyer.refill()
    assert flyer.record == entry
    flyer.world.upstream.fail("GetItem", THROTTLED)
    reply, stored = await flyer.refill()
    assert (reply.status, stored, flyer.record) == (400, False, entry)


async def test_wait_asks_again_at_random_intervals(flyer: Flyer, other: Flyer) -> None:
    """Waiting readers ask some ten times in the time of a fetch, not in a busy loop."""
    flyer.world.clock.chance = 0.5
    asked: list[float] = []

    async def look_on(step: Step) -> None:
        if step.name == "lease":
            asked.append(flyer.world.clock.monotonic_s())

    gate = flyer.world.upstream.hold("GetItem")
    first = flyer.soon()
    await gate.reached()
    other.store.before = look_on
    second = other.soon()
    await flyer.world.clock.sleep(0.1)
    gate.release()
    await asyncio.gather(first, second)
    pauses = [later - earlier for earlier, later in pairwise(asked)]
    assert pauses == [pytest.approx(0.006)] * len(pauses)
    assert isinstance(flyer.record, Entry)


async def test_writers_death_makes_the_fill_consistent(flyer: Flyer) -> None:
    """A marker that ran out may have hidden a write: the next fill must not ask a replica."""
    flyer.world.policy = replace(flyer.world.policy, fill_consistent=False)
    await begin(flyer)
    flyer.world.upstream.tables.lag_versions = 1
    flyer.store.expire(flyer.world.identity("a").cache_key)
    await flyer.fly()
    assert isinstance(flyer.record, Entry)
    assert b'"2"' in flyer.record.body
    assert not isinstance(flyer.record, Tombstone)


REFRESH = CacheControl(Wish.REFRESH)


def wanting(flyer: Flyer, control: CacheControl, pk: str = "a") -> ReadPlan:
    """Plan a read of an item that asks something of the cache."""
    return replace(flyer.world.read_plan(pk), control=control)


async def test_refresh_fills_over_a_fresh_entry_with_a_consistent_read(flyer: Flyer) -> None:
    """Also where the table's policy lets replicas fill."""
    flyer.world.policy = replace(flyer.world.policy, fill_consistent=False)
    await flyer.fly()
    flyer.world.put_elsewhere("a", "2")
    landing = await flyer.fly(wanting(flyer, REFRESH))
    assert landing.stored
    assert isinstance(flyer.record, Entry)
    assert b'"2"' in flyer.record.body
    assert b"ConsistentRead" in flyer.world.upstream.sent[-1].body


async def test_refresh_waits_for_another_proxys_fill_and_fills_after_it(
    flyer: Flyer, other: Flyer
) -> None:
    """What the other asked for before the refresh came is not what stays."""
    gate = flyer.world.upstream.hold("GetItem", after_effect=True)
    filling = other.soon()
    await gate.reached()
    flyer.world.put_elsewhere("a", "2")
    refreshing = asyncio.ensure_future(flyer.fly(wanting(flyer, REFRESH)))
    await quiesce()
    gate.release()
    assert (await filling).stored
    assert (await refreshing).stored
    assert isinstance(flyer.record, Entry)
    assert b'"2"' in flyer.record.body


@pytest.mark.parametrize("why", ["too large", "absent"])
@pytest.mark.parametrize("how", ["refresh", "consistent read"])
async def test_entry_that_was_shown_to_be_outdated_does_not_come_back(
    flyer: Flyer, why: str, how: str
) -> None:
    """Where the newer answer cannot be stored, the older entry goes all the same."""
    flyer.world.policy = replace(flyer.world.policy, negative_ttl_s=0, entry_bytes_max=100)
    await flyer.fly()
    if why == "absent":
        flyer.world.upstream.tables.call("DeleteItem", {"TableName": TABLE, "Key": key_of("a")})
    else:
        flyer.world.put_elsewhere("a", "x" * 100)
    if how == "refresh":
        await flyer.fly(wanting(flyer, REFRESH))
    else:
        await flyer.refill()
    assert flyer.fills[-1] in {FillResult.TOO_LARGE, FillResult.NOT_CACHEABLE}
    assert isinstance(flyer.record, Tombstone)


async def test_refresh_that_upstream_refuses_leaves_the_entry(flyer: Flyer) -> None:
    """Nothing was learned of the item, so the entry is as good as before."""
    await flyer.fly()
    flyer.world.upstream.fail("GetItem", THROTTLED)
    await flyer.fly(wanting(flyer, REFRESH))
    assert isinstance(flyer.record, Entry)


@pytest.mark.parametrize("fill_consistent", [True, False])
async def test_refresh_without_a_fill_reads_consistently(
    flyer: Flyer, *, fill_consistent: bool
) -> None:
    """Even at `eventual`: who asks for a refresh wants the newest item."""
    flyer.world.policy = replace(
        flyer.world.policy, level=Level.EVENTUAL, fill_consistent=fill_consistent
    )
    await flyer.filler.fetch_only(wanting(flyer, REFRESH))
    assert b"ConsistentRead" in flyer.world.upstream.sent[-1].body


async def test_entry_too_old_for_the_reader_is_filled_anew(flyer: Flyer) -> None:
    """The lease says that there is a fresh entry; it is taken by force."""
    await flyer.fly()
    await flyer.world.clock.sleep(5.0)
    young = await flyer.fly(wanting(flyer, CacheControl(age_s_max=6.0)))
    assert young.entry is not None
    old = await flyer.fly(wanting(flyer, CacheControl(age_s_max=5.0)))
    assert (old.entry, old.stored) == (None, True)


async def test_landing_suits_readers_by_the_age_of_what_it_brought(flyer: Flyer) -> None:
    """An entry counts from its fill, an answer from its question, unless that came after."""
    plan = wanting(flyer, CacheControl(age_s_max=5.0))
    filled = await flyer.fly()
    assert filled.fetched is not None
    asked_s = filled.fetched.asked_s
    assert filled.suits(plan, asked_s + 1.0, asked_s + 4.9)
    assert not filled.suits(plan, asked_s + 1.0, asked_s + 5.0)
    assert filled.suits(plan, asked_s, asked_s + 5.0)
    await flyer.world.clock.sleep(4.0)
    found = await flyer.fly(plan)
    assert found.entry is not None
    assert found.suits(plan, 0.0, 0.0)
    older = found._replace(store_now_ms=found.store_now_ms + 1000)
    assert not older.suits(plan, 0.0, 0.0)
    assert older.suits(flyer.world.read_plan("a"), 0.0, 0.0)


async def fresh(world: World) -> Flyer:
    """Fill item a as "1", then write "2" behind the proxy's back."""
    flyer = Flyer(world)
    world.put_elsewhere("a", "1")
    await flyer.fly()
    world.put_elsewhere("a", "2")
    return flyer


async def ahead(flyer: Flyer) -> Landing | None:
    """Refresh item a's fresh entry."""
    plan = flyer.world.read_plan("a")
    return await flyer.filler.refresh_ahead(plan, await flyer.generation())


async def test_a_refresh_ahead_replaces_a_fresh_entry(world: World) -> None:
    """The lease is granted over the entry, which serves until the new one is stored."""
    flyer = await fresh(world)
    gate = world.upstream.hold("GetItem")
    refreshing = asyncio.ensure_future(ahead(flyer))
    await gate.reached()
    sighting = await flyer.store.lookup(world.identity("a"))
    assert sighting.entry is not None
    assert b'"1"' in sighting.entry.body
    gate.release()
    landing = await refreshing
    assert landing is not None
    assert landing.stored
    assert isinstance(flyer.record, Entry)
    assert b'"2"' in flyer.record.body


@pytest.mark.parametrize(
    ("level", "consistent"), [(Level.STRICT, True), (Level.SESSION, True), (Level.EVENTUAL, False)]
)
async def test_a_refresh_ahead_reads_consistently(
    world: World, level: Level, *, consistent: bool
) -> None:
    """Below eventual, whatever the policy says: the entry may be newer than a replica."""
    world.policy = replace(world.policy, level=level, fill_consistent=False)
    flyer = await fresh(world)
    await ahead(flyer)
    assert (b"ConsistentRead" in world.upstream.sent[-1].body) is consistent


@pytest.mark.parametrize("why", ["store out", "leased", "write in flight"])
async def test_a_refresh_ahead_waits_for_nobody(world: World, why: str) -> None:
    """Without the lease nothing is fetched."""
    flyer = await fresh(world)
    identity, token = world.identity("a"), world.clock.token()
    generation = await flyer.generation()
    if why == "leased":
        await world.store.lease(identity, token=token, generation=generation, force=True)
    elif why == "write in flight":
        await world.store.begin(identity, token=token)
    else:
        flyer.store.fail_next(StoreFailure.TIMEOUT, step="lease")
    before = world.upstream.count("GetItem")
    assert await ahead(flyer) is None
    assert world.upstream.count("GetItem") == before


async def test_a_write_ends_a_refresh_ahead(world: World) -> None:
    """What was fetched before the write ended is refused, and the entry from before it is gone."""
    flyer = await fresh(world)
    gate = world.upstream.hold("GetItem", after_effect=True)
    refreshing = asyncio.ensure_future(ahead(flyer))
    await gate.reached()
    await flyer.proxy.put("a", "3")
    gate.release()
    landing = await refreshing
    assert landing is not None
    assert not landing.stored
    assert isinstance(flyer.record, Tombstone)
    assert flyer.fills[-1] is FillResult.REFUSED


@pytest.mark.parametrize("failure", [None, UpstreamFailure.TIMEOUT])
async def test_a_failed_refresh_ahead_gives_the_entry_back(
    world: World, failure: UpstreamFailure | None
) -> None:
    """Throttled or silent: the entry is as it was."""
    flyer = await fresh(world)
    before = flyer.record
    if failure is None:
        world.upstream.fail("GetItem", THROTTLED)
        assert await ahead(flyer) is not None
    else:
        world.upstream.refuse("GetItem", failure)
        with pytest.raises(UpstreamFailed):
            await ahead(flyer)
    assert isinstance(before, Entry)
    assert flyer.record == before


async def test_a_refresh_ahead_that_cannot_be_stored_ends_the_entry(world: World) -> None:
    """The item has grown too large: what is stored is known to be old, and must not come back."""
    flyer = await fresh(world)
    world.put_elsewhere("a", "x" * 2000)
    world.policy = replace(world.policy, entry_bytes_max=1000)
    await ahead(flyer)
    assert isinstance(flyer.record, Tombstone)
