"""Claims about `proxy.flow.write_path`, with one or two proxies on one memory store."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from proxy.core.errors import StoreFailure, StoreUnavailable, UpstreamFailed, UpstreamFailure
from proxy.core.key_schema import KeySchema
from proxy.core.record import Entry, Pending, Record, Tombstone
from proxy.core.values import BypassReason, FenceResult, Level, Outcome, WriteMode
from proxy.flow.events import DebtsChanged, FenceEnded
from tests.fakes.fake_upstream_script import (
    FAILED,
    FAILED_YET_APPLIED,
    RESET_AFTER,
    SILENT_APPLIED_LATER,
    THROTTLED,
)
from tests.fakes.memory_store import Step
from tests.support.flow_world import TABLE, Proxy, World, key_of, value_of
from tests.support.virtual_time import quiesce

NEVER = {"ConditionExpression": "attribute_not_exists(pk)"}
OTHER = "customers"
DENIED = {"__type": "com.amazon.coral.service#AccessDeniedException"}


@pytest.fixture
async def proxy(world: World) -> Proxy:
    """Give one proxy that knows the key schema; item a holds "1"."""
    world.put_elsewhere("a", "1")
    return world.proxy(configured={TABLE: KeySchema("pk")})


def record(proxy: Proxy, pk: str = "a") -> Record | None:
    """Return an item's record."""
    return proxy.world.store.record(proxy.world.identity(pk))


def ends(proxy: Proxy) -> list[FenceResult]:
    """Return what became of each fence."""
    return [told.result for told in proxy.told(FenceEnded)]


def write_steps(proxy: Proxy) -> list[str]:
    """Return the store's steps that writes take, in order."""
    return [step.name for step in proxy.store.steps if step.name in {"begin", "end"}]


async def through(world: World) -> None:
    """Let writes put the new item into the store; the table's generation is known there."""
    world.policy = replace(world.policy, write_mode=WriteMode.THROUGH)
    await world.store.lookup(world.identity("a"))


def strict(world: World) -> None:
    """Promise linearizable reads."""
    world.policy = replace(world.policy, level=Level.STRICT)


WRITES = {
    "put": lambda proxy: proxy.put("a", "2"),
    "update": lambda proxy: proxy.update("a", "2"),
    "delete": lambda proxy: proxy.delete("a"),
    "batch": lambda proxy: proxy.batch_put("a", "2"),
}


@pytest.mark.parametrize("write", WRITES)
async def test_own_write_is_seen_by_every_later_read(
    world: World, proxy: Proxy, write: str
) -> None:
    """After the answer to a write, reads through any proxy show it."""
    other = world.proxy()
    for each in (proxy, other):
        assert value_of(await each.get("a")) == "1"
    answer = await WRITES[write](proxy)
    assert (answer.status, answer.outcome) == (200, Outcome.WRITE)
    expected = None if write == "delete" else "2"
    assert [value_of(await each.get("a")) for each in (proxy, other)] == [expected] * 2


@pytest.mark.parametrize("write", ["put", "update", "delete"])
async def test_fence_is_around_the_write(proxy: Proxy, write: str) -> None:
    """Begin is done before anything is sent, end before the caller is answered."""
    gate = proxy.world.upstream.hold("")
    writing = asyncio.ensure_future(WRITES[write](proxy))
    await gate.reached()
    assert write_steps(proxy) == ["begin"]
    assert isinstance(record(proxy), Pending)
    gate.release()
    answer = await writing
    assert write_steps(proxy) == ["begin", "end"]
    assert isinstance(record(proxy), Tombstone)
    assert (answer.detail, answer.stored) == ("write-invalidated", False)
    assert ends(proxy) == [FenceResult.INVALIDATED]


async def test_write_waits_for_its_end_before_it_is_acknowledged(proxy: Proxy) -> None:
    """A slow end holds the acknowledgement back: an acknowledged write has left no older entry."""
    reached, opened = asyncio.Event(), asyncio.Event()

    async def hold_end(step: Step) -> None:
        if step.name == "end":
            reached.set()
            await opened.wait()

    proxy.store.before = hold_end
    writing = asyncio.ensure_future(proxy.put("a", "2"))
    await reached.wait()
    await quiesce()
    assert proxy.world.newest("a") == "2"
    assert not writing.done()
    opened.set()
    assert (await writing).status == 200


async def test_write_passes_byte_for_byte(proxy: Proxy) -> None:
    """Body and header fields reach upstream untouched, the answer comes back untouched."""
    answer = await proxy.put("a", "2", ReturnValues="ALL_OLD")
    sent = proxy.world.upstream.sent[-1]
    assert json.loads(sent.body)["ReturnValues"] == "ALL_OLD"
    assert (sent.repeatable, sent.timeout_s) == (False, proxy.world.fence.write_timeout_s)
    assert json.loads(answer.body) == {"Attributes": {**key_of("a"), "v": {"S": "1"}}}
    assert dict(answer.headers)["x-amzn-RequestId"] == "UPSTREAM1"


async def test_refused_write_restores_the_hidden_entry(proxy: Proxy) -> None:
    """A failed condition changed nothing: the entry from before serves on."""
    await proxy.get("a")
    entry = record(proxy)
    answer = await proxy.put("a", "2", **NEVER)
    assert (answer.status, answer.detail) == (400, "write-restored")
    assert record(proxy) == entry
    assert (await proxy.get("a")).outcome is Outcome.HIT


async def test_throttled_write_restores_the_hidden_entry(proxy: Proxy) -> None:
    """A throttle is a definite refusal too."""
    await proxy.get("a")
    proxy.world.upstream.fail("PutItem", THROTTLED)
    assert (await proxy.put("a", "2")).status == 400
    assert ends(proxy) == [FenceResult.RESTORED]


@pytest.mark.parametrize(
    "failure", [UpstreamFailure.CONNECT, UpstreamFailure.CREDENTIALS, UpstreamFailure.OVERLOAD]
)
async def test_unsent_write_restores_the_hidden_entry(
    proxy: Proxy, failure: UpstreamFailure
) -> None:
    """When nothing left this process, nothing changed."""
    await proxy.get("a")
    proxy.world.upstream.refuse("PutItem", failure)
    with pytest.raises(UpstreamFailed) as raised:
        await proxy.put("a", "2")
    assert raised.value.failure is failure
    assert isinstance(record(proxy), Entry)


@pytest.mark.parametrize("how", ["reset", "silent", "500"])
async def test_unknown_outcome_keeps_the_marker(world: World, proxy: Proxy, how: str) -> None:
    """A write that may still take effect keeps its item out of the cache until it cannot.

    It lands after the answer; no read through any proxy shows the older version after it.
    """
    other = world.proxy()
    await other.get("a")
    faults = {"reset": RESET_AFTER, "silent": SILENT_APPLIED_LATER, "500": FAILED_YET_APPLIED}
    world.upstream.fail("PutItem", faults[how])
    if how == "500":
        assert (await proxy.put("a", "2")).detail == "write-kept"
    else:
        with pytest.raises(UpstreamFailed):
            await proxy.put("a", "2")
    assert (ends(proxy), len(proxy.debts)) == ([FenceResult.KEPT], 0)
    assert isinstance(record(proxy), Pending)
    before = await other.get("a")
    assert (before.outcome, before.stored) == (Outcome.MISS, False)
    world.upstream.land()
    for each in (proxy, other):
        assert value_of(await each.get("a")) == "2"
    await world.clock.sleep(world.fence.marker_s)
    filled = await other.get("a")
    assert (filled.stored, value_of(filled)) == (True, "2")


async def test_caller_that_hangs_up_does_not_stop_its_write(proxy: Proxy) -> None:
    """The sequence is detached: the fence is ended although nobody waits for the answer."""
    gate = proxy.world.upstream.hold("PutItem")
    writing = asyncio.ensure_future(proxy.put("a", "2"))
    await gate.reached()
    writing.cancel()
    await asyncio.wait({writing})
    assert len(proxy.tasks) == 1
    gate.release()
    await quiesce()
    assert ends(proxy) == [FenceResult.INVALIDATED]
    assert proxy.world.newest("a") == "2"


async def test_write_cut_off_at_stop_keeps_its_marker(proxy: Proxy) -> None:
    """A write that is cancelled after it was sent has an unknown outcome."""
    gate = proxy.world.upstream.hold("PutItem")
    writing = asyncio.ensure_future(proxy.put("a", "2"))
    await gate.reached()
    await proxy.tasks.settle(0.0, asyncio.sleep)
    await asyncio.wait({writing})
    assert isinstance(record(proxy), Pending)
    assert ends(proxy) == [FenceResult.KEPT]


# The store is out


@pytest.mark.parametrize("failure", list(StoreFailure))
@pytest.mark.parametrize("write", WRITES)
async def test_strict_write_without_a_fence_is_refused_unsent(
    proxy: Proxy, write: str, failure: StoreFailure
) -> None:
    """At `strict` nothing is sent when the store is out, and nothing is owed for it."""
    strict(proxy.world)
    proxy.store.down = failure
    with pytest.raises(StoreUnavailable):
        await WRITES[write](proxy)
    assert proxy.world.upstream.sent == []
    assert (len(proxy.debts), ends(proxy)) == (0, [])
    proxy.store.down = None
    assert value_of(await proxy.get("a")) == "1"


@pytest.mark.parametrize("write", WRITES)
async def test_strict_write_waits_for_a_new_primary_to_be_the_only_one(
    proxy: Proxy, write: str
) -> None:
    """An older primary could still serve what the write changes: refused, unsent, nothing owed."""
    strict(proxy.world)
    proxy.store.settled = False
    with pytest.raises(StoreUnavailable) as refused:
        await WRITES[write](proxy)
    assert refused.value.failure is StoreFailure.UNSETTLED
    assert proxy.world.upstream.sent == []
    assert len(proxy.debts) == 0
    assert value_of(await proxy.get("a")) == "1"
    proxy.store.settled = True
    assert (await WRITES[write](proxy)).status == 200


@pytest.mark.parametrize("write", WRITES)
async def test_other_levels_write_through_a_new_primary_at_once(proxy: Proxy, write: str) -> None:
    """`session` promises nothing to other proxies that an older primary could break."""
    proxy.store.settled = False
    assert (await WRITES[write](proxy)).status == 200
    assert len(proxy.debts) == 0


async def test_strict_change_of_a_table_waits_for_a_settled_primary_too(proxy: Proxy) -> None:
    """A whole table's fence is as good as its items'."""
    strict(proxy.world)
    proxy.store.settled = False
    with pytest.raises(StoreUnavailable) as refused:
        await proxy.call("DeleteTable", {"TableName": TABLE})
    assert refused.value.failure is StoreFailure.UNSETTLED
    assert proxy.world.upstream.sent == []


async def test_strict_write_whose_begin_was_lost_leaves_no_marker(proxy: Proxy) -> None:
    """A begin that took effect although its reply was lost is taken back at once."""
    strict(proxy.world)
    proxy.store.lose_next_reply(step="begin")
    with pytest.raises(StoreUnavailable):
        await proxy.put("a", "2")
    assert proxy.world.upstream.sent == []
    assert not isinstance(record(proxy), Pending)


async def test_strict_write_of_several_tables_is_all_or_nothing(world: World, proxy: Proxy) -> None:
    """One fence that is not to be had refuses the whole write and gives the others back."""
    strict(world)
    await proxy.get("a")
    entry = record(proxy)
    world.upstream.tables.add(OTHER, pk="S")
    proxy.store.fail_next(StoreFailure.TIMEOUT, step="begin")
    puts = [{"PutRequest": {"Item": key_of("a")}}]
    with pytest.raises(StoreUnavailable):
        await proxy.call("BatchWriteItem", {"RequestItems": {OTHER: puts, TABLE: puts}})
    assert world.upstream.count("BatchWriteItem") == 0
    assert record(proxy) == entry
    assert ends(proxy) == [FenceResult.LOST, FenceResult.RESTORED]


@pytest.mark.parametrize("failure", list(StoreFailure))
@pytest.mark.parametrize("write", WRITES)
async def test_session_write_goes_on_without_the_store(
    world: World, proxy: Proxy, write: str, failure: StoreFailure
) -> None:
    """The write is sent and owed; own reads bypass the store until the debt is paid."""
    other = world.proxy()
    await proxy.get("a")
    proxy.store.down = failure
    answer = await WRITES[write](proxy)
    assert (answer.status, answer.detail) == (200, "write-debt")
    proxy.store.down = None
    own = await proxy.get("a")
    expected = None if write == "delete" else "2"
    assert (own.reason, value_of(own)) == (BypassReason.DEBT, expected)
    assert proxy.told(DebtsChanged) == [DebtsChanged(1)]
    await proxy.debts.pay_ripe()
    assert proxy.told(DebtsChanged)[-1] == DebtsChanged(0)
    for each in (proxy, other):
        paid = await each.get("a")
        assert (paid.reason, value_of(paid)) == (None, expected)


async def test_debt_of_an_unknown_outcome_ripens_with_the_marker(proxy: Proxy) -> None:
    """While the write may still take effect its debt is not paid, so nobody fills too early."""
    proxy.store.down = StoreFailure.CONNECT
    proxy.world.upstream.fail("PutItem", SILENT_APPLIED_LATER)
    with pytest.raises(UpstreamFailed):
        await proxy.put("a", "2")
    proxy.store.down = None
    await proxy.debts.pay_ripe()
    assert len(proxy.debts) == 1
    assert value_of(await proxy.get("a")) == "1"
    proxy.world.upstream.land()
    assert value_of(await proxy.get("a")) == "2"
    await proxy.world.clock.sleep(proxy.world.fence.marker_s)
    await proxy.debts.pay_ripe()
    assert len(proxy.debts) == 0


@pytest.mark.parametrize("failure", list(StoreFailure))
@pytest.mark.parametrize("write", WRITES)
async def test_accepted_write_is_never_reported_as_failed(
    proxy: Proxy, write: str, failure: StoreFailure
) -> None:
    """When the end does not reach the store it is owed, at every level."""
    strict(proxy.world)
    proxy.store.fail_next(failure, step="end")
    answer = await WRITES[write](proxy)
    assert (answer.status, answer.detail) == (200, "write-debt")
    assert (await proxy.get("a")).reason is BypassReason.DEBT
    await proxy.debts.pay_ripe()
    assert (len(proxy.debts), (await proxy.get("a")).reason) == (0, None)


async def test_writes_beyond_the_debts_bound_are_refused_unsent(world: World) -> None:
    """Memory is bounded: without room to remember a debt the write is not sent."""
    proxy = world.proxy(debts_max=1, configured={TABLE: KeySchema("pk")})
    proxy.store.down = StoreFailure.CONNECT
    await proxy.put("a", "2")
    with pytest.raises(StoreUnavailable) as refused:
        await proxy.put("b", "2")
    assert refused.value.failure is StoreFailure.FULL
    assert world.upstream.count("PutItem") == 1


async def test_refused_write_of_several_tables_leaves_no_debt_for_ever(world: World) -> None:
    """The debts of a write that was refused half-way are paid like all others."""
    proxy = world.proxy(debts_max=1)
    world.upstream.tables.add(OTHER, pk="S")
    proxy.store.down = StoreFailure.CONNECT
    puts = [{"PutRequest": {"Item": key_of("a")}}]
    with pytest.raises(StoreUnavailable):
        await proxy.call("BatchWriteItem", {"RequestItems": {TABLE: puts, OTHER: puts}})
    assert world.upstream.count("BatchWriteItem") == 0
    proxy.store.down = None
    await proxy.debts.pay_ripe()
    assert len(proxy.debts) == 0


async def test_accepted_write_whose_debt_finds_no_room_is_still_accepted(world: World) -> None:
    """Its marker keeps the item out of the cache until it dies; the answer is upstream's."""
    proxy = world.proxy(debts_max=0, configured={TABLE: KeySchema("pk")})
    proxy.store.fail_next(StoreFailure.TIMEOUT, step="end")
    answer = await proxy.put("a", "2")
    assert (answer.status, answer.detail) == (200, "write-debt")
    read = await proxy.get("a")
    assert (value_of(read), read.stored) == ("2", False)
    await world.clock.sleep(world.fence.marker_s)
    assert (await proxy.get("a")).stored


# Pauses of the process


def pausing(proxy: Proxy, times: int, for_s: float) -> None:
    """Stop the whole process while a begin is under way, so many times."""
    left = [for_s] * times

    async def stop(step: Step) -> None:
        if step.name.startswith("begin") and left:
            proxy.world.clock.pause(left.pop())

    proxy.store.before = stop


async def test_pause_longer_than_the_marker_allows_begins_anew(proxy: Proxy) -> None:
    """A write is not sent under a marker that could run out before its time-out."""
    pausing(proxy, 1, 25.0)
    assert (await proxy.put("a", "2")).status == 200
    assert write_steps(proxy) == ["begin", "begin", "end"]


async def test_short_pause_does_not_begin_anew(proxy: Proxy) -> None:
    """As long as the marker outlives the write, one begin is enough."""
    pausing(proxy, 1, 19.0)
    await proxy.put("a", "2")
    assert write_steps(proxy) == ["begin", "end"]


async def test_process_paused_again_and_again_gives_up_unsent(proxy: Proxy) -> None:
    """After three begins that came too late the write is refused, and its marker taken back."""
    await proxy.get("a")
    pausing(proxy, 3, 25.0)
    with pytest.raises(StoreUnavailable):
        await proxy.put("a", "2")
    assert proxy.world.upstream.count("PutItem") == 0
    assert isinstance(record(proxy), Entry)


async def test_process_paused_again_and_again_leaves_no_debt_for_ever(proxy: Proxy) -> None:
    """Giving up without a store leaves nothing that is owed for good."""
    pausing(proxy, 3, 25.0)
    proxy.store.down = StoreFailure.CONNECT
    with pytest.raises(StoreUnavailable):
        await proxy.put("a", "2")
    proxy.store.down = None
    await proxy.debts.pay_ripe()
    assert len(proxy.debts) == 0


async def test_debt_of_a_first_try_is_kept_through_the_second(proxy: Proxy) -> None:
    """A begin that failed once and then succeeded is ended by paying its one debt."""
    pausing(proxy, 1, 25.0)
    proxy.store.fail_next(StoreFailure.TIMEOUT, step="begin")
    assert (await proxy.put("a", "2")).detail == "write-debt"
    assert len(proxy.debts) == 1
    await proxy.debts.pay_ripe()
    assert isinstance(record(proxy), Tombstone)


# Write-through


async def test_put_through_becomes_the_entry(proxy: Proxy) -> None:
    """The next read is a hit on what was written, at no read capacity."""
    await through(proxy.world)
    answer = await proxy.put("a", "2")
    assert (answer.stored, answer.detail, answer.table) == (True, "write-stored", TABLE)
    hit = await proxy.get("a")
    assert (hit.outcome, value_of(hit)) == (Outcome.HIT, "2")
    assert proxy.world.upstream.count("GetItem") == 0


async def test_write_through_into_an_unknown_table_only_invalidates(proxy: Proxy) -> None:
    """Without a generation to store under, the first write of a table leaves a tombstone."""
    proxy.world.policy = replace(proxy.world.policy, write_mode=WriteMode.THROUGH)
    answer = await proxy.put("a", "2")
    assert (answer.stored, answer.detail) == (False, "write-invalidated")


async def test_entry_written_through_is_as_old_as_its_write(proxy: Proxy) -> None:
    """Age counts from when the write was sent; jitter shortens as for fills."""
    await through(proxy.world)
    proxy.world.policy = replace(proxy.world.policy, fresh_ttl_s=100.0, jitter=0.1)
    proxy.world.clock.chance = 1.0
    await proxy.world.clock.sleep(9.0)
    gate = proxy.world.upstream.hold("PutItem")
    sent_ms = proxy.store.now_ms()
    writing = asyncio.ensure_future(proxy.put("a", "2"))
    await gate.reached()
    proxy.world.clock.pause(4.0)
    gate.release()
    await writing
    entry = record(proxy)
    assert isinstance(entry, Entry)
    assert (entry.filled_ms, entry.soft_ms) == (sent_ms, sent_ms + 90_000)
    assert (entry.negative, entry.item_bytes) == (False, 5)


async def test_item_of_just_the_allowed_size_is_written_through(proxy: Proxy) -> None:
    """The bound itself is allowed."""
    await through(proxy.world)
    body = b'{"Item":{"pk":{"S":"a"},"v":{"S":"2"}}}'
    proxy.world.policy = replace(proxy.world.policy, entry_bytes_max=len(body))
    assert (await proxy.put("a", "2")).stored
    assert (await proxy.get("a")).body == body


async def test_delete_through_becomes_an_absence(proxy: Proxy) -> None:
    """After a delete the store says that there is no such item."""
    await through(proxy.world)
    assert (await proxy.delete("a")).stored
    hit = await proxy.get("a")
    assert (hit.outcome, hit.body) == (Outcome.NEGATIVE_HIT, b"{}")


async def test_update_through_becomes_the_entry(proxy: Proxy) -> None:
    """Whatever the caller asked for: with a part only, the entry is dropped."""
    await through(proxy.world)
    assert not (await proxy.update("a", "2", ReturnValues="UPDATED_NEW")).stored
    assert isinstance(record(proxy), Tombstone)
    for v, wish in (("3", {"ReturnValues": "ALL_NEW"}), ("4", {})):
        assert (await proxy.update("a", v, **wish)).stored
        hit = await proxy.get("a")
        assert (hit.outcome, value_of(hit)) == (Outcome.HIT, v)


async def test_update_is_not_asked_for_its_result_while_the_store_is_out(proxy: Proxy) -> None:
    """It could not be stored: the caller's own bytes are sent."""
    await through(proxy.world)
    proxy.store.down = StoreFailure.CONNECT
    await proxy.update("a", "2")
    assert b"ReturnValues" not in proxy.world.upstream.sent[-1].body


async def test_denied_upgrade_is_sent_as_asked_under_the_same_fence(proxy: Proxy) -> None:
    """Where the credentials may not ask for the item, the write goes on without."""
    await through(proxy.world)
    proxy.world.upstream.answer("UpdateItem", DENIED, status=400)
    answer = await proxy.update("a", "2")
    assert (answer.status, answer.detail) == (200, "write-invalidated")
    assert write_steps(proxy) == ["begin", "end"]
    assert value_of(await proxy.get("a")) == "2"


async def test_denial_that_came_too_late_for_the_marker_is_not_followed(proxy: Proxy) -> None:
    """A second request could take effect after the marker: the caller is asked to try again."""
    await proxy.get("a")
    await through(proxy.world)
    proxy.world.upstream.answer(
        "UpdateItem", DENIED, status=400, effect=lambda: proxy.world.clock.pause(20.0)
    )
    with pytest.raises(UpstreamFailed):
        await proxy.update("a", "2")
    assert proxy.world.upstream.count("UpdateItem") == 1
    assert ends(proxy) == [FenceResult.RESTORED]


@pytest.mark.parametrize("why", ["too large", "no time", "no time for absence", "refused"])
async def test_write_through_that_may_not_be_stored_only_invalidates(
    proxy: Proxy, why: str
) -> None:
    """What the policy keeps out of the store, or DynamoDB refused, does not become an entry."""
    await proxy.get("a")
    await through(proxy.world)
    changes: dict[str, dict[str, Any]] = {
        "too large": {"entry_bytes_max": 10},
        "no time": {"fresh_ttl_s": 0.0, "grace_s": 0.0},
        "no time for absence": {"negative_ttl_s": 0.0},
    }
    proxy.world.policy = replace(proxy.world.policy, **changes.get(why, {}))
    if why == "refused":
        answer = await proxy.put("a", "2", **NEVER)
    elif why == "no time for absence":
        answer = await proxy.delete("a")
    else:
        answer = await proxy.put("a", "2")
    assert not answer.stored
    assert ends(proxy) == [FenceResult.RESTORED if why == "refused" else FenceResult.INVALIDATED]


async def test_overlapping_writes_through_store_nothing(world: World, proxy: Proxy) -> None:
    """Nobody knows the order of two writes in flight together: neither becomes the entry.

    1. W begins, X begins.  2. DynamoDB applies X, then W.  3. W ends, X ends. Storing X's item
    would leave an entry older than W.
    """
    await through(world)
    other = world.proxy(configured={TABLE: KeySchema("pk")})
    first = world.upstream.hold("PutItem")
    w = asyncio.ensure_future(proxy.put("a", "w"))
    await first.reached()
    second = world.upstream.hold("PutItem", after_effect=True)
    world.upstream.keep_held(first)
    x = asyncio.ensure_future(other.put("a", "x"))
    await second.reached()
    first.release()
    await second.reached(2)
    assert world.newest("a") == "w"
    second.release()
    answers = [await w, await x]
    assert [answer.stored for answer in answers] == [False, False]
    assert sorted(each.detail or "" for each in answers) == [
        "write-invalidated",
        "write-overlapped",
    ]
    assert value_of(await other.get("a")) == "w"


async def test_write_through_after_a_lost_marker_stores_nothing(proxy: Proxy) -> None:
    """A store that forgot the marker may have missed another write: tombstone, no entry."""
    await through(proxy.world)
    gate = proxy.world.upstream.hold("PutItem")
    writing = asyncio.ensure_future(proxy.put("a", "2"))
    await gate.reached()
    proxy.store.flush()
    gate.release()
    answer = await writing
    assert (answer.stored, answer.detail) == (False, "write-lost")
    assert isinstance(record(proxy), Tombstone)


# Which records a write fences


async def test_put_learns_the_key_schema_once(world: World) -> None:
    """PutItem carries no key: the schema is asked for before the first one."""
    proxy = world.proxy()
    for v in ("2", "3"):
        await proxy.put("a", v)
    assert world.upstream.count("DescribeTable") == 1
    assert proxy.store.asked("begin_table") == 0


async def test_put_of_unknown_key_schema_fences_the_whole_table(world: World) -> None:
    """Where nobody may tell the key, any item may have changed."""
    world.put_elsewhere("a", "1")
    proxy = world.proxy()
    await proxy.get("a")
    world.upstream.answer("DescribeTable", {"__type": "AccessDenied"}, status=400)
    answer = await proxy.put("a", "2")
    assert (answer.detail, proxy.store.asked("begin_table")) == ("write-invalidated", 1)
    assert value_of(await proxy.get("a")) == "2"


async def test_write_through_of_a_whole_table_stores_nothing(world: World) -> None:
    """A table's fence has no entry to put, even when the item is known."""
    await through(world)
    proxy = world.proxy()
    world.upstream.answer("DescribeTable", {"__type": "AccessDenied"}, status=400)
    answer = await proxy.put("a", "2")
    assert (answer.status, answer.stored) == (200, False)


async def test_item_that_does_not_fit_the_schema_fences_the_table(world: World) -> None:
    """A table made anew past every proxy: its items cannot be named until the schema is old."""
    proxy = world.proxy()
    await proxy.put("a", "1")
    world.upstream.tables.add(TABLE, id="S")
    item = {"id": {"S": "n"}, "v": {"S": "1"}}
    for _ in range(20):
        await proxy.call("PutItem", {"TableName": TABLE, "Item": item})
    assert (world.upstream.count("DescribeTable"), proxy.store.asked("begin_table")) == (1, 20)
    await world.clock.sleep(61.0)
    await proxy.call("PutItem", {"TableName": TABLE, "Item": item})
    identity = world.keys.item(TABLE, {"id": {"S": "n"}})
    assert isinstance(proxy.store.record(identity), Tombstone)


async def test_table_made_anew_through_another_proxy_is_fenced_by_its_new_key(
    world: World,
) -> None:
    """What one proxy learned of a table is void once any proxy has made it anew.

    1. A learns the key (pk).  2. B makes the table anew with the key (id).  3. B caches an item
    that has both attributes.  4. A puts it: A must fence the record of (id), or B's entry stays.
    """
    one, other = world.proxy(), world.proxy()
    await one.put("a", "1")
    both = {"pk": {"S": "a"}, "id": {"S": "n"}}
    await other.call("DeleteTable", {"TableName": TABLE})
    world.upstream.tables.add(TABLE, id="S")
    await other.call("PutItem", {"TableName": TABLE, "Item": {**both, "v": {"S": "1"}}})
    get = {"TableName": TABLE, "Key": {"id": {"S": "n"}}}
    for _ in range(2):
        assert b'"1"' in (await other.call("GetItem", get)).body
    await one.call("PutItem", {"TableName": TABLE, "Item": {**both, "v": {"S": "2"}}})
    assert b'"2"' in (await other.call("GetItem", get)).body


async def test_malformed_item_fences_the_whole_table(proxy: Proxy) -> None:
    """An item without the key cannot be named; DynamoDB refuses it and the entries stay."""
    await proxy.get("a")
    answer = await proxy.call("PutItem", {"TableName": TABLE, "Item": {"v": {"S": "1"}}})
    assert (answer.status, answer.detail) == (400, "write-restored")
    assert (await proxy.get("a")).outcome is Outcome.HIT


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("BatchWriteItem", {"RequestItems": {TABLE: [{"DeleteRequest": {}}]}}),
        ("TransactWriteItems", {"TransactItems": [{"Delete": {"TableName": TABLE}}]}),
        ("ExecuteStatement", {"Statement": "DELETE FROM orders WHERE pk='a' OR pk='b'"}),
        ("BatchExecuteStatement", {"Statements": [{"Statement": 'UPDATE "orders" SET v=1'}]}),
        ("ExecuteTransaction", {"TransactStatements": [{"Statement": "DELETE FROM orders"}]}),
        ("DeleteTable", {"TableName": TABLE}),
    ],
)
async def test_writes_of_unnamed_items_fence_the_whole_table(
    world: World, proxy: Proxy, operation: str, body: dict[str, object]
) -> None:
    """No entry of the table from before the write is served after it, through any proxy."""
    other = world.proxy()
    await other.get("a")
    delete = {"TableName": TABLE, "Key": key_of("a")}
    effect = lambda: world.upstream.tables.call("DeleteItem", delete)  # noqa: E731 - one place
    world.upstream.answer(operation, {}, effect=effect)
    gate = world.upstream.hold(operation)
    writing = asyncio.ensure_future(proxy.call(operation, body))
    await gate.reached()
    during = await other.get("a")
    assert (during.reason, value_of(during)) == (BypassReason.TABLE_PENDING, "1")
    gate.release()
    assert (await writing).status == 200
    assert value_of(await other.get("a")) is None


async def test_write_of_several_tables_fences_each(world: World, proxy: Proxy) -> None:
    """Every table named is fenced; the answer belongs to none of them."""
    world.upstream.tables.add(OTHER, pk="S")
    puts = [{"PutRequest": {"Item": key_of("a")}}]
    answer = await proxy.call("BatchWriteItem", {"RequestItems": {TABLE: puts, OTHER: puts}})
    assert (answer.table, answer.status) == (None, 200)
    assert [told.table for told in proxy.told(FenceEnded)] == [TABLE, OTHER]


async def test_refused_batch_leaves_the_entries(proxy: Proxy) -> None:
    """A batch that changed nothing costs no cold cache."""
    await proxy.get("a")
    proxy.world.upstream.fail("BatchWriteItem", THROTTLED)
    assert (await proxy.batch_put("a", "2")).status == 400
    assert (await proxy.get("a")).outcome is Outcome.HIT


UNNAMED: dict[str, Any] = {"RequestItems": {TABLE: [{"DeleteRequest": {}}]}}


async def test_unnamed_items_of_unknown_outcome_keep_the_table_unserved(proxy: Proxy) -> None:
    """A write that may still land keeps the table uncached for the marker's time, then raises."""
    await proxy.get("a")
    proxy.world.upstream.fail("BatchWriteItem", FAILED)
    assert (await proxy.call("BatchWriteItem", UNNAMED)).detail == "write-kept"
    assert (await proxy.get("a")).reason is BypassReason.TABLE_PENDING
    await proxy.world.clock.sleep(proxy.world.fence.marker_s)
    assert (await proxy.get("a")).outcome is Outcome.MISS


async def test_batches_do_not_make_the_key_schema_be_asked_for_again(world: World) -> None:
    """Only changes to tables themselves can change a key: item batches cost no DescribeTable."""
    proxy = world.proxy()
    for v in ("1", "2", "3"):
        await proxy.put("a", v)
        await proxy.batch_put("b", v)
    assert world.upstream.count("DescribeTable") == 1


async def test_key_schema_learned_while_a_table_is_made_anew_is_forgotten(world: World) -> None:
    """A PutItem during DeleteTable must not bring the old key back for the new table.

    Otherwise an item that has both the old and the new key attribute would be fenced under the
    old key, and its entry under the new one would outlive the write.
    """
    proxy = world.proxy()
    gate = world.upstream.hold("DeleteTable")
    deleting = asyncio.ensure_future(proxy.call("DeleteTable", {"TableName": TABLE}))
    await gate.reached()
    await proxy.put("a", "1")
    gate.release()
    await deleting
    world.upstream.tables.add(TABLE, id="S")
    item = {"id": {"S": "n"}, **key_of("a"), "v": {"S": "1"}}
    await proxy.call("PutItem", {"TableName": TABLE, "Item": item})
    identity = world.keys.item(TABLE, {"id": {"S": "n"}})
    assert isinstance(proxy.store.record(identity), Tombstone)


async def test_bug_in_a_fence_is_no_debt(proxy: Proxy) -> None:
    """Only the store's absence is forgiven: another error stops the write before it is sent."""

    async def fall(step: Step) -> None:
        if step.name == "begin":
            raise ZeroDivisionError

    proxy.store.before = fall
    with pytest.raises(ZeroDivisionError):
        await proxy.put("a", "2")
    assert (proxy.world.upstream.sent, len(proxy.debts)) == ([], 0)


async def test_readers_after_a_write_do_not_wait_for_a_fetch_from_before_it(proxy: Proxy) -> None:
    """An acknowledged write takes the flight off the list: it could not serve them anyway."""
    gate = proxy.world.upstream.hold("GetItem", after_effect=True)
    first = asyncio.ensure_future(proxy.get("a"))
    await gate.reached()
    await proxy.put("a", "2")
    proxy.world.upstream.keep_held(gate)
    assert value_of(await proxy.get("a")) == "2"
    gate.release()
    assert value_of(await first) == "1"


# Several items


def batch_of(*pks: str, v: str = "2", table: str = TABLE) -> dict[str, Any]:
    """Return a BatchWriteItem that puts items."""
    items = [{**key_of(pk), "v": {"S": v}} for pk in pks]
    return {"RequestItems": {table: [{"PutRequest": {"Item": item}} for item in items]}}


def transaction_of(*pks: str) -> dict[str, Any]:
    """Return a TransactWriteItems that deletes items."""
    delete = [{"Delete": {"TableName": TABLE, "Key": key_of(pk)}} for pk in pks]
    return {"TransactItems": delete}


async def cached(proxy: Proxy, *pks: str) -> None:
    """Bring items into the store."""
    for pk in pks:
        proxy.world.put_elsewhere(pk, "1")
        await proxy.get(pk)
        assert isinstance(record(proxy, pk), Entry)


async def test_batch_fences_its_items_only(proxy: Proxy) -> None:
    """All fences are begun before anything is sent and ended before the caller is answered."""
    await cached(proxy, "a", "b", "c")
    gate = proxy.world.upstream.hold("BatchWriteItem")
    writing = asyncio.ensure_future(proxy.call("BatchWriteItem", batch_of("a", "b")))
    await gate.reached()
    assert [type(record(proxy, pk)) for pk in "abc"] == [Pending, Pending, Entry]
    gate.release()
    assert (await writing).detail == "write-invalidated"
    assert [type(record(proxy, pk)) for pk in "abc"] == [Tombstone, Tombstone, Entry]
    assert [value_of(await proxy.get(pk)) for pk in "abc"] == ["2", "2", "1"]


async def test_begins_and_ends_of_a_batch_run_together(proxy: Proxy) -> None:
    """Fences of many items wait for the store once, not once each."""
    waiting: list[str] = []
    opened = asyncio.Event()

    async def hold(step: Step) -> None:
        waiting.append(step.name)
        await opened.wait()

    proxy.world.upstream.answer("TransactWriteItems", {})
    proxy.store.before = hold
    writing = asyncio.ensure_future(proxy.call("TransactWriteItems", transaction_of("a", "b")))
    await quiesce()
    assert waiting == ["begin", "begin"]
    opened.set()
    await quiesce()
    opened.clear()
    assert waiting == ["begin", "begin", "end", "end"]
    assert (await writing).status == 200


async def test_cancelled_transaction_restores_every_entry(proxy: Proxy) -> None:
    """A transaction that was refused changed nothing."""
    await cached(proxy, "a", "b")
    body = {"__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException"}
    proxy.world.upstream.answer("TransactWriteItems", body, status=400)
    answer = await proxy.call("TransactWriteItems", transaction_of("a", "b"))
    assert (answer.status, answer.detail) == (400, "write-restored")
    assert [(await proxy.get(pk)).outcome for pk in "ab"] == [Outcome.HIT] * 2


async def test_refused_batch_may_have_been_applied_in_part(proxy: Proxy) -> None:
    """A batch is not atomic: only a throttle proves that nothing changed."""
    await cached(proxy, "a", "b")
    proxy.world.upstream.answer("BatchWriteItem", {"__type": "ValidationException"}, status=400)
    answer = await proxy.call("BatchWriteItem", batch_of("a", "b"))
    assert (answer.status, ends(proxy)) == (400, [FenceResult.INVALIDATED] * 2)


@pytest.mark.parametrize("operation", ["BatchWriteItem", "TransactWriteItems"])
async def test_unknown_outcome_keeps_the_marker_of_every_item(
    world: World, proxy: Proxy, operation: str
) -> None:
    """None of them is served or filled until the write cannot land any more."""
    await cached(proxy, "a", "b", "c")
    world.upstream.fail(operation, FAILED_YET_APPLIED)
    body = batch_of("a", "b") if operation == "BatchWriteItem" else transaction_of("a", "b")
    assert (await proxy.call(operation, body)).detail == "write-kept"
    assert [type(record(proxy, pk)) for pk in "abc"] == [Pending, Pending, Entry]


async def test_transaction_is_never_written_through(proxy: Proxy) -> None:
    """One that repeats a ClientRequestToken is answered with 200 and writes nothing."""
    await through(proxy.world)
    proxy.world.upstream.answer("TransactWriteItems", {})
    put = {"TableName": TABLE, "Item": {**key_of("a"), "v": {"S": "0"}}}
    body = {"TransactItems": [{"Put": put}], "ClientRequestToken": "again"}
    answer = await proxy.call("TransactWriteItems", body)
    assert (answer.stored, answer.detail) == (False, "write-invalidated")
    assert value_of(await proxy.get("a")) == "1"


async def test_whole_batch_is_written_through(proxy: Proxy) -> None:
    """Puts become entries, deletes absences, once upstream left nothing unprocessed."""
    await through(proxy.world)
    body = batch_of("a", "b")
    body["RequestItems"][TABLE].append({"DeleteRequest": {"Key": key_of("c")}})
    answer = await proxy.call("BatchWriteItem", body)
    assert (answer.stored, answer.detail) == (True, "write-stored")
    hits = [await proxy.get(pk) for pk in "abc"]
    assert [value_of(hit) for hit in hits] == ["2", "2", None]
    assert [hit.outcome for hit in hits] == [Outcome.HIT, Outcome.HIT, Outcome.NEGATIVE_HIT]


async def test_batch_with_unprocessed_items_is_not_written_through(proxy: Proxy) -> None:
    """What was left out is not what the store would say."""
    await through(proxy.world)
    left = {"UnprocessedItems": batch_of("a")["RequestItems"]}
    proxy.world.upstream.answer("BatchWriteItem", left)
    answer = await proxy.call("BatchWriteItem", batch_of("a", "b"))
    assert (answer.stored, ends(proxy)) == (False, [FenceResult.INVALIDATED] * 2)


async def test_answer_tells_the_gravest_of_several_results(proxy: Proxy) -> None:
    """A batch of which one item's end is owed is told as a debt, and not as stored."""
    await through(proxy.world)
    proxy.store.fail_next(StoreFailure.TIMEOUT, step="end")
    answer = await proxy.call("BatchWriteItem", batch_of("a", "b"))
    assert (answer.stored, answer.detail) == (False, "write-debt")
    assert sorted(ends(proxy)) == [FenceResult.DEBT, FenceResult.STORED]


async def test_batch_without_the_store_owes_one_debt_per_table(proxy: Proxy) -> None:
    """The bound on debts counts requests; paid, the table's older entries count no more."""
    await cached(proxy, "a", "b", "c")
    proxy.store.down = StoreFailure.CONNECT
    answer = await proxy.call("BatchWriteItem", batch_of("a", "b"))
    assert (answer.detail, len(proxy.debts)) == ("write-debt", 1)
    proxy.store.down = None
    assert [(await proxy.get(pk)).reason for pk in "abc"] == [BypassReason.DEBT] * 3
    await proxy.debts.pay_ripe()
    other = proxy.world.proxy()
    assert [value_of(await other.get(pk)) for pk in "abc"] == ["2", "2", "1"]


@pytest.fixture
async def learned(world: World) -> Proxy:
    """Give one proxy that has learned the key schema from DescribeTable."""
    made = world.proxy()
    await made.schemas.schema_of(TABLE)
    made.store.steps.clear()
    return made


def steps(proxy: Proxy) -> list[str]:
    """Return all steps of the store, in order."""
    return [step.name for step in proxy.store.steps]


async def make_anew(world: World, **key_types: str) -> None:
    """Let another proxy make the table anew."""
    other = world.proxy()
    await other.call("DeleteTable", {"TableName": TABLE})
    world.upstream.tables.add(TABLE, **key_types)


async def test_a_put_costs_two_round_trips(learned: Proxy) -> None:
    """Whether the table is the one whose key schema was learned, begin tells as well."""
    assert (await learned.put("a", "2")).detail == "write-invalidated"
    assert steps(learned) == ["begin", "end"]
    assert learned.world.upstream.count("DescribeTable") == 1


async def test_a_put_into_a_table_made_anew_is_fenced_by_its_new_key(
    world: World, learned: Proxy
) -> None:
    """Nothing is sent before the right item has its marker, and the wrong one loses its own."""
    await make_anew(world, v="S")
    gate = world.upstream.hold("PutItem")
    writing = asyncio.ensure_future(learned.put("a", "2"))
    await gate.reached()
    named = world.keys.item(TABLE, {"v": {"S": "2"}})
    assert isinstance(world.store.record(named), Pending)
    assert not isinstance(record(learned), Pending)
    assert steps(learned) == ["begin", "end", "generation", "begin"]
    gate.release()
    assert (await writing).detail == "write-invalidated"
    assert isinstance(world.store.record(named), Tombstone)
    assert world.upstream.count("PutItem") == 1


async def test_a_table_made_anew_while_the_store_is_out_is_not_noticed(
    world: World, learned: Proxy
) -> None:
    """As ever: without its word what was learned last is the best there is; a debt is owed."""
    await make_anew(world, pk="S")
    learned.store.down = StoreFailure.TIMEOUT
    assert (await learned.put("a", "2")).detail == "write-debt"
    assert steps(learned) == ["begin", "generation"]


async def test_a_strict_put_is_not_sent_on_a_presumption_that_nobody_confirms(
    world: World, learned: Proxy
) -> None:
    """Where begin fails it is refused, whatever is known of the table."""
    strict(world)
    learned.store.down = StoreFailure.TIMEOUT
    with pytest.raises(StoreUnavailable):
        await learned.put("a", "2")
    assert world.upstream.count("PutItem") == 0


async def test_a_debt_of_a_wrong_presumption_is_paid(world: World, learned: Proxy) -> None:
    """Begin failed, and the store said only then that the table is another one."""
    await make_anew(world, v="S")
    learned.store.fail_next(StoreFailure.TIMEOUT, step="begin")
    assert (await learned.put("a", "2")).detail == "write-invalidated"
    assert steps(learned) == ["begin", "generation", "generation", "begin", "end"]
    await learned.debts.pay_ripe()
    assert len(learned.debts) == 0


async def test_the_time_to_confirm_counts_for_the_marker(learned: Proxy) -> None:
    """A pause between begin and the table's stamp begins anew, as one before it does."""
    pauses = [25.0]

    async def stop(step: Step) -> None:
        if step.name == "generation" and pauses:
            learned.world.clock.pause(pauses.pop())

    learned.store.before = stop
    table_key = learned.world.keys.table_key(TABLE)
    await learned.world.store.begin_table(table_key, token=learned.world.clock.token())
    assert (await learned.put("a", "2")).status == 200
    assert write_steps(learned) == ["begin", "begin", "end"]
