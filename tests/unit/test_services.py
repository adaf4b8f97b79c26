"""Claims of proxy.services: the graph it builds works, follows its settings and ends cleanly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from aiohttp import web

from proxy.core.plan_memo import PlanMemo
from proxy.core.policy import FencePolicy
from proxy.edge.log import configure
from proxy.embedded.valkey import RunningStore, start_valkey
from proxy.flow.at_once import AtOnce, nothing_at_hand
from proxy.flow.hit_tally import HitTally
from proxy.flow.standing import Standing
from proxy.flow.store_hits import StoreHits
from proxy.flow_graph import Flows
from proxy.services import _answer_now
from proxy.settings import load_settings
from tests.fakes.fake_upstream import FakeUpstream
from tests.support.flow_world import World
from tests.support.serving import item, key, post, serving, until, until_told

pytestmark = pytest.mark.store


@pytest.fixture
async def fake() -> AsyncIterator[FakeUpstream]:
    """A DynamoDB with table `t` that holds the item `a`."""
    async with FakeUpstream() as upstream:
        upstream.tables.add("t", pk="S")
        upstream.tables.call("PutItem", item("a", 1))
        yield upstream


@pytest.fixture
def own_valkey() -> Iterator[RunningStore]:
    """Run a store that the test may set up as it likes."""
    with closing(start_valkey()) as store:
        yield store


async def test_graph_caches(fake: FakeUpstream, valkey: RunningStore) -> None:
    """A miss, a hit, a write, and the state of all of it in status and metrics."""
    async with serving(fake.endpoint, store=valkey.url) as proxy:
        seen = [(await proxy.call("GetItem", key("a"))).cache for _ in range(2)]
        assert [each.split(";")[1] for each in seen] == [" fwd=miss", " hit"]
        assert (await proxy.call("PutItem", item("a", 2))).status == 200
        status = (await proxy.ops("/status")).content
        assert status["store"] == {
            "serving": True,
            "why": "",
            "breaker": "closed",
            "flaws": [],
        }
        assert (status["debts"], status["upstream_endpoint"]) == (0, fake.endpoint)
        assert status["uptime_s"] > 0
        assert await proxy.metric("dynaside_config_info", 'level_default="session"') == 1


@pytest.mark.parametrize(
    ("settings", "detail"),
    [
        ({"defaults.level": "strict"}, "fwd=bypass; detail=store-unfit"),
        ({"defaults.level": "strict", "store.accept_unfit": True}, "fwd=miss; stored"),
        ({"tables": {"other": {"level": "strict"}}}, "fwd=miss; stored"),
    ],
)
async def test_strict_tables_alone_bypass_an_unfit_store(
    fake: FakeUpstream, own_valkey: RunningStore, settings: dict[str, object], detail: str
) -> None:
    """A store that evicts young markers serves none of them, unless the operator says so.

    Their writes are fenced all the same; status and metrics tell of the flaw either way.
    """
    own_valkey.ask("CONFIG", "SET", "maxmemory-policy", "volatile-ttl")
    times = {
        "store.quarantine_s": 3,
        "store.accept_unfit": False,
        "fence.marker_s": 3,
        "upstream.write_timeout_s": 1,
    }
    async with serving(fake.endpoint, store=own_valkey.url, settings=times | settings) as proxy:
        assert detail in (await proxy.call("GetItem", key("a"))).cache
        write = await proxy.call("PutItem", item("a", 2))
        assert write.cache == "dynaside; fwd=bypass; detail=write-invalidated"
        assert (await proxy.ops("/status")).content["store"]["flaws"] == ["eviction"]
        assert await proxy.metric("dynaside_store_flaw", 'flaw="eviction"') == 1


async def test_without_a_store_everything_passes_through(fake: FakeUpstream) -> None:
    """`store.url` null caches nothing and hinders nothing."""
    async with serving(fake.endpoint) as proxy:
        for _ in range(2):
            reply = await proxy.call("GetItem", key("a"))
            assert reply.cache == "dynaside; fwd=bypass; detail=store-down"
        assert (await proxy.call("PutItem", item("a", 2))).status == 200
        store = (await proxy.ops("/status")).content["store"]
        assert (store["serving"], store["why"]) == (False, "no store is configured")


async def test_store_password_is_used(fake: FakeUpstream, empty_valkey: RunningStore) -> None:
    """User name and password may be settings of their own, beside the URL."""
    empty_valkey.ask("ACL", "SETUSER", "graph", "on", ">right", "~*", "&*", "+@all")
    settings = {"store.username": "graph", "store.password": "right"}
    async with serving(fake.endpoint, store=empty_valkey.url, settings=settings) as proxy:
        assert (await proxy.call("GetItem", key("a"))).status == 200
        clients = empty_valkey.ask("CLIENT", "LIST").decode()
    assert " user=graph " in clients


async def test_configured_key_schema_is_not_asked_for(
    fake: FakeUpstream, valkey: RunningStore
) -> None:
    """A table whose key the operator gave needs no DescribeTable to fence a PutItem."""
    fake.tables.add("orders", pk="S")
    order = item("a", 3) | {"TableName": "orders"}
    schema = {"partition": {"name": "pk", "type": "S"}}
    for tables, questions in (({}, 1), ({"orders": {"key_schema": schema}}, 0)):
        before = fake.count("DescribeTable")
        settings = {"tables": tables}
        async with serving(fake.endpoint, store=valkey.url, settings=settings) as proxy:
            assert (await proxy.call("PutItem", order)).status == 200
        assert fake.count("DescribeTable") - before == questions


async def test_requests_in_flight_are_counted(fake: FakeUpstream) -> None:
    """The gauge shows what the data server is answering now."""
    gate = fake.hold("GetItem")
    async with serving(fake.endpoint) as proxy, proxy.wire() as wire:
        await wire.send(post("GetItem", key("a")))
        await gate.reached()
        assert await proxy.metric("dynaside_in_flight_requests") == 1
        gate.release()
        await wire.reply()
        await until(lambda: proxy.services.data_server.in_flight == 0)
        assert await proxy.metric("dynaside_in_flight_requests") == 0


async def test_everything_started_is_ended(fake: FakeUpstream, valkey: RunningStore) -> None:
    """After the end no task of the graph is left, not even one that waits for upstream."""
    before = asyncio.all_tasks()
    fake.hold("PutItem")
    async with serving(fake.endpoint, store=valkey.url) as proxy, proxy.wire() as wire:
        await wire.send(post("PutItem", item("a", 4)))
        await fake.counted("PutItem", 1)
    assert len(proxy.services.tasks) == 0
    left = {task.get_name() for task in asyncio.all_tasks() - before}
    assert left.isdisjoint({"write", "store", "debts", "loop lag"})
    fake.release()


async def test_the_fast_door_is_there_where_it_works_and_is_wanted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Switched off or not possible: there is none, and one line says why; without copies too."""
    world = World(FencePolicy())
    plans = PlanMemo(world.keys, world.policy_of, bytes_max=0)
    tally = HitTally(lambda _: None)
    proxy = world.proxy()
    standing = Standing(proxy.near, proxy.hot, proxy.auditor, proxy.debts, proxy.watch.note)
    at_once = AtOnce(plans, lambda _: None, standing, clock=world.clock, tally=tally)
    hits = StoreHits(plans, proxy.reads, proxy.dispatcher.answer, clock=world.clock, tally=tally)
    flows = Flows(proxy.dispatcher, proxy.watch, proxy.near, proxy.hot, at_once, hits, tally)
    settings = load_settings(environ={})
    assert await _answer_now(settings, flows) == at_once.answer
    assert await _answer_now(settings, replace(flows, at_once=None)) is nothing_at_hand
    shut = load_settings(environ={}, flags={"http.fast_door": False})
    assert await _answer_now(shut, flows) is None
    configure()
    monkeypatch.delattr(web.RequestHandler, "_waiter")
    assert await _answer_now(settings, flows) is None
    (line,) = capsys.readouterr().out.splitlines()
    assert '"event": "fast door stays shut"' in line
    assert "has no _waiter" in line
    await world.upstream.close()


async def test_streams_are_read_where_a_table_asks_for_it(
    fake: FakeUpstream, valkey: RunningStore
) -> None:
    """In status and metrics; a table is trusted once its lag is known, and all ends cleanly."""
    fake.tables.add("orders", pk="S")
    fake.tables.enable_stream("orders")
    settings = {"tables": {"orders": {"streams": True}}}
    async with serving(fake.endpoint, store=valkey.url, settings=settings) as proxy:

        async def trusted() -> bool:
            shown = (await proxy.ops("/status")).content["streams"]["orders"]
            return not shown["over"]

        await until_told(trusted)
        assert await proxy.metric("dynaside_stream_shards_held", 'table="orders"') == 1
        assert await proxy.metric("dynaside_stream_gaps_total", 'table="orders"') >= 1
        read = key("a") | {"TableName": "orders"}
        assert (await proxy.call("GetItem", read)).status == 200
    assert not any("stream" in task.get_name() for task in asyncio.all_tasks())
