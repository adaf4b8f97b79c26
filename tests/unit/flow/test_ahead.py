"""Claims of `proxy.flow.ahead`: hot items do not expire, once per life and store, and no others."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from proxy.core.errors import StoreFailure, UpstreamFailure
from proxy.core.fence import Sighting
from proxy.core.policy import NearPolicy
from proxy.core.read_plan import ReadPlan
from proxy.core.record import Entry
from proxy.core.values import Level, Outcome
from proxy.flow import ahead
from proxy.flow.events import RefreshEnded
from proxy.flow.hot_reads import Sampling
from tests.fakes.fake_upstream_script import THROTTLED
from tests.support.flow_world import TABLE, Proxy, World, value_of
from tests.support.virtual_time import quiesce

FRESH_S = 60.0
EVERY = Sampling(every=1, hot=3.0)
REPLACED, FAILED = RefreshEnded(TABLE, replaced=True), RefreshEnded(TABLE, replaced=False)


@pytest.fixture
async def world(world: World) -> World:
    """Item a holds "1"; entries are fresh for a minute and not served after it."""
    world.put_elsewhere("a", "1")
    world.policy = replace(world.policy, fresh_ttl_s=FRESH_S, negative_ttl_s=FRESH_S, grace_s=0.0)
    return world


def fetches(world: World) -> int:
    return world.upstream.count("GetItem")


async def seen(world: World, pk: str = "a") -> Sighting:
    """Look at an item's record."""
    return await world.store.lookup(world.identity(pk))


async def hot_at_its_end(world: World, proxy: Proxy, *, left_s: float = 0.05) -> None:
    """Make item a hot, and let its entry come near its end."""
    world.sampling = EVERY
    await proxy.get("a")
    for _ in range(3):
        proxy.hot.sample(world.read_plan("a"))
    world.put_elsewhere("a", "2")
    await world.clock.sleep(FRESH_S - left_s)
    proxy.events.clear()


async def read_for(
    world: World, proxy: Proxy, *, seconds: float, every_s: float, pk: str = "a"
) -> Counter[Outcome]:
    """Read an item again and again, with all that is pushed and answered meanwhile."""
    outcomes: Counter[Outcome] = Counter()
    end_s = world.clock.monotonic_s() + seconds
    while world.clock.monotonic_s() < end_s:
        if proxy.store.tracking is not None:
            proxy.store.tracking.ping(world.clock.monotonic_s())
        outcomes[(await proxy.get(pk)).outcome] += 1
        await world.clock.sleep(every_s)
    return outcomes


@pytest.mark.parametrize("near", [False, True])
@pytest.mark.parametrize("level", Level)
async def test_a_hot_item_never_expires(world: World, level: Level, *, near: bool) -> None:
    """Ten reads a second see one miss and then hits, at every level, from copies as well."""
    world.policy = replace(world.policy, level=level)
    world.near = NearPolicy(bytes_max=1_000_000 if near else 0)
    world.clock.chance = 0.5
    proxy = world.proxy()
    outcomes = await read_for(world, proxy, seconds=10 * FRESH_S, every_s=0.1)
    await quiesce()
    assert outcomes == {Outcome.MISS: 1, Outcome.HIT: outcomes[Outcome.HIT]}
    assert proxy.told(RefreshEnded) == [REPLACED] * 10
    assert fetches(world) == 11
    if near and level is not Level.STRICT:
        assert proxy.near.hits > 0.9 * outcomes[Outcome.HIT]


async def test_a_hot_absence_never_expires(world: World) -> None:
    """An answer that there is no such item is refreshed too."""
    world.clock.chance = 0.5
    proxy = world.proxy()
    outcomes = await read_for(world, proxy, seconds=3 * FRESH_S, every_s=0.1, pk="nobody")
    await quiesce()
    assert set(outcomes) == {Outcome.MISS, Outcome.NEGATIVE_HIT}
    assert outcomes[Outcome.MISS] == 1


async def test_a_cold_item_expires(world: World) -> None:
    """One read a second is not worth a fetch that nobody may need."""
    # Every draw near the end would start a refresh, and no 120 reads bring three samples.
    world.sampling, world.clock.chance = Sampling(every=640), 0.1
    proxy = world.proxy()
    outcomes = await read_for(world, proxy, seconds=2 * FRESH_S, every_s=1.0)
    await quiesce()
    assert (outcomes[Outcome.MISS], proxy.told(RefreshEnded)) == (2, [])


async def test_the_entry_serves_while_it_is_refreshed(world: World) -> None:
    """Readers of all proxies see hits from inside the lease, and nobody starts another fetch."""
    proxy, other = world.proxy(), world.proxy()
    await hot_at_its_end(world, proxy)
    for _ in range(3):
        other.hot.sample(world.read_plan("a"))
    gate = world.upstream.hold("GetItem")
    for reader in (proxy, proxy, other):
        answer = await reader.get("a")
        assert (answer.outcome, value_of(answer)) == (Outcome.HIT, "1")
        await gate.reached()
    gate.release()
    await quiesce()
    assert (fetches(world), other.store.asked("lookup")) == (2, 1), "it saw the lease, that is all"
    assert (proxy.told(RefreshEnded), other.told(RefreshEnded)) == ([REPLACED], [])
    assert value_of(await other.get("a")) == "2"


async def test_a_read_for_the_cache_only_starts_nothing(world: World) -> None:
    """Whoever asks for no fetch causes none."""
    proxy = world.proxy()
    await hot_at_its_end(world, proxy)
    headers = {"X-Dynaside-Cache": "only-if-cached"}
    body = {"TableName": TABLE, "Key": world.read_plan("a").get.key}
    assert (await proxy.ask("GetItem", body, **headers)).outcome is Outcome.HIT
    await quiesce()
    assert fetches(world) == 1


@pytest.mark.parametrize("trouble", ["throttled", "silent"])
async def test_a_failed_refresh_leaves_the_entry_and_waits(world: World, trouble: str) -> None:
    """The entry goes on serving; the next try comes a second later."""
    proxy = world.proxy()
    await hot_at_its_end(world, proxy, left_s=1.5)
    proxy.hot.took(TABLE, 5.0)  # slow fetches: the last two seconds are certain
    if trouble == "throttled":
        world.upstream.fail("GetItem", THROTTLED)
    else:
        world.upstream.refuse("GetItem", UpstreamFailure.TIMEOUT)
    for _ in range(3):
        assert (await proxy.get("a")).outcome is Outcome.HIT
        await quiesce()
    assert (fetches(world), proxy.told(RefreshEnded)) == (2, [FAILED])
    world.clock.pause(1.0)
    assert (await proxy.get("a")).outcome is Outcome.HIT
    await quiesce()
    assert proxy.told(RefreshEnded) == [FAILED, REPLACED]


@pytest.mark.parametrize("why", ["store out", "write in flight", "gone", "leased", "no lease"])
async def test_without_a_lease_nothing_is_fetched(world: World, why: str) -> None:
    """The store is out, or somebody else is at it: the entry is left to him."""
    proxy = world.proxy()
    await hot_at_its_end(world, proxy)
    sighting, plan = await seen(world), world.read_plan("a")
    assert sighting.entry is not None
    match why:
        case "store out":
            proxy.store.fail_next(StoreFailure.TIMEOUT, step="lookup")
        case "write in flight":
            await world.store.begin(plan.identity, token=world.clock.token())
        case "leased":
            token, generation = world.clock.token(), sighting.generation
            await world.store.lease(plan.identity, token=token, generation=generation, force=True)
        case "gone":
            world.store.evict(plan.identity.cache_key)
        case _:
            proxy.store.fail_next(StoreFailure.TIMEOUT, step="lease")
    proxy.ahead.served(plan, sighting.entry, sighting.store_now_ms)
    await quiesce()
    assert (fetches(world), proxy.told(RefreshEnded)) == (1, [])
    assert proxy.store.asked("lease") == (2 if why == "no lease" else 1), "the first was the fill's"


async def test_what_another_proxy_refreshed_is_left_alone(world: World) -> None:
    """A copy may be older than the store's entry: that decides, at a second look."""
    proxy, other = world.proxy(), world.proxy()
    await hot_at_its_end(world, proxy)
    old: Entry | None = (await seen(world)).entry
    assert old is not None
    await hot_elsewhere(other, world.read_plan("a"), old)
    assert fetches(world) == 2
    proxy.ahead.served(world.read_plan("a"), old, old.soft_ms - 10)
    await quiesce()
    assert (fetches(world), proxy.told(RefreshEnded)) == (2, [])


async def hot_elsewhere(other: Proxy, plan: ReadPlan, entry: Entry) -> None:
    """Let another proxy refresh the entry."""
    for _ in range(3):
        other.hot.sample(plan)
    other.ahead.served(plan, entry, entry.soft_ms - 10)
    await quiesce()
    assert other.told(RefreshEnded) == [REPLACED]


async def test_refreshes_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While so many are under way, there are no more."""
    monkeypatch.setattr(ahead, "REFRESHES_MAX", 0)
    proxy = world.proxy()
    await hot_at_its_end(world, proxy)
    assert (await proxy.get("a")).outcome is Outcome.HIT
    await quiesce()
    assert fetches(world) == 1


async def test_only_fetches_that_brought_something_tell_how_long_they_take(world: World) -> None:
    """Errors come sooner than items."""
    proxy = world.proxy()
    world.upstream.fail("GetItem", THROTTLED)
    landing = await proxy.filler.fetch_only(world.read_plan("a"))
    assert not proxy.ahead.landed(TABLE, landing, world.clock.monotonic_s())
    gate = world.upstream.hold("GetItem")
    slow = asyncio.ensure_future(proxy.get("a"))
    await gate.reached()
    await world.clock.sleep(0.8)
    gate.release()
    await slow
    entry = (await seen(world)).entry
    assert entry is not None
    assert proxy.hot.chance(world.read_plan("a"), entry, entry.soft_ms - 1500) == 1.0
