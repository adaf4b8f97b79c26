"""Claims about `proxy.core.near_cache`."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.near_cache import NearCache
from proxy.core.near_copy import COPY_OVERHEAD_BYTES, Copy, NearTable, Told
from proxy.core.record import Entry
from proxy.core.values import CacheKey, Digest, Generation, Incarnation

BODY_BYTES = 100
COPY_BYTES = COPY_OVERHEAD_BYTES + BODY_BYTES
GHOSTS_BYTES = 8 * 64


def key(name: object) -> CacheKey:
    return CacheKey(b"ds:test:{ab}:" + blake2b(str(name).encode(), digest_size=16).digest())


class Source:
    """A connection of which nothing is asked here."""

    proven_s = 0.0
    serves_until_s = float("inf")


TOLD = (Told(Source()),)


def copy(table: NearTable | None = None, body_bytes: int = BODY_BYTES) -> Copy:
    entry = Entry(
        Incarnation(bytes(8)),
        Generation(bytes(8)),
        Digest(bytes(16)),
        filled_ms=0,
        soft_ms=1,
        hard_ms=2,
        negative=False,
        item_bytes=0,
        crc32=0,
        body=bytes(body_bytes),
    )
    return Copy(entry, table or NearTable(), TOLD, 0.0)


def cache(copies: int, table_share_max: float = 1.0) -> NearCache:
    """Return a cache that has room for so many copies, at least 10 so that one is taken."""
    return NearCache(bytes_max=GHOSTS_BYTES + copies * COPY_BYTES, table_share_max=table_share_max)


def fill(near: NearCache, names: Iterable[object], table: NearTable | None = None) -> None:
    table = table or NearTable()
    for name in names:
        near.put(key(name), copy(table))


def held(near: NearCache, names: Iterable[object]) -> list[object]:
    return [name for name in names if near.peek(key(name)) is not None]


def test_a_copy_is_found_until_it_is_dropped() -> None:
    """What was put is found, by `find` and `peek` alike; dropping twice is harmless."""
    near, mine = cache(20), copy()
    assert near.find(key("a")) is None
    assert near.put(key("a"), mine)
    assert near.find(key("a")) is near.peek(key("a")) is mine
    assert len(near) == 1
    near.drop(key("a"))
    near.drop(key("a"))
    assert near.find(key("a")) is None
    assert near.kept_bytes == GHOSTS_BYTES
    assert mine.table.kept_bytes == 0


def test_a_newer_copy_takes_the_place_of_the_older() -> None:
    """There is one copy of a record, and the bytes of one."""
    near, table = cache(20), NearTable()
    near.put(key("a"), copy(table))
    newer = copy(table, body_bytes=7)
    near.put(key("a"), newer)
    assert near.find(key("a")) is newer
    assert table.kept_bytes == newer.size_bytes == near.kept_bytes - GHOSTS_BYTES


def test_a_copy_that_nobody_asks_for_again_leaves_first() -> None:
    """A scan passes through the window; what is used again stays."""
    near = cache(20)
    fill(near, ["hot"])
    for _ in range(2):
        near.find(key("hot"))
    fill(near, range(100))
    assert held(near, ["hot", 99]) == ["hot", 99]
    assert near.evictions == 81
    assert near.peek(key(0)) is None


def test_what_comes_back_soon_passes_the_window_by() -> None:
    """A copy that left a moment ago was asked for again: it is no part of a scan."""
    near = cache(20)
    fill(near, range(30))
    assert near.peek(key(8)) is None
    fill(near, [8])
    fill(near, range(100, 119))
    assert held(near, [8]) == [8]


def test_what_left_long_ago_is_forgotten() -> None:
    """After as many others have left as there is room for, a copy begins in the window again."""
    near = cache(20)
    fill(near, range(60))
    fill(near, [0])
    fill(near, range(100, 120))
    assert held(near, [0]) == []


def test_old_fame_passes() -> None:
    """A copy in the main queue that is not used any more leaves it in the end."""
    near = cache(20)
    for names in (range(20), range(50, 60)):  # the second lets the first move on
        fill(near, names)
        for name in range(20):
            for _ in range(3):
                near.find(key(name))
    assert held(near, range(20)) != []
    for name in range(100, 300):
        fill(near, [name])
        near.find(key(name))
        near.find(key(name))
    assert held(near, range(20)) == []
    assert near.kept_bytes <= GHOSTS_BYTES + 20 * COPY_BYTES


def test_one_copy_may_not_turn_out_many() -> None:
    """What is larger than the window, or than its table's share, is refused."""
    near = cache(20)
    assert not near.put(key("large"), copy(body_bytes=2 * COPY_BYTES))
    assert near.refused == 1
    small_share = cache(1000, table_share_max=0.01)
    assert not small_share.put(key("large"), copy(body_bytes=20 * COPY_BYTES))
    assert not cache(0).put(key("a"), copy())


def test_a_refused_copy_leaves_no_older_one_behind() -> None:
    """The older copy is outdated whether or not the newer one is taken."""
    near = cache(20)
    near.put(key("a"), copy())
    assert not near.put(key("a"), copy(body_bytes=10 * COPY_BYTES))
    assert near.peek(key("a")) is None


def test_a_table_gets_no_more_than_its_share() -> None:
    """A busy table turns out its own copies, not those of others."""
    near, busy, quiet = cache(40, table_share_max=0.5), NearTable(), NearTable()
    fill(near, ["q1", "q2", "q3"], quiet)
    fill(near, range(1000), busy)
    assert busy.kept_bytes <= (GHOSTS_BYTES + 40 * COPY_BYTES) // 2
    assert held(near, ["q1", "q2", "q3"]) == ["q1", "q2", "q3"]
    assert near.peek(key(999)) is not None


def test_a_table_makes_room_wherever_its_copies_stand() -> None:
    """Copies of a full table leave the main queue as well as the window."""
    near, busy, quiet = cache(40, table_share_max=0.25), NearTable(), NearTable()
    fill(near, range(9), busy)
    for name in range(9):
        for _ in range(3):
            near.find(key(name))
    fill(near, [f"q{n}" for n in range(40)], quiet)
    fill(near, range(100, 200), busy)
    assert busy.kept_bytes <= (GHOSTS_BYTES + 40 * COPY_BYTES) // 4
    assert held(near, range(9)) == []


def test_a_table_whose_copies_are_far_between_is_refused() -> None:
    """Nobody waits while the hand looks through all the copies of others."""
    limited, rare = cache(1000, table_share_max=0.02), NearTable()
    for number, table in enumerate(NearTable() for _ in range(70)):
        fill(limited, [(number, n) for n in range(10)], table)
    fill(limited, range(19), rare)
    before = limited.refused
    fill(limited, [f"r{n}" for n in range(10)], rare)
    assert limited.refused > before
    assert rare.kept_bytes <= 0.02 * (GHOSTS_BYTES + 1000 * COPY_BYTES)


def test_the_stores_clock_is_never_taken_for_earlier() -> None:
    """A copy ages with the process's own clock, rounded up."""
    mine = Copy(copy().entry, NearTable(), TOLD, 5_000.25)
    assert mine.store_now_ms(2.0) == 7_001
    assert mine.store_now_ms(2.0005) == 7_001
    assert mine.store_now_ms(2.001) == 7_002


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["put", "find", "drop"]),
            st.integers(0, 40),
            st.integers(0, 2),
            st.integers(0, 1200),
        ),
        max_size=300,
    ),
    share=st.sampled_from([0.3, 0.6, 1.0]),
)
def test_every_byte_is_accounted_for(steps: list[tuple[str, int, int, int]], share: float) -> None:
    """Whatever happens, sums are exact and no bound is passed."""
    tables = [NearTable() for _ in range(3)]
    near = cache(25, table_share_max=share)
    for what, name, table, body_bytes in steps:
        if what == "put":
            near.put(key(name), copy(tables[table], body_bytes))
        elif what == "find":
            near.find(key(name))
        else:
            near.drop(key(name))
        kept = [each for n in range(41) if (each := near.peek(key(n))) is not None]
        assert len(kept) == len(near)
        assert near.kept_bytes == GHOSTS_BYTES + sum(each.size_bytes for each in kept)
        assert near.kept_bytes <= GHOSTS_BYTES + 25 * COPY_BYTES
        for mine in tables:
            assert mine.kept_bytes == sum(one.size_bytes for one in kept if one.table is mine)
            assert mine.kept_bytes <= share * (GHOSTS_BYTES + 25 * COPY_BYTES)


@pytest.mark.parametrize("copies", [10, 100])
def test_uses_beyond_a_few_are_not_counted(copies: int) -> None:
    """What was asked for a thousand times long ago leaves as soon as what was three times."""
    near = cache(copies)
    for name, uses in (("few", 3), ("many", 1000)):
        fill(near, [name])
        for _ in range(uses):
            near.find(key(name))
    for number in range(40 * copies):
        fill(near, [number])
        near.find(key(number))
        near.find(key(number))
    assert held(near, ["few", "many"]) == []
