"""Claims about when an entry may answer, at every boundary, and about the times it is given."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.freshness import CLOCK_SKEW_MS_MAX, assess, lifetime
from proxy.core.policy import TablePolicy
from proxy.core.record import Entry
from proxy.core.values import Digest, Generation, Incarnation, Level, Verdict

FILLED_MS = 1_000_000
LONG_MS = 10**9
POLICY = TablePolicy(fresh_ttl_s=100, grace_s=10, stale_if_error_s=50, negative_ttl_s=5)
SECONDS = st.integers(0, 10_000).map(lambda tenths: tenths / 10)
POLICIES = st.builds(
    TablePolicy,
    level=st.sampled_from(Level),
    fresh_ttl_s=SECONDS,
    negative_ttl_s=SECONDS,
    grace_s=SECONDS,
    stale_if_error_s=SECONDS,
    jitter=st.floats(0, 0.5),
)
CHANCES = st.floats(0, 1)


def entry(*, soft_ms: int = LONG_MS, hard_ms: int = LONG_MS, negative: bool = False) -> Entry:
    """Return an entry filled at FILLED_MS; its own times are counted from there."""
    return Entry(
        incarnation=Incarnation(b""),
        generation=Generation(b""),
        digest=Digest(b""),
        filled_ms=FILLED_MS,
        soft_ms=FILLED_MS + soft_ms,
        hard_ms=FILLED_MS + hard_ms,
        negative=negative,
        item_bytes=0,
        crc32=0,
        body=b"{}",
    )


def verdict_at(age_ms: int, policy: TablePolicy = POLICY, **times: Any) -> Verdict:
    """Return the verdict on an entry of this age."""
    return assess(entry(**times), policy, FILLED_MS + age_ms)


def test_nothing_there_is_absent() -> None:
    """Without an entry there is nothing to judge."""
    assert assess(None, POLICY, FILLED_MS) is Verdict.ABSENT


@pytest.mark.parametrize(
    ("age_ms", "verdict"),
    [
        (-1_001, Verdict.EXPIRED),
        (-1_000, Verdict.FRESH),
        (0, Verdict.FRESH),
        (99_999, Verdict.FRESH),
        (100_000, Verdict.GRACE),
        (109_999, Verdict.GRACE),
        (110_000, Verdict.LAST_RESORT),
        (149_999, Verdict.LAST_RESORT),
        (150_000, Verdict.EXPIRED),
    ],
)
def test_policy_bounds_an_entry_that_would_live_longer(age_ms: int, verdict: Verdict) -> None:
    """A shortened TTL takes effect on entries filled under the longer one."""
    assert verdict_at(age_ms) is verdict


@pytest.mark.parametrize(
    ("age_ms", "verdict"),
    [
        (29_999, Verdict.FRESH),
        (30_000, Verdict.GRACE),
        (39_999, Verdict.GRACE),
        (40_000, Verdict.EXPIRED),
    ],
)
def test_an_entry_never_outlives_its_own_times(age_ms: int, verdict: Verdict) -> None:
    """The entry's soft and hard time hold even where the policy would allow more."""
    assert verdict_at(age_ms, soft_ms=30_000, hard_ms=40_000) is verdict


@pytest.mark.parametrize(
    ("age_ms", "verdict"),
    [
        (-1_001, Verdict.EXPIRED),
        (0, Verdict.FRESH),
        (4_999, Verdict.FRESH),
        (5_000, Verdict.EXPIRED),
        (50_000, Verdict.EXPIRED),
    ],
)
def test_an_absence_has_neither_grace_nor_last_resort(age_ms: int, verdict: Verdict) -> None:
    """An answer of "no such item" is fresh for its own short time, then gone."""
    assert verdict_at(age_ms, negative=True) is verdict


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("grace_s", [0, 10])
def test_strict_never_serves_grace(level: Level, grace_s: float) -> None:
    """At `strict`, or without a grace, an entry past its time waits for upstream's failure."""
    policy = TablePolicy(level=level, fresh_ttl_s=100, grace_s=grace_s, stale_if_error_s=50)
    graceful = level is not Level.STRICT and grace_s > 0
    assert verdict_at(100_000, policy) is (Verdict.GRACE if graceful else Verdict.LAST_RESORT)


def test_grace_longer_than_stale_if_error_ends_in_expiry() -> None:
    """After the longer of the two nothing is left to serve."""
    policy = TablePolicy(fresh_ttl_s=100, grace_s=50, stale_if_error_s=10)
    assert verdict_at(149_999, policy) is Verdict.GRACE
    assert verdict_at(150_000, policy) is Verdict.EXPIRED


@given(
    policy=POLICIES,
    age_ms=st.integers(-5_000, 3_000_000),
    chance=CHANCES,
    negative=st.booleans(),
)
def test_age_is_bounded_whatever_the_times(
    policy: TablePolicy, age_ms: int, chance: float, *, negative: bool
) -> None:
    """No entry is served past what its table's policy allows, nor from a future beyond skew."""
    given_s = lifetime(policy, negative=negative, chance=chance)
    verdict = verdict_at(
        age_ms,
        policy,
        soft_ms=round(1000 * given_s.fresh_s),
        hard_ms=round(1000 * given_s.hard_s),
        negative=negative,
    )
    fresh_s = policy.negative_ttl_s if negative else policy.fresh_ttl_s
    grace_s = policy.grace_s if policy.serves_grace and not negative else 0.0
    last_s = 0.0 if negative else max(grace_s, policy.stale_if_error_s)
    if verdict is Verdict.FRESH:
        assert -CLOCK_SKEW_MS_MAX <= age_ms < 1000 * fresh_s
    elif verdict is Verdict.GRACE:
        assert policy.serves_grace
        assert age_ms < 1000 * (fresh_s + grace_s)
    elif verdict is Verdict.LAST_RESORT:
        assert age_ms < 1000 * (fresh_s + last_s)
    else:
        assert verdict is Verdict.EXPIRED


@given(
    policy=POLICIES,
    ages_ms=st.lists(st.integers(0, 3_000_000), min_size=2, max_size=6),
    negative=st.booleans(),
)
def test_an_entry_only_gets_worse_with_age(
    policy: TablePolicy, ages_ms: list[int], *, negative: bool
) -> None:
    """FRESH, GRACE, LAST_RESORT, EXPIRED come in this order and never turn back."""
    order = [Verdict.FRESH, Verdict.GRACE, Verdict.LAST_RESORT, Verdict.EXPIRED]
    ranks = [
        order.index(verdict_at(age_ms, policy, soft_ms=90_000, hard_ms=400_000, negative=negative))
        for age_ms in sorted(ages_ms)
    ]
    assert ranks == sorted(ranks)


@given(policy=POLICIES, chance=CHANCES, negative=st.booleans())
def test_jitter_only_shortens(policy: TablePolicy, chance: float, *, negative: bool) -> None:
    """Times stay between the policy's and the share that jitter may take."""
    given_s = lifetime(policy, negative=negative, chance=chance)
    whole_s = policy.negative_ttl_s if negative else policy.fresh_ttl_s
    assert whole_s * (1 - policy.jitter) <= given_s.fresh_s <= whole_s
    assert given_s.fresh_s <= given_s.hard_s


@pytest.mark.parametrize(
    ("policy", "negative", "fresh_s", "hard_s"),
    [
        (POLICY, True, 4.5, 4.5),
        (POLICY, False, 90.0, 140.0),
        (TablePolicy(fresh_ttl_s=100, grace_s=60, stale_if_error_s=50), False, 90.0, 150.0),
        (TablePolicy(fresh_ttl_s=100, grace_s=60, level=Level.STRICT), False, 90.0, 90.0),
    ],
)
def test_a_new_entry_lives_through_grace_and_last_resort(
    policy: TablePolicy, fresh_s: float, hard_s: float, *, negative: bool
) -> None:
    """The hard time is the fresh time and the longer of both extensions; an absence has none."""
    given_s = lifetime(policy, negative=negative, chance=1.0)
    assert given_s.fresh_s == pytest.approx(fresh_s)
    assert given_s.hard_s == pytest.approx(hard_s)
    assert lifetime(policy, negative=negative, chance=0.0).fresh_s == pytest.approx(fresh_s / 0.9)


@pytest.mark.parametrize(
    ("age_ms", "age_s_max", "verdict"),
    [
        (29_999, 30, Verdict.FRESH),
        (30_000, 30, Verdict.TOO_OLD),
        (104_999, 105, Verdict.GRACE),
        (105_000, 105, Verdict.TOO_OLD),
        (139_999, 140, Verdict.LAST_RESORT),
        (140_000, 140, Verdict.TOO_OLD),
        (100_000, 1_000, Verdict.GRACE),
        (150_000, 10, Verdict.EXPIRED),
        (-1_001, 10, Verdict.EXPIRED),
        (-1_000, 0, Verdict.TOO_OLD),
        (-1, 0.001, Verdict.FRESH),
        (0, 0, Verdict.TOO_OLD),
    ],
)
def test_readers_limit_only_ever_takes_away(
    age_ms: int, age_s_max: float, verdict: Verdict
) -> None:
    """An entry of the limit's age or older does not answer; a wide limit makes none servable."""
    assert assess(entry(), POLICY, FILLED_MS + age_ms, age_s_max=age_s_max) is verdict
