"""Claims of proxy.core.near_copy: a copy reads the store's clock off this process's own."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.near_copy import (
    COPY_OVERHEAD_BYTES,
    UNTOLD,
    USES_MAX,
    Copy,
    NearTable,
    StandingHit,
    Told,
    one_word,
)
from proxy.core.record import Entry
from proxy.core.values import Digest, Generation, Incarnation, TableName


class Lane:
    """A connection that is proven for ever."""

    proven_s = 0.0
    serves_until_s = float("inf")


class Late:
    """A connection whose last proof is long ago."""

    proven_s = -9.0
    serves_until_s = float("inf")


def copy_of(ahead_ms: float) -> Copy:
    """Return a copy whose store's clock is so far ahead."""
    incarnation, generation = Incarnation(b"i" * 8), Generation(b"g" * 8)
    times = (0, 300_000, 330_000)
    entry = Entry(incarnation, generation, Digest(b"d" * 16), *times, False, 3, 7, b"{}")
    return Copy(entry, NearTable(), (Told(Lane()),), ahead_ms)


@given(
    st.floats(min_value=-1e9, max_value=2e12),
    st.integers(min_value=0, max_value=2_000_000_000_000),
)
def test_before_a_time_of_the_stores_it_is_not_that_time_yet(
    ahead_ms: float, store_ms: int
) -> None:
    """However the clocks stand to each other, and never later than by a rounding of floats."""
    copy = copy_of(ahead_ms)
    last_s = copy.before_s(store_ms)
    assert copy.store_now_ms(last_s - 0.002) < store_ms
    assert copy.store_now_ms(last_s + 0.002) >= store_ms


def test_a_new_copy_has_answered_nothing() -> None:
    """It counts with its body and an overhead, and no use."""
    copy = copy_of(0.0)
    assert (copy.asked, copy.uses) == (None, 0)
    assert copy.size_bytes == COPY_OVERHEAD_BYTES + 2
    assert not copy.told[0].void
    assert copy.table.generation is None


def test_a_word_that_is_void_proves_nothing() -> None:
    """Whoever has it sees at once that it counts no more."""
    told = Told(Lane())
    told.end()
    assert told.void
    assert told.source.proven_s == -math.inf
    assert (one_word((told,)), one_word((told, told)), one_word(())) == (told, UNTOLD, UNTOLD)


def standing(copy: Copy, **known: float) -> StandingHit:
    """Return what stands from second 1 on, for long."""
    copy.table.know(copy.entry.generation, copy.told)
    given = {"now_s": 1.0, "delta_s": 2.0, "ends_s": 100.0} | known
    return StandingHit(copy, TableName("t"), **given)


def test_what_stands_is_right_about_its_time() -> None:
    """Each time it is given; and that is a use of the copy, as far as uses are counted."""
    copy = copy_of(-1.0)
    hit = standing(copy)
    assert (hit.ttl_s, hit.answer.ttl_s) == (299, 299)
    for _ in range(USES_MAX + 1):
        assert hit.holds(1.9)
    assert (hit.ttl_s, copy.uses) == (298, USES_MAX)


def test_what_stands_ends_with_each_of_its_reasons() -> None:
    """Its time, its proofs, its generation."""
    assert not standing(copy_of(0.0), ends_s=1.5).holds(1.5)
    assert not standing(copy_of(0.0)).holds(2.0)  # proven at 0, for less than 2 s
    copy = copy_of(0.0)
    hit = standing(copy)
    copy.table.know(copy.entry.generation, (Told(Late()),))
    assert not hit.holds(1.0)
    copy.table.know(Generation(b"h" * 8), copy.told)
    assert not hit.holds(1.0)
    copy.table.know(copy.entry.generation, copy.told)
    assert hit.holds(1.0)
    out = Lane()
    out.serves_until_s = 0.9
    copy.told[0].source = out
    assert not standing(copy).holds(1.0)
