"""What a tracked connection is good for: when it is proven, when void, what it hands on."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.edge.redis_command import Command, Replies
from proxy.edge.redis_lane import Lane, LaneLimits
from proxy.edge.redis_tracking import Tracking
from tests.support.hand_clock import HandClock
from tests.support.heard_feed import HeardFeed

QUEUE_MAX = 10


async def nowhere() -> AbstractConnection:
    raise StoreUnavailable(StoreFailure.CONNECT, "there is no server")


class Lanes(Lane):
    """A lane that is up on nothing: the test answers what is submitted."""

    def __init__(self) -> None:
        super().__init__(
            connect=nowhere,
            greet=lambda _: asyncio.sleep(0),
            changed=lambda: None,
            clock=HandClock(),
            limits=LaneLimits(1.0, 1.0, QUEUE_MAX),
        )
        self.up = self.pushes = True
        self.asked: list[asyncio.Future[Replies]] = []

    def submit(self, *commands: Command) -> asyncio.Future[Replies]:
        assert commands == (("PING",),)
        if not self.up or len(self.asked) == QUEUE_MAX:
            raise StoreUnavailable(StoreFailure.FULL, "too many commands wait for the store")
        self.asked.append(asyncio.get_running_loop().create_future())
        return self.asked[-1]


class World:
    """One lane's tracking."""

    def __init__(self) -> None:
        self.lane, self.feed, self.clock = Lanes(), HeardFeed(), HandClock()
        self.tracking = Tracking(self.lane, self.feed, self.clock)
        self.questions: list[tuple[Command, ...]] = []
        self.reply: Any = b"OK"

    async def start(self) -> None:
        async def round_trip(*commands: Command) -> Replies:
            self.questions.append(commands)
            return [self.reply]

        await self.tracking.start(round_trip)

    @property
    def proven_s(self) -> float:
        assert self.lane.source is not None
        return self.lane.source.proven_s


async def test_a_new_connection_is_proven_from_before_it_was_tracked() -> None:
    """It has told nothing yet that could be missing a change."""
    world = World()
    before_s = world.clock.monotonic_s()
    await world.start()
    assert before_s <= world.proven_s <= world.clock.monotonic_s()
    assert world.questions == [(("CLIENT", "TRACKING", "ON"),)]


async def test_where_nothing_is_pushed_nothing_is_tracked() -> None:
    """redis-py keeps the connection to itself, or the store's user may not ask for it."""
    for pushes, reply, questions in ((False, b"OK", 0), (True, ResponseError("NOPERM"), 1)):
        world = World()
        world.lane.pushes, world.reply = pushes, reply
        await world.start()
        for act in (world.tracking.ping, world.tracking.doubt, world.tracking.stop):
            act()
        assert world.lane.source is None
        assert (len(world.questions), world.lane.asked, world.feed.gone) == (questions, [], [])


async def test_a_pong_proves_the_moment_at_which_its_ping_was_sent() -> None:
    """Not the one at which it came: changes from in between may still be on their way."""
    world = World()
    await world.start()
    world.clock.skip(10)
    sent_s = world.clock.monotonic_s()
    world.tracking.ping()
    world.clock.skip(10)
    assert world.proven_s < sent_s
    world.lane.asked[0].set_result([b"PONG"])
    await asyncio.sleep(0)
    assert sent_s <= world.proven_s < sent_s + 5


async def test_any_other_answer_proves_nothing() -> None:
    """An error reply, a connection that broke, a lane that is full."""
    world = World()
    await world.start()
    before_s = world.proven_s
    world.clock.skip(10)
    for _ in range(2):
        world.tracking.ping()
    refused, broken = world.lane.asked
    refused.set_result([ResponseError("MISCONF")])
    broken.set_exception(StoreUnavailable(StoreFailure.RESET, "broken"))
    for _ in range(20):
        world.tracking.ping()
    await asyncio.sleep(0)
    assert world.proven_s == before_s


@pytest.mark.parametrize("voided", ["flush", "doubt", "stop"])
async def test_what_is_void_stays_void(voided: str) -> None:
    """The feed is told once, and no PONG that was on its way brings the source back."""
    world = World()
    await world.start()
    former = world.lane.source
    assert former is not None
    world.tracking.ping()
    match voided:
        case "flush":
            world.tracking.take([b"invalidate", None])
        case "doubt":
            world.tracking.doubt()
        case _:
            world.tracking.stop()
    world.lane.asked[0].set_result([b"PONG"])
    await asyncio.sleep(0)
    assert world.feed.gone == [former]
    assert former.proven_s == -math.inf
    assert world.lane.source is not former
    if voided == "stop":
        assert world.lane.source is None
        return
    assert world.proven_s == -math.inf
    world.tracking.ping()
    world.lane.asked[1].set_result([b"PONG"])
    await asyncio.sleep(0)
    assert world.proven_s > 0


async def test_pushes_are_handed_on_at_once() -> None:
    """Those about records; others are of no meaning here."""
    world = World()
    await world.start()
    world.tracking.take([b"invalidate", [b"a", b"b"]])
    world.tracking.take([b"message", b"channel", b"text"])
    assert world.feed.changed == [b"a", b"b"]
    assert world.feed.gone == []


async def test_a_connection_knows_until_when_its_server_may_serve() -> None:
    """The present one and the next, until something else is said."""
    world = World()
    world.tracking.may_serve(7.0)
    await world.start()
    assert world.lane.source is not None
    assert world.lane.source.serves_until_s == 7.0
    world.tracking.may_serve(8.0)
    assert world.lane.source.serves_until_s == 8.0
    world.tracking.doubt()
    assert world.lane.source.serves_until_s == 8.0
