"""Claims about `proxy.flow.batch_path`, with one or two proxies on one memory store."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.core.batch_answer import ANSWER_ITEMS_BYTES_MAX
from proxy.core.errors import StoreFailure, UpstreamFailed, UpstreamFailure
from proxy.core.policy import FencePolicy
from proxy.core.read_plan import BatchReadPlan
from proxy.core.request import Answer
from proxy.core.values import BypassReason, FillResult, Level, Mode, Outcome, TableName
from proxy.flow.events import BatchItemsAnswered, CapacityConsumed, CapacitySaved, FillEnded
from proxy.flow.fences import ItemFence
from tests.fakes.fake_upstream_script import FAILED, THROTTLED
from tests.support.flow_world import (
    TABLE,
    Proxy,
    World,
    client_request,
    key_of,
    unprocessed_of,
    value_of,
    values_of,
)
from tests.support.virtual_time import VirtualTimeLoop, quiesce

USERS = TableName("users")
FRESH_S, GRACE_S, IF_ERROR_S = 60.0, 30.0, 600.0


@pytest.fixture
async def proxy(world: World) -> Proxy:
    """Give one proxy; items a, b and c of its table hold "1"."""
    for pk in "abc":
        world.put_elsewhere(pk, "1")
    world.policy = replace(
        world.policy, fresh_ttl_s=FRESH_S, grace_s=GRACE_S, stale_if_error_s=IF_ERROR_S
    )
    return world.proxy()


def batches(world: World) -> list[dict[str, list[str]]]:
    """Return the keys of each BatchGetItem that went upstream, by table."""
    asked = [json.loads(s.body) for s in world.upstream.sent if s.operation == "BatchGetItem"]
    return [
        {
            table: [key["pk"]["S"] for key in part["Keys"]]
            for table, part in b["RequestItems"].items()
        }
        for b in asked
    ]


async def test_what_is_missing_is_fetched_by_one_request(world: World, proxy: Proxy) -> None:
    """Cold all, warm none, and in between only what is not there; each in the request's order."""
    cold = await proxy.batch_get("a", "b")
    warm = await proxy.batch_get("b", "a")
    mixed = await proxy.batch_get("c", "b", "nobody", "a")
    assert [each.outcome for each in (cold, warm, mixed)] == [
        Outcome.MISS,
        Outcome.HIT,
        Outcome.PARTIAL,
    ]
    assert [list(values_of(each)) for each in (cold, warm, mixed)] == [
        ["a", "b"],
        ["b", "a"],
        ["c", "b", "a"],
    ]
    assert batches(world) == [{TABLE: ["a", "b"]}, {TABLE: ["c", "nobody"]}]
    assert (cold.stored, warm.stored, mixed.stored) == (True, False, True)
    assert (warm.ttl_s, mixed.detail) == (60, "hits-2-of-4")
    assert all(each.crc32 == zlib.crc32(each.body) for each in (cold, warm, mixed))
    assert all((each.status, each.table) == (200, TABLE) for each in (cold, warm, mixed))


async def test_batches_and_single_reads_share_their_entries(world: World, proxy: Proxy) -> None:
    """What one of them filled the other hits, absences included."""
    await proxy.get("a")
    await proxy.get("nobody")
    assert (await proxy.batch_get("a", "nobody")).outcome is Outcome.HIT
    await proxy.batch_get("b", "none")
    assert (await proxy.get("b")).outcome is Outcome.HIT
    assert (await proxy.get("none")).outcome is Outcome.NEGATIVE_HIT
    assert world.upstream.count("BatchGetItem") == 1


async def test_fetch_is_of_whole_items_and_consistent(world: World, proxy: Proxy) -> None:
    """So that it fills for every projection, and no lagging replica can fill."""
    answer = await proxy.batch_get("a", ProjectionExpression="v")
    assert json.loads(answer.body)["Responses"] == {TABLE: [{"v": {"S": "1"}}]}
    asked = {"RequestItems": {TABLE: {"Keys": [key_of("a")], "ConsistentRead": True}}}
    assert json.loads(world.upstream.sent[-1].body) == asked
    assert (await proxy.get("a")).outcome is Outcome.HIT


async def test_every_item_is_told(world: World, proxy: Proxy) -> None:
    """By table and outcome; what was there is capacity saved."""
    world.upstream.tables.add(USERS, pk="S")
    await proxy.get("a")
    await proxy.get("nobody")
    proxy.events.clear()
    keys = {TABLE: ["a", "b", "c", "nobody"], USERS: ["a"]}
    asked = {table: {"Keys": [key_of(pk) for pk in pks]} for table, pks in keys.items()}
    answer = await proxy.call("BatchGetItem", {"RequestItems": asked})
    assert (answer.outcome, answer.table) == (Outcome.PARTIAL, None)
    assert proxy.told(BatchItemsAnswered) == [
        BatchItemsAnswered(TABLE, Outcome.HIT, 1),
        BatchItemsAnswered(TABLE, Outcome.MISS, 2),
        BatchItemsAnswered(TABLE, Outcome.NEGATIVE_HIT, 1),
        BatchItemsAnswered(USERS, Outcome.MISS, 1),
    ]
    assert proxy.told(CapacitySaved) == [CapacitySaved(TABLE, 1.0)]
    assert proxy.told(CapacityConsumed) == [
        CapacityConsumed(TABLE, 2.0),
        CapacityConsumed(USERS, 1.0),
    ]


async def test_consumed_capacity_is_reported_as_asked(world: World, proxy: Proxy) -> None:
    """What upstream charged, and nothing for what was there."""
    world.upstream.answer(
        "BatchGetItem",
        {
            "Responses": {TABLE: [{**key_of("a"), "v": {"S": "1"}}]},
            "ConsumedCapacity": [{"TableName": TABLE, "CapacityUnits": 1.0}],
        },
    )
    asked = {
        "RequestItems": {TABLE: {"Keys": [key_of("a")]}},
        "ReturnConsumedCapacity": "TOTAL",
    }
    answers = [await proxy.call("BatchGetItem", asked) for _ in range(2)]
    charged = [json.loads(each.body)["ConsumedCapacity"] for each in answers]
    assert charged == [[{"TableName": TABLE, "CapacityUnits": units}] for units in (1.0, 0.0)]


async def test_uncached_tables_are_fetched_beside_the_others(world: World, proxy: Proxy) -> None:
    """Together with what is missing, as the client asked for them, and never filled."""
    world.upstream.tables.add("off", pk="S")
    world.upstream.tables.add(USERS, pk="S")
    world.policies["off"] = replace(world.policy, mode=Mode.OFF)
    asked = {
        "off": {"Keys": [key_of("x")]},
        USERS: {"Keys": [key_of("x")], "ConsistentRead": True},
        TABLE: {"Keys": [key_of("a")]},
    }
    for _ in range(2):
        answer = await proxy.call("BatchGetItem", {"RequestItems": asked})
        assert values_of(answer) == {"a": "1"}
    assert batches(world) == [
        {"off": ["x"], USERS: ["x"], TABLE: ["a"]},
        {"off": ["x"], USERS: ["x"]},
    ]
    second = json.loads(world.upstream.sent[-1].body)["RequestItems"]
    assert {table: part.get("ConsistentRead") for table, part in second.items()} == {
        "off": None,
        USERS: True,
    }
    assert [told.result for told in proxy.told(FillEnded)] == [FillResult.STORED]


async def test_stampede_of_batches_fetches_each_item_once(world: World, proxy: Proxy) -> None:
    """A hundred equal batches and as many single reads wait for one request."""
    gate = world.upstream.hold("BatchGetItem")
    first = asyncio.ensure_future(proxy.batch_get("a", "b"))
    await gate.reached()
    crowd = [asyncio.ensure_future(proxy.batch_get("b", "a")) for _ in range(100)]
    singles = [asyncio.ensure_future(proxy.get("a")) for _ in range(100)]
    await quiesce()
    gate.release()
    answers = await asyncio.gather(first, *crowd)
    assert all(values_of(each) == {"a": "1", "b": "1"} for each in answers)
    assert {value_of(await each) for each in singles} == {"1"}
    assert batches(world) == [{TABLE: ["a", "b"]}]
    assert world.upstream.count("GetItem") == 0


async def test_batches_that_cross_do_not_wait_for_each_other_in_a_circle(
    world: World, proxy: Proxy
) -> None:
    """Each fetches what the other has not begun, and shares the rest."""
    crossing = [proxy.batch_get("a", "b"), proxy.batch_get("b", "c"), proxy.batch_get("c", "a")]
    answers = await asyncio.gather(*crossing)
    assert [sorted(values_of(each)) for each in answers] == [["a", "b"], ["b", "c"], ["a", "c"]]
    assert Counter(pk for b in batches(world) for pk in b[TABLE]) == {"a": 1, "b": 1, "c": 1}


async def test_what_another_proxy_fills_is_waited_for_last(world: World, proxy: Proxy) -> None:
    """Own items are fetched at once; the other's come from its fill, without a fetch."""
    other = world.proxy()
    gate = world.upstream.hold("GetItem")
    leading = asyncio.ensure_future(other.get("a"))
    await gate.reached()
    batch = asyncio.ensure_future(proxy.batch_get("a", "b"))
    await world.upstream.counted("BatchGetItem", 1)
    assert not batch.done()
    gate.release()
    assert values_of(await batch) == {"a": "1", "b": "1"}
    assert batches(world) == [{TABLE: ["b"]}]
    await leading


async def test_what_was_waited_for_in_vain_is_fetched_together(world: World, proxy: Proxy) -> None:
    """By one more request, after `lease_wait_s`; nothing of it is filled."""
    other = world.proxy()
    gate = world.upstream.hold("GetItem")
    leading = [asyncio.ensure_future(other.get(pk)) for pk in "ab"]
    await gate.reached(2)
    answer = await proxy.batch_get("a", "b", "c")
    assert values_of(answer) == {"a": "1", "b": "1", "c": "1"}
    assert batches(world) == [{TABLE: ["c"]}, {TABLE: ["a", "b"]}]
    assert not answer.stored
    gate.release()
    await asyncio.gather(*leading)


async def test_write_during_the_fetch_keeps_the_old_item_out(world: World, proxy: Proxy) -> None:
    """The batch may show the item from before; nobody after the write does."""
    gate = world.upstream.hold("BatchGetItem", after_effect=True)
    batch = asyncio.ensure_future(proxy.batch_get("a", "b"))
    await gate.reached()
    await proxy.put("a", "2")
    late = asyncio.ensure_future(proxy.batch_get("a", "b"))
    await gate.reached(2)
    gate.release()
    assert values_of(await batch)["a"] in {"1", "2"}
    assert values_of(await late) == {"a": "2", "b": "1"}
    assert value_of(await proxy.get("a")) == "2"
    assert FillResult.REFUSED in [told.result for told in proxy.told(FillEnded)]


async def test_batch_after_another_proxys_write_takes_no_fetch_from_before(
    world: World, proxy: Proxy
) -> None:
    """It waits for the flight that read too early, and then reads for itself.

    1. A batch has read a at DynamoDB.  2. Another proxy's write of a is acknowledged.  3. A second
    batch comes. The first one's fill is refused, so its item may be older than the write.
    """
    gate = world.upstream.hold("BatchGetItem", after_effect=True)
    first = asyncio.ensure_future(proxy.batch_get("a", "b"))
    await gate.reached()
    await world.proxy().put("a", "2")
    second = asyncio.ensure_future(proxy.batch_get("a", "b"))
    await quiesce()
    gate.release()
    assert values_of(await second) == {"a": "2", "b": "1"}
    await first
    assert batches(world) == [{TABLE: ["a", "b"]}, {TABLE: ["a"]}]


async def test_stale_items_are_answered_and_refreshed(world: World, proxy: Proxy) -> None:
    """One item in grace makes the whole a stale hit, with the shortest time left."""
    await proxy.batch_get("a", "b")
    await world.clock.sleep(FRESH_S + 1)
    await proxy.batch_get("c")
    world.put_elsewhere("a", "2")
    stale = await proxy.batch_get("a", "c")
    assert (stale.outcome, stale.ttl_s, stale.detail) == (Outcome.STALE_HIT, -1, None)
    await quiesce()
    assert values_of(await proxy.batch_get("a", "c")) == {"a": "2", "c": "1"}
    assert world.upstream.count("GetItem") == 1


@pytest.mark.parametrize("trouble", ["silent", "throttled", "broken"])
async def test_old_entries_stand_in_only_for_all_that_is_missing(
    world: World, proxy: Proxy, trouble: str
) -> None:
    """One key without an entry, and the failure goes to the client."""

    def fail() -> None:
        if trouble == "silent":
            world.upstream.refuse("BatchGetItem", UpstreamFailure.CONNECT)
        else:
            world.upstream.fail("BatchGetItem", THROTTLED if trouble == "throttled" else FAILED)

    await proxy.batch_get("a", "b")
    await world.clock.sleep(FRESH_S + GRACE_S + 1)
    fail()
    stale = await proxy.batch_get("a", "b")
    assert (stale.outcome, stale.detail) == (Outcome.STALE_HIT, "stale-if-error")
    assert values_of(stale) == {"a": "1", "b": "1"}
    fail()
    if trouble == "silent":
        with pytest.raises(UpstreamFailed):
            await proxy.batch_get("a", "c")
    else:
        refused = await proxy.batch_get("a", "c")
        assert refused.status == (400 if trouble == "throttled" else 500)
        assert refused.fetched


async def test_refusal_is_of_the_clients_own_request(world: World, proxy: Proxy) -> None:
    """Upstream words it about the client's very bytes; what was there is not shown."""
    await proxy.get("a")
    asked = {TABLE: {"Keys": [key_of("a")]}, "nowhere": {"Keys": [key_of("a")]}}
    answer = await proxy.call("BatchGetItem", {"RequestItems": asked})
    assert (answer.status, answer.outcome) == (400, Outcome.BYPASS)
    assert answer.reason is BypassReason.UNDECODABLE
    assert b"ResourceNotFoundException" in answer.body
    assert json.loads(world.upstream.sent[-1].body) == {"RequestItems": asked}
    assert [step.name for step in proxy.store.steps][-1] == "release"


async def test_reply_not_understood_lets_upstream_answer_itself(world: World, proxy: Proxy) -> None:
    """The client's very bytes are forwarded, and nothing is filled."""
    world.upstream.answer("BatchGetItem", {"Responses": {TABLE: []}, "Novelty": 1})
    body = b'{"RequestItems" : {"orders":{"Keys":[{"pk":{"S":"a"}}]}}}'
    request = client_request("BatchGetItem", body)
    plan = world.plan(request)
    assert isinstance(plan, BatchReadPlan)
    answer = await proxy.batches.answer(plan, request)
    assert (answer.outcome, answer.reason) == (Outcome.BYPASS, BypassReason.UNDECODABLE)
    assert world.upstream.sent[-1].body == body
    assert values_of(answer) == {"a": "1"}
    assert proxy.store.record(world.identity("a")) is None


async def test_unprocessed_keys_are_handed_on(world: World, proxy: Proxy) -> None:
    """With the items that were there; the next attempt gets the rest."""
    await proxy.get("a")
    left = {TABLE: {"Keys": [key_of("c")]}}
    reply = {"Responses": {TABLE: [{**key_of("b"), "v": {"S": "1"}}]}, "UnprocessedKeys": left}
    world.upstream.answer("BatchGetItem", reply)
    answer = await proxy.batch_get("a", "b", "c")
    assert (values_of(answer), unprocessed_of(answer)) == ({"a": "1", "b": "1"}, ["c"])
    assert (answer.outcome, answer.stored) == (Outcome.PARTIAL, False)
    again = await proxy.batch_get(*unprocessed_of(answer))
    assert (values_of(again), again.outcome) == ({"c": "1"}, Outcome.MISS)


async def test_answer_is_bounded(world: World, proxy: Proxy) -> None:
    """Cached items beyond 16 MiB go back unprocessed, and come with the next attempt."""
    names = [f"large-{number}" for number in range(60)]
    for pk in names:
        world.put_elsewhere(pk, "x" * (ANSWER_ITEMS_BYTES_MAX // 50 - 20))
    first = await proxy.batch_get(*names)
    second = await proxy.batch_get(*unprocessed_of(first))
    assert [*values_of(first), *values_of(second)] == names
    assert (len(values_of(first)), unprocessed_of(second)) == (50, [])
    assert (len(batches(world)), second.outcome) == (1, Outcome.HIT)


@pytest.mark.parametrize("why", ["down", "quarantine", "failing"])
async def test_without_a_store_everything_is_fetched_consistently(
    world: World, proxy: Proxy, why: str
) -> None:
    """By one request, shared by those who come together, and says why; own writes are seen."""
    await proxy.batch_get("a", "b")
    world.put_elsewhere("a", "2")
    world.upstream.tables.lag_versions = 1
    match why:
        case "down":
            proxy.store.stop_serving("not connected")
        case "quarantine":
            proxy.store.stop_serving()
        case _:
            proxy.store.down = StoreFailure.TIMEOUT
    expected = {"quarantine": BypassReason.STORE_QUARANTINE}.get(why, BypassReason.STORE_DOWN)
    answers = await asyncio.gather(*(proxy.batch_get("a", "b") for _ in range(50)))
    assert {(each.outcome, each.reason, each.stored) for each in answers} == {
        (Outcome.BYPASS, expected, False)
    }
    assert all(values_of(each) == {"a": "2", "b": "1"} for each in answers)
    assert len(batches(world)) == 2


async def test_debt_on_one_key_leaves_the_others_in_the_cache(world: World, proxy: Proxy) -> None:
    """Only the item that this process owes to the store is fetched."""
    await proxy.batch_get("a", "b")
    world.put_elsewhere("a", "2")
    proxy.debts.open(ItemFence(proxy.store, world.identity("a"), world.clock.token()))
    answer = await proxy.batch_get("a", "b")
    assert (values_of(answer), answer.outcome) == ({"a": "2", "b": "1"}, Outcome.PARTIAL)
    assert batches(world)[-1] == {TABLE: ["a"]}


@pytest.mark.parametrize("failure", list(StoreFailure))
@pytest.mark.parametrize("step", ["lookup", "lease", "fill", "release"])
async def test_failing_store_never_fails_a_batch(
    world: World, proxy: Proxy, step: str, failure: StoreFailure
) -> None:
    """Every step of one key may fail in every way: the items come all the same, in one request."""
    if step == "release":
        world.policy = replace(world.policy, entry_bytes_max=1)
    proxy.store.fail_next(failure, step=step)
    answer = await proxy.batch_get("a", "b")
    assert (answer.status, values_of(answer)) == (200, {"a": "1", "b": "1"})
    assert batches(world) == [{TABLE: ["a", "b"]}]
    assert not answer.stored


@pytest.mark.parametrize("level", list(Level))
async def test_client_that_hangs_up_does_not_end_the_fetch(
    world: World, proxy: Proxy, level: Level
) -> None:
    """The flights go on and fill, and whoever joined them gets the items."""
    world.policy = replace(world.policy, level=level)
    gate = world.upstream.hold("BatchGetItem")
    first = asyncio.ensure_future(proxy.batch_get("a", "b"))
    await gate.reached()
    second = asyncio.ensure_future(proxy.batch_get("a", "b"))
    await quiesce()
    first.cancel()
    gate.release()
    assert values_of(await second) == {"a": "1", "b": "1"}
    assert (await proxy.batch_get("a", "b")).outcome is Outcome.HIT
    assert len(batches(world)) == 1


PLACES = st.sampled_from("abcdef")
SPLITS = st.lists(st.lists(PLACES, min_size=1, max_size=4, unique=True), min_size=1, max_size=5)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(present=st.sets(PLACES), splits=SPLITS, chance=st.floats(0, 1))
def test_any_split_into_batches_and_single_reads_gives_the_same_items(
    present: set[str], splits: list[list[str]], chance: float
) -> None:
    """However the keys are grouped, at once or one after the other: the items are the same."""

    async def check() -> None:
        world = World(FencePolicy())
        world.clock.chance = chance
        for pk in present:
            world.put_elsewhere(pk, f"of {pk}")
        proxy, other = world.proxy(), world.proxy()

        async def read(through: Proxy, keys: list[str]) -> dict[str, str]:
            if len(keys) == 1:
                found = value_of(await through.get(keys[0]))
                return {} if found is None else {keys[0]: found}
            return values_of(await through.batch_get(*keys))

        half = splits[: len(splits) // 2]
        answers = [await read(proxy, keys) for keys in half]
        together = [read(through, keys) for keys in splits for through in (proxy, other)]
        answers += await asyncio.gather(*together)
        asked = [*half, *(keys for keys in splits for _ in range(2))]
        for keys, answer in zip(asked, answers, strict=True):
            assert answer == {pk: f"of {pk}" for pk in keys if pk in present}
        fetched = Counter(pk for b in batches(world) for pk in b[TABLE])
        fetched.update(
            json.loads(sent.body)["Key"]["pk"]["S"]
            for sent in world.upstream.sent
            if sent.operation == "GetItem"
        )
        assert set(fetched.values()) == {1}
        await world.upstream.close()

    # Debug mode would keep the stack of each step: several times the time of all else.
    with asyncio.Runner(debug=False, loop_factory=VirtualTimeLoop) as runner:
        runner.run(check())


async def ask(proxy: Proxy, wish: str, *pks: str) -> Answer:
    """Read items by BatchGetItem, asking something of the cache."""
    body = {"RequestItems": {TABLE: {"Keys": [key_of(pk) for pk in pks]}}}
    return await proxy.dispatcher.answer(
        client_request("BatchGetItem", body, X_Dynaside_Cache=wish)
    )


async def test_bypass_leaves_the_store_alone(proxy: Proxy) -> None:
    """The client's bytes go upstream, whatever is cached."""
    await proxy.batch_get("a", "b")
    proxy.world.put_elsewhere("a", "2")
    asked = len(proxy.store.steps)
    answer = await ask(proxy, "bypass", "a", "b")
    assert (answer.outcome, answer.reason) == (Outcome.BYPASS, BypassReason.REQUESTED)
    assert values_of(answer) == {"a": "2", "b": "1"}
    assert len(proxy.store.steps) == asked


@pytest.mark.parametrize("store", ["there", "out"])
async def test_refresh_fetches_every_key_anew(proxy: Proxy, store: str) -> None:
    """One consistent request fetches all, fresh entries or not, and the next read sees it."""
    await proxy.batch_get("a", "b")
    proxy.world.put_elsewhere("a", "2")
    if store == "out":
        proxy.store.stop_serving()
    answer = await ask(proxy, "refresh", "a", "b")
    assert values_of(answer) == {"a": "2", "b": "1"}
    assert answer.stored == (store == "there")
    assert b'"ConsistentRead":true' in proxy.world.upstream.sent[-1].body
    assert len(batches(proxy.world)) == 2
    proxy.store.start_serving()
    assert value_of(await proxy.get("a")) == ("2" if store == "there" else "1")


async def test_cache_alone_answers_for_every_key_or_not_at_all(proxy: Proxy) -> None:
    """Entries in grace answer too, without a refresh; one key too many is the caller's error."""
    await proxy.batch_get("a", "b")
    await proxy.world.clock.sleep(FRESH_S + 1)
    answer = await ask(proxy, "only-if-cached", "a", "b")
    refused = await ask(proxy, "only-if-cached", "a", "b", "c")
    await quiesce()
    assert (answer.outcome, values_of(answer)) == (Outcome.STALE_HIT, {"a": "1", "b": "1"})
    assert (refused.outcome, refused.status, refused.table) == (Outcome.NOT_CACHED, 400, TABLE)
    assert len(proxy.world.upstream.sent) == 1


async def test_only_keys_older_than_wanted_are_fetched(proxy: Proxy) -> None:
    """An entry that another read of the table may still take is replaced for this one."""
    await proxy.batch_get("a")
    await proxy.world.clock.sleep(10)
    await proxy.batch_get("b")
    proxy.world.put_elsewhere("a", "2")
    answer = await ask(proxy, "max-age=5", "a", "b")
    assert values_of(answer) == {"a": "2", "b": "1"}
    assert batches(proxy.world)[-1] == {TABLE: ["a"]}
    assert answer.detail == "hits-1-of-2"
