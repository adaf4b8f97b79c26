"""Claims of proxy.core.tally: every observation is in exactly one place, and none is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.tally import LATENCY_BOUNDS_S, LatencyTally

SECONDS = st.floats(min_value=0, max_value=100) | st.sampled_from(LATENCY_BOUNDS_S)


@given(st.lists(SECONDS), st.lists(SECONDS))
def test_two_tallies_together_are_one(first: list[float], second: list[float]) -> None:
    """For each bound, as many are counted as took no longer; the bound itself included."""
    tallies = LatencyTally(), LatencyTally()
    for tally, each in zip(tallies, (first, second), strict=True):
        for elapsed_s in each:
            tally.add(elapsed_s)
    one, other = tallies
    one.merge(other)
    together = first + second
    expected = [sum(each <= bound for each in together) for bound in LATENCY_BOUNDS_S]
    assert list(one.cumulative) == [*expected, len(together)]
    assert one.count == len(together)
    assert one.sum_s == sum(first) + sum(second)
    assert other.count == len(second)
