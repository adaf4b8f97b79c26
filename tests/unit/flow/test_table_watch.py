"""Claims about `proxy.flow.table_watch`, over the memory store and a scripted upstream."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from proxy.core.errors import StoreFailure, UpstreamFailure
from proxy.core.values import Outcome, TableCheck, TableName
from proxy.flow.events import InvariantViolated, TableChecked
from proxy.flow.table_watch import TableWatch
from tests.support.flow_world import CHECK_S, TABLE, Proxy, World, value_of
from tests.support.virtual_time import quiesce

LOOK_S = 0.5
DENIED = {"__type": "com.amazon.coral.service#AccessDeniedException"}


@pytest.fixture
async def proxy(world: World) -> Proxy:
    """Give one proxy with an item in its cache."""
    world.put_elsewhere("a", "old")
    proxy = world.proxy()
    await proxy.get("a")
    return proxy


def make_anew(world: World) -> None:
    """Delete the table and make it anew, past every proxy, with another item."""
    world.upstream.tables.call("DeleteTable", {"TableName": TABLE})
    world.upstream.tables.add(TABLE, pk="S")
    world.put_elsewhere("a", "new")


async def look(*proxies: Proxy) -> None:
    """Let each proxy look once, and end what it started."""
    for each in proxies:
        each.watch.look()
    await quiesce()


async def wait(world: World, s: float) -> None:
    """Let time pass."""
    await world.clock.sleep(s)


def checks(proxy: Proxy) -> list[TableCheck]:
    """Return what the proxy's checks brought."""
    return [each.result for each in proxy.told(TableChecked)]


async def test_a_table_made_anew_is_void_once_somebody_looked(world: World, proxy: Proxy) -> None:
    """The entry of the older table is served until then and never after."""
    await look(proxy)
    make_anew(world)
    assert value_of(await proxy.get("a")) == "old"
    await wait(world, CHECK_S)
    await look(proxy)
    answer = await proxy.get("a")
    assert (value_of(answer), answer.outcome) == ("new", Outcome.MISS)
    assert checks(proxy) == [TableCheck.SAME, TableCheck.REMADE]


async def test_a_table_deleted_is_void_once_somebody_looked(world: World, proxy: Proxy) -> None:
    """Also while there is none under its name."""
    await look(proxy)
    world.upstream.tables.call("DeleteTable", {"TableName": TABLE})
    await wait(world, CHECK_S)
    await look(proxy)
    assert (await proxy.get("a")).status == 400
    assert checks(proxy) == [TableCheck.SAME, TableCheck.REMADE]


async def test_looking_costs_no_entry(world: World, proxy: Proxy) -> None:
    """A table that stays is served from the cache all the time."""
    for _ in range(3):
        await look(proxy)
        assert (await proxy.get("a")).outcome is Outcome.HIT
        await wait(world, CHECK_S)
    assert checks(proxy) == [TableCheck.SAME] * 3


async def test_one_proxy_of_the_store_asks_per_interval(world: World, proxy: Proxy) -> None:
    """However many look, and whenever."""
    proxies = [proxy, world.proxy(), world.proxy()]
    for asked in (1, 2):
        for each in proxies:
            await each.get("a")
        await look(*proxies)
        await wait(world, CHECK_S / 2)
        await look(*proxies)
        assert world.upstream.count("DescribeTable") == asked
        await wait(world, CHECK_S / 2)


async def test_every_proxy_sees_what_one_of_them_found(world: World, proxy: Proxy) -> None:
    """The table's record is what counts."""
    other = world.proxy()
    await look(proxy)
    make_anew(world)
    await wait(world, CHECK_S)
    await look(proxy)
    assert value_of(await other.get("a")) == "new"


async def test_a_batch_is_a_cached_read_too(world: World) -> None:
    """Its tables are looked at."""
    proxy = world.proxy()
    await proxy.batch_get("a")
    await look(proxy)
    assert checks(proxy) == [TableCheck.SAME]


async def test_a_table_nobody_reads_is_looked_at_no_longer(world: World, proxy: Proxy) -> None:
    """For five minutes it still is."""
    await look(proxy)
    await wait(world, 299.0)
    await look(proxy)
    assert world.upstream.count("DescribeTable") == 2
    await wait(world, 2.0)
    await look(proxy)
    await wait(world, CHECK_S)
    await look(proxy)
    assert world.upstream.count("DescribeTable") == 2
    await proxy.get("a")
    await look(proxy)
    assert world.upstream.count("DescribeTable") == 3


@pytest.mark.parametrize("how", ["denied", "silent", "not understood"])
async def test_a_table_that_cannot_be_described_is_told_once_and_asked_for_ever_less(
    world: World, proxy: Proxy, how: str
) -> None:
    """Entries stay, as long as any; the wait doubles up to ten minutes, until an answer comes."""
    for _ in range(9):
        match how:
            case "denied":
                world.upstream.answer("DescribeTable", DENIED, status=400)
            case "silent":
                world.upstream.refuse("DescribeTable", UpstreamFailure.CONNECT)
            case _:
                world.upstream.answer("DescribeTable", {"Table": {}})
    asked_s = []
    for _ in range(4000):
        before = world.upstream.count("DescribeTable")
        proxy.watch.note(TABLE)
        await look(proxy)
        if world.upstream.count("DescribeTable") > before:
            asked_s.append(round(world.clock.monotonic_s()))
        await wait(world, 1.0)
    waits_s = [after - before for before, after in pairwise(asked_s)]
    assert waits_s[:9] == [20, 40, 80, 160, 320, 600, 600, 600, 600]
    assert set(waits_s[9:]) == {10}
    assert checks(proxy)[0] is TableCheck.UNKNOWN
    assert set(checks(proxy)[1:]) <= {TableCheck.SAME, TableCheck.REMADE}


async def test_nothing_is_asked_while_the_store_is_out(world: World, proxy: Proxy) -> None:
    """Nothing is served from it either; the check is tried again."""
    proxy.store.down = StoreFailure.TIMEOUT
    await look(proxy)
    assert world.upstream.count("DescribeTable") == 0
    proxy.store.down = None
    await wait(world, CHECK_S)
    await look(proxy)
    assert world.upstream.count("DescribeTable") == 1


async def test_a_check_is_not_started_twice(world: World, proxy: Proxy) -> None:
    """One that waits for upstream is the table's only one."""
    world.upstream.hold("DescribeTable")
    await look(proxy)
    await wait(world, 2 * CHECK_S / 5)
    await look(proxy)
    assert world.upstream.count("DescribeTable") == 1
    world.upstream.release()
    await quiesce()
    assert checks(proxy) == [TableCheck.SAME]


async def test_tables_watched_are_bounded(world: World) -> None:
    """A thousand, eight checks at a time; the others live as long as without a watch."""
    proxy = world.proxy()
    world.upstream.hold("DescribeTable")
    for number in range(1_001):
        proxy.watch.note(TableName(f"t{number}"))
    await look(proxy)
    assert world.upstream.count("DescribeTable") == 8
    world.upstream.release()
    await wait(world, 0.1)
    proxy.watch.note(TABLE)
    proxy.watch.look()
    await wait(world, 0.1)
    assert world.upstream.count("DescribeTable") == 1_000


def watch_of(proxy: Proxy, *, check_s: float) -> TableWatch:
    """Return a watch of the proxy's with another interval."""
    return TableWatch(
        proxy.exchange,
        proxy.store,
        schemas=proxy.schemas,
        keys=proxy.world.keys,
        tasks=proxy.tasks,
        clock=proxy.world.clock,
        emit=proxy.events.append,
        check_s=check_s,
    )


@pytest.mark.parametrize(("check_s", "asked"), [(10.0, 2), (0.0, 0)])
async def test_the_watch_looks_by_itself_unless_it_is_off(
    world: World, proxy: Proxy, check_s: float, asked: int
) -> None:
    """A first time within half a second of the read, then every interval."""
    watch = watch_of(proxy, check_s=check_s)
    watch.note(TABLE)
    watching = asyncio.create_task(watch.watch())
    await wait(world, LOOK_S + 0.1)
    assert world.upstream.count("DescribeTable") == min(asked, 1)
    await wait(world, 11.0)
    assert world.upstream.count("DescribeTable") == asked
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert proxy.told(InvariantViolated) == []


# Refusals


@pytest.mark.parametrize("by", ["read", "write"])
async def test_a_table_that_upstream_does_not_know_is_void_at_once(
    world: World, proxy: Proxy, by: str
) -> None:
    """What a refused read or write says of its table counts for all its items."""
    await proxy.schemas.schema_of(TABLE)
    world.upstream.tables.call("DeleteTable", {"TableName": TABLE})
    answer = await (proxy.get("b") if by == "read" else proxy.update("b", "x"))
    assert b"ResourceNotFoundException" in answer.body
    world.upstream.tables.add(TABLE, pk="S")
    world.put_elsewhere("a", "new")
    assert value_of(await proxy.get("a")) == "new"
    assert proxy.schemas.recall(TABLE) is None


async def test_a_refusal_voids_once_in_a_few_seconds(world: World, proxy: Proxy) -> None:
    """Whoever keeps asking for a table that is not there costs no step each time."""
    world.upstream.tables.call("DeleteTable", {"TableName": TABLE})
    for _ in range(3):
        await proxy.get("b")
    assert proxy.store.asked("end_table") == 1
    await wait(world, 5.0)
    await proxy.get("b")
    assert proxy.store.asked("end_table") == 2


async def test_a_refusal_while_the_store_is_out_is_heeded_later(world: World, proxy: Proxy) -> None:
    """The answer goes out all the same, and the next refusal voids."""
    world.upstream.tables.call("DeleteTable", {"TableName": TABLE})
    proxy.store.fail_next(StoreFailure.TIMEOUT, step="end_table")
    for voided in (1, 2):
        assert (await proxy.get("b")).status == 400
        assert proxy.store.asked("end_table") == voided
    await proxy.get("b")
    assert proxy.store.asked("end_table") == 2


async def test_refused_tables_are_remembered_within_bounds(world: World) -> None:
    """Past a thousand names the first may be voided once more."""
    proxy = world.proxy()
    for number in range(1_001):
        await proxy.watch.lost(TableName(f"t{number}"))
    await proxy.watch.lost(TableName("t1000"))
    assert proxy.store.asked("end_table") == 1_001
    await proxy.watch.lost(TableName("t0"))
    assert proxy.store.asked("end_table") == 1_002
