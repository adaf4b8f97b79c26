"""Claims of `proxy.core.refresh_ahead`: never too early, surely in time, likelier and likelier."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.record import Entry
from proxy.core.refresh_ahead import AHEAD_MS_MAX, TOOK_S_MAX, chance_ahead
from proxy.core.values import Digest, Generation, Incarnation

FILLED_MS = 1_000_000


def entry(life_s: float) -> Entry:
    """Return an entry that was filled at FILLED_MS."""
    end_ms = FILLED_MS + int(1000 * life_s)
    return Entry(
        incarnation=Incarnation(b""),
        generation=Generation(b""),
        digest=Digest(b""),
        filled_ms=FILLED_MS,
        soft_ms=end_ms,
        hard_ms=end_ms,
        negative=False,
        item_bytes=0,
        crc32=0,
        body=b"{}",
    )


def chance(left_s: float, *, life_s: float = 300.0, took_s: float = 0.01) -> float:
    """Return the chance with so much time left."""
    end_ms = FILLED_MS + int(1000 * life_s)
    return chance_ahead(entry(life_s), end_ms - int(1000 * left_s), took_s)


def test_the_last_two_fetch_times_are_certain() -> None:
    """Whatever is read then is refreshed, so that the refresh ends before the entry does."""
    assert [chance(left_s) for left_s in (0.02, 0.01, 0.0)] == [1.0, 1.0, 1.0]
    assert 0.99 < chance(0.021) < 1.0


def test_before_that_the_chance_is_the_papers() -> None:
    """exp(-left / (delta beta)): the fetch time and a second, of an entry of five minutes."""
    assert chance(0.02 + 1.01) == pytest.approx(math.exp(-1))
    assert chance(0.02 + 3 * 1.01) == pytest.approx(math.exp(-3))
    assert chance(0.02 + 8.1) == 0.0


def test_a_short_life_has_a_shorter_spread_and_half_of_it_is_left_alone() -> None:
    """Else a short-lived entry would be refreshed all the time."""
    spread_s = 0.01 + 0.05 * 4
    assert chance(0.02 + spread_s, life_s=4.0) == pytest.approx(math.exp(-1))
    assert chance(1.9, life_s=4.0, took_s=1.0) == 1.0
    assert chance(2.1, life_s=4.0, took_s=1.0) == 0.0
    assert chance(0.0, life_s=0.0) == 1.0


def test_slow_fetches_reach_no_further_than_the_bound() -> None:
    """One comparison spares most hits the rest, so nothing may lie beyond it."""
    assert chance(1.0, took_s=100.0) == chance(1.0, took_s=TOOK_S_MAX) == 1.0
    assert chance(AHEAD_MS_MAX / 1000, took_s=100.0) == 0.0
    assert chance(AHEAD_MS_MAX / 1000 - 0.1, took_s=100.0) > 0.0


@given(st.floats(0.001, 10_000), st.floats(0, 30), st.floats(0, 1), st.floats(0, 5))
def test_the_chance_only_grows(life_s: float, later: float, sooner: float, took_s: float) -> None:
    """With less time left it is never lower, and always a chance."""
    early = chance(later, life_s=life_s, took_s=took_s)
    late = chance(later * sooner, life_s=life_s, took_s=took_s)
    assert 0.0 <= early <= late <= 1.0


def test_ten_reads_a_second_are_enough() -> None:
    """Of an entry of five minutes, fewer than 1 life in 10,000 ends without a refresh."""
    missed = math.prod(1 - chance(tenth / 10, took_s=0.0) for tenth in range(1, 200))
    assert missed < 1e-4
