"""Claims about `proxy.flow.near_reads`, and about the paths that use it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.policy import FencePolicy, NearPolicy
from proxy.core.request import Answer
from proxy.core.values import Layout, Level, Mode, Outcome
from proxy.flow.events import CapacitySaved
from tests.fakes.fake_upstream_script import Match
from tests.fakes.memory_tracking import MemoryTracking
from tests.support.flow_world import (
    TABLE,
    Proxy,
    World,
    key_of,
    value_of,
    values_of,
)
from tests.support.reader import Reader
from tests.support.virtual_time import quiesce

DELTA_S = 0.25
FENCE = FencePolicy()


@pytest.fixture
async def world() -> World:
    world = World(FENCE)
    world.near = NearPolicy(bytes_max=1_000_000)
    world.put_elsewhere("a", "1")
    return world


async def warm(proxy: Proxy, pk: str = "a") -> None:
    """Fill an entry, and let a lookup see it."""
    await proxy.get(pk)
    await proxy.get(pk)


def tracking(proxy: Proxy) -> MemoryTracking:
    assert proxy.store.tracking is not None
    return proxy.store.tracking


def lookups(proxy: Proxy) -> int:
    return proxy.store.asked("lookup")


def is_near(answer: Answer) -> bool:
    return answer.detail == "near"


async def test_second_hit_does_not_ask_the_store(world: World) -> None:
    """A miss fills, the first hit keeps a copy, the next is answered by it."""
    proxy = world.proxy()
    await warm(proxy)
    before = lookups(proxy)
    answer = await proxy.get("a")
    assert (value_of(answer), answer.outcome, is_near(answer)) == ("1", Outcome.HIT, True)
    assert (lookups(proxy), proxy.near.hits) == (before, 1)
    assert answer.ttl_s == 299
    assert len(proxy.told(CapacitySaved)) == 2


async def test_a_copy_answers_at_once(world: World) -> None:
    """`near` waits for nothing; what needs the store is left to `answer`."""
    proxy = world.proxy()
    plan = world.read_plan("a")
    assert proxy.reads.near(plan) is None
    await warm(proxy)
    hit = proxy.reads.near(plan)
    assert hit is not None
    assert hit.answer == await proxy.get("a")


async def test_an_answer_that_stands_is_the_one_that_would_be_made_now(world: World) -> None:
    """At each moment, until it ends, and no later than the copy does."""
    world.policy = replace(world.policy, fresh_ttl_s=2.5)
    proxy = world.proxy()
    await warm(proxy)
    plan, held = world.read_plan("a"), 0
    hit = proxy.reads.near(plan)
    assert hit is not None
    for _ in range(40):
        world.clock.pause(0.0999)
        await quiesce()
        answer = proxy.reads._near(plan)
        if hit.holds(world.clock.monotonic_s()):
            held += 1
            assert hit.answer == answer
    assert 11 <= held <= 13  # a refresh might begin in the second half of its life
    assert proxy.reads.near(plan) is None


async def test_an_absence_is_kept_too(world: World) -> None:
    """Until somebody writes the item."""
    proxy, other = world.proxy(), world.proxy()
    await warm(proxy, "none")
    answer = await proxy.get("none")
    assert (answer.outcome, answer.detail) == (Outcome.NEGATIVE_HIT, "near-negative")
    await other.put("none", "2")
    assert value_of(await proxy.get("none")) == "2"


async def test_a_projection_is_cut_from_the_copy(world: World) -> None:
    """A copy is of the whole item, whatever was asked for first."""
    proxy = world.proxy()
    await warm(proxy)
    answer = await proxy.get("a", ProjectionExpression="v")
    assert answer.body == b'{"Item":{"v":{"S":"1"}}}'
    assert is_near(answer)


async def test_a_batch_takes_its_keys_from_copies(world: World) -> None:
    """Each under the rules of a GetItem."""
    proxy = world.proxy()
    world.put_elsewhere("b", "2")
    await warm(proxy)
    await proxy.get("b")
    before = lookups(proxy)
    assert values_of(await proxy.batch_get("a", "b")) == {"a": "1", "b": "2"}
    assert lookups(proxy) == before + 1
    assert values_of(await proxy.batch_get("a", "b")) == {"a": "1", "b": "2"}
    assert lookups(proxy) == before + 1


async def test_another_proxys_write_is_seen_within_delta(world: World) -> None:
    """While its push is stuck the copy answers; when nothing is proven any more the store does."""
    proxy, other = world.proxy(), world.proxy()
    await warm(proxy)
    tracking(proxy).hold()
    await other.put("a", "2")
    assert value_of(await proxy.get("a")) == "1"
    world.clock.pause(DELTA_S)
    assert value_of(await proxy.get("a")) == "2"
    tracking(proxy).deliver()
    assert value_of(await proxy.get("a")) == "2"


async def test_time_does_not_run_backwards_after_a_read_past_the_copy(world: World) -> None:
    """What the store, or upstream, showed is not followed by an older copy."""
    for members in (
        {"ConsistentRead": True},
        {"ConsistentRead": True, "ProjectionExpression": "v"},
    ):
        proxy, other = world.proxy(), world.proxy()
        await other.put("a", "1")
        await warm(proxy)
        tracking(proxy).hold()
        await other.put("a", "2")
        assert value_of(await proxy.get("a")) == "1"
        body = {"TableName": TABLE, "Key": key_of("a"), **members}
        await proxy.ask("GetItem", body)  # the fake upstream refuses projections
        assert value_of(await proxy.get("a")) == "2"


@pytest.mark.parametrize("control", ["bypass", "refresh", "max-age=0"])
async def test_a_steered_read_is_not_followed_by_an_older_one(world: World, control: str) -> None:
    """X-Dynaside-Cache asks past the copy, and later reads do not fall back behind it."""
    proxy, other = world.proxy(), world.proxy()
    await warm(proxy)
    tracking(proxy).hold()
    await other.put("a", "2")
    body = {"TableName": TABLE, "Key": key_of("a")}
    answer = await proxy.ask("GetItem", body, X_Dynaside_Cache=control)
    assert value_of(answer) == "2"
    assert value_of(await proxy.ask("GetItem", body)) == "2"


async def test_a_consistent_batch_is_not_followed_by_an_older_read(world: World) -> None:
    """Nor is one that passes the cache by."""
    proxy, other = world.proxy(), world.proxy()
    await warm(proxy)
    tracking(proxy).hold()
    await other.put("a", "2")
    asked = {"RequestItems": {TABLE: {"Keys": [key_of("a")], "ConsistentRead": True}}}
    assert values_of(await proxy.ask("BatchGetItem", asked)) == {"a": "2"}
    assert value_of(await proxy.get("a")) == "2"


async def test_only_if_cached_takes_a_copy(world: World) -> None:
    """A copy is cached; `max-age` bounds its age as that of an entry."""
    proxy = world.proxy()
    await warm(proxy)
    body = {"TableName": TABLE, "Key": key_of("a")}
    answer = await proxy.ask("GetItem", body, X_Dynaside_Cache="only-if-cached")
    assert is_near(answer)
    world.clock.pause(10.0)
    answer = await proxy.ask("GetItem", body, X_Dynaside_Cache="max-age=5")
    assert not is_near(answer)


async def test_own_writes_are_read_whatever_the_pushes_do(world: World) -> None:
    """A copy is dropped before begin is sent, and nothing older is kept until the write ended."""
    proxy = world.proxy()
    await warm(proxy)
    tracking(proxy).hold()
    await proxy.put("a", "2")
    assert value_of(await proxy.get("a")) == "2"
    await proxy.batch_put("a", "3")
    assert value_of(await proxy.get("a")) == "3"


async def test_no_copy_is_kept_of_a_lookup_that_passes_a_begin(world: World) -> None:
    """It saw the older entry, and upstream may show the newer one to others already."""
    proxy = world.proxy()
    await warm(proxy)
    tracking(proxy).hold()
    begun, go = asyncio.Event(), asyncio.Event()

    async def held(step: object) -> None:
        if getattr(step, "name", "") == "begin":
            begun.set()
            await go.wait()

    proxy.store.before = held
    write = asyncio.ensure_future(proxy.put("a", "2"))
    await begun.wait()
    assert value_of(await proxy.get("a")) == "1"  # the write has not begun
    assert not is_near(await proxy.get("a"))
    go.set()
    await write
    assert value_of(await proxy.get("a")) == "2"


async def test_a_debt_keeps_copies_out(world: World) -> None:
    """The store does not know of the write yet, so no copy of what it told may answer."""
    proxy = world.proxy()
    await warm(proxy)
    proxy.store.down = StoreFailure.CONNECT
    await proxy.put("a", "2")
    proxy.store.down = None
    assert value_of(await proxy.get("a")) == "2"
    assert proxy.reads.near(world.read_plan("a")) is None
    await proxy.debts.pay_ripe()
    await warm(proxy)
    assert is_near(await proxy.get("a"))


async def test_a_store_that_does_not_serve_keeps_copies_out(world: World) -> None:
    """A quarantine, or an old heartbeat, is about what the connection told."""
    proxy = world.proxy()
    await warm(proxy)
    proxy.store.stop_serving()
    assert proxy.reads.near(world.read_plan("a")) is None
    proxy.store.start_serving()
    assert proxy.reads.near(world.read_plan("a")) is not None


async def test_a_lost_connection_takes_its_copies_along(world: World) -> None:
    """The next lookup, by another connection, keeps one again."""
    proxy = world.proxy()
    await warm(proxy)
    tracking(proxy).disconnect()
    assert not is_near(await proxy.get("a"))
    assert is_near(await proxy.get("a"))


async def test_a_tables_writes_void_its_copies(world: World) -> None:
    """A write that may touch any item, through another proxy."""
    proxy, other = world.proxy(), world.proxy()
    await warm(proxy)
    await other.call("UpdateTable", {"TableName": TABLE})
    assert not is_near(await proxy.get("a"))


async def test_a_tombstone_takes_the_copy_away(world: World) -> None:
    """An invalidation from anywhere is a change of the record."""
    proxy = world.proxy()
    await warm(proxy)
    await world.store.invalidate(world.identity("a"))
    world.put_elsewhere("a", "2")
    assert value_of(await proxy.get("a")) == "2"


async def test_a_copy_is_used_while_it_is_fresh(world: World) -> None:
    """Grace, and what stands in for upstream, is the store's."""
    world.policy = replace(world.policy, fresh_ttl_s=10.0, grace_s=30.0, refresh_ahead=False)
    proxy = world.proxy()
    await warm(proxy)
    world.clock.pause(9.0)
    assert is_near(await proxy.get("a"))
    world.clock.pause(1.0)
    answer = await proxy.get("a")
    assert (answer.outcome, answer.detail) == (Outcome.STALE_HIT, None)
    await quiesce()


@pytest.mark.parametrize(
    ("level", "near", "uses"),
    [
        (Level.STRICT, NearPolicy(), False),
        (Level.SESSION, NearPolicy(), True),
        (Level.EVENTUAL, NearPolicy(), True),
        (Level.SESSION, NearPolicy(delta_s=0.0), False),
        (Level.EVENTUAL, NearPolicy(delta_s=0.0), True),
        (Level.EVENTUAL, NearPolicy(eventual_delta_s=0.0), False),
        (Level.SESSION, NearPolicy(bytes_max=0), False),
    ],
)
async def test_level_decides_whether_copies_are_used(
    world: World, level: Level, near: NearPolicy, *, uses: bool
) -> None:
    """Never at strict, nor with a Δ or a budget of 0."""
    world.near, world.policy = near, replace(world.policy, level=level, grace_s=0.0)
    proxy = world.proxy()
    await warm(proxy)
    assert is_near(await proxy.get("a")) is uses
    assert (len(proxy.near.cache) > 0) is uses


async def test_a_copy_at_eventual_stands_for_longer(world: World) -> None:
    """Δ is the level's own."""
    world.policy = replace(world.policy, level=Level.EVENTUAL)
    proxy = world.proxy()
    await warm(proxy)
    tracking(proxy).hold()
    world.clock.pause(0.9)
    assert is_near(await proxy.get("a"))
    world.clock.pause(0.1)
    assert not is_near(await proxy.get("a"))


async def test_a_key_that_is_off_has_no_copy(world: World) -> None:
    """A plan from before a mode was switched may be asked for still."""
    proxy = world.proxy()
    await warm(proxy)
    plan = world.read_plan("a")
    off = replace(plan, policy=replace(plan.policy, mode=Mode.OFF))
    now_s = world.clock.monotonic_s()
    assert proxy.near.find(off, now_s) is None
    assert proxy.near.find(plan, now_s) is not None


async def test_a_rehearsal_uses_copies_and_answers_nobody(world: World) -> None:
    """In shadow the client's answer is DynamoDB's."""
    world.policy = replace(world.policy, mode=Mode.SHADOW)
    proxy = world.proxy()
    body = {"TableName": TABLE, "Key": key_of("a")}
    for _ in range(3):
        answer = await proxy.ask("GetItem", body)
        await quiesce()
        assert answer.outcome is Outcome.BYPASS
    assert proxy.near.hits == 1


async def test_what_lies_as_a_hash_is_not_kept(world: World) -> None:
    """The store's connections do not track it."""
    world.policy = replace(world.policy, layout=Layout.HASH)
    proxy = world.proxy()
    await warm(proxy)
    assert not is_near(await proxy.get("a"))


async def test_a_failed_lookup_leaves_no_placeholder(world: World) -> None:
    """Nothing grows while the store is out."""
    proxy = world.proxy()
    await warm(proxy)
    tracking(proxy).disconnect()
    proxy.store.fail_next(StoreFailure.TIMEOUT, step="lookup")
    assert value_of(await proxy.get("a")) == "1"
    proxy.store.down = StoreFailure.TIMEOUT
    with pytest.raises(StoreUnavailable):
        await proxy.near.lookup(proxy.store, world.read_plan("a"))
    assert proxy.near._rules._watches == {}


async def test_a_forwarded_read_is_not_followed_by_an_older_copy(world: World) -> None:
    """Where the client's own request is sent in the end, its answer counts as shown."""
    proxy, other = world.proxy(), world.proxy()
    world.upstream.answer("GetItem", {"Novelty": 1})
    gate = world.upstream.hold(Match("GetItem", '"Key": '))  # as the client spells it
    forwarded = asyncio.ensure_future(proxy.get("a"))
    await gate.reached()
    await other.get("a")
    await proxy.get("a")
    assert is_near(await proxy.get("a"))
    tracking(proxy).hold()
    await other.put("a", "2")
    gate.release()
    assert value_of(await forwarded) == "2"
    assert value_of(await proxy.get("a")) == "2"


async def test_a_forwarded_batch_is_not_followed_by_an_older_copy(world: World) -> None:
    """Its keys that copies would have answered are shown by upstream after all."""
    proxy, other = world.proxy(), world.proxy()
    world.put_elsewhere("b", "1")
    await warm(proxy)
    tracking(proxy).hold()
    await other.put("a", "2")
    world.upstream.answer("BatchGetItem", {"Novelty": 1})
    assert values_of(await proxy.batch_get("a", "b")) == {"a": "2", "b": "1"}
    assert value_of(await proxy.get("a")) == "2"


async def test_pushes_are_counted(world: World) -> None:
    """One for each record that changed and was read here."""
    proxy, other = world.proxy(), world.proxy()
    await warm(proxy)
    before = proxy.near.pushes
    await other.put("a", "2")
    assert proxy.near.pushes == before + 1


# --- lookups that tell a reader ------------------------------------------------------------


async def test_a_lookup_that_tells_a_reader_leaves_a_copy_too(world: World) -> None:
    """As safely as any other: not where a push came before the reply."""
    proxy = world.proxy()
    await proxy.get("a")
    plan = world.read_plan("a")
    for pushed in (True, False):
        reader = Reader()
        proxy.near.look_up(proxy.store, plan, reader)
        if pushed:
            proxy.near.invalidated([plan.identity.cache_key])
        await reader.told
        found = proxy.near.find(plan, world.clock.monotonic_s())
        assert (found is None) is pushed


async def test_a_placeholder_is_given_back_whatever_comes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left of a lookup that failed."""
    proxy = world.proxy()
    plan, bug = world.read_plan("a"), ValueError("bug")
    for tell in (
        lambda _, reader: reader.unsure(),
        lambda _, reader: reader.failed(StoreUnavailable(StoreFailure.RESET, "gone")),
        lambda _, reader: reader.broke(bug),
    ):
        monkeypatch.setattr(proxy.store, "look_up", tell)
        reader = Reader()
        proxy.near.look_up(proxy.store, plan, reader)
        await asyncio.wait([reader.told])
        reader.told.exception()
        assert proxy.near._rules._watches == {}


async def test_levels_without_copies_need_no_placeholder(world: World) -> None:
    """The reader itself is told."""
    world.policy = replace(world.policy, level=Level.STRICT)
    proxy, seen = world.proxy(), []
    await proxy.get("a")
    reader = Reader()
    proxy.near.look_up(proxy.store, world.read_plan("a"), reader)
    seen.append(await reader.told)
    assert proxy.near._rules._watches == {}
    assert seen[0] is not None
