"""Claims of proxy.core.near_copy: a copy reads the store's clock off this process's own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.near_copy import COPY_OVERHEAD_BYTES, Copy, NearHit, NearTable, Told
from proxy.core.policy import TablePolicy
from proxy.core.record import Entry
from proxy.core.request import Answer
from proxy.core.values import Digest, Generation, Incarnation, Outcome


class Lane:
    """A connection that is proven for ever."""

    proven_s = 0.0


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
    assert (copy.hit, copy.uses) == (None, 0)
    assert copy.size_bytes == COPY_OVERHEAD_BYTES + 2
    assert not copy.told[0].void
    assert copy.table.generation is None


def test_a_new_hit_was_sent_by_nobody() -> None:
    """What the listener keeps with it is not there yet."""
    answer = Answer(200, (), b"{}", Outcome.HIT, crc32=7)
    assert NearHit(answer, TablePolicy(), 0.5, until_s=1.0).fields is None
