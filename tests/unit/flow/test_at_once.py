"""Claims of proxy.flow.at_once: an answer that is at hand, told like any other, or nothing."""

from __future__ import annotations

import json

import pytest

from proxy.core.plan_memo import PlanMemo
from proxy.core.policy import TablePolicy
from proxy.core.read_plan import ReadPlan
from proxy.core.request import Answer
from proxy.core.values import CacheKey, Mode, Outcome
from proxy.flow.at_once import AtOnce
from proxy.flow.events import Event, RequestAnswered
from tests.support.flow_world import TABLE, World, key_of

HIT = Answer(200, (), b'{"Item":{}}', Outcome.HIT, table=TABLE, crc32=1, ttl_s=9, detail="near")


def body_of(pk: str, **members: object) -> bytes:
    """Return the body of a GetItem."""
    return json.dumps({"TableName": TABLE, "Key": key_of(pk), **members}).encode()


class Held:
    """A process that holds item `a`, and its answers at once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.events: list[Event] = []
        self.asked: list[CacheKey] = []
        self.answer: Answer | None = HIT
        plans = PlanMemo(world.keys, world.policy_of, bytes_max=1 << 20)
        self.at_once = AtOnce(plans, self.near, clock=world.clock, emit=self.events.append)

    def near(self, plan: ReadPlan) -> Answer | None:
        """Answer what is held; the question takes a while."""
        self.asked.append(plan.identity.cache_key)
        self.world.clock.pause(0.25)
        held = self.world.identity("a").cache_key
        return self.answer if plan.identity.cache_key == held else None


@pytest.fixture
async def held(world: World) -> Held:
    """Give a process that holds item `a`."""
    return Held(world)


async def test_what_is_held_is_answered_and_told(held: Held) -> None:
    """The answer is the very one, and one event tells of it as of any other request."""
    assert held.at_once.answer(body_of("a")) is HIT
    assert held.events == [
        RequestAnswered(
            operation="GetItem",
            table=TABLE,
            outcome=Outcome.HIT,
            reason=None,
            status=200,
            elapsed_s=0.25,
        )
    ]


async def test_what_is_not_held_leaves_no_trace(held: Held) -> None:
    """Nothing is told: the dispatcher will tell it."""
    assert held.at_once.answer(body_of("b")) is None
    assert held.asked == [held.world.identity("b").cache_key]
    assert held.events == []


@pytest.mark.parametrize(
    "body", [b"{", body_of("a", Unknown=1), body_of("a", ConsistentRead=True)], ids=len
)
async def test_what_no_cache_may_answer_is_not_asked_for(held: Held, body: bytes) -> None:
    """What is held is not even looked at."""
    assert held.at_once.answer(body) is None
    assert (held.asked, held.events) == ([], [])


@pytest.mark.parametrize("policy", [TablePolicy(mode=mode) for mode in (Mode.OFF, Mode.SHADOW)])
async def test_a_table_that_is_not_on_is_not_answered(held: Held, policy: TablePolicy) -> None:
    """A switch counts at once, for remembered plans too."""
    assert held.at_once.answer(body_of("a")) is HIT
    held.world.policy = policy
    assert held.at_once.answer(body_of("a")) is None
    held.world.policy = TablePolicy(mode_percent=0.0)
    assert held.at_once.answer(body_of("a")) is None
    held.world.policy = TablePolicy()
    assert held.at_once.answer(body_of("a")) is HIT


@pytest.mark.parametrize(
    "wrong", [HIT._replace(status=400), HIT._replace(headers=(("Server", "x"),))], ids=["400", "x"]
)
async def test_what_is_no_hit_is_a_bug(held: Held, wrong: Answer) -> None:
    """It is not told either: nothing was served."""
    held.answer = wrong
    with pytest.raises(AssertionError):
        held.at_once.answer(body_of("a"))
    assert held.events == []
