"""Claims of proxy.flow.at_once: an answer that is at hand, told like any other, or nothing."""

from __future__ import annotations

import json

import pytest

from proxy.core.near_copy import NearHit
from proxy.core.plan_memo import PlanMemo
from proxy.core.policy import TablePolicy
from proxy.core.read_plan import ReadPlan
from proxy.core.request import Answer
from proxy.core.values import CacheKey, Mode, Outcome
from proxy.flow.at_once import AtOnce
from proxy.flow.events import Event, HitsAnswered
from proxy.flow.hit_tally import HitTally
from tests.support.flow_world import TABLE, World, key_of


def hit_of(outcome: Outcome) -> NearHit:
    """Return a hit of this outcome."""
    answer = Answer(200, (), b'{"Item":{}}', outcome, table=TABLE, crc32=1, ttl_s=9, detail="near")
    return NearHit(answer, TablePolicy(), units=0.5, until_s=0)


HIT = hit_of(Outcome.HIT)


def body_of(pk: str, **members: object) -> bytes:
    """Return the body of a GetItem."""
    return json.dumps({"TableName": TABLE, "Key": key_of(pk), **members}).encode()


class Held:
    """A process that holds item `a`, and its answers at once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.events: list[Event] = []
        self.asked: list[CacheKey] = []
        self.hit: NearHit | None = HIT
        plans = PlanMemo(world.keys, world.policy_of, bytes_max=1 << 20)
        self.tally = HitTally(self.events.append)
        self.at_once = AtOnce(plans, self.near, clock=world.clock, tally=self.tally)

    def near(self, plan: ReadPlan) -> NearHit | None:
        """Answer what is held; the question takes a while."""
        self.asked.append(plan.identity.cache_key)
        self.world.clock.pause(0.25)
        held = self.world.identity("a").cache_key
        return self.hit if plan.identity.cache_key == held else None


@pytest.fixture
async def held(world: World) -> Held:
    """Give a process that holds item `a`."""
    return Held(world)


async def test_what_is_held_is_answered_and_told_later(held: Held) -> None:
    """The answer is the very one; all of an outcome are told together, and once."""
    for _ in range(3):
        assert held.at_once.answer(body_of("a")) is HIT
    held.hit = gone = hit_of(Outcome.NEGATIVE_HIT)
    assert held.at_once.answer(body_of("a")) is gone
    assert held.events == []
    held.tally.tell()
    hits, negative = held.events
    assert isinstance(hits, HitsAnswered)
    assert isinstance(negative, HitsAnswered)
    assert (hits.table, hits.outcome, hits.units) == (TABLE, Outcome.HIT, 1.5)
    assert (hits.latencies.count, hits.latencies.sum_s) == (3, 0.75)
    assert (negative.outcome, negative.latencies.count) == (Outcome.NEGATIVE_HIT, 1)
    held.tally.tell()
    assert len(held.events) == 2


async def test_what_is_not_held_leaves_no_trace(held: Held) -> None:
    """Nothing is told: the dispatcher will tell it."""
    assert held.at_once.answer(body_of("b")) is None
    assert held.asked == [held.world.identity("b").cache_key]
    assert held.events == []


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        body_of("a", Unknown=1),
        body_of("a", ConsistentRead=True),
        body_of("a", ProjectionExpression="v"),
        body_of("a", ReturnConsumedCapacity="TOTAL"),
    ],
    ids=len,
)
async def test_what_is_not_plain_is_not_asked_for(held: Held, body: bytes) -> None:
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
