"""The lanes to a cluster's nodes, and the map."""

from __future__ import annotations

import pytest
from redis.exceptions import AskError, MovedError

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.store_fitness import Flaw
from proxy.core.values import CacheKey
from proxy.edge import redis_cluster
from proxy.edge.redis_connection import Address
from proxy.edge.redis_lane import LaneLimits
from proxy.edge.redis_slots import tag_in
from proxy.flow.events import (
    StoreAnswered,
    StoreConnections,
    StoreEvictions,
    StoreFitness,
    StoreServing,
)
from tests.support.hand_clock import HandClock
from tests.support.heard_feed import HeardFeed
from tests.support.live_lanes import LiveLanes, live_lanes, options
from tests.support.scripted_cluster import SLOTS_MAX, ScriptedNode, scripted_cluster
from tests.support.store_topologies import ClusterTopology

LOW, HIGH = CacheKey(b"{%b}" % tag_in(0)), CacheKey(b"{%b}" % tag_in(16383))
LOOK_S, LOOKS = 0.5, 20
BRISK = LaneLimits(timeout_s=0.2, connect_timeout_s=0.2, queue_max=100)


async def all_serve(live: LiveLanes) -> None:
    await live.until(lambda: live.routes.serving and not live.routes.why_not_serving)


@pytest.mark.store
async def test_a_real_cluster_serves_with_a_gate_on_each_node(
    cluster_store: ClusterTopology,
) -> None:
    """From one node all are found; each has an incarnation, a gate and a feed of its own."""
    seed, feed = Address(*cluster_store.servers[0].address), HeardFeed()
    async with live_lanes(options("", cluster=(seed,), lanes=1), feed=feed) as live:
        await all_serve(live)
        keys = [CacheKey(b"{%b}" % tag_in(slot)) for slot in (0, 8000, 16383)]
        lanes = [live.routes.lanes_for(key) for key in keys]
        assert len({each.pick_serving()[1].incarnation for each in lanes}) == 3
        for each in lanes:
            lane, _ = each.pick_serving()
            ((name, *_),) = await lane.submit(("KEYS", "ds:test:*"))
            assert name.startswith(b"ds:test:{")
        assert len({each.pick_serving()[0].source for each in lanes} - {None}) == 3
        assert live.events[-1] == StoreServing(serving=True, why="", nodes_out=0)


async def test_what_is_told_is_of_the_whole_cluster() -> None:
    """Connections and evictions are summed up; what is not about numbers goes through."""
    async with (
        scripted_cluster(ScriptedNode(), ScriptedNode()) as nodes,
        live_lanes(options("", cluster=(nodes[0].address,))) as live,
    ):
        assert live.routes.why_not_serving == "the cluster's map is not known yet"
        await live.until(lambda: StoreConnections(4, 1) in live.events)
        await live.until(lambda: StoreEvictions(2) in live.events)
        live.routes.lanes_for(LOW)._emit(StoreAnswered("lookup", 0.0))
        assert live.events[-1] == StoreAnswered("lookup", 0.0)


async def test_one_unfit_node_makes_the_store_unfit() -> None:
    """`strict` may have a record on any of them; what several lack is told once."""
    fit = "maxmemory:0\r\nconnected_slaves:0\r\n"
    async with (
        scripted_cluster(ScriptedNode(traits=fit), ScriptedNode(traits=fit)) as nodes,
        live_lanes(options("", cluster=(nodes[0].address,), lanes=1)) as live,
    ):
        await all_serve(live)
        assert (live.routes.unfit, live.routes.flaws) == (False, ())
    flawed = ScriptedNode(traits="maxmemory:0\r\n")
    async with (
        scripted_cluster(ScriptedNode(traits=fit), flawed) as nodes,
        live_lanes(options("", cluster=(nodes[0].address,), lanes=1)) as live,
    ):
        await all_serve(live)
        assert (live.routes.unfit, live.routes.flaws) == (True, (Flaw.REPLICAS_UNKNOWN,))
        assert live.events.count(StoreFitness((Flaw.REPLICAS_UNKNOWN,), demanded=True)) == 1


async def test_a_node_that_is_out_takes_only_its_own_records_with_it() -> None:
    """The other node serves on; the error says that it is a part, and so does the reason."""
    first, second = ScriptedNode(), ScriptedNode(silent=True)
    async with scripted_cluster(first, second):
        there = options("", cluster=(first.address,), lanes=1, limits=BRISK)
        async with live_lanes(there) as live:
            await live.until(lambda: live.routes.serving)
            live.routes.lanes_for(LOW).pick_serving()
            with pytest.raises(StoreUnavailable) as out:
                live.routes.lanes_for(HIGH).pick_serving()
            assert live.routes.blamed(out.value).partial
            assert live.routes.why_not_serving.startswith("1 of the cluster's 2 nodes: ")
            assert not live.routes.quarantined
            await live.until(
                lambda: any(isinstance(e, StoreServing) and e.nodes_out == 1 for e in live.events)
            )


async def test_nodes_in_quarantine_are_a_store_in_quarantine() -> None:
    """While no gate is open nothing serves, and the reason is the quarantine."""
    async with (
        scripted_cluster(ScriptedNode(gate_ms=10_000)) as (node,),
        live_lanes(options("", cluster=(node.address,))) as live,
    ):
        await live.until(lambda: live.routes.quarantined)
        assert not live.routes.serving
        assert "quarantine" in live.routes.why_not_serving


async def test_slots_without_a_node_are_out() -> None:
    """Records of a slot that nobody has fail at once; the others are served."""
    async with (
        scripted_cluster(ScriptedNode(ranges=[(0, 99, None)], whole=False)) as (node,),
        live_lanes(options("", cluster=(node.address,))) as live,
    ):
        await live.until(lambda: live.routes.serving)
        live.routes.lanes_for(LOW).pick_serving()
        with pytest.raises(StoreUnavailable, match="no node") as out:
            live.routes.lanes_for(HIGH)
        assert out.value.failure is StoreFailure.CLOSED


async def test_the_newest_map_of_a_cluster_in_order_counts() -> None:
    """A node that is cut off, or has not heard of a move, is overruled."""
    stale, cut_off, right = (
        ScriptedNode(),
        ScriptedNode(whole=False, epoch=9),
        ScriptedNode(epoch=2),
    )
    async with scripted_cluster(stale, cut_off, right):
        right.ranges = [(0, SLOTS_MAX - 1, right.address)]
        seeds = (stale.address, cut_off.address, right.address)
        async with live_lanes(options("", cluster=seeds, lanes=1)) as live:
            await all_serve(live)
            assert live.routes.lanes_for(LOW) is live.routes.lanes_for(HIGH)


async def test_other_nodes_are_asked_where_the_first_do_not_know() -> None:
    """As many are asked as it takes, few at a time."""
    silent = [ScriptedNode(silent=True) for _ in range(redis_cluster._ASKED_AT_ONCE)]
    async with scripted_cluster(ScriptedNode(), *silent) as (node, *others):
        node.ranges = [(0, SLOTS_MAX - 1, None)]
        seeds = (*(each.address for each in others), node.address)
        async with live_lanes(options("", cluster=seeds, lanes=1, limits=BRISK)) as live:
            await all_serve(live)


async def test_a_map_that_nobody_tells_is_told_to_the_operator() -> None:
    """The reason of the last node that was asked is shown."""
    async with (
        scripted_cluster(ScriptedNode(silent=True)) as (node,),
        live_lanes(options("", cluster=(node.address,), limits=BRISK)) as live,
    ):
        await live.until(lambda: "TimeoutError" in live.routes.why_not_serving)
        assert not live.routes.serving
        assert not live.routes.quarantined


async def test_a_slot_that_moved_is_served_once_its_node_was_asked_anew() -> None:
    """The taker's former proof, from before it had the slot, opens nothing any more."""
    async with scripted_cluster(ScriptedNode(), ScriptedNode()) as (first, second):
        clock = HandClock()
        there = options("", cluster=(first.address,), lanes=1)
        async with live_lanes(there, clock) as live:
            await all_serve(live)
            giver, taker = live.routes.lanes_for(LOW), live.routes.lanes_for(HIGH)
            former = taker.pick_serving()[1].incarnation
            second.own_epoch = 2
            told = MovedError(f"0 {second.address}")
            assert live.routes.elsewhere(giver, told) is taker
            assert live.routes.lanes_for(LOW) is taker
            with pytest.raises(StoreUnavailable):
                taker.pick_serving()
            await live.until(lambda: taker.serving)
            assert taker.pick_serving()[1].incarnation != former
            # A second word from a node that no longer has the slot changes nothing.
            assert live.routes.elsewhere(giver, told) is taker
            assert taker.serving


async def test_a_node_without_slots_takes_fences_and_serves_nothing() -> None:
    """Slots on their way are written to before the node has any; then it is dropped or kept."""
    async with scripted_cluster(ScriptedNode(), ScriptedNode()) as (first, new):
        first.ranges = [(0, SLOTS_MAX - 1, None)]
        there = options("", cluster=(first.address,), lanes=1)
        async with live_lanes(there, HandClock(LOOK_S)) as live:
            await all_serve(live)
            here = live.routes.lanes_for(LOW)
            ask = AskError(f"0 {new.address}")
            lanes = live.routes.elsewhere(here, ask)
            _, view = await lanes.pick_soon()
            assert not view.gate_open(1e9)
            assert not lanes.serving
            assert live.routes.lanes_for(LOW) is here
            assert live.routes.why_not_serving == ""


async def test_the_map_is_asked_for_now_and_then() -> None:
    """A node that has no slots any more is dropped, and its word counts no longer."""
    async with scripted_cluster(ScriptedNode(), ScriptedNode()) as (first, second):
        clock = HandClock(LOOK_S)
        async with live_lanes(options("", cluster=(first.address,), lanes=1), clock) as live:
            await all_serve(live)
            here, gone = live.routes.lanes_for(LOW), live.routes.lanes_for(HIGH)
            for node in (first, second):
                node.ranges = [(0, SLOTS_MAX - 1, first.address)]
            look(clock, LOOKS)
            await live.until(lambda: live.events.count(StoreConnections(1, 0)) == 1)
            assert live.routes.lanes_for(HIGH) is here
            with pytest.raises(StoreUnavailable, match="left the cluster"):
                live.routes.elsewhere(gone, MovedError(f"0 {first.address}"))


async def test_a_node_that_somebody_was_sent_to_outlives_one_map() -> None:
    """While a slot is on its way the map does not name the node that takes it; then it may go."""
    async with scripted_cluster(ScriptedNode(), ScriptedNode()) as (first, second):
        first.ranges = second.ranges = [(0, SLOTS_MAX - 1, first.address)]
        clock = HandClock(LOOK_S)
        async with live_lanes(options("", cluster=(first.address,), lanes=1), clock) as live:
            await all_serve(live)
            here = live.routes.lanes_for(LOW)
            lanes = live.routes.elsewhere(here, AskError(f"0 {second.address}"))
            await live.until(lambda: StoreConnections(2, 1) in live.events)
            look(clock, LOOKS)
            await live.until(lambda: first.maps_told == 2)
            assert lanes.connected
            look(clock, LOOKS)
            await live.until(lambda: StoreConnections(1, 0) in live.events)


async def test_a_redirect_may_leave_out_the_host() -> None:
    """It is the sender's own then; and a redirect asks for a new map at once."""
    async with scripted_cluster(ScriptedNode(), ScriptedNode()) as (first, second):
        clock = HandClock(LOOK_S)
        async with live_lanes(options("", cluster=(first.address,), lanes=1), clock) as live:
            await all_serve(live)
            here, there = live.routes.lanes_for(LOW), live.routes.lanes_for(HIGH)
            told = first.maps_told + second.maps_told
            assert live.routes.elsewhere(here, MovedError(f"0 :{second.address.port}")) is there
            look(clock, 1)
            await live.until(lambda: first.maps_told + second.maps_told > told)


def look(clock: HandClock, times: int) -> None:
    """Let time come for so many looks at the nodes."""
    for _ in range(times):
        clock.beat()


async def test_the_nodes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster of more nodes than any is, or nodes that invent others, are refused."""
    async with (
        scripted_cluster(ScriptedNode()) as (node,),
        live_lanes(options("", cluster=(node.address,), lanes=1)) as live,
    ):
        await all_serve(live)
        monkeypatch.setattr(redis_cluster, "NODES_MAX", 1)
        lanes = live.routes.lanes_for(LOW)
        with pytest.raises(StoreUnavailable) as full:
            live.routes.elsewhere(lanes, AskError("0 127.0.0.1:1"))
        assert full.value.failure is StoreFailure.FULL
