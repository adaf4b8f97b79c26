"""Claims of proxy.flow.at_once: an answer that is at hand, told like any other, or nothing."""

from __future__ import annotations

import json

import pytest

from proxy.core.near_copy import Copy, NearTable, StandingHit
from proxy.core.plan_memo import PlanMemo
from proxy.core.policy import TablePolicy
from proxy.core.read_plan import ReadPlan
from proxy.core.values import CacheKey, Mode, Outcome
from proxy.flow.at_once import AtOnce
from proxy.flow.events import Event, HitsAnswered
from proxy.flow.hit_tally import HitTally
from proxy.flow.standing import Standing
from tests.support.flow_world import TABLE, World, key_of
from tests.support.hits import hit_entry


def body_of(pk: str, **members: object) -> bytes:
    """Return the body of a GetItem."""
    return json.dumps({"TableName": TABLE, "Key": key_of(pk), **members}).encode()


class Held:
    """A process that holds item `a`, and its answers at once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.proxy = world.proxy()
        self.events: list[Event] = []
        self.asked: list[CacheKey] = []
        self.absent = False
        plans = PlanMemo(world.keys, world.policy_of, bytes_max=1 << 20)
        self.tally = HitTally(self.events.append)
        proxy = self.proxy
        standing = Standing(proxy.near, proxy.hot, proxy.auditor, proxy.debts, proxy.watch.note)
        self.at_once = AtOnce(plans, self.near, standing, clock=world.clock, tally=self.tally)

    def near(self, plan: ReadPlan) -> StandingHit | None:
        """Answer what is held; the question takes a while."""
        self.asked.append(plan.identity.cache_key)
        self.world.clock.pause(0.25)
        if plan.identity.cache_key != self.world.identity("a").cache_key:
            return None
        entry = hit_entry(negative=self.absent)
        copy = Copy(entry, NearTable(), (), 0.0)
        return StandingHit(copy, plan.table, now_s=0.0, delta_s=1.0, ends_s=0.0)

    def answers(self, **members: object) -> bool:
        """Tell whether item `a` is answered at once."""
        return self.at_once.answer(body_of("a", **members)) is not None


@pytest.fixture
async def held(world: World) -> Held:
    """Give a process that holds item `a`."""
    return Held(world)


async def test_what_is_held_is_answered_and_told_later(held: Held) -> None:
    """All of an outcome are told together, and once."""
    for _ in range(3):
        assert held.answers()
    held.absent = True
    assert held.answers()
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
    assert held.answers()
    held.world.policy = policy
    assert not held.answers()
    held.world.policy = TablePolicy(mode_percent=0.0)
    assert not held.answers()
    held.world.policy = TablePolicy()
    assert held.answers()
