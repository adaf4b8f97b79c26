"""Claims about `proxy.flow.query_path`, with one or two proxies on one memory store."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from proxy.core.errors import StoreFailure, UpstreamFailed, UpstreamFailure
from proxy.core.key_schema import KeySchema
from proxy.core.policy import QueryPolicy
from proxy.core.request import Answer
from proxy.core.values import BypassReason, FillResult, Level, Outcome
from proxy.flow.events import CapacitySaved, FillEnded
from tests.fakes.fake_upstream_script import FAILED, THROTTLED
from tests.support.flow_world import TABLE, Proxy, World, client_request
from tests.support.virtual_time import quiesce

LOCAL, GLOBAL = {"IndexName": "local"}, {"IndexName": "global"}
READY_S = 32.0  # a marker's time and the margin for clocks


def condition(pk: str = "a") -> dict[str, Any]:
    """Return the members of a Query of one partition."""
    return {
        "KeyConditionExpression": "pk = :p",
        "ExpressionAttributeValues": {":p": {"S": pk}},
    }


async def query(proxy: Proxy, pk: str = "a", **members: Any) -> Answer:
    """Query one partition."""
    return await proxy.call("Query", {"TableName": TABLE, **condition(pk), **members})


async def scan(proxy: Proxy, **members: Any) -> Answer:
    """Scan the table."""
    return await proxy.call("Scan", {"TableName": TABLE, **members})


def values(answer: Answer) -> list[str]:
    """Return attribute `v` of each item on a page."""
    assert answer.status == 200, answer.body
    return [item["v"]["S"] for item in json.loads(answer.body)["Items"]]


@pytest.fixture
async def proxy(world: World) -> Proxy:
    """Give a proxy whose table has a local index; item a holds "1"; writers know of pages."""
    world.upstream.tables.add(TABLE, pk="S").local_indexes = ("local",)
    world.put_elsewhere("a", "1")
    world.policy = replace(
        world.policy, queries=QueryPolicy(enabled=True, scans=True, fresh_ttl_s=600.0)
    )
    made = world.proxy()
    await query(made, "somebody else")
    await world.clock.sleep(READY_S)
    made.events.clear()
    return made


def asked(proxy: Proxy) -> int:
    """Return how many pages were read upstream."""
    upstream = proxy.world.upstream
    return upstream.count("Query") + upstream.count("Scan")


READS: dict[str, Callable[[Proxy], Coroutine[Any, Any, Answer]]] = {
    "query": query,
    "scan": scan,
    "local": lambda proxy: query(proxy, **LOCAL),
    "local-scan": lambda proxy: scan(proxy, **LOCAL),
}
each_read = pytest.mark.parametrize("read", READS.values(), ids=READS)
Read = Callable[[Proxy], Coroutine[Any, Any, Answer]]


@each_read
async def test_miss_is_fetched_consistently_and_then_hit(proxy: Proxy, read: Read) -> None:
    """The first read goes upstream and fills; the second is answered by the store."""
    miss, hit = await read(proxy), await read(proxy)
    assert (miss.outcome, miss.stored) == (Outcome.MISS, True)
    assert (hit.outcome, hit.ttl_s, hit.headers, hit.table) == (Outcome.HIT, 600, (), TABLE)
    assert json.loads(miss.body) == json.loads(hit.body)
    assert hit.crc32 == zlib.crc32(hit.body)
    assert json.loads(proxy.world.upstream.sent[-1].body)["ConsistentRead"] is True
    assert proxy.told(FillEnded) == [FillEnded(TABLE, FillResult.STORED)]
    assert proxy.told(CapacitySaved) == [CapacitySaved(TABLE, 0.5)]


async def test_pages_count_only_once_every_writer_knows(world: World) -> None:
    """From the first question on, for a marker's time, pages are read and not kept."""
    world.put_elsewhere("a", "1")
    world.policy = replace(world.policy, queries=QueryPolicy(enabled=True))
    proxy = world.proxy()
    for _ in range(2):
        answer = await query(proxy)
        assert (answer.reason, values(answer)) == (BypassReason.PAGES_SOON, ["1"])
    await world.clock.sleep(READY_S)
    assert [(await query(proxy)).outcome for _ in range(2)] == [Outcome.MISS, Outcome.HIT]


async def test_write_that_did_not_know_of_pages_ends_before_the_first_counts(
    world: World,
) -> None:
    """Its fence is around the item alone, and no page from before its effect is ever served."""
    world.put_elsewhere("a", "1")
    world.policy = replace(world.policy, queries=QueryPolicy(enabled=True))
    writer, reader = world.proxy(), world.proxy()
    hold = world.upstream.hold("UpdateItem")
    write = asyncio.ensure_future(writer.update("a", "2"))
    await hold.reached()
    assert (await query(reader)).reason is BypassReason.PAGES_SOON
    await world.clock.sleep(9.0)
    assert (await query(reader)).reason is BypassReason.PAGES_SOON
    hold.release()
    await write
    await world.clock.sleep(READY_S)
    assert values(await query(reader)) == ["2"]
    assert values(await query(reader)) == ["2"]


WRITES: dict[str, Callable[[Proxy], Coroutine[Any, Any, Answer]]] = {
    "put": lambda proxy: proxy.put("a", "2"),
    "update": lambda proxy: proxy.update("a", "2"),
    "batch": lambda proxy: proxy.batch_put("a", "2"),
}
each_write = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)


@each_read
@each_write
async def test_read_after_write_shows_it_although_the_page_was_cached(
    proxy: Proxy, write: Read, read: Read
) -> None:
    """Through the same proxy and through another one, now and from the next page on."""
    other = proxy.world.proxy()
    for _ in range(2):
        assert values(await read(proxy)) == ["1"]
    await write(other)
    for each in (proxy, other, proxy):
        assert values(await read(each)) == ["2"]


@each_read
async def test_deleted_item_is_gone_from_its_pages(proxy: Proxy, read: Read) -> None:
    """An item that no longer exists is on no page."""
    await read(proxy)
    await proxy.delete("a")
    assert values(await read(proxy)) == []
    assert values(await read(proxy)) == []


async def test_write_to_another_partition_leaves_a_query_cached(proxy: Proxy) -> None:
    """A Query's page hangs on its partition, a Scan's on every item."""
    await query(proxy)
    await scan(proxy)
    await proxy.put("b", "2")
    assert (await query(proxy)).outcome is Outcome.HIT
    answer = await scan(proxy)
    assert (answer.outcome, values(answer)) == (Outcome.MISS, ["1", "2"])


@each_read
async def test_page_is_not_used_while_a_write_is_in_flight(proxy: Proxy, read: Read) -> None:
    """From begin to end readers go upstream, and what they read is not kept."""
    await read(proxy)
    hold = proxy.world.upstream.hold("UpdateItem", after_effect=True)
    write = asyncio.ensure_future(proxy.world.proxy().update("a", "2"))
    await hold.reached()
    await quiesce()
    answer = await read(proxy)
    assert (answer.reason, values(answer)) == (BypassReason.PAGE_PENDING, ["2"])
    hold.release()
    await write
    assert (await read(proxy)).outcome is Outcome.MISS


async def test_refused_write_brings_the_page_back(proxy: Proxy) -> None:
    """A write that changed nothing costs no page."""
    await query(proxy)
    refused = await proxy.put("a", "2", ConditionExpression="attribute_not_exists(pk)")
    assert refused.status == 400
    assert (await query(proxy)).outcome is Outcome.HIT


async def test_fetch_that_a_write_overtook_is_kept_for_nobody(proxy: Proxy) -> None:
    """A page that was read before a write and filled after it is never served."""
    hold = proxy.world.upstream.hold("Query", after_effect=True)
    reading = asyncio.ensure_future(query(proxy))
    await hold.reached()
    await quiesce()
    await proxy.world.proxy().update("a", "2")
    hold.release()
    assert values(await reading) == ["1"]
    assert values(await query(proxy)) == ["2"]


async def test_reader_after_a_write_does_not_join_an_older_flight(proxy: Proxy) -> None:
    """It sees another generation, so the running flight is not its own."""
    hold = proxy.world.upstream.hold("Query", after_effect=True)
    older = asyncio.ensure_future(query(proxy))
    await hold.reached()
    await proxy.update("a", "2")
    hold.release()
    newer = await query(proxy)
    assert (values(newer), values(await older)) == (["2"], ["1"])


async def test_readers_without_a_write_between_share_one_flight(proxy: Proxy) -> None:
    """The generation proves that a fetch which has started is still right for who comes later."""
    hold = proxy.world.upstream.hold("Query")
    first = asyncio.ensure_future(query(proxy))
    await hold.reached()
    later = [asyncio.ensure_future(query(proxy)) for _ in range(5)]
    await quiesce()
    hold.release()
    assert values(await first) == ["1"]
    assert {(await each).outcome for each in later} == {Outcome.COALESCED}
    assert asked(proxy) == 2


async def test_debt_on_an_item_keeps_its_pages_from_the_store(proxy: Proxy) -> None:
    """Callers read their own writes while the store does not know of them."""
    await query(proxy)
    await scan(proxy)
    proxy.store.down = StoreFailure.TIMEOUT
    await proxy.update("a", "2")
    proxy.store.down = None
    for read in (query, scan):
        answer = await read(proxy)
        assert (answer.reason, values(answer)) == (BypassReason.DEBT, ["2"])
    assert (await query(proxy, "b")).reason is None
    await proxy.debts.pay_ripe()
    for read in (query, scan):
        answer = await read(proxy)
        assert (answer.reason, values(answer)) == (None, ["2"])


@pytest.mark.parametrize("reason", [BypassReason.STORE_DOWN, BypassReason.STORE_QUARANTINE])
async def test_store_that_serves_nothing_is_bypassed(proxy: Proxy, reason: BypassReason) -> None:
    """Then a page is read upstream, consistently, as the level asks."""
    proxy.store.stop_serving(*(["gone"] if reason is BypassReason.STORE_DOWN else []))
    answer = await query(proxy)
    assert (answer.reason, values(answer)) == (reason, ["1"])
    assert json.loads(proxy.world.upstream.sent[-1].body)["ConsistentRead"] is True


async def test_unfit_store_is_bypassed_at_strict(proxy: Proxy) -> None:
    """A page is worth no more than the markers of its scope."""
    proxy.store.unfit = True
    assert (await query(proxy)).reason is None
    policy = proxy.world.policies.get(TABLE, proxy.world.policy)
    proxy.world.policies[TABLE] = replace(policy, level=Level.STRICT)
    answer = await query(proxy)
    assert (answer.reason, values(answer)) == (BypassReason.STORE_UNFIT, ["1"])


async def test_lookup_that_fails_is_a_bypass(proxy: Proxy) -> None:
    """A page costs no error of the store."""
    proxy.store.fail_next(StoreFailure.TIMEOUT, step="lookup_page")
    answer = await query(proxy)
    assert (answer.reason, values(answer)) == (BypassReason.STORE_DOWN, ["1"])


async def test_page_in_grace_answers_and_is_refreshed(proxy: Proxy) -> None:
    """A page past fresh answers once more; the refresh brings what passed no proxy."""
    await query(proxy)
    proxy.world.put_elsewhere("a", "2")
    await proxy.world.clock.sleep(601.0)
    stale = await query(proxy)
    assert (stale.outcome, values(stale)) == (Outcome.STALE_HIT, ["1"])
    await quiesce()
    assert values(await query(proxy)) == ["2"]


async def test_page_answers_when_upstream_fails_if_the_table_allows(proxy: Proxy) -> None:
    """Stale-if-error is the table's own rule; without it the failure is passed on."""
    world = proxy.world
    world.policy = replace(world.policy, grace_s=0.0, stale_if_error_s=600.0)
    await query(proxy)
    await world.clock.sleep(700.0)
    world.upstream.fail("Query", THROTTLED)
    answer = await query(proxy)
    assert (answer.outcome, answer.detail) == (Outcome.STALE_HIT, "stale-if-error")
    world.policy = replace(world.policy, stale_if_error_s=0.0)
    world.upstream.fail("Query", FAILED)
    assert (await query(proxy)).status == 500


async def test_silent_upstream_is_told(proxy: Proxy) -> None:
    """Nothing stands in for an answer that never came."""
    proxy.world.upstream.refuse("Query", UpstreamFailure.CONNECT)
    with pytest.raises(UpstreamFailed):
        await query(proxy)


async def test_page_that_is_too_large_is_not_kept(proxy: Proxy) -> None:
    """It is answered all the same."""
    world = proxy.world
    queries = replace(world.policy.queries, entry_bytes_max=20)
    world.policy = replace(world.policy, queries=queries)
    assert [(await query(proxy)).outcome for _ in range(2)] == [Outcome.MISS, Outcome.MISS]
    assert proxy.told(FillEnded)[0] == FillEnded(TABLE, FillResult.TOO_LARGE)


@pytest.mark.parametrize("status", [200, 400])
async def test_reply_that_cannot_be_cached_is_given_to_the_clients_own_words(
    proxy: Proxy, status: int
) -> None:
    """An error, or a reply in a shape of tomorrow, is upstream's to the request as it came."""
    proxy.world.upstream.answer("Query", b'{"odd":1}', status=status)
    answer = await query(proxy)
    assert (answer.reason, values(answer)) == (BypassReason.UNDECODABLE, ["1"])
    sent = json.loads(proxy.world.upstream.sent[-1].body)
    assert sent == {"TableName": TABLE, **condition()}


async def test_what_a_page_cost_is_told_to_who_asks(proxy: Proxy) -> None:
    """A miss tells what it took, a hit nothing; both share one page."""
    miss = await query(proxy, ReturnConsumedCapacity="TOTAL")
    hit = await query(proxy, ReturnConsumedCapacity="TOTAL")
    silent = await query(proxy)
    units = [json.loads(each.body)["ConsumedCapacity"]["CapacityUnits"] for each in (miss, hit)]
    assert (units, hit.outcome) == ([1.0, 0.0], Outcome.HIT)
    assert "ConsumedCapacity" not in json.loads(silent.body)


# Indexes


@pytest.mark.parametrize("read", [query, scan])
async def test_global_index_is_cached_once_its_table_was_quiet(
    proxy: Proxy, read: Callable[..., Coroutine[Any, Any, Answer]]
) -> None:
    """After a write it is read as it is for `index_lag_s`, then filled and hit."""
    await proxy.update("a", "2")
    early = await read(proxy, **GLOBAL)
    assert (early.reason, values(early)) == (BypassReason.INDEX_LAG, ["2"])
    assert "ConsistentRead" not in json.loads(proxy.world.upstream.sent[-1].body)
    await proxy.world.clock.sleep(11.1)
    outcomes = [(await read(proxy, **GLOBAL)).outcome for _ in range(2)]
    assert outcomes == [Outcome.MISS, Outcome.HIT]
    assert "ConsistentRead" not in json.loads(proxy.world.upstream.sent[-1].body)
    await proxy.update("b", "3")
    assert (await read(proxy, **GLOBAL)).reason is BypassReason.INDEX_LAG


async def test_global_index_is_never_cached_at_strict(proxy: Proxy) -> None:
    """Nothing can be promised of it; a local one is as good as its table."""
    proxy.world.policy = replace(proxy.world.policy, level=Level.STRICT, grace_s=0.0)
    for _ in range(2):
        assert (await query(proxy, **GLOBAL)).reason is BypassReason.INDEX
    assert [(await query(proxy, **LOCAL)).outcome for _ in range(2)] == [Outcome.MISS, Outcome.HIT]


async def test_index_of_unknown_kind_is_taken_for_global(proxy: Proxy) -> None:
    """Where nobody may describe the table, no index is read consistently."""
    known = proxy.world.proxy(configured={TABLE: KeySchema("pk")})
    await proxy.world.clock.sleep(11.1)
    await query(known, **LOCAL)
    await proxy.world.clock.sleep(11.1)
    assert (await query(known, **LOCAL)).outcome is Outcome.MISS
    assert "ConsistentRead" not in json.loads(proxy.world.upstream.sent[-1].body)


async def test_kind_of_an_index_is_asked_once(proxy: Proxy) -> None:
    """What was learned a moment ago costs no question to the store or upstream."""
    for _ in range(3):
        await query(proxy, **LOCAL)
    assert proxy.world.upstream.count("DescribeTable") == 1
    assert proxy.store.asked("generation") == 1


async def test_eventual_table_is_filled_as_it_is_once_replicas_know(proxy: Proxy) -> None:
    """For `tombstone_s` after a write a fill is consistent, later it need not be."""
    world = proxy.world
    world.policy = replace(world.policy, level=Level.EVENTUAL, fill_consistent=False)
    await proxy.update("a", "2")
    await query(proxy)
    assert json.loads(world.upstream.sent[-1].body)["ConsistentRead"] is True
    await proxy.world.clock.sleep(700.0)
    await query(proxy)
    assert "ConsistentRead" not in json.loads(world.upstream.sent[-1].body)


async def ask(proxy: Proxy, wish: str, **members: Any) -> Answer:
    """Query one partition, asking something of the cache."""
    body = {"TableName": TABLE, **condition(), **members}
    return await proxy.dispatcher.answer(client_request("Query", body, X_Dynaside_Cache=wish))


async def test_bypass_leaves_the_page_alone(proxy: Proxy) -> None:
    """The client's own request goes upstream."""
    await query(proxy)
    proxy.world.put_elsewhere("a", "2")
    answer = await ask(proxy, "bypass")
    assert (answer.outcome, answer.reason) == (Outcome.BYPASS, BypassReason.REQUESTED)
    assert (values(answer), values(await query(proxy))) == (["2"], ["1"])


async def test_refresh_replaces_the_page(proxy: Proxy) -> None:
    """Although it is fresh; the next reader sees what was fetched."""
    await query(proxy)
    proxy.world.put_elsewhere("a", "2")
    answer = await ask(proxy, "refresh")
    assert (answer.outcome, answer.demanded, answer.stored) == (Outcome.MISS, True, True)
    hit = await query(proxy)
    assert (hit.outcome, values(answer), values(hit)) == (Outcome.HIT, ["2"], ["2"])


@pytest.mark.parametrize("why", ["there", "absent", "down", "index"])
async def test_cache_alone_answers_from_a_page_or_not_at_all(proxy: Proxy, why: str) -> None:
    """Whatever keeps the page from answering, upstream is not asked."""
    if why == "there":
        await query(proxy)
    if why == "down":
        proxy.store.stop_serving()
    if why == "index":
        proxy.world.policy = replace(proxy.world.policy, level=Level.STRICT)
    before = asked(proxy)
    answer = await ask(proxy, "only-if-cached", **(GLOBAL if why == "index" else {}))
    assert asked(proxy) == before
    if why == "there":
        assert (answer.outcome, values(answer)) == (Outcome.HIT, ["1"])
    else:
        assert (answer.outcome, answer.status, answer.table) == (Outcome.NOT_CACHED, 400, TABLE)


async def test_page_older_than_wanted_is_fetched_anew(proxy: Proxy) -> None:
    """Readers without a limit go on taking it until then."""
    await query(proxy)
    await proxy.world.clock.sleep(10)
    proxy.world.put_elsewhere("a", "2")
    assert values(await ask(proxy, "max-age=11")) == ["1"]
    answer = await ask(proxy, "max-age=9")
    assert (answer.demanded, values(answer), values(await query(proxy))) == (True, ["2"], ["2"])


async def test_refresh_of_a_global_index_reads_it_as_it_can(proxy: Proxy) -> None:
    """Such an index refuses consistent reads: the refresh does not ask for one."""
    await query(proxy, **GLOBAL)
    await proxy.world.clock.sleep(60)
    answer = await ask(proxy, "refresh", **GLOBAL)
    assert (answer.status, answer.demanded) == (200, True)
    assert b'"ConsistentRead":true' not in proxy.world.upstream.sent[-1].body
