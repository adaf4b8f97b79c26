"""Claims about `proxy.flow.read_path`, with one or two proxies on one memory store."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from proxy.core.errors import StoreFailure, StoreUnavailable, UpstreamFailed, UpstreamFailure
from proxy.core.fence import ItemIdentity, Sighting, WriteOutcome
from proxy.core.hits import Hit
from proxy.core.policy import NearPolicy
from proxy.core.read_plan import ReadPlan
from proxy.core.record import Entry
from proxy.core.request import Answer
from proxy.core.values import BypassReason, FillResult, Layout, Level, Outcome
from proxy.flow.events import CapacityConsumed, CapacitySaved, FillEnded, RefreshEnded
from proxy.flow.fences import ItemFence
from proxy.flow.hot_reads import Sampling
from proxy.flow.read_path import Seen
from tests.fakes.fake_upstream_script import FAILED, THROTTLED, UNAVAILABLE
from tests.fakes.memory_store import MemoryStore
from tests.support.flow_world import TABLE, Proxy, World, client_request, item_of, key_of, value_of
from tests.support.reader import Reader
from tests.support.virtual_time import quiesce

FRESH_S, GRACE_S, IF_ERROR_S = 60.0, 30.0, 600.0


@pytest.fixture(params=Layout)
async def proxy(world: World, request: pytest.FixtureRequest) -> Proxy:
    """Give one proxy; item a holds "1"."""
    world.put_elsewhere("a", "1")
    world.policy = replace(
        world.policy,
        layout=request.param,
        fresh_ttl_s=FRESH_S,
        negative_ttl_s=5.0,
        grace_s=GRACE_S,
        stale_if_error_s=IF_ERROR_S,
    )
    return world.proxy()


async def aged(proxy: Proxy, seconds: float) -> None:
    """Read item a as "1", change it behind the proxies' backs to "2", and let the entry age."""
    await proxy.get("a")
    proxy.world.put_elsewhere("a", "2")
    await proxy.world.clock.sleep(seconds)
    proxy.events.clear()


def reads(proxy: Proxy) -> int:
    """Return how many items were read upstream."""
    return proxy.world.upstream.count("GetItem")


async def test_miss_is_fetched_and_then_hit(proxy: Proxy) -> None:
    """The first read goes upstream and fills; the second is answered by the store."""
    miss, hit = await proxy.get("a"), await proxy.get("a")
    assert (miss.outcome, miss.stored, miss.expired) == (Outcome.MISS, True, False)
    assert (hit.outcome, hit.ttl_s, hit.headers) == (Outcome.HIT, 60, ())
    assert item_of(miss) == item_of(hit)
    assert (hit.crc32, hit.table) == (zlib.crc32(hit.body), TABLE)
    assert reads(proxy) == 1


async def test_miss_is_answered_with_upstreams_own_header_fields(proxy: Proxy) -> None:
    """Who led the flight gets upstream's request id and checksum."""
    miss = await proxy.get("a")
    assert dict(miss.headers)["x-amzn-RequestId"] == "UPSTREAM1"
    assert dict(miss.headers)["x-amz-crc32"] == str(zlib.crc32(miss.body))


async def test_absence_is_hit_for_its_own_time(proxy: Proxy) -> None:
    """An absence is answered by the store for `negative_ttl_s`, and never stale."""
    assert (await proxy.get("nobody")).outcome is Outcome.MISS
    negative = await proxy.get("nobody")
    assert (negative.outcome, negative.body) == (Outcome.NEGATIVE_HIT, b"{}")
    await proxy.world.clock.sleep(5.0)
    late = await proxy.get("nobody")
    assert (late.outcome, reads(proxy)) == (Outcome.MISS, 2)


async def test_capacity_is_told_as_saved_or_consumed(proxy: Proxy) -> None:
    """A miss consumes, a hit saves what an eventually consistent read would have cost."""
    proxy.world.put_elsewhere("large", "x" * 9000)
    for pk in ("a", "large"):
        await proxy.get(pk)
    assert proxy.told(CapacitySaved) == []
    assert proxy.told(CapacityConsumed) == [
        CapacityConsumed(TABLE, 1.0),
        CapacityConsumed(TABLE, 3.0),
    ]
    for pk in ("a", "large"):
        await proxy.get(pk)
    assert proxy.told(CapacitySaved) == [CapacitySaved(TABLE, 0.5), CapacitySaved(TABLE, 1.5)]
    assert len(proxy.told(CapacityConsumed)) == 2


async def test_every_projection_is_answered_from_the_whole_item(proxy: Proxy) -> None:
    """One fetch serves all projections, on a miss as on a hit."""
    answers = [
        await proxy.get("a", ProjectionExpression="v"),
        await proxy.get("a", ProjectionExpression="pk"),
        await proxy.get("a"),
    ]
    assert [item_of(answer) for answer in answers] == [
        {"v": {"S": "1"}},
        key_of("a"),
        {**key_of("a"), "v": {"S": "1"}},
    ]
    assert [answer.crc32 for answer in answers] == [zlib.crc32(each.body) for each in answers]
    assert reads(proxy) == 1


async def test_a_part_that_was_read_answers_for_no_more_than_it_is(proxy: Proxy) -> None:
    """A projection of an entry in grace leaves the next reader, and the refresh, all of it."""
    await aged(proxy, FRESH_S + 1)
    stale = await proxy.get("a", ProjectionExpression="v")
    assert (stale.outcome, item_of(stale)) == (Outcome.STALE_HIT, {"v": {"S": "1"}})
    await quiesce()
    whole = await proxy.get("a")
    assert (whole.outcome, item_of(whole)) == (Outcome.HIT, {**key_of("a"), "v": {"S": "2"}})
    nothing = await proxy.get("a", ProjectionExpression="w.x")
    assert (nothing.outcome, item_of(nothing)) == (Outcome.HIT, {})


async def test_the_store_is_told_which_attributes_a_read_needs(proxy: Proxy) -> None:
    """A projection asks for what its paths start from, everything else for the whole entry."""
    asked: list[tuple[str, ...] | None] = []

    class ListeningStore(MemoryStore):
        async def lookup(
            self, identity: ItemIdentity, names: tuple[str, ...] | None = None
        ) -> Sighting:
            asked.append(names)
            return await super().lookup(identity, names)

    proxy.reads._ports = replace(
        proxy.reads._ports, store=ListeningStore(proxy.world.clock, proxy.world.fence)
    )
    await proxy.get("a")
    await proxy.get("a", ProjectionExpression="pk, v[0], v[1]")
    await proxy.get("a", ConsistentRead=True)
    assert asked == [None, ("pk", "v"), None]


async def test_an_entry_that_lacks_what_was_asked_for_is_never_an_answer(proxy: Proxy) -> None:
    """A store that shows too little of an entry fails the request instead of shortening it."""

    class NarrowStore(MemoryStore):
        async def lookup(
            self, identity: ItemIdentity, names: tuple[str, ...] | None = None
        ) -> Sighting:
            return await super().lookup(identity, ("v",))

    world = proxy.world
    world.policy = replace(world.policy, layout=Layout.HASH)
    await proxy.get("a")
    narrow = NarrowStore(world.clock, world.fence)
    narrow.scripts, narrow.incarnation = world.store.scripts, world.store.incarnation
    proxy.reads._ports = replace(proxy.reads._ports, store=narrow)
    assert item_of(await proxy.get("a", ProjectionExpression="v")) == {"v": {"S": "1"}}
    for members in ({}, {"ProjectionExpression": "pk"}):
        with pytest.raises(AssertionError, match="lacks"):
            await proxy.get("a", **members)


async def test_consumed_capacity_is_reported_as_asked(proxy: Proxy) -> None:
    """The miss reports what upstream charged, the hit reports nothing used."""
    answers = [await proxy.get("a", ReturnConsumedCapacity="TOTAL") for _ in range(2)]
    units = [json.loads(each.body)["ConsumedCapacity"]["CapacityUnits"] for each in answers]
    assert units == [1.0, 0.0]
    assert [value_of(answer) for answer in answers] == ["1", "1"]


async def test_grace_answers_at_once_while_exactly_one_refresh_runs(proxy: Proxy) -> None:
    """A stale hit waits for nobody; however many come, one read refreshes the entry."""
    await aged(proxy, FRESH_S + 1)
    gate = proxy.world.upstream.hold("GetItem")
    answers = await asyncio.gather(*(proxy.get("a") for _ in range(100)))
    await gate.reached()
    answers += [await proxy.get("a") for _ in range(100)]
    assert {(each.outcome, value_of(each), each.ttl_s) for each in answers} == {
        (Outcome.STALE_HIT, "1", -1)
    }
    gate.release()
    await quiesce()
    assert reads(proxy) == 2
    assert proxy.told(RefreshEnded) == [RefreshEnded(TABLE, replaced=True)]
    fresh = await proxy.get("a")
    assert (fresh.outcome, value_of(fresh)) == (Outcome.HIT, "2")


async def test_waiting_refreshes_do_not_pile_up(proxy: Proxy) -> None:
    """While a refresh of this process runs, stale hits start no task, lease or no lease."""
    await aged(proxy, FRESH_S + 1)
    gate = proxy.world.upstream.hold("GetItem")
    await proxy.get("a")
    await gate.reached()
    proxy.store.expire(proxy.world.identity("a").cache_key)
    before = len(proxy.tasks)
    for _ in range(100):
        assert (await proxy.get("a")).outcome is Outcome.STALE_HIT
    assert len(proxy.tasks) == before
    gate.release()
    await quiesce()
    assert reads(proxy) == 2


async def test_refresh_that_comes_too_late_finds_the_new_entry(world: World, proxy: Proxy) -> None:
    """A refresh that shares another reader's flight tells nothing: the flight's leader does."""
    await aged(proxy, FRESH_S + 1)
    gate = world.upstream.hold("GetItem")
    world.policy = replace(world.policy, level=Level.STRICT)
    leading = asyncio.ensure_future(proxy.get("a"))
    await gate.reached()
    proxy.store.expire(world.identity("a").cache_key)
    world.policy = replace(world.policy, level=Level.SESSION)
    assert (await proxy.get("a")).outcome is Outcome.STALE_HIT
    proxy.store.flush()  # so that its fill proves nothing to who came later
    gate.release()
    assert value_of(await leading) == "2"
    await quiesce()
    assert (reads(proxy), proxy.told(RefreshEnded)) == (2, [])


async def test_refresh_by_another_proxy_is_enough(world: World, proxy: Proxy) -> None:
    """While one proxy refreshes, the other serves the entry from inside the lease, and waits."""
    await aged(proxy, FRESH_S + 1)
    other = world.proxy()
    gate = world.upstream.hold("GetItem")
    await proxy.get("a")
    await gate.reached()
    stale = await other.get("a")
    await quiesce()
    gate.release()
    await quiesce()
    assert (stale.outcome, reads(proxy)) == (Outcome.STALE_HIT, 2)
    assert other.told(RefreshEnded) == []


@pytest.mark.parametrize("why", ["throttled", "silent", "flights full"])
async def test_failed_refresh_leaves_the_entry_serving(world: World, why: str) -> None:
    """When a refresh fails, the entry stays for the rest of its grace."""
    proxy = world.proxy(flights_max=1)
    world.policy = replace(world.policy, fresh_ttl_s=FRESH_S, grace_s=GRACE_S)
    world.put_elsewhere("a", "1")
    await aged(proxy, FRESH_S + 1)
    gate = world.upstream.hold("GetItem")
    if why == "throttled":
        world.upstream.fail("GetItem", THROTTLED)
    busy = asyncio.ensure_future(proxy.get("b")) if why == "flights full" else None
    await quiesce()
    assert (await proxy.get("a")).outcome is Outcome.STALE_HIT
    if why == "silent":
        await world.clock.sleep(6.0)
    gate.release()
    await quiesce()
    assert proxy.told(RefreshEnded)[0] == RefreshEnded(TABLE, replaced=False)
    again = await proxy.get("a")
    assert (again.outcome, value_of(again)) == (Outcome.STALE_HIT, "1")
    await quiesce()
    if busy is not None:
        await busy
    assert len(proxy.told(RefreshEnded)) == 2, "it is tried again with the next stale hit"


async def test_strict_level_bypasses_an_unfit_store(proxy: Proxy) -> None:
    """What may have lost its markers answers nobody at `strict`; other levels go on."""
    await proxy.get("a")
    proxy.store.unfit = True
    assert (await proxy.get("a")).outcome is Outcome.HIT
    proxy.world.policy = replace(proxy.world.policy, level=Level.STRICT)
    answer = await proxy.get("a")
    assert (answer.outcome, answer.reason) == (Outcome.BYPASS, BypassReason.STORE_UNFIT)
    proxy.store.stop_serving()
    assert (await proxy.get("a")).reason is BypassReason.STORE_QUARANTINE


async def test_strict_level_never_answers_stale(proxy: Proxy) -> None:
    """At `strict` an entry past its time is not served while it is refreshed."""
    proxy.world.policy = replace(proxy.world.policy, level=Level.STRICT)
    await aged(proxy, FRESH_S + 1)
    answer = await proxy.get("a")
    assert (answer.outcome, value_of(answer)) == (Outcome.MISS, "2")


async def test_entry_past_its_grace_is_fetched_anew(proxy: Proxy) -> None:
    """Past grace the entry answers only if upstream fails: normally it is replaced first."""
    await aged(proxy, FRESH_S + GRACE_S + 1)
    answer = await proxy.get("a")
    assert (answer.outcome, answer.expired, value_of(answer)) == (Outcome.MISS, True, "2")


@pytest.mark.parametrize("trouble", ["throttle", "500", "503", *UpstreamFailure])
async def test_stale_answers_when_upstream_fails(proxy: Proxy, trouble: str) -> None:
    """Throttles (400), 5xx and every kind of silence let the old entry answer, and say so."""
    await aged(proxy, FRESH_S + GRACE_S + 1)
    upstream = proxy.world.upstream
    match trouble:
        case "throttle" | "500" | "503":
            faults = {"throttle": THROTTLED, "500": FAILED, "503": UNAVAILABLE}
            upstream.fail("GetItem", faults[trouble])
        case UpstreamFailure.TIMEOUT:
            upstream.hold("GetItem")
        case _:
            upstream.refuse("GetItem", UpstreamFailure(trouble))
    answer = await proxy.get("a")
    assert (answer.outcome, answer.detail) == (Outcome.STALE_HIT, "stale-if-error")
    assert (answer.status, value_of(answer)) == (200, "1")
    assert len(proxy.told(CapacitySaved)) == 1


async def test_other_refusals_are_not_hidden_by_a_stale_entry(proxy: Proxy) -> None:
    """Only load and breakage count: a denial is the client's to see."""
    await aged(proxy, FRESH_S + GRACE_S + 1)
    denied = {"__type": "com.amazon.coral.service#AccessDeniedException"}
    proxy.world.upstream.answer("GetItem", denied, status=400)
    answer = await proxy.get("a")
    assert (answer.status, json.loads(answer.body)) == (400, denied)


@pytest.mark.parametrize("silent", [True, False])
async def test_stale_if_error_is_bounded(proxy: Proxy, *, silent: bool) -> None:
    """Past its hard time no entry answers, however broken upstream is."""
    await aged(proxy, FRESH_S + IF_ERROR_S)
    if silent:
        proxy.world.upstream.refuse("GetItem", UpstreamFailure.CONNECT)
        with pytest.raises(UpstreamFailed):
            await proxy.get("a")
    else:
        proxy.world.upstream.fail("GetItem", FAILED)
        assert (await proxy.get("a")).status == 500


@pytest.mark.parametrize("trouble", ["silent", "broken"])
async def test_entry_that_expires_while_upstream_is_asked_is_not_served(
    proxy: Proxy, trouble: str
) -> None:
    """The hard time counts when the answer leaves, not when the entry was looked up."""
    await aged(proxy, FRESH_S + IF_ERROR_S - 1)
    gate = proxy.world.upstream.hold("GetItem")
    if trouble == "broken":
        proxy.world.upstream.fail("GetItem", FAILED)
    reading = asyncio.ensure_future(proxy.get("a"))
    await gate.reached()
    await proxy.world.clock.sleep(1.5)
    if trouble == "broken":
        gate.release()
        assert (await reading).status == 500
    else:
        with pytest.raises(UpstreamFailed):
            await reading


async def test_last_resort_takes_what_another_proxy_filled(world: World, proxy: Proxy) -> None:
    """A reader waiting for another proxy's refresh gets the new entry."""
    await aged(proxy, FRESH_S + GRACE_S + 1)
    other = world.proxy()
    gate = world.upstream.hold("GetItem")
    first = asyncio.ensure_future(proxy.get("a"))
    await gate.reached()
    second = asyncio.ensure_future(other.get("a"))
    await quiesce()
    gate.release()
    assert [value_of(await each) for each in (first, second)] == ["2", "2"]
    assert reads(proxy) == 2


async def test_last_resort_without_a_flight_still_stands_in(world: World) -> None:
    """With all flights taken the reader fetches by itself, and the entry still backs it up."""
    proxy = world.proxy(flights_max=1)
    world.policy = replace(
        world.policy, fresh_ttl_s=FRESH_S, grace_s=0.0, stale_if_error_s=IF_ERROR_S
    )
    world.put_elsewhere("a", "1")
    await aged(proxy, FRESH_S + 1)
    gate = world.upstream.hold("GetItem")
    busy = asyncio.ensure_future(proxy.get("b"))
    await gate.reached()
    world.upstream.refuse("GetItem", UpstreamFailure.CONNECT)
    stale = await proxy.get("a")
    gate.release()
    assert (stale.outcome, stale.detail) == (Outcome.STALE_HIT, "stale-if-error")
    await busy
    current = await proxy.get("a")
    assert (value_of(current), current.outcome) == ("2", Outcome.MISS)


@pytest.mark.parametrize("why", ["down", "slow", "quarantine"])
async def test_readers_without_a_store_share_one_fetch_and_fill_nothing(
    proxy: Proxy, why: str
) -> None:
    """With the store out, reads go upstream, coalesced, and say why."""
    await proxy.get("a")
    match why:
        case "down":
            proxy.store.stop_serving("not connected")
        case "slow":
            proxy.store.down = StoreFailure.TIMEOUT
        case _:
            proxy.store.stop_serving()
    expected = {"quarantine": BypassReason.STORE_QUARANTINE}.get(why, BypassReason.STORE_DOWN)
    answers = await asyncio.gather(*(proxy.get("a") for _ in range(100)))
    assert {(each.outcome, each.reason, each.stored) for each in answers} == {
        (Outcome.BYPASS, expected, False)
    }
    assert reads(proxy) == 2
    assert [told.result for told in proxy.told(FillEnded)] == [FillResult.STORED]


@pytest.mark.parametrize("failure", list(StoreFailure))
@pytest.mark.parametrize("step", ["lookup", "lease", "fill", "release"])
async def test_failing_store_never_fails_a_read(
    proxy: Proxy, step: str, failure: StoreFailure
) -> None:
    """Every step of a read may fail in every way: the answer is the item all the same."""
    if step == "release":
        proxy.world.policy = replace(proxy.world.policy, entry_bytes_max=1)
    proxy.store.fail_next(failure, step=step)
    answer = await proxy.get("a")
    assert (answer.status, value_of(answer), answer.stored) == (200, "1", False)


@pytest.mark.parametrize("failure", list(UpstreamFailure))
@pytest.mark.parametrize("consistent", [False, True])
async def test_silent_upstream_fails_a_read_that_nothing_can_answer(
    proxy: Proxy, failure: UpstreamFailure, *, consistent: bool
) -> None:
    """Without an entry every kind of silence reaches the caller as what it is."""
    proxy.world.upstream.refuse("GetItem", failure)
    with pytest.raises(UpstreamFailed) as raised:
        await proxy.get("a", ConsistentRead=consistent)
    assert raised.value.failure is failure
    assert proxy.store.record(proxy.world.identity("a")) is None


async def test_table_with_a_write_in_flight_is_read_upstream(proxy: Proxy) -> None:
    """While any of a table's items may change, none is served from the store or filled."""
    await proxy.get("a")
    table_key, token = proxy.world.keys.table_key(TABLE), proxy.world.clock.token()
    await proxy.store.begin_table(table_key, token=token)
    answer = await proxy.get("a")
    assert (answer.outcome, answer.reason) == (Outcome.BYPASS, BypassReason.TABLE_PENDING)
    await proxy.store.end_table(table_key, token=token, outcome=WriteOutcome.ABORTED, remade=False)
    assert (await proxy.get("a")).outcome is Outcome.HIT


async def test_debt_bypasses_the_store_and_shares_with_no_filler(proxy: Proxy) -> None:
    """A read that must not take the store's word joins no flight that may.

    1. R1 misses and asks.  2. A write of this process is acknowledged, its fence owed.  3. R2
    comes. R1's fill is accepted, since the store knows of no writer, but R2 must not have it.
    """
    gate = proxy.world.upstream.hold("GetItem", after_effect=True)
    first = asyncio.ensure_future(proxy.get("a"))
    await gate.reached()
    identity, token = proxy.world.identity("a"), proxy.world.clock.token()
    debt = proxy.debts.open(ItemFence(proxy.store, identity, token))
    proxy.world.put_elsewhere("a", "2")
    second = asyncio.ensure_future(proxy.get("a"))
    await gate.reached(2)
    gate.release()
    assert value_of(await first) == "1"
    answer = await second
    assert (answer.reason, value_of(answer)) == (BypassReason.DEBT, "2")
    proxy.debts.ripen(debt, in_s=0.0)
    await proxy.debts.pay_ripe()
    paid = await proxy.get("a")
    assert (paid.outcome, value_of(paid)) == (Outcome.MISS, "2")


async def test_consistent_read_forwards_the_very_bytes_and_refreshes(proxy: Proxy) -> None:
    """ConsistentRead is upstream's to answer; what it brings replaces the entry."""
    await proxy.get("a")
    proxy.world.put_elsewhere("a", "2")
    body = b'{"ConsistentRead" : true, "Key":{"pk":{"S":"a"}},\n"TableName":"orders"}'
    request = client_request("GetItem", body, X_Odd="1")
    plan = proxy.world.read_plan("a", ConsistentRead=True)
    answer = await proxy.reads.answer(plan, request)
    sent = proxy.world.upstream.sent[-1]
    assert (sent.body, sent.headers) == (body, request.headers)
    assert (answer.outcome, answer.reason) == (Outcome.BYPASS, BypassReason.CONSISTENT_READ)
    assert (answer.stored, value_of(answer)) == (True, "2")
    assert dict(answer.headers)["x-amzn-RequestId"] == "UPSTREAM2"
    hit = await proxy.get("a")
    assert (hit.outcome, value_of(hit)) == (Outcome.HIT, "2")


async def test_consistent_read_without_a_store_is_forwarded(proxy: Proxy) -> None:
    """A bypassing ConsistentRead still goes out byte for byte and joins nobody."""
    proxy.store.stop_serving("not connected")
    answers = await asyncio.gather(*(proxy.get("a", ConsistentRead=True) for _ in range(3)))
    assert {(each.reason, value_of(each)) for each in answers} == {(BypassReason.STORE_DOWN, "1")}
    assert reads(proxy) == 3


async def test_fill_refused_to_a_reader_is_not_told_as_stored(proxy: Proxy) -> None:
    """When a writer began meanwhile the item is answered, but it is no entry."""
    gate = proxy.world.upstream.hold("GetItem", after_effect=True)
    reading = asyncio.ensure_future(proxy.get("a"))
    await gate.reached()
    await proxy.store.begin(proxy.world.identity("a"), token=proxy.world.clock.token())
    gate.release()
    answer = await reading
    assert (answer.outcome, answer.stored) == (Outcome.MISS, False)
    assert (await proxy.get("a")).outcome is Outcome.MISS


async def test_item_too_large_is_answered_every_time_from_upstream(proxy: Proxy) -> None:
    """An item beyond the bound is never an entry."""
    proxy.world.policy = replace(proxy.world.policy, entry_bytes_max=10)
    answers = [await proxy.get("a") for _ in range(2)]
    assert [(each.outcome, each.stored) for each in answers] == [(Outcome.MISS, False)] * 2


async def test_concurrent_misses_of_one_process_are_one_read(proxy: Proxy) -> None:
    """A thousand readers of one item cost one read; one led, the others collapsed."""
    answers = await asyncio.gather(*(proxy.get("a") for _ in range(1000)))
    assert reads(proxy) == 1
    assert Counter(each.outcome for each in answers) == {Outcome.MISS: 1, Outcome.COALESCED: 999}
    assert {value_of(each) for each in answers} == {"1"}
    assert sum(each.stored for each in answers) == 1
    # Whoever did not lead gets no request id that another caller has.
    assert sum(bool(each.headers) for each in answers) == 1


async def test_concurrent_misses_of_two_processes_are_one_read(world: World, proxy: Proxy) -> None:
    """The lease makes many readers in two proxies cost one read upstream."""
    other = world.proxy()
    gate = world.upstream.hold("GetItem")
    reading = [asyncio.ensure_future(each.get("a")) for each in [proxy, other] * 100]
    await gate.reached()
    await quiesce()
    gate.release()
    answers = await asyncio.gather(*reading)
    assert reads(proxy) == 1
    assert {value_of(each) for each in answers} == {"1"}


async def test_filler_of_another_process_dies_and_this_one_takes_over(world: World) -> None:
    """A lease that nobody gives back holds readers up for `lease_wait_s`, then nobody."""
    world.fence = replace(world.fence, lease_s=0.5, lease_wait_s=1.0)
    world.store = MemoryStore(world.clock, world.fence)
    world.put_elsewhere("a", "1")
    dead, heir = world.proxy(), world.proxy()
    gate = world.upstream.hold("GetItem")
    dying = asyncio.ensure_future(dead.get("a"))
    await gate.reached()
    dead.store.down = StoreFailure.CLOSED
    await dead.tasks.settle(0.0, asyncio.sleep)
    await asyncio.wait({dying})
    world.upstream.release()
    started_s = world.clock.monotonic_s()
    answers = await asyncio.gather(*(heir.get("a") for _ in range(10)))
    assert {value_of(each) for each in answers} == {"1"}
    assert world.clock.monotonic_s() - started_s == pytest.approx(0.5, abs=0.02)
    assert heir.told(FillEnded) == [FillEnded(TABLE, FillResult.STORED)]


async def test_wait_for_a_lease_is_bounded(world: World) -> None:
    """A reader waits `lease_wait_s` for another proxy, then fetches by itself."""
    world.put_elsewhere("a", "1")
    slow, proxy = world.proxy(), world.proxy()
    gate = world.upstream.hold("GetItem")
    first = asyncio.ensure_future(slow.get("a"))
    await gate.reached()
    started_s = world.clock.monotonic_s()
    second = asyncio.ensure_future(proxy.get("a"))
    await gate.reached(2)
    assert world.clock.monotonic_s() - started_s == pytest.approx(1.0, abs=0.02)
    gate.release()
    assert [value_of(await each) for each in (first, second)] == ["1", "1"]


async def test_reader_beyond_the_flights_bound_fetches_by_itself(world: World) -> None:
    """With all flights taken a miss is answered, not stored, and says why."""
    world.put_elsewhere("a", "1")
    proxy = world.proxy(flights_max=1)
    gate = world.upstream.hold("GetItem")
    busy = asyncio.ensure_future(proxy.get("b"))
    await gate.reached()
    full = asyncio.ensure_future(proxy.get("a"))
    await gate.reached(2)
    gate.release()
    answer = await full
    assert (answer.outcome, answer.reason) == (Outcome.BYPASS, BypassReason.FLIGHTS_FULL)
    assert (answer.stored, value_of(answer)) == (False, "1")
    assert dict(answer.headers)["x-amzn-RequestId"] == "UPSTREAM2"
    await busy


async def test_upstreams_refusal_reaches_every_reader_of_the_flight(proxy: Proxy) -> None:
    """Status and body of an error are the answer of all who shared the fetch."""
    proxy.world.upstream.fail("GetItem", THROTTLED)
    answers = await asyncio.gather(*(proxy.get("a") for _ in range(10)))
    assert {each.status for each in answers} == {400}
    assert len({each.body for each in answers}) == 1
    assert reads(proxy) == 1


async def test_reply_that_is_not_understood_passes_and_is_not_stored(proxy: Proxy) -> None:
    """The client's own request decides what an answer with unknown members looks like.

    The proxy's fetch is for the whole item; passing its reply on would ignore a projection.
    """
    for _ in range(2):
        proxy.world.upstream.answer("GetItem", {"Item": key_of("a"), "Novelty": 1})
    answer = await proxy.get("a", ProjectionExpression="pk")
    assert json.loads(answer.body) == {"Item": key_of("a"), "Novelty": 1}
    assert (answer.outcome, answer.reason) == (Outcome.BYPASS, BypassReason.UNDECODABLE)
    fetch, forwarded = (json.loads(sent.body) for sent in proxy.world.upstream.sent[-2:])
    assert "ProjectionExpression" not in fetch
    assert forwarded["ProjectionExpression"] == "pk"
    assert proxy.store.record(proxy.world.identity("a")) is None


async def test_reader_after_a_table_write_does_not_share_a_fetch_from_before(
    proxy: Proxy,
) -> None:
    """A batch acknowledged during a fetch is seen by who comes next, in this process.

    1. R1 asks.  2. A batch writes the item and is acknowledged.  3. R2 comes. R1's fill is
    accepted: the batch touched the table's record, not the item's lease.
    """
    gate = proxy.world.upstream.hold("GetItem", after_effect=True)
    first = asyncio.ensure_future(proxy.get("a"))
    await gate.reached()
    await proxy.batch_put("a", "2")
    second = asyncio.ensure_future(proxy.get("a"))
    await quiesce()
    gate.release()
    assert value_of(await first) == "1"
    assert value_of(await second) == "2"
    assert value_of(await proxy.get("a")) == "2"


async def test_entry_of_another_incarnation_does_not_count(proxy: Proxy) -> None:
    """After a fail-over the promoted replica's older entries are not served."""
    await proxy.get("a")
    proxy.world.put_elsewhere("a", "2")
    proxy.store.change_incarnation()
    assert isinstance(proxy.store.record(proxy.world.identity("a")), Entry)
    assert value_of(await proxy.get("a")) == "2"


async def test_eventual_reader_joins_a_fetch_that_has_started(proxy: Proxy) -> None:
    """At `eventual` any flight will do, and no reader waits for a second one."""
    proxy.world.policy = replace(proxy.world.policy, level=Level.EVENTUAL)
    gate = proxy.world.upstream.hold("GetItem", after_effect=True)
    first = asyncio.ensure_future(proxy.get("a"))
    await gate.reached()
    second = asyncio.ensure_future(proxy.get("a"))
    await quiesce()
    proxy.store.flush()
    gate.release()
    assert [(await each).outcome for each in (first, second)] == [Outcome.MISS, Outcome.COALESCED]
    assert reads(proxy) == 1


async def ask(proxy: Proxy, wish: str, pk: str = "a", **members: Any) -> Answer:
    """Read an item, asking something of the cache."""
    body = {"TableName": TABLE, "Key": key_of(pk), **members}
    return await proxy.dispatcher.answer(client_request("GetItem", body, X_Dynaside_Cache=wish))


async def test_bypass_neither_looks_nor_fills(proxy: Proxy) -> None:
    """The client's bytes go upstream, and the store hears nothing of it."""
    await aged(proxy, 1.0)
    asked = len(proxy.store.steps)
    answer = await ask(proxy, "bypass", ConsistentRead=False)
    assert (answer.outcome, answer.reason) == (Outcome.BYPASS, BypassReason.REQUESTED)
    assert b'"ConsistentRead": false' in proxy.world.upstream.sent[-1].body
    assert len(proxy.store.steps) == asked
    assert (value_of(answer), value_of(await proxy.get("a"))) == ("2", "1")


@pytest.mark.parametrize("consistent", [True, False])
async def test_refresh_answers_and_fills_with_what_it_fetched(
    proxy: Proxy, *, consistent: bool
) -> None:
    """Although the entry is fresh: the caller, and everybody after it, sees the newer item."""
    await aged(proxy, 1.0)
    answer = await ask(proxy, "refresh", ConsistentRead=consistent, ProjectionExpression="v")
    assert (answer.outcome, answer.demanded, answer.stored) == (Outcome.MISS, True, True)
    assert item_of(answer) == {"v": {"S": "2"}}
    assert b"ConsistentRead" in proxy.world.upstream.sent[-1].body
    hit = await proxy.get("a")
    assert (hit.outcome, value_of(hit), hit.ttl_s) == (Outcome.HIT, "2", 60)


async def test_refresh_joins_no_flight_and_is_joined_by_none(proxy: Proxy) -> None:
    """What others asked for before it came may be older than what its caller knows of."""
    proxy.world.policy = replace(proxy.world.policy, level=Level.EVENTUAL)
    gate = proxy.world.upstream.hold("GetItem", after_effect=True)
    early = asyncio.ensure_future(proxy.get("a"))
    await gate.reached()
    proxy.world.put_elsewhere("a", "2")
    refreshing = asyncio.ensure_future(ask(proxy, "refresh"))
    await quiesce()
    gate.release()
    answers = [await early, await refreshing, await proxy.get("a")]
    assert [value_of(each) for each in answers] == ["1", "2", "2"]
    assert [each.outcome for each in answers] == [Outcome.MISS, Outcome.MISS, Outcome.HIT]


async def test_after_a_refresh_nobody_joins_an_older_flight(proxy: Proxy) -> None:
    """Not even at `eventual`, and not even when the older flight is still under way."""
    proxy.world.policy = replace(proxy.world.policy, level=Level.EVENTUAL)
    gate = proxy.world.upstream.hold("GetItem", after_effect=True)
    early = asyncio.ensure_future(proxy.get("a"))
    await gate.reached()
    proxy.world.upstream.keep_held(gate)
    proxy.world.put_elsewhere("a", "2")
    refreshed = await ask(proxy, "refresh")
    late = asyncio.ensure_future(proxy.get("a"))
    await quiesce()
    await proxy.world.clock.sleep(proxy.world.fence.lease_wait_s)
    late_answer = await late
    gate.release()
    assert (value_of(await early), value_of(refreshed), value_of(late_answer)) == ("1", "2", "2")


@pytest.mark.parametrize("why", ["store", "table"])
async def test_refresh_without_a_store_still_fetches_alone(proxy: Proxy, why: str) -> None:
    """The answer is the newest item; only the fill is missing, and the reason is told."""
    await aged(proxy, 1.0)
    if why == "store":
        proxy.store.stop_serving()
    else:
        token = proxy.world.clock.token()
        await proxy.world.store.begin_table(proxy.world.identity("a").table_key, token=token)
    answer = await ask(proxy, "refresh")
    assert (answer.outcome, value_of(answer), answer.stored) == (Outcome.BYPASS, "2", False)
    assert b"ConsistentRead" in proxy.world.upstream.sent[-1].body


async def test_silent_upstream_fails_a_refresh(proxy: Proxy) -> None:
    """No entry stands in for it, but the entry stays for those who take it."""
    proxy.world.policy = replace(proxy.world.policy, stale_if_error_s=IF_ERROR_S)
    await aged(proxy, 1.0)
    proxy.world.upstream.refuse("GetItem", UpstreamFailure.CONNECT)
    assert (await ask(proxy, "refresh")).outcome is Outcome.FAILED
    assert (await proxy.get("a")).outcome is Outcome.HIT


@pytest.mark.parametrize(
    ("age_s", "outcome"), [(1.0, Outcome.HIT), (FRESH_S + 1, Outcome.STALE_HIT)]
)
async def test_cache_alone_answers_what_is_fresh_or_in_grace(
    proxy: Proxy, age_s: float, outcome: Outcome
) -> None:
    """Upstream is not asked, not even for a refresh in the background."""
    await aged(proxy, age_s)
    answer = await ask(proxy, "only-if-cached")
    await quiesce()
    assert (answer.outcome, value_of(answer), reads(proxy)) == (outcome, "1", 1)


@pytest.mark.parametrize(
    "why", ["absent", "expired", "last-resort", "too-old", "consistent", "down", "failing", "table"]
)
async def test_cache_alone_refuses_what_it_cannot_answer(proxy: Proxy, why: str) -> None:
    """The client gets an error that is its own to handle, and nothing is sent or stored."""
    await aged(proxy, {"expired": 10_000.0, "last-resort": FRESH_S + GRACE_S}.get(why, 2.0))
    match why:
        case "down":
            proxy.store.stop_serving()
        case "failing":
            proxy.store.fail_next(StoreFailure.TIMEOUT)
        case "table":
            token = proxy.world.clock.token()
            await proxy.world.store.begin_table(proxy.world.identity("a").table_key, token=token)
    wish = "only-if-cached, max-age=2" if why == "too-old" else "only-if-cached"
    more = {"ConsistentRead": True} if why == "consistent" else {}
    answer = await ask(proxy, wish, "nobody" if why == "absent" else "a", **more)
    await quiesce()
    assert (answer.outcome, answer.status, reads(proxy)) == (Outcome.NOT_CACHED, 400, 1)
    assert (answer.table, answer.stored) == (TABLE, False)
    assert json.loads(answer.body)["__type"] == "com.dynaside#NotCachedException"


async def test_entry_older_than_the_reader_wants_is_replaced(proxy: Proxy) -> None:
    """It is filled anew with the table's own times: the limit is the reader's alone."""
    await aged(proxy, 10.0)
    assert value_of(await ask(proxy, "max-age=10.5")) == "1"
    answer = await ask(proxy, "max-age=10")
    assert (answer.outcome, answer.demanded, answer.stored) == (Outcome.MISS, True, True)
    assert value_of(answer) == "2"
    await proxy.world.clock.sleep(FRESH_S - 1)
    assert (await proxy.get("a")).outcome is Outcome.HIT


async def test_limit_of_age_bounds_grace_and_last_resort(proxy: Proxy) -> None:
    """An entry that would be served stale is not, once it is older than the reader wants."""
    await aged(proxy, FRESH_S + 1)
    assert (await ask(proxy, f"max-age={FRESH_S + 2}")).outcome is Outcome.STALE_HIT
    await quiesce()
    await proxy.world.clock.sleep(FRESH_S + GRACE_S)
    proxy.world.upstream.refuse("GetItem", UpstreamFailure.CONNECT, times=2)
    assert (await ask(proxy, "max-age=80")).outcome is Outcome.FAILED
    assert (await ask(proxy, "max-age=1000")).outcome is Outcome.STALE_HIT


async def test_entry_that_grows_too_old_while_upstream_is_asked_is_not_served(
    proxy: Proxy,
) -> None:
    """The reader's limit holds at the time of the answer, not of the question."""
    await aged(proxy, FRESH_S + GRACE_S + 1)
    gate = proxy.world.upstream.hold("GetItem")
    proxy.world.upstream.fail("GetItem", UNAVAILABLE)
    reading = asyncio.ensure_future(ask(proxy, "max-age=93"))
    await gate.reached()
    proxy.world.clock.pause(3.0)
    gate.release()
    answer = await reading
    assert (answer.status, answer.expired) == (503, True)


async def test_readers_with_a_limit_of_nothing_share_what_was_asked_after_they_came(
    proxy: Proxy,
) -> None:
    """A hundred of them during a fetch cost one more fetch, and see what it brings."""
    gate = proxy.world.upstream.hold("GetItem", after_effect=True)
    early = asyncio.ensure_future(proxy.get("a"))
    await gate.reached()
    proxy.world.clock.pause(0.1)
    proxy.world.put_elsewhere("a", "2")
    crowd = [asyncio.ensure_future(ask(proxy, "max-age=0")) for _ in range(100)]
    await quiesce()
    gate.release()
    assert value_of(await early) == "1"
    assert {value_of(await each) for each in crowd} == {"2"}
    assert reads(proxy) == 2


async def test_nonsense_is_refused_before_anything_is_asked(proxy: Proxy) -> None:
    """The error names the field; neither the store nor upstream hears of the request."""
    answer = await ask(proxy, "no-cache")
    assert (answer.outcome, answer.status) == (Outcome.REJECTED, 400)
    assert "X-Dynaside-Cache" in json.loads(answer.body)["message"]
    assert (reads(proxy), proxy.store.steps) == (0, [])


@pytest.mark.parametrize("trouble", ["refused", "unprocessed"])
async def test_reader_does_not_take_the_trouble_of_a_batch_for_its_own(
    proxy: Proxy, trouble: str
) -> None:
    """A batch that led the flight was refused for another item's sake, or left this one out."""
    upstream = proxy.world.upstream
    proxy.world.policy = replace(proxy.world.policy, level=Level.EVENTUAL)  # joins what has begun
    gate = upstream.hold("BatchGetItem")
    left = {TABLE: {"Keys": [key_of("a")]}}
    if trouble == "refused":
        upstream.answer("BatchGetItem", {"__type": "x#ValidationException"}, status=400)
    else:
        upstream.answer("BatchGetItem", {"Responses": {}, "UnprocessedKeys": left})
    batch = asyncio.ensure_future(proxy.batch_get("a"))
    await gate.reached()
    single = asyncio.ensure_future(proxy.get("a"))
    await quiesce()
    assert reads(proxy) == 0
    gate.release()
    answer = await single
    assert (answer.outcome, value_of(answer), reads(proxy)) == (Outcome.MISS, "1", 1)
    await batch


async def test_reader_shares_the_fetch_of_a_batch(proxy: Proxy) -> None:
    """An item that a batch is fetching is not fetched once more."""
    gate = proxy.world.upstream.hold("BatchGetItem")
    batch = asyncio.ensure_future(proxy.batch_get("a", "b"))
    await gate.reached()
    single = asyncio.ensure_future(proxy.get("a"))
    await quiesce()
    gate.release()
    answer = await single
    assert (answer.outcome, value_of(answer), reads(proxy)) == (Outcome.COALESCED, "1", 0)
    await batch


async def test_a_copy_answers_in_the_place_of_the_store(world: World) -> None:
    """At once, of items and of absences; `tests/unit/flow/test_near_reads.py` has all the rest."""
    world.put_elsewhere("a", "1")
    world.near = NearPolicy()
    proxy = world.proxy()
    for pk, detail in (("a", "near"), ("none", "near-negative")):
        assert proxy.reads.near(world.read_plan(pk)) is None
        for _ in range(2):
            await proxy.get(pk)
        hit = proxy.reads.near(world.read_plan(pk))
        assert hit is not None
        assert hit.answer == await proxy.get(pk)
        assert hit.answer.detail == detail


@pytest.mark.parametrize("near", [False, True])
async def test_every_read_of_an_item_is_counted_once(world: World, *, near: bool) -> None:
    """Misses, hits of the store, and copies that answer at once; here every other one."""
    world.put_elsewhere("a", "1")
    world.near = NearPolicy(bytes_max=1_000_000 if near else 0)
    world.sampling, world.clock.chance = Sampling(every=2), 0.5
    proxy = world.proxy()
    for _ in range(4):
        await proxy.get("a")
        proxy.reads.near(world.read_plan("a"))
    (table,) = proxy.hot.report()
    # With copies: one miss, one hit of the store, five of the copy.
    assert (table.sampled, len(table.keys)) == (3.0 if near else 2.0, 1)


@pytest.mark.parametrize("near", [False, True])
async def test_a_hot_item_is_refreshed_before_its_end(world: World, *, near: bool) -> None:
    """By the read that sees the end near, and not by one that sees another's lease."""
    world.put_elsewhere("a", "1")
    world.near = NearPolicy(bytes_max=1_000_000 if near else 0)
    world.policy = replace(world.policy, fresh_ttl_s=FRESH_S, grace_s=0.0)
    world.sampling = Sampling(every=1)
    proxy, other = world.proxy(), world.proxy()
    for _ in range(4):
        await proxy.get("a")
        await other.get("a")
    await world.clock.sleep(FRESH_S - 0.05)
    for each in (proxy, other):
        if each.store.tracking is not None:
            each.store.tracking.ping(world.clock.monotonic_s())
    world.put_elsewhere("a", "2")
    gate = world.upstream.hold("GetItem")
    for _ in range(2):
        assert value_of(await proxy.get("a")) == "1"
        await gate.reached()
        assert value_of(await other.get("a")) == "1"
    gate.release()
    await quiesce()
    assert value_of(await other.get("a")) == "2"
    assert proxy.told(RefreshEnded) == [RefreshEnded(TABLE, replaced=True)]
    assert other.told(RefreshEnded) == []


# --- one lookup for a plain read -----------------------------------------------------------


async def look_up(proxy: Proxy, plan: ReadPlan) -> Hit | Seen:
    """Return what one lookup brings."""
    reader = Reader()
    proxy.reads.look_up(plan, reader)
    sighting = await reader.told
    assert sighting is not None
    return proxy.reads.seen(plan, sighting, proxy.world.clock.monotonic_s())


async def test_a_lookup_finds_what_is_fresh_and_tells_what_else_it_saw(proxy: Proxy) -> None:
    """An answer, or what `answer` goes on with; a store that fails was not seen."""
    world, plan = proxy.world, proxy.world.read_plan("a")
    request = client_request("GetItem", {"TableName": TABLE, "Key": key_of("a")})
    absent = await look_up(proxy, plan)
    assert isinstance(absent, Seen)
    assert absent.sighting is not None
    assert (await proxy.reads.answer(plan, request, absent)).outcome is Outcome.MISS
    hit = await look_up(proxy, plan)
    assert isinstance(hit, Hit)
    assert hit.answer == await proxy.get("a")
    await world.clock.sleep(FRESH_S)
    stale = await look_up(proxy, plan)
    assert isinstance(stale, Seen)
    assert (await proxy.reads.answer(plan, request, stale)).outcome is Outcome.STALE_HIT
    proxy.store.fail_next(StoreFailure.TIMEOUT, step="lookup")
    with pytest.raises(StoreUnavailable):
        await look_up(proxy, plan)
    failed = Seen(plan, None, world.clock.monotonic_s())
    answer = await proxy.reads.answer(plan, request, failed)
    assert (answer.outcome, answer.reason) == (Outcome.BYPASS, BypassReason.STORE_DOWN)
    proxy.store.stop_serving()
    assert proxy.reads.why_bypass(plan) is BypassReason.STORE_QUARANTINE
    assert proxy.reads.near(plan) is None


async def test_a_lookup_has_a_hot_item_refreshed_and_counts_its_read(world: World) -> None:
    """But not where somebody's lease says that it is being refreshed."""
    world.put_elsewhere("a", "1")
    world.policy = replace(world.policy, fresh_ttl_s=FRESH_S, grace_s=0.0)
    world.sampling = Sampling(every=1)
    proxy, other = world.proxy(), world.proxy()
    plan = world.read_plan("a")
    for each in (proxy, other):
        await each.get("a")
        for _ in range(3):
            await look_up(each, plan)
    await world.clock.sleep(FRESH_S - 0.05)
    gate = world.upstream.hold("GetItem")
    assert isinstance(await look_up(proxy, plan), Hit)
    await gate.reached()
    assert isinstance(await look_up(other, plan), Hit)
    gate.release()
    await quiesce()
    assert proxy.told(RefreshEnded) == [RefreshEnded(TABLE, replaced=True)]
    assert other.told(RefreshEnded) == []
