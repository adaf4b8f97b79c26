"""Commands reach the server of their record, also where a cluster moves it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.values import CacheKey
from proxy.edge.redis_command import step_command
from proxy.edge.redis_courier import Courier, Need
from proxy.edge.redis_slots import tag_in
from tests.support.live_lanes import LiveLanes, live_lanes, options
from tests.support.scripted_cluster import NOWHERE, ScriptedNode, scripted_cluster

LOW, HIGH = CacheKey(b"{%b}" % tag_in(0)), CacheKey(b"{%b}" % tag_in(16383))


@pytest.fixture
async def nodes() -> AsyncIterator[list[ScriptedNode]]:
    async with scripted_cluster(ScriptedNode(), ScriptedNode()) as nodes:
        yield nodes


@pytest.fixture
async def live(nodes: list[ScriptedNode]) -> AsyncIterator[LiveLanes]:
    async with live_lanes(options("", cluster=(nodes[0].address,), lanes=1)) as live:
        await live.until(lambda: live.routes.serving and not live.routes.why_not_serving)
        yield live


def moved(node: ScriptedNode, *, ask: bool = False, slot: int = 0) -> str:
    return f"{'ASK' if ask else 'MOVED'} {slot} {node.address}"


def get(cache_key: CacheKey) -> tuple[CacheKey, tuple[bytes | str, ...]]:
    return cache_key, ("GET", cache_key)


async def test_records_are_read_where_they_are(nodes: list[ScriptedNode], live: LiveLanes) -> None:
    """Of two records on two nodes each is asked for on its own, with the view of its own."""
    courier = Courier(live.routes)
    assert courier.together(LOW, LOW)
    assert not courier.together(LOW, HIGH)
    low, high = await courier.read(get(LOW), get(HIGH))
    assert (low.reply, high.reply) == (b"OK", b"OK")
    assert low.view.incarnation != high.view.incarnation
    one, two = await courier.read(get(LOW), get(LOW))
    assert one.view is two.view
    assert [len(node.seen) for node in nodes] == [3, 1]


async def test_a_read_of_a_moved_record_is_not_taken_on(
    nodes: list[ScriptedNode], live: LiveLanes
) -> None:
    """It goes upstream; the next read knows the new node."""
    courier = Courier(live.routes)
    nodes[0].redirects["GET"] = [moved(nodes[1])]
    with pytest.raises(StoreUnavailable) as moving:
        await courier.read(get(LOW))
    assert moving.value.partial
    assert nodes[1].seen == []
    assert courier.together(LOW, HIGH)


@pytest.mark.parametrize("ask", [False, True])
async def test_a_step_is_taken_on_once(
    nodes: list[ScriptedNode], live: LiveLanes, *, ask: bool
) -> None:
    """The other node runs it, after ASKING where the slot is not its own yet."""
    nodes[0].redirects["EVALSHA"] = [moved(nodes[1], ask=ask)]
    command = step_command("begin", LOW, b"x")
    build = lambda _: command  # noqa: E731 - what a step takes
    replies, view = await Courier(live.routes).step(LOW, Need.SOON, build, ("GET", LOW))
    assert replies == [b"OK", b"OK"]
    assert view.incarnation == live.routes.lanes_for(HIGH).pick_any()[1].incarnation
    assert [words[0] for words in nodes[1].seen] == ["ASKING"] * ask + ["EVALSHA", "GET"]
    assert live.routes.lanes_for(LOW) is live.routes.lanes_for(LOW if ask else HIGH)


@pytest.mark.parametrize("need", [Need.SERVING, Need.CONNECTED])
async def test_a_step_is_not_sent_round_in_circles(
    nodes: list[ScriptedNode], live: LiveLanes, need: Need
) -> None:
    """Nodes that point at each other end it; a step of a reader ends at the first redirect."""
    nodes[0].redirects["EVALSHA"] = [moved(nodes[1]), moved(nodes[1])]
    nodes[1].redirects["EVALSHA"] = [moved(nodes[0])]
    command = step_command("lease", LOW, b"x")
    with pytest.raises(StoreUnavailable) as moving:
        await Courier(live.routes).step(LOW, need, lambda _: command)
    assert (moving.value.failure, moving.value.partial) == (StoreFailure.REFUSED, True)
    assert [len(node.seen) for node in nodes] == ([1, 0] if need is Need.SERVING else [2, 1])


async def test_a_step_brings_its_script_where_it_was_lost(
    nodes: list[ScriptedNode], live: LiveLanes
) -> None:
    """NOSCRIPT is answered with the whole text, and what comes behind it is sent again."""
    nodes[0].redirects["EVALSHA"] = ["NOSCRIPT gone"]
    command = step_command("end", LOW, b"x")
    replies, _ = await Courier(live.routes).step(
        LOW, Need.CONNECTED, lambda _: command, ("GET", LOW)
    )
    assert replies == [b"OK", b"OK"]
    assert [words[0] for words in nodes[0].seen] == ["EVALSHA", "GET", "EVAL", "GET"]
    assert "End a write whose outcome is known" in nodes[0].seen[2][1]


async def test_without_any_node_nothing_is_known() -> None:
    """Reads and steps fail as one, and records are nowhere together."""
    async with live_lanes(options("", cluster=(NOWHERE,))) as live:
        courier = Courier(live.routes)
        assert not courier.together(LOW, LOW)
        with pytest.raises(StoreUnavailable) as unread:
            await courier.read(get(LOW))
        assert not unread.value.partial
        with pytest.raises(StoreUnavailable):
            await courier.step(LOW, Need.SOON, lambda _: ("GET", LOW))
