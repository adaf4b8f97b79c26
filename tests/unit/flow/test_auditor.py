"""Claims about `proxy.flow.auditor`, with one or two proxies on one memory store."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from typing import Any

import pytest

from proxy.core.audit_gate import BACK_OFF_S
from proxy.core.errors import StoreFailure, UpstreamFailure
from proxy.core.fence import WriteOutcome
from proxy.core.policy import AuditPolicy, QueryPolicy
from proxy.core.values import AuditResult, Level, Outcome
from proxy.flow.events import AuditEnded, StaleFound
from proxy.flow.fences import ItemFence
from tests.fakes.fake_upstream_script import FAILED, SILENT, THROTTLED
from tests.fakes.memory_store import Step
from tests.support.flow_world import READ_TIMEOUT_S, TABLE, Proxy, World, value_of
from tests.support.virtual_time import quiesce

ALL = AuditPolicy(share=1.0, reads_per_s_max=1e6, read_units_per_s_max=1e6, concurrency_max=100)
READY_S = 32.0


@pytest.fixture
async def proxy(world: World) -> Proxy:
    """Give a proxy that audits every hit; item a holds "1" and is cached."""
    world.put_elsewhere("a", "1")
    made = world.proxy(audit=ALL)
    await made.get("a")
    made.events.clear()
    return made


def results(proxy: Proxy) -> list[AuditResult]:
    """Return what became of each audit."""
    return [event.result for event in proxy.told(AuditEnded)]


async def audited(proxy: Proxy) -> AuditResult:
    """Hit item a, and return what its audit found."""
    assert (await proxy.get("a")).outcome in (Outcome.HIT, Outcome.STALE_HIT)
    await quiesce()
    (result,) = results(proxy)
    return result


async def test_hit_that_is_right_matches(proxy: Proxy) -> None:
    """It costs one consistent read upstream and no second lookup; nothing is invalidated."""
    steps = len(proxy.store.steps)
    assert await audited(proxy) is AuditResult.MATCH
    assert b'"ConsistentRead":true' in proxy.world.upstream.sent[-1].body
    assert [step.name for step in proxy.store.steps[steps:]] == ["lookup"]


async def test_out_of_band_write_is_found_with_its_age(proxy: Proxy) -> None:
    """The age counts from the fill; the item is invalidated, so nobody is shown it again."""
    await proxy.world.clock.sleep(12.0)
    proxy.world.put_elsewhere("a", "2")
    await proxy.world.clock.sleep(0.5)
    assert await audited(proxy) is AuditResult.STALE
    (found,) = proxy.told(StaleFound)
    assert (found.table, found.level, found.in_shadow) == (TABLE, Level.SESSION, False)
    assert found.age_s == pytest.approx(12.5, abs=0.01)
    assert value_of(await proxy.get("a")) == "2"


async def test_same_item_has_the_same_mark(proxy: Proxy) -> None:
    """So that examples in the log can be told apart; another item has another mark."""
    for pk, value in (("a", "2"), ("a", "3"), ("b", "4")):
        await proxy.get(pk)
        proxy.world.put_elsewhere(pk, value)
        await proxy.get(pk)
        await quiesce()
    first, second, other = [found.mark for found in proxy.told(StaleFound)]
    assert first == second != other


async def test_answer_does_not_wait_for_its_audit(proxy: Proxy) -> None:
    """The hit is there while the audit still waits for upstream."""
    gate = proxy.world.upstream.hold("GetItem")
    assert (await proxy.get("a")).outcome is Outcome.HIT
    await gate.reached()
    assert results(proxy) == []
    gate.release()
    await quiesce()
    assert results(proxy) == [AuditResult.MATCH]


class Duel:
    """One audit and one write, a step at a time, in whatever order is asked."""

    def __init__(self, proxy: Proxy, writer: Proxy, outcome: WriteOutcome) -> None:
        self.proxy, self.writer, self.outcome = proxy, writer, outcome
        self.identity = proxy.world.identity("a")
        self.token = proxy.world.clock.token()
        self.looks = asyncio.Event()

    async def play(self, order: str) -> AuditResult:
        """Take the steps: `r`ead and `l`ook of the audit; `b`egin, `w`rite and `e`nd of a write."""
        gate = self.proxy.world.upstream.hold("GetItem")
        assert (await self.proxy.get("a")).outcome is Outcome.HIT
        await gate.reached()
        self.proxy.store.before = self._hold_lookup
        for step in order:
            match step:
                case "r":
                    gate.release()
                case "l":
                    self.looks.set()
                case _:
                    await self._write(step)
            await quiesce()
        (result,) = results(self.proxy)
        return result

    async def _hold_lookup(self, step: Step) -> None:
        if step.name == "lookup":
            await self.looks.wait()

    async def _write(self, step: str) -> None:
        match step:
            case "b":
                await self.writer.store.begin(self.identity, token=self.token)
            case "w" if self.outcome is not WriteOutcome.ABORTED:
                self.proxy.world.put_elsewhere("a", "2")
            case "e" if self.outcome is not WriteOutcome.UNKNOWN:
                store, token = self.writer.store, self.token
                await store.end(self.identity, token=token, outcome=self.outcome)
            case _:
                pass


def orders() -> list[str]:
    """Return every order of the two steps of an audit and the three of a write."""
    places = itertools.combinations(range(5), 2)
    made = []
    for read, look in places:
        write = iter("bwe")
        made.append("".join({read: "r", look: "l"}.get(n) or next(write) for n in range(5)))
    return made


@pytest.mark.parametrize("order", orders())
@pytest.mark.parametrize(
    "outcome", [WriteOutcome.INVALIDATED, WriteOutcome.ABORTED, WriteOutcome.UNKNOWN]
)
async def test_no_order_of_audit_and_write_is_taken_for_an_error(
    proxy: Proxy, outcome: WriteOutcome, order: str
) -> None:
    """Whatever another proxy's write does between hit, read and second lookup."""
    result = await Duel(proxy, proxy.world.proxy(), outcome).play(order)
    seen = outcome is not WriteOutcome.ABORTED and order.index("w") < order.index("r")
    assert result is (AuditResult.INCONCLUSIVE if seen else AuditResult.MATCH)
    assert proxy.told(StaleFound) == []


@pytest.mark.parametrize("order", ["wrl", "rwl", "rlw"])
async def test_write_without_a_fence_is_an_error_once_dynamodb_shows_it(
    proxy: Proxy, order: str
) -> None:
    """Without begin and end the entry is still there when the audit looks again."""
    result = await Duel(proxy, proxy, WriteOutcome.INVALIDATED).play(order)
    assert result is (AuditResult.STALE if order == "wrl" else AuditResult.MATCH)


async def test_newer_entry_is_no_error(proxy: Proxy) -> None:
    """The item was written and filled anew between the audit's read and its second lookup."""
    gate = proxy.world.upstream.hold("GetItem", after_effect=True)
    other = proxy.world.proxy()
    assert (await proxy.get("a")).outcome is Outcome.HIT
    await gate.reached()
    proxy.world.upstream.keep_held(gate)
    for value in ("2", "1"):
        await other.put("a", value)
    await other.get("a")
    gate.release()
    await quiesce()
    assert results(proxy) == [AuditResult.MATCH]


async def test_write_that_went_back_and_was_filled_again_is_no_error(proxy: Proxy) -> None:
    """The audit reads the value between; the entry looks alike and is younger."""
    store, world = proxy.store, proxy.world
    other = world.proxy()
    await world.clock.sleep(1.0)

    async def write_back(step: Step) -> None:
        if step.name == "lookup" and world.newest("a") == "2":
            store.before = None
            await other.put("a", "1")
            await other.get("a")

    gate = world.upstream.hold("GetItem")
    await proxy.get("a")
    await gate.reached()
    await other.put("a", "2")
    store.before = write_back
    gate.release()
    await quiesce()
    assert results(proxy) == [AuditResult.INCONCLUSIVE]


async def test_entry_under_another_generation_is_no_error(proxy: Proxy) -> None:
    """A write of the whole table is in flight, or has ended: the entry does not count."""
    key, token = proxy.world.keys.table_key(TABLE), proxy.world.clock.token()
    for end in (False, True):
        await proxy.get("a")
        await proxy.store.begin_table(key, token=token)
        proxy.world.put_elsewhere("a", f"ended {end}")
        if end:
            outcome = WriteOutcome.INVALIDATED
            await proxy.store.end_table(key, token=token, outcome=outcome, remade=False)
        await quiesce()
        outcome = WriteOutcome.INVALIDATED
        await proxy.store.end_table(key, token=token, outcome=outcome, remade=False)
        await proxy.get("a")
    assert AuditResult.STALE not in results(proxy)
    assert results(proxy)[:2] == [AuditResult.INCONCLUSIVE] * 2


@pytest.mark.parametrize("why", ["debt", "quarantine"])
async def test_store_that_has_no_part_proves_nothing(proxy: Proxy, why: str) -> None:
    """Of a write that this process owes the store, its readers are told by upstream."""
    await proxy.get("a")
    if why == "debt":
        token = proxy.world.clock.token()
        proxy.debts.open(ItemFence(proxy.store, proxy.world.identity("a"), token))
    else:
        proxy.store.stop_serving()
    proxy.world.put_elsewhere("a", "2")
    await quiesce()
    assert results(proxy) == [AuditResult.INCONCLUSIVE]


async def test_entry_that_expired_meanwhile_proves_nothing(proxy: Proxy) -> None:
    """It would not be served any more."""
    gate = proxy.world.upstream.hold("GetItem")
    await proxy.world.clock.sleep(329.0)
    assert (await proxy.get("a")).outcome is Outcome.STALE_HIT
    proxy.world.put_elsewhere("a", "2")
    await proxy.world.clock.sleep(2.0)
    gate.release()
    await quiesce()
    assert results(proxy) == [AuditResult.INCONCLUSIVE]


async def test_answer_in_a_shape_of_tomorrow_proves_nothing(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be compared is not judged."""
    monkeypatch.setattr("proxy.flow.auditor.same_answer", lambda *_: None)
    assert await audited(proxy) is AuditResult.INCONCLUSIVE


@pytest.mark.parametrize("how", ["silent", "throttled", "nonsense", "store"])
async def test_audit_without_an_answer_failed(proxy: Proxy, how: str) -> None:
    """Nothing is concluded from silence, refusals, or a store that is out."""
    world = proxy.world
    gate = world.upstream.hold("GetItem")
    match how:
        case "silent":
            world.upstream.fail("GetItem", SILENT)
        case "throttled":
            world.upstream.fail("GetItem", THROTTLED)
        case "nonsense":
            world.upstream.answer("GetItem", b"[]")
        case _:
            world.put_elsewhere("a", "2")
    await proxy.get("a")
    if how == "store":
        proxy.store.down = StoreFailure.TIMEOUT
    gate.release()
    await world.clock.sleep(READ_TIMEOUT_S + 1)
    await quiesce()
    assert results(proxy) == [AuditResult.FAILED]
    assert proxy.told(StaleFound) == []


async def test_stale_entry_stays_until_it_expires_if_the_store_fails_then(proxy: Proxy) -> None:
    """The finding counts all the same."""
    proxy.world.put_elsewhere("a", "2")
    proxy.store.fail_next(StoreFailure.TIMEOUT, step="invalidate")
    assert await audited(proxy) is AuditResult.STALE


async def test_share_decides_by_chance(proxy: Proxy) -> None:
    """A hit is audited if chance falls below the share; 0 audits none and rolls no dice."""
    proxy.world.clock.chance = 0.25
    for share, audits in ((0.0, 0), (0.2, 0), (0.3, 1)):
        made = proxy.world.proxy(audit=replace(ALL, share=share))
        await made.get("a")
        await quiesce()
        assert len(results(made)) == audits


async def test_audits_beyond_a_bound_are_dropped_and_counted(proxy: Proxy) -> None:
    """The hit is answered all the same."""
    made = proxy.world.proxy(audit=replace(ALL, concurrency_max=1))
    gate = proxy.world.upstream.hold("GetItem")
    for _ in range(2):
        assert (await made.get("a")).outcome is Outcome.HIT
    assert results(made) == [AuditResult.DROPPED]
    gate.release()
    await quiesce()
    await made.get("a")
    await quiesce()
    assert results(made) == [AuditResult.DROPPED, AuditResult.MATCH, AuditResult.MATCH]


@pytest.mark.parametrize("trouble", ["throttled", "failed", "silent"])
async def test_no_audit_while_upstream_is_in_trouble(proxy: Proxy, trouble: str) -> None:
    """Whoever's request met it; after a while audits go on."""
    match trouble:
        case "throttled":
            proxy.world.upstream.fail("PutItem", THROTTLED)
        case "failed":
            proxy.world.upstream.fail("PutItem", FAILED)
        case _:
            proxy.world.upstream.refuse("PutItem", UpstreamFailure.OVERLOAD)
    await asyncio.gather(proxy.put("other", "1"), return_exceptions=True)
    await proxy.get("a")
    assert results(proxy) == [AuditResult.DROPPED]
    await proxy.world.clock.sleep(BACK_OFF_S)
    await proxy.get("a")
    await quiesce()
    assert results(proxy)[1:] == [AuditResult.MATCH]


async def test_keys_of_batches_are_audited(proxy: Proxy) -> None:
    """Each hit by itself, as a GetItem's."""
    await proxy.get("b")
    proxy.world.put_elsewhere("a", "2")
    await proxy.batch_get("a", "b")
    await quiesce()
    assert sorted(results(proxy)) == [AuditResult.MATCH, AuditResult.STALE]


async def test_projections_are_audited_by_what_they_show(proxy: Proxy) -> None:
    """An attribute that the reader did not ask for is of no account to that reader."""
    for names, expected in (("pk", AuditResult.MATCH), ("v", AuditResult.STALE)):
        proxy.events.clear()
        proxy.world.put_elsewhere("a", "2")
        await proxy.get("a", ProjectionExpression=names)
        await quiesce()
        assert results(proxy) == [expected]


def query(pk: str = "a", **members: Any) -> dict[str, Any]:
    """Return a Query of one partition."""
    return {
        "TableName": TABLE,
        "KeyConditionExpression": "pk = :p",
        "ExpressionAttributeValues": {":p": {"S": pk}},
        **members,
    }


@pytest.fixture
async def pages(world: World) -> Proxy:
    """Give a proxy that audits every hit and whose table has cached pages."""
    world.put_elsewhere("a", "1")
    world.policy = replace(world.policy, queries=QueryPolicy(enabled=True))
    made = world.proxy(audit=ALL)
    await made.call("Query", query("somebody else"))
    await world.clock.sleep(READY_S)
    return made


async def test_pages_are_audited(pages: Proxy) -> None:
    """One that a write past every proxy changed is found; one that is right matches."""
    await pages.call("Query", query())
    for value, expected in (("1", AuditResult.MATCH), ("2", AuditResult.STALE)):
        pages.world.put_elsewhere("a", value)
        pages.events.clear()
        await pages.call("Query", query())
        await quiesce()
        assert results(pages) == [expected]


@pytest.mark.parametrize("ended", [False, True])
async def test_page_of_a_partition_written_to_is_no_error(pages: Proxy, *, ended: bool) -> None:
    """While the write is in flight no page counts, after it an older one does not."""
    await pages.call("Query", query())
    pages.events.clear()
    gate = pages.world.upstream.hold("Query")
    await pages.call("Query", query())
    await gate.reached()
    writing = pages.world.upstream.hold("PutItem", after_effect=True)
    write = asyncio.ensure_future(pages.world.proxy().put("a", "2"))
    await writing.reached()
    if ended:
        writing.release()
        await write
    gate.release()
    await quiesce()
    writing.release()
    await write
    assert results(pages) == [AuditResult.INCONCLUSIVE]


async def test_page_of_a_global_index_is_not_audited(pages: Proxy) -> None:
    """It cannot be read consistently: a difference would prove nothing."""
    for _ in range(2):
        await pages.call("Query", query(IndexName="global"))
        await pages.world.clock.sleep(11.0)
    assert (await pages.call("Query", query(IndexName="global"))).outcome is Outcome.HIT
    await quiesce()
    assert results(pages) == []
