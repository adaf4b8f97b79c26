"""Claims about `proxy.flow.shadow`, by way of the dispatcher."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from proxy.core.errors import StoreFailure
from proxy.core.policy import AuditPolicy, QueryPolicy
from proxy.core.request import Answer
from proxy.core.values import BypassReason, FillResult, Mode, Outcome, ShadowResult
from proxy.flow.events import (
    AuditEnded,
    BatchItemsAnswered,
    CapacitySaved,
    Event,
    FillEnded,
    InvariantViolated,
    RefreshEnded,
    ShadowCompared,
    StaleFound,
)
from proxy.flow.shadow import without_savings
from tests.fakes.fake_upstream_script import THROTTLED, Match
from tests.support.flow_world import REHEARSALS_MAX, TABLE, Proxy, World, key_of
from tests.support.virtual_time import quiesce

BOUNDS = AuditPolicy(share=1.0, reads_per_s_max=1e6, read_units_per_s_max=1e6, concurrency_max=100)
GET: dict[str, Any] = {"TableName": TABLE, "Key": key_of("a")}
BATCH: dict[str, Any] = {"RequestItems": {TABLE: {"Keys": [key_of("a"), key_of("b")]}}}
QUERY: dict[str, Any] = {
    "TableName": TABLE,
    "KeyConditionExpression": "pk = :p",
    "ExpressionAttributeValues": {":p": {"S": "a"}},
}
READS = {"GetItem": GET, "BatchGetItem": BATCH, "Query": QUERY}
READY_S = 32.0


@pytest.fixture
async def proxy(world: World) -> Proxy:
    """Give a proxy whose table is in shadow; items a and b hold "1"; pages are announced."""
    for pk in "ab":
        world.put_elsewhere(pk, "1")
    world.policy = replace(
        world.policy, mode=Mode.SHADOW, queries=QueryPolicy(enabled=True), jitter=0.0
    )
    made = world.proxy(audit=BOUNDS)
    await made.ask("Query", QUERY)
    await world.clock.sleep(READY_S)
    made.events.clear()
    return made


async def rehearse(proxy: Proxy, operation: str = "GetItem", **members: Any) -> ShadowResult:
    """Make one read and return what its rehearsal came to."""
    before = len(proxy.told(ShadowCompared))
    await ask(proxy, operation, **members)
    await quiesce()
    (compared,) = proxy.told(ShadowCompared)[before:]
    assert compared.table == TABLE
    return compared.result


async def ask(proxy: Proxy, operation: str = "GetItem", **members: Any) -> Answer:
    """Make one read, which must be answered with upstream's own bytes."""
    answer = await proxy.ask(operation, {**READS[operation], **members})
    assert (answer.outcome, answer.reason) == (Outcome.BYPASS, BypassReason.SHADOW)
    assert dict(answer.headers)["x-amzn-RequestId"].startswith("UPSTREAM")
    return answer


@pytest.mark.parametrize("operation", READS)
async def test_cache_is_filled_and_agrees(proxy: Proxy, operation: str) -> None:
    """First it would have missed, then it would have answered the same; nothing is told saved."""
    results = [await rehearse(proxy, operation) for _ in range(2)]
    assert results == [ShadowResult.WOULD_MISS, ShadowResult.AGREE]
    assert {event.result for event in proxy.told(FillEnded)} == {FillResult.STORED}
    assert not proxy.told(CapacitySaved)
    assert not proxy.told(BatchItemsAnswered)
    assert not proxy.told(AuditEnded)


@pytest.mark.parametrize("operation", READS)
async def test_out_of_band_write_makes_them_differ(proxy: Proxy, operation: str) -> None:
    """The client sees DynamoDB's item; the cache would have shown the older one."""
    await rehearse(proxy, operation)
    await proxy.world.clock.sleep(5.0)
    proxy.world.put_elsewhere("a", "2")
    assert await rehearse(proxy, operation) is ShadowResult.DIFFER
    (found,) = proxy.told(StaleFound)
    assert found.in_shadow
    assert found.age_s == pytest.approx(5.0, abs=0.1)
    assert b'"2"' in (await ask(proxy, operation)).body
    await quiesce()


async def test_clients_request_goes_upstream_as_it_is(proxy: Proxy) -> None:
    """Its own bytes, eventually consistent as it asked."""
    await ask(proxy)
    await quiesce()
    assert json.dumps(GET).encode() in [sent.body for sent in proxy.world.upstream.sent]


async def test_nothing_of_the_cache_is_served(proxy: Proxy) -> None:
    """Even an entry that is fresh stays unserved, and an error of DynamoDB's is passed on."""
    await rehearse(proxy)
    proxy.world.upstream.fail(Match("GetItem"), THROTTLED)
    answer = await proxy.ask("GetItem", GET)
    await quiesce()
    assert answer.status == 400
    assert proxy.told(ShadowCompared)[-1].result is ShadowResult.FAILED
    only = await proxy.ask("GetItem", GET, X_Dynaside_Cache="only-if-cached")
    assert only.outcome is Outcome.NOT_CACHED


async def test_answer_does_not_wait_for_the_rehearsal(proxy: Proxy) -> None:
    """A store that is stuck holds up nobody."""
    stuck = asyncio.Event()
    proxy.store.before = lambda _: stuck.wait()  # type: ignore[assignment, return-value]
    await ask(proxy)
    assert proxy.told(ShadowCompared) == []
    stuck.set()
    await quiesce()
    assert len(proxy.told(ShadowCompared)) == 1


async def test_lagging_answer_of_dynamodb_is_no_error(proxy: Proxy) -> None:
    """The entry is newer than an eventually consistent read: the auditor's read says so."""
    proxy.world.put_elsewhere("a", "2")
    await rehearse(proxy)
    proxy.world.upstream.tables.lag_versions = 1
    assert await rehearse(proxy) is ShadowResult.AGREE


async def test_write_between_the_two_is_no_error(proxy: Proxy) -> None:
    """The rehearsal looked before a fenced write, DynamoDB answered after it."""
    await rehearse(proxy)
    gate = proxy.world.upstream.hold(Match("GetItem", json.dumps(GET)))
    asked = asyncio.ensure_future(ask(proxy))
    await gate.reached()
    await quiesce()
    await proxy.world.proxy().put("a", "2")
    gate.release()
    await asked
    await quiesce()
    assert proxy.told(ShadowCompared)[-1].result is ShadowResult.INCONCLUSIVE


async def test_difference_that_nobody_may_examine_is_inconclusive(proxy: Proxy) -> None:
    """The bounds on audits hold here too."""
    made = proxy.world.proxy(audit=replace(BOUNDS, reads_per_s_max=0.001))
    expected = [ShadowResult.DIFFER, ShadowResult.INCONCLUSIVE]
    for value, result in zip(("2", "3"), expected, strict=True):
        assert await rehearse(made) is ShadowResult.WOULD_MISS
        proxy.world.put_elsewhere("a", value)
        assert await rehearse(made) is result


async def test_page_of_a_global_index_can_only_agree_or_not_be_judged(proxy: Proxy) -> None:
    """It cannot be read consistently, so a difference proves nothing."""
    for _ in range(2):
        await rehearse(proxy, "Query", IndexName="global")
        await proxy.world.clock.sleep(11.0)
    await rehearse(proxy, "Query", IndexName="global")
    proxy.world.put_elsewhere("a", "2")
    assert await rehearse(proxy, "Query", IndexName="global") is ShadowResult.INCONCLUSIVE


async def test_store_that_is_out_would_have_no_part(proxy: Proxy) -> None:
    """The answer comes all the same."""
    proxy.store.down = StoreFailure.TIMEOUT
    assert await rehearse(proxy) is ShadowResult.WOULD_BYPASS


async def test_rehearsal_that_fails_is_counted(proxy: Proxy) -> None:
    """Its own fetch got no answer, the client's did."""
    consistent = Match("GetItem", '"ConsistentRead":true')
    proxy.world.upstream.refuse(consistent, "timeout")  # type: ignore[arg-type]
    assert await rehearse(proxy) is ShadowResult.FAILED


async def test_rehearsals_are_bounded(proxy: Proxy) -> None:
    """Beyond the bound reads are answered and not rehearsed; later ones are again."""
    stuck = asyncio.Event()
    proxy.store.before = lambda _: stuck.wait()  # type: ignore[assignment, return-value]
    for _ in range(REHEARSALS_MAX + 1):
        await ask(proxy)
    assert [event.result for event in proxy.told(ShadowCompared)] == [ShadowResult.DROPPED]
    stuck.set()
    await quiesce()
    assert await rehearse(proxy) is ShadowResult.AGREE


async def test_client_that_hangs_up_leaves_nothing_behind(proxy: Proxy) -> None:
    """The rehearsal ends although the real answer never comes."""
    proxy.world.upstream.hold(Match("GetItem", json.dumps(GET)))
    asked = asyncio.ensure_future(ask(proxy))
    await quiesce()
    asked.cancel()
    await quiesce()
    assert [event.result for event in proxy.told(ShadowCompared)] == [ShadowResult.FAILED]
    proxy.world.upstream.release()


async def test_rehearsal_that_is_cut_off_harms_no_answer(proxy: Proxy) -> None:
    """At the end of the process tasks are cancelled; a request in flight gets its answer."""
    gate = proxy.world.upstream.hold(Match("GetItem", json.dumps(GET)))
    asked = asyncio.ensure_future(ask(proxy))
    await gate.reached()
    await quiesce()
    await proxy.tasks.settle(0, asyncio.sleep)
    gate.release()
    assert (await asked).status == 200
    assert proxy.told(InvariantViolated) == []


async def test_batch_beside_a_key_that_is_on_keeps_its_promise(proxy: Proxy) -> None:
    """Keys of another table are answered by the cache; those in shadow are fetched with them."""
    world = proxy.world
    world.upstream.tables.add("on", pk="S")
    world.policies["on"] = replace(world.policy, mode=Mode.ON)
    both = {"RequestItems": {TABLE: {"Keys": [key_of("a")]}, "on": {"Keys": [key_of("a")]}}}
    await proxy.ask("BatchGetItem", both)
    answer = await proxy.ask("BatchGetItem", both)
    assert (answer.outcome, answer.detail) == (Outcome.PARTIAL, "hits-1-of-2")
    assert proxy.told(ShadowCompared) == []
    reasons = {event.outcome for event in proxy.told(BatchItemsAnswered) if event.table == TABLE}
    assert reasons == {Outcome.BYPASS}


async def test_entries_filled_in_shadow_serve_once_the_table_is_on(proxy: Proxy) -> None:
    """That is what shadow is for, beside the measuring: a warm and proven cache."""
    await rehearse(proxy)
    proxy.world.policy = replace(proxy.world.policy, mode=Mode.ON)
    assert (await proxy.ask("GetItem", GET)).outcome is Outcome.HIT
    await quiesce()


def test_rehearsals_tell_everything_but_savings() -> None:
    """Fills and refreshes are real; what was served to nobody saved nothing."""
    told: list[Event] = []
    emit = without_savings(told.append)
    emit(CapacitySaved(TABLE, 1.0))
    emit(RefreshEnded(TABLE, replaced=True))
    emit(BatchItemsAnswered(TABLE, Outcome.HIT, 2))
    assert told == [RefreshEnded(TABLE, replaced=True)]
