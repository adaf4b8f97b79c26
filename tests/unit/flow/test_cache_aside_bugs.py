"""The bugs of hand-written caches, one test each: none of them is here.

Bug 10, a stream handler that overwrites a newer own write, belongs to streams, which this release
does not read.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from proxy.core.errors import StoreFailure, UpstreamFailed
from proxy.core.key_schema import KeySchema
from proxy.core.values import Outcome, TableName
from tests.fakes.fake_upstream_script import SILENT_APPLIED_LATER
from tests.fakes.memory_store import Step
from tests.support.flow_world import TABLE, Proxy, World, item_of, value_of

PAIRS = TableName("pairs")
NUMBERS = TableName("numbers")


@pytest.fixture
async def proxy(world: World) -> Proxy:
    """Give one proxy; item a holds "1"."""
    world.put_elsewhere("a", "1")
    return world.proxy(configured={TABLE: KeySchema("pk")})


async def put(proxy: Proxy, table: TableName, item: dict[str, Any]) -> None:
    """Write an item of some table."""
    answer = await proxy.call("PutItem", {"TableName": table, "Item": item})
    assert answer.status == 200


async def get(proxy: Proxy, table: TableName, key: dict[str, Any]) -> tuple[Outcome, Any]:
    """Read an item of some table twice; return how the second read was answered, and what."""
    body = {"TableName": table, "Key": key}
    await proxy.call("GetItem", body)
    answer = await proxy.call("GetItem", body)
    return answer.outcome, item_of(answer)


async def test_bug_1_look_alike_separators_do_not_share_an_entry(proxy: Proxy) -> None:
    """(`a:sk:b`, `c`) and (`a`, `b:sk:c`) are two items."""
    proxy.world.upstream.tables.add(PAIRS, pk="S", sk="S")
    keys = [
        {"pk": {"S": pk}, "sk": {"S": sk}}
        for pk, sk in (("a:sk:b", "c"), ("a", "b:sk:c"), ("a:sk:b:sk", "c"), ("a:sk", "b:sk:c"))
    ]
    for number, key in enumerate(keys):
        await put(proxy, PAIRS, {**key, "n": {"N": str(number)}})
    for number, key in enumerate(keys):
        assert await get(proxy, PAIRS, key) == (Outcome.HIT, {**key, "n": {"N": str(number)}})


async def test_bug_2_value_read_before_a_write_is_not_stored_after_it(proxy: Proxy) -> None:
    """Miss → read → somebody writes and invalidates → the old value is not stored."""
    gate = proxy.world.upstream.hold("GetItem", after_effect=True)
    reading = asyncio.ensure_future(proxy.get("a"))
    await gate.reached()
    await proxy.put("a", "2")
    gate.release()
    assert value_of(await reading) == "1"
    assert value_of(await proxy.get("a")) == "2"


async def test_bug_3_entry_and_its_invalidation_are_one_step(world: World, proxy: Proxy) -> None:
    """An invalidation at any moment around a fill reaches the entry: there is no index beside it.

    The write of another proxy is let through completely before each single step of the reader.
    """
    other = world.proxy(configured={TABLE: KeySchema("pk")})
    for step_name in ("lookup", "lease", "fill"):
        world.store.flush()

        async def write_first(step: Step, wanted: str = step_name) -> None:
            if step.name == wanted:
                proxy.store.before = None
                await other.put("a", wanted)

        proxy.store.before = write_first
        await proxy.get("a")
        assert value_of(await proxy.get("a")) == step_name


async def test_bug_4_nothing_in_the_store_lives_for_ever_but_one_record_per_table(
    world: World, proxy: Proxy
) -> None:
    """Every record that reads and writes leave has an end, but for one per table."""
    for number in range(20):
        await proxy.get(str(number))
        await proxy.put(str(number), "x")
        await proxy.delete(str(number))
    await proxy.get("a")
    endless = [
        key for key, stored in world.store.scripts.records.items() if stored.expires_ms is None
    ]
    assert endless == [world.keys.table_key(TABLE)]


@pytest.mark.parametrize("step", ["begin", "end"])
async def test_bug_5_store_down_during_a_write_is_no_error(proxy: Proxy, step: str) -> None:
    """After DynamoDB accepted the write the application never sees an exception."""
    proxy.store.fail_next(StoreFailure.TIMEOUT, step=step)
    answer = await proxy.put("a", "2")
    assert (answer.status, proxy.world.upstream.count("PutItem")) == (200, 1)
    assert value_of(await proxy.get("a")) == "2"


async def test_bug_6_one_number_is_one_item_however_it_is_spelled(proxy: Proxy) -> None:
    """`1`, `1.0` and `1e0` are one item: one entry, and a write of one invalidates all."""
    proxy.world.upstream.tables.add(NUMBERS, n="N")
    spellings = ("1", "1.0", "1e0", "0.1E1")
    await put(proxy, NUMBERS, {"n": {"N": "1"}, "v": {"S": "old"}})
    for spelling in spellings:
        await get(proxy, NUMBERS, {"n": {"N": spelling}})
    assert proxy.world.upstream.count("GetItem") == 1
    await put(proxy, NUMBERS, {"n": {"N": "1.00"}, "v": {"S": "new"}})
    for spelling in spellings:
        outcome, item = await get(proxy, NUMBERS, {"n": {"N": spelling}})
        assert (outcome, item["v"]) == (Outcome.HIT, {"S": "new"})


async def test_bug_7_separators_in_attribute_names_break_nothing(proxy: Proxy) -> None:
    """Key attributes may be called anything."""
    table = TableName("odd")
    for names in (("pk:sk", "{}"), ("pk", "sk:{}"), ("a|b", "\u0000")):
        proxy.world.upstream.tables.add(table, **dict.fromkeys(names, "S"))
        proxy.schemas.forget(table)
        key = {name: {"S": "x"} for name in names}
        item = {**key, "v": {"S": names[0]}}
        await put(proxy, table, item)
        assert await get(proxy, table, key) == (Outcome.HIT, item)


async def test_bug_8_write_that_timed_out_is_seen_when_it_lands(world: World, proxy: Proxy) -> None:
    """A write without an answer may have been applied: the old entry is not served after it."""
    other = world.proxy()
    await other.get("a")
    world.upstream.fail("PutItem", SILENT_APPLIED_LATER)
    with pytest.raises(UpstreamFailed):
        await proxy.put("a", "2")
    world.upstream.land()
    assert [value_of(await each.get("a")) for each in (proxy, other)] == ["2", "2"]


async def test_bug_9_partial_item_never_answers_a_full_read(proxy: Proxy) -> None:
    """A projection is cut from the whole entry; the entry is never the projection."""
    partial = await proxy.get("a", ProjectionExpression="#n", ExpressionAttributeNames={"#n": "pk"})
    whole = await proxy.get("a")
    other = await proxy.get("a", AttributesToGet=["v"])
    assert (partial.outcome, whole.outcome) == (Outcome.MISS, Outcome.HIT)
    assert json.loads(partial.body) == {"Item": {"pk": {"S": "a"}}}
    assert value_of(whole) == "1"
    assert json.loads(other.body) == {"Item": {"v": {"S": "1"}}}
