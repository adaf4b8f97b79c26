"""Claims about `proxy.core.audit_gate`."""

from __future__ import annotations

import pytest

from proxy.core.audit_gate import BACK_OFF_S, AuditGate, TokenBucket
from proxy.core.policy import AuditPolicy


def test_bucket_gives_its_rate_in_the_long_run() -> None:
    """A second's worth at once, then so much per second, and no more for having waited."""
    bucket = TokenBucket(10)

    def taken(now_s: float) -> int:
        count = 0
        while bucket.has(now_s):
            bucket.spend(1)
            count += 1
        return count

    assert taken(100.0) == 10
    assert taken(100.5) == 5
    assert taken(1000.0) == 10


def test_bucket_of_a_slow_rate_holds_one() -> None:
    """Once in ten seconds is possible."""
    bucket = TokenBucket(0.1)
    assert bucket.has(0)
    bucket.spend(1)
    assert not bucket.has(0)
    assert bucket.has(1)  # a part of one is enough: the rest is owed
    bucket.spend(1)
    assert not bucket.has(9.9)
    assert bucket.has(10.1)


def test_bucket_is_empty_until_what_was_overspent_is_repaid() -> None:
    """A large read counts in full."""
    bucket = TokenBucket(2)
    bucket.spend(10)
    assert not bucket.has(0)
    assert not bucket.has(4)
    assert bucket.has(4.1)


def policy(*, reads: float = 1000, units: float = 1000, at_once: int = 1000) -> AuditPolicy:
    """Return bounds of which only some matter."""
    return AuditPolicy(reads_per_s_max=reads, read_units_per_s_max=units, concurrency_max=at_once)


@pytest.mark.parametrize("bound", [{"reads": 3}, {"units": 6}, {"at_once": 3}])
def test_each_bound_refuses(bound: dict[str, int]) -> None:
    """Reads, units and audits at one time are bounded each by itself."""
    gate = AuditGate(policy(**bound))
    assert [gate.enter(0, 2.0) for _ in range(4)] == [True, True, True, False]


def test_who_leaves_makes_room() -> None:
    """Concurrency is given back, rates are not."""
    gate = AuditGate(policy(reads=2, at_once=1))
    assert gate.enter(0, 1)
    gate.leave(0)
    assert gate.enter(0, 1)
    gate.leave(0)
    assert not gate.enter(0, 1)


def test_units_are_what_was_read() -> None:
    """What was expected wrongly is corrected in the end, either way."""
    gate = AuditGate(policy(units=10))
    assert gate.enter(0, 1)
    gate.leave(20)
    assert not gate.enter(1.0, 1)
    assert gate.enter(1.2, 10)
    gate.leave(-10)
    assert gate.enter(1.3, 1)


def test_nothing_starts_while_upstream_is_in_trouble() -> None:
    """Each trouble starts the pause anew."""
    gate = AuditGate(policy())
    gate.back_off(100)
    gate.back_off(101)
    assert not gate.enter(100 + BACK_OFF_S, 1)
    assert gate.enter(101 + BACK_OFF_S, 1)
