"""What a server says of itself: its incarnation, gate and flaws, and what follows for its lanes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from redis.exceptions import AskError

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.policy import FencePolicy
from proxy.core.store_fitness import Flaw
from proxy.core.values import CacheKey, FailOver
from proxy.edge.redis_slots import tag_in
from proxy.embedded.valkey import RunningStore, start_valkey
from proxy.flow.events import StoreFitness, StoreServing
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.hand_clock import HandClock
from tests.support.live_lanes import LiveLanes, live_lanes, options
from tests.support.raw_store import RawStore
from tests.support.scripted_cluster import ScriptedNode, scripted_cluster

pytestmark = pytest.mark.store
pytestmark = pytest.mark.store


@pytest.fixture
async def proxy(valkey: RunningStore) -> AsyncIterator[FaultProxy]:
    async with fault_proxy(valkey.address) as running:
        yield running


@pytest.fixture
def second() -> Iterator[RunningStore]:
    """Run another store, which the test may spoil."""
    with closing(start_valkey()) as store:
        yield store


def served(live: LiveLanes) -> list[bool]:
    return [event.serving for event in live.events if isinstance(event, StoreServing)]


def where(store: RunningStore) -> tuple[str, str]:
    """Return host and port as REPLICAOF takes them."""
    assert isinstance(store.address, tuple)
    host, port = store.address
    return host, str(port)


async def test_an_old_heartbeat_stops_serving(valkey: RunningStore) -> None:
    """Hits need a young proof; fences go on without; the next heartbeat brings hits back."""
    clock = HandClock()
    async with live_lanes(options(valkey.url, lanes=1), clock) as live:
        await live.until(lambda: live.lanes.serving)
        clock.skip(3.5)
        assert not live.lanes.serving
        assert live.lanes.why_not_serving == "the store's heartbeat is too old"
        with pytest.raises(StoreUnavailable):
            live.lanes.pick_serving()
        live.lanes.pick_any()
        clock.beat()
        await live.until(lambda: live.lanes.serving)


async def test_a_new_incarnation_waits_out_its_quarantine(second: RunningStore) -> None:
    """A store nobody has seen before serves nothing, but takes fences."""
    async with live_lanes(options(second.url, quarantine_s=1000.0)) as live:
        await live.until(lambda: live.lanes.quarantined)
        assert "quarantine" in live.lanes.why_not_serving
        assert not live.lanes.serving
        with pytest.raises(StoreUnavailable):
            live.lanes.pick_serving()
        _, view = live.lanes.pick_any()
        assert 900 < view.gate_in_s <= 1000


def unsettled(live: LiveLanes) -> StoreFailure | None:
    """Return why no lane to a settled primary can be had, None where there is one."""
    try:
        live.lanes._pick_settled()
    except StoreUnavailable as unavailable:
        return unavailable.failure
    return None


async def test_a_new_primary_settles_before_its_gate_opens(second: RunningStore) -> None:
    """Strict writes wait as long as an older primary's last heartbeat may count, no longer."""
    clock = HandClock()
    times = options(second.url, lanes=1, quarantine_s=36000.0, heartbeat_age_s_max=35000.0)
    async with live_lanes(times, clock) as live:
        await live.until(lambda: live.lanes.quarantined)
        with pytest.raises(StoreUnavailable) as new:
            await live.lanes.pick_soon(settled=True)
        assert new.value.failure is StoreFailure.UNSETTLED
        await live.lanes.pick_soon()
        clock.skip(35002.0)
        await live.lanes.pick_soon(settled=True)
        assert not live.lanes.serving
    async with live_lanes(replace(times, fail_over=FailOver.AVAILABLE)) as live:
        await live.until(lambda: live.lanes.quarantined)
        await live.lanes.pick_soon(settled=True)


async def test_without_a_connection_none_is_settled(valkey: RunningStore) -> None:
    """Then the reason is the connection, not the primary."""
    async with live_lanes(options(valkey.url, lanes=1)) as live:
        assert unsettled(live) is StoreFailure.CLOSED
        await live.until(lambda: live.lanes.serving)
        assert unsettled(live) is None


async def test_a_promoted_primary_waits_for_the_older_one_too(
    valkey: RunningStore, second: RunningStore
) -> None:
    """As long as that one may have taken writes is added to both times."""
    valkey.ask("CONFIG", "SET", "repl-diskless-sync-delay", "0")
    second.ask("REPLICAOF", *where(valkey))
    second.child.wait_until(lambda: b"master_link_status:up" in second.ask("INFO"))
    second.ask("CONFIG", "SET", "min-replicas-max-lag", "1000")
    second.ask("REPLICAOF", "NO", "ONE")
    times = options(second.url, lanes=1, quarantine_s=30.0)
    async with live_lanes(times) as live:
        await live.until(lambda: live.lanes.quarantined)
        _, view = live.lanes.pick_any()
        assert 1000 < view.gate_in_s <= 1032
        assert view.settles_in_s == view.gate_in_s - 27
    async with live_lanes(options(second.url, lanes=1)) as live:
        await live.until(lambda: live.lanes.quarantined)  # the gate is the store's, not ours


async def test_flaws_are_found_and_found_gone_by_heartbeats(second: RunningStore) -> None:
    """What the operator changes counts from the next heartbeat on."""
    clock = HandClock()
    second.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
    async with live_lanes(options(second.url, lanes=1), clock) as live:
        await live.until(lambda: live.lanes.serving)
        store = live.store(FencePolicy())
        assert live.lanes.fitness.flaws == (Flaw.EVICTION,)
        assert store.unfit
        second.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        clock.beat()
        await live.until(lambda: live.events.count(StoreFitness((), demanded=True)) == 1)
        clock.skip(0.1)
        assert not store.unfit


async def test_replicas_must_be_waited_for(valkey: RunningStore, second: RunningStore) -> None:
    """One more look tells that a replica has come, that it is awaited, and that it has gone."""
    clock = HandClock()
    second.ask("CONFIG", "SET", "repl-diskless-sync-delay", "0")
    async with live_lanes(options(second.url, lanes=1), clock) as live:
        await live.until(lambda: live.lanes.serving)

        async def flaws(*expected: Flaw) -> None:
            clock.beat()
            await live.until(lambda: live.lanes.fitness.flaws == expected)

        with closing(start_valkey()) as replica:
            replica.ask("REPLICAOF", *where(second))
            replica.child.wait_until(lambda: b"master_link_status:up" in replica.ask("INFO"))
            await flaws(Flaw.REPLICAS)
            second.ask("CONFIG", "SET", "min-replicas-to-write", "1")
            await flaws()
            second.ask("CONFIG", "SET", "min-replicas-to-write", "0")
        second.child.wait_until(lambda: b"connected_slaves:0" in second.ask("INFO"))
        await flaws(Flaw.REPLICAS)


async def test_a_user_without_config_is_asked_for_no_more(second: RunningStore) -> None:
    """The lag is assumed; each denial would be a line in the store's own log."""
    clock = HandClock()
    second.ask("ACL", "SETUSER", "plain", "on", ">word", "~*", "&*", "+@all", "-config")
    asked = options(second.url, lanes=1, username="plain", password="word")
    async with live_lanes(asked, clock) as live:
        await live.until(lambda: live.lanes.serving)
        before = live.lanes.pick_any()[1]
        clock.beat()
        await live.until(lambda: live.lanes.pick_any()[1] is not before)
        assert live.lanes.fitness.flaws == ()
        with RawStore(second.address) as raw:
            denials = raw.run("ACL", "LOG")
    assert sum(int(denial[1]) for denial in denials) == 1


async def test_a_gate_that_is_open_stays_open(second: RunningStore) -> None:
    """A proxy that comes later finds the gate as the first one set it, open or closed."""
    async with live_lanes(options(second.url)) as live:
        await live.until(lambda: live.lanes.serving)
    async with live_lanes(options(second.url, quarantine_s=1000.0)) as live:
        await live.until(lambda: live.lanes.serving)


async def test_another_server_behind_the_same_address_is_another_incarnation(
    proxy: FaultProxy, second: RunningStore
) -> None:
    """A restarted or promoted store is not taken for the old one."""
    async with live_lanes(options(proxy.url, lanes=1)) as live:
        await live.until(lambda: live.lanes.serving)
        before = live.incarnation
        proxy.replace_server(second.address)
        proxy.cut()
        with pytest.raises(StoreUnavailable):
            await live.lanes.pick_any()[0].submit(("PING",))
        await live.until(lambda: live.lanes.serving)
        assert live.incarnation != before


async def test_a_node_with_a_new_epoch_is_another_incarnation() -> None:
    """The lane leaves it, so that nothing waits in its queue under the former one."""
    clock, low = HandClock(), CacheKey(b"{%b}" % tag_in(0))
    async with (
        scripted_cluster(ScriptedNode()) as (node,),
        live_lanes(options("", cluster=(node.address,), lanes=1), clock) as live,
    ):
        await live.until(lambda: live.routes.serving)
        former = live.routes.lanes_for(low).pick_any()[1].incarnation
        node.own_epoch = 2
        clock.beat()
        await live.until(lambda: served(live)[-2:] == [False, True])
        assert live.routes.lanes_for(low).pick_any()[1].incarnation != former


async def test_a_server_that_can_keep_no_gate_serves_nothing_and_takes_fences() -> None:
    """It has no slot of its own yet; its clock is known all the same."""
    async with scripted_cluster(ScriptedNode(), ScriptedNode()) as (first, second):
        first.ranges = second.ranges = [(0, 16383, first.address)]
        low = CacheKey(b"{%b}" % tag_in(0))
        async with live_lanes(options("", cluster=(first.address,), lanes=1)) as live:
            await live.until(lambda: live.routes.serving)
            ask = AskError(f"0 {second.address}")
            lanes = live.routes.elsewhere(live.routes.lanes_for(low), ask)
            _, view = await lanes.pick_soon()
            assert view.store_ms == 1000
            assert not lanes.serving
