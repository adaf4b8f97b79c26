"""Claims of proxy.core.plan_memo: a remembered plan is the one that would be made now."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from proxy.core.cache_key import KeySpace
from proxy.core.plan_memo import BODY_BYTES_MAX, PLAN_BYTES, PlanMemo
from proxy.core.policy import TablePolicy
from proxy.core.read_plan import PassPlan, ReadPlan, plan_get
from proxy.core.values import BypassReason, Mode

KEYS = KeySpace("n", "us-east-1")


def body_of(pk: str, **members: object) -> bytes:
    """Return the body of a GetItem."""
    return json.dumps({"TableName": "t", "Key": {"pk": {"S": pk}}, **members}).encode()


class Policies:
    """One policy for all tables, and how often plans had to be made under it."""

    def __init__(self) -> None:
        self.policy = TablePolicy()

    def __call__(self, table: str) -> TablePolicy:
        """Return it."""
        return self.policy


@pytest.fixture
def policies() -> Policies:
    """Give the policy of all tables."""
    return Policies()


def memo_of(policies: Policies, plans: int = 100) -> PlanMemo:
    """Return a memo with room for so many plans of one-letter keys."""
    return PlanMemo(KEYS, policies, bytes_max=plans * (PLAN_BYTES + len(body_of("a"))))


@pytest.mark.parametrize(
    "body",
    [
        body_of("a"),
        body_of("a", ProjectionExpression="x"),
        body_of("a", ConsistentRead=True),
        body_of("a", Unknown=1),
        b"{",
        b"",
    ],
)
def test_a_plan_is_made_once(policies: Policies, body: bytes) -> None:
    """Asked again it is the same object, equal to what is planned without a memo."""
    memo = memo_of(policies)
    plan = memo.plan_of(body)
    assert memo.plan_of(bytes(bytearray(body))) is plan
    fresh = plan_get(body, KEYS, policies)
    if isinstance(plan, ReadPlan):
        assert isinstance(fresh, ReadPlan)
        assert (plan.get, plan.policy, plan.control) == (fresh.get, fresh.policy, fresh.control)
        assert plan.identity.digest == fresh.identity.digest
    else:
        assert plan == fresh


def test_different_bodies_have_different_plans(policies: Policies) -> None:
    """No plan answers for another body."""
    memo = memo_of(policies)
    plans = [memo.plan_of(body_of(pk)) for pk in "ab"]
    assert all(isinstance(plan, ReadPlan) for plan in plans)
    assert len({plan.identity.cache_key for plan in plans if isinstance(plan, ReadPlan)}) == 2


def test_a_switched_mode_counts_at_once(policies: Policies) -> None:
    """A plan under another policy than the table's is made anew, young or old."""
    memo = memo_of(policies, plans=4)
    body = body_of("a")
    assert isinstance(memo.plan_of(body), ReadPlan)
    policies.policy = replace(policies.policy, mode=Mode.OFF)
    assert memo.plan_of(body) == PassPlan(BypassReason.TABLE_OFF, memo.plan_of(body).table)
    for other in "bc":  # now `a` is among the older ones
        memo.plan_of(body_of(other))
    policies.policy = TablePolicy()
    plan = memo.plan_of(body)
    assert isinstance(plan, ReadPlan)
    assert plan.policy is policies.policy


def test_what_is_asked_for_stays(policies: Policies) -> None:
    """Two generations: one turnover of half the room drops what nobody asked for in it."""
    memo = memo_of(policies, plans=8)
    kept, left = memo.plan_of(body_of("a")), memo.plan_of(body_of("b"))
    for pk in "cdefghijklmnop":
        memo.plan_of(body_of(pk))
        assert memo.plan_of(body_of("a")) is kept
    assert memo.plan_of(body_of("b")) is not left


def test_the_room_is_bounded(policies: Policies) -> None:
    """Never more plans than there is room for, whatever is asked."""
    memo = memo_of(policies, plans=10)
    for number in range(100):
        memo.plan_of(body_of(chr(97 + number % 26)))
        memo.plan_of(body_of(chr(97 + number * 7 % 26)))
        assert len(memo) <= 10
    assert len(memo) > 4


def test_large_bodies_are_not_kept(policies: Policies) -> None:
    """Nor is anything where there is no room."""
    memo = memo_of(policies)
    memo.plan_of(body_of("a" * BODY_BYTES_MAX))
    assert len(memo) == 0
    none = PlanMemo(KEYS, policies, bytes_max=0)
    assert none.plan_of(b"{") == PassPlan(BypassReason.UNDECODABLE)
    assert len(none) == 0
