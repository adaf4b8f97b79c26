"""Claims of `proxy.core.hot_keys`: Space-Saving's bounds, and that what was counted fades."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.hot_keys import HALF_LIFE_S, Counted, HotKeys, SpaceSaving
from proxy.core.values import Digest, TableName

ONE, OTHER = TableName("one"), TableName("other")


def digest(name: object) -> Digest:
    """Name an item."""
    return Digest(str(name).encode())


@given(st.lists(st.integers(0, 12) | st.just(-1), max_size=200), st.integers(1, 8))
def test_no_count_is_too_low_nor_higher_than_its_error_says(
    steps: list[int], counters_max: int
) -> None:
    """The paper's bounds hold, and go on holding when everything fades (step -1)."""
    counters, truth = SpaceSaving(counters_max), Counter[Digest]()
    for step in steps:
        if step < 0:
            counters.fade(0.5)
            truth = Counter({each: count / 2 for each, count in truth.items()})
        else:
            counters.count(digest(step))
            truth[digest(step)] += 1
    kept = {each.digest: each for each in counters.top(100)}
    assert len(kept) <= counters_max
    assert counters.total == pytest.approx(sum(truth.values()))
    for item, count in truth.items():
        if item in kept:
            assert kept[item].count - kept[item].error <= count <= kept[item].count
            assert kept[item].error <= counters.total / counters_max
            assert counters.sure(item) == kept[item].count - kept[item].error
        else:
            assert count <= counters.unknown_max <= counters.total / counters_max
            assert counters.sure(item) == 0


def test_the_smallest_counter_is_taken_over_with_its_count_as_the_error() -> None:
    """The newcomer may have been read as often before."""
    counters = SpaceSaving(2)
    for name in "aaabbc":
        counters.count(digest(name))
    assert counters.top(2) == (
        Counted(digest("a"), 3.0, 0.0),
        Counted(digest("c"), 3.0, 2.0),
    )
    assert counters.top(1) == (Counted(digest("a"), 3.0, 0.0),)
    assert (counters.total, counters.unknown_max) == (6.0, 3.0)


def test_while_there_are_counters_left_every_count_is_exact() -> None:
    """Then nothing is unknown."""
    counters = SpaceSaving(2)
    counters.count(digest("a"))
    assert (counters.unknown_max, counters.sure(digest("a"))) == (0.0, 1.0)


def test_counts_are_halved_with_time() -> None:
    """What was hot an hour ago is not any more; a table nobody reads is forgotten."""
    keys = HotKeys()
    for _ in range(8):
        keys.count(ONE, digest("a"), 100.0)
    assert keys.sure(ONE, digest("a")) == 8.0
    keys.count(OTHER, digest("b"), 99.0 + HALF_LIFE_S)
    assert keys.sure(ONE, digest("a")) == 8.0
    keys.count(OTHER, digest("b"), 100.0 + 2.5 * HALF_LIFE_S)
    assert keys.sure(ONE, digest("a")) == 2.0
    assert {table: counters.total for table, counters in keys.tables(100.0)} == {
        ONE: 2.0,
        OTHER: 1.0,
    }
    assert [table for table, _ in keys.tables(100.0 + 4 * HALF_LIFE_S)] == [ONE]
    assert list(keys.tables(1e12)) == []
    assert keys.sure(ONE, digest("a")) == 0.0


def test_a_steady_rate_is_count_over_span() -> None:
    """The span fades as the counts do, whenever it is asked for."""
    keys = HotKeys()
    assert keys.span_s(0.0) == 0.0
    for second in range(1, 1000):
        keys.count(ONE, digest("a"), float(second))
        if second % 97 == 0:
            ((_, counters),) = keys.tables(float(second))
            assert counters.total / keys.span_s(float(second)) == pytest.approx(1.0, rel=0.02)


def test_tables_and_counters_are_bounded() -> None:
    """Further tables are not counted until one is forgotten."""
    keys = HotKeys(tables_max=1, counters_max=1)
    keys.count(ONE, digest("a"), 0.0)
    keys.count(OTHER, digest("a"), 0.0)
    keys.count(ONE, digest("b"), 0.0)
    ((table, counters),) = keys.tables(0.0)
    assert (table, counters.top(9)) == (ONE, (Counted(digest("b"), 2.0, 1.0),))
    keys.count(OTHER, digest("a"), 3 * HALF_LIFE_S)
    assert [table for table, _ in keys.tables(3 * HALF_LIFE_S)] == [OTHER]
