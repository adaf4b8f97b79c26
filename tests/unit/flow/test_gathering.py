"""Claims about `proxy.flow.gathering`: what is fetched together, and when it goes."""

from __future__ import annotations

import asyncio
import json

import pytest

from proxy.core.errors import UpstreamFailed, UpstreamFailure
from proxy.core.operations import Capacity
from proxy.flow.exchange import Fetched
from proxy.flow.gathering import Gathering, Seat
from tests.support.flow_world import TABLE, Proxy, World
from tests.support.virtual_time import quiesce


@pytest.fixture
async def proxy(world: World) -> Proxy:
    """Give one proxy; items a and b hold "1"."""
    for pk in "ab":
        world.put_elsewhere(pk, "1")
    return world.proxy()


@pytest.fixture
async def gathering(proxy: Proxy) -> Gathering:
    """Give the gathering of one batch."""
    return Gathering(proxy.exchange, tasks=proxy.tasks, capacity=Capacity.TOTAL)


def want(proxy: Proxy, seat: Seat, pk: str) -> asyncio.Task[Fetched]:
    """Let a seat ask for its item."""
    plan = proxy.world.read_plan(pk)
    return asyncio.ensure_future(seat.fetch(plan, consistent=False))


def asked(proxy: Proxy) -> list[list[str]]:
    """Return the keys of each request that went upstream."""
    bodies = [json.loads(sent.body) for sent in proxy.world.upstream.sent]
    return [[key["pk"]["S"] for key in b["RequestItems"][TABLE]["Keys"]] for b in bodies]


async def test_nothing_goes_before_all_have_decided(proxy: Proxy, gathering: Gathering) -> None:
    """What two seats want goes in one request, once the third has left; each gets its own."""
    seats = [gathering.seat() for _ in range(3)]
    wanted = [want(proxy, seat, pk) for seat, pk in zip(seats, "ab", strict=False)]
    await quiesce()
    assert asked(proxy) == []
    seats[2].leave()
    fetched = await asyncio.gather(*wanted)
    items = [json.loads(each.found.body)["Item"] for each in fetched if each.found]
    assert [item["pk"] for item in items] == [{"S": "a"}, {"S": "b"}]
    assert asked(proxy) == [["a", "b"]]


async def test_nothing_wanted_sends_nothing(proxy: Proxy, gathering: Gathering) -> None:
    """When all seats leave, and however often they do, upstream is not asked."""
    seats = [gathering.seat() for _ in range(2)]
    for seat in [*seats, *seats]:
        seat.leave()
    await quiesce()
    assert asked(proxy) == []


async def test_who_waits_does_not_hold_up_the_others(proxy: Proxy, gathering: Gathering) -> None:
    """A seat that waits for another proxy, however often it says so, goes in a later request."""
    waiting, hurrying = gathering.seat(), gathering.seat()
    waiting.waits()
    waiting.waits()
    await want(proxy, hurrying, "a")
    waiting.waits()
    await want(proxy, waiting, "b")
    assert asked(proxy) == [["a"], ["b"]]


async def test_those_that_waited_in_vain_go_together(proxy: Proxy, gathering: Gathering) -> None:
    """What is still missing after the wait is fetched by one more request, not by one for each."""
    seats = [gathering.seat() for _ in range(3)]
    for seat in seats:
        seat.waits()
    wanted = [want(proxy, seats[0], "a")]
    await quiesce()
    assert asked(proxy) == []
    wanted.append(want(proxy, seats[1], "b"))
    seats[2].leave()
    await asyncio.gather(*wanted)
    assert asked(proxy) == [["a", "b"]]


async def test_who_hurries_takes_those_along_that_wait_for_each_other(
    proxy: Proxy, gathering: Gathering
) -> None:
    """A seat that never waited lets everything go that is wanted by then."""
    seats = [gathering.seat() for _ in range(3)]
    seats[0].waits()
    seats[1].waits()
    late = want(proxy, seats[0], "a")
    await quiesce()
    await asyncio.gather(late, want(proxy, seats[2], "b"))
    seats[1].leave()
    assert asked(proxy) == [["a", "b"]]


async def test_seat_taken_later_decides_anew(proxy: Proxy, gathering: Gathering) -> None:
    """After a request has gone, the next seats gather for the next one."""
    await want(proxy, gathering.seat(), "a")
    await want(proxy, gathering.seat(), "b")
    assert asked(proxy) == [["a"], ["b"]]


async def test_failure_reaches_every_seat(proxy: Proxy, gathering: Gathering) -> None:
    """When upstream gives no answer, everybody who waits for it is told."""
    proxy.world.upstream.refuse("BatchGetItem", UpstreamFailure.CONNECT)
    seats = [gathering.seat() for _ in range(2)]
    wanted = [want(proxy, seat, pk) for seat, pk in zip(seats, "ab", strict=True)]
    outcomes = await asyncio.gather(*wanted, return_exceptions=True)
    assert [type(each) for each in outcomes] == [UpstreamFailed, UpstreamFailed]


async def test_reader_that_hangs_up_does_not_end_the_fetch(
    proxy: Proxy, gathering: Gathering
) -> None:
    """Before or after the request went: the others get their items."""
    seats = [gathering.seat() for _ in range(3)]
    gate = proxy.world.upstream.hold("BatchGetItem")
    early, late = want(proxy, seats[0], "x"), want(proxy, seats[1], "a")
    await quiesce()
    early.cancel()
    patient = want(proxy, seats[2], "b")
    await gate.reached()
    late.cancel()
    await quiesce()
    gate.release()
    assert (await patient).found is not None
    assert early.cancelled()
    assert late.cancelled()


async def test_what_was_charged_is_collected(proxy: Proxy, gathering: Gathering) -> None:
    """Over all requests of the batch."""
    charged = {"TableName": TABLE, "CapacityUnits": 1.0}
    reply = {"Responses": {TABLE: []}, "ConsumedCapacity": [charged]}
    for pk in "ab":
        proxy.world.upstream.answer("BatchGetItem", reply)
        await want(proxy, gathering.seat(), pk)
    assert gathering.consumed == [charged, charged]
    assert json.loads(proxy.world.upstream.sent[0].body)["ReturnConsumedCapacity"] == "TOTAL"
