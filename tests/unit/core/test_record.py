"""Claims about the bytes of records; the layout is written down here a second time, on purpose."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.core.record import (
    ENTRY_OVERHEAD_BYTES,
    FOREIGN,
    Entry,
    EntryDraft,
    Leased,
    Packing,
    Pending,
    Record,
    ScopeRecord,
    Tombstone,
    decode_record,
    decode_scope,
)
from proxy.core.values import Digest, Generation, Incarnation

FORMAT = b"\x01"
HERE = Incarnation(b"I" * 8)
U64 = st.integers(0, 2**64 - 1)
U32 = st.integers(0, 2**32 - 1)
ENTRIES = st.builds(
    Entry,
    incarnation=st.binary(min_size=8, max_size=8).map(Incarnation),
    generation=st.binary(min_size=8, max_size=8).map(Generation),
    digest=st.binary(min_size=16, max_size=16).map(Digest),
    filled_ms=U64,
    soft_ms=U64,
    hard_ms=U64,
    negative=st.booleans(),
    item_bytes=U32,
    crc32=U32,
    body=st.binary(max_size=40),
    packing=st.sampled_from(Packing),
    names=st.none(),
)
MARKERS = st.lists(
    st.tuples(
        st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8), U64, st.booleans()
    ),
    max_size=4,
)
ENTRY = Entry(
    incarnation=Incarnation(b"I" * 8),
    generation=Generation(b"G" * 8),
    digest=Digest(b"D" * 16),
    filled_ms=1,
    soft_ms=2,
    hard_ms=3,
    negative=False,
    item_bytes=5,
    crc32=7,
    body=b'{"Item":{}}',
)


def u64(number: int) -> bytes:
    """Spell a time as records do."""
    return number.to_bytes(8, "big")


def spelled(entry: Entry) -> bytes:
    """Spell an entry as the scripts do: header, then the payload of its draft."""
    draft = EntryDraft(
        age_s=0.0,
        fresh_s=0.0,
        hard_s=0.0,
        negative=entry.negative,
        item_bytes=entry.item_bytes,
        crc32=entry.crc32,
        body=entry.body,
    )
    times = u64(entry.filled_ms) + u64(entry.soft_ms) + u64(entry.hard_ms)
    header = b"V" + FORMAT + entry.incarnation + entry.generation + entry.digest
    return header + times + draft.payload(entry.packing, entry.body)


def lease(deadline_ms: int, kept: bytes = b"") -> bytes:
    """Spell a lease of incarnation IIIIIIII."""
    return b"L" + FORMAT + b"I" * 8 + b"t" * 16 + u64(deadline_ms) + b"1" + kept


def pending(markers: list[tuple[bytes, bytes, int, bool]], hidden: bytes = b"") -> bytes:
    """Spell writers in flight and the entry hidden under them."""
    spelled_markers = b"".join(
        token + incarnation + u64(deadline_ms) + (b"1" if solo else b"0")
        for token, incarnation, deadline_ms, solo in markers
    )
    return b"P" + FORMAT + len(markers).to_bytes(2, "big") + spelled_markers + hidden


def scope(
    generation: bytes, deadlines_ms: list[int], raised_ms: int = 0, pages_from_ms: int = 0
) -> bytes:
    """Spell a scope's record of incarnation IIIIIIII."""
    markers = b"".join(b"t" * 16 + u64(deadline_ms) for deadline_ms in deadlines_ms)
    times = u64(raised_ms) + u64(pages_from_ms)
    table = b"which table this" + u64(7)
    count = len(deadlines_ms).to_bytes(2, "big")
    return b"G" + FORMAT + b"I" * 8 + generation + times + table + count + markers


@given(ENTRIES)
def test_an_entry_comes_back_as_it_was_drafted(entry: Entry) -> None:
    """Header and payload decode to the very values they were built from."""
    assert decode_record(spelled(entry)) == entry


def test_an_entry_has_the_offsets_that_the_scripts_count_by() -> None:
    """A byte that moved would make two releases, or Lua and Python, read different entries."""
    raw = spelled(ENTRY)
    assert raw[:2] == b"V\x01"
    assert raw[2:34] == b"I" * 8 + b"G" * 8 + b"D" * 16
    assert raw[34:58] == u64(1) + u64(2) + u64(3)
    assert raw[58:67] == b"\x00" + (5).to_bytes(4, "big") + (7).to_bytes(4, "big")
    assert raw[67:] == ENTRY.body
    assert ENTRY_OVERHEAD_BYTES == 67
    assert spelled(ENTRY._replace(negative=True))[58:59] == b"\x01"
    assert spelled(ENTRY._replace(packing=Packing.ZSTD))[58:59] == b"\x02"
    assert spelled(ENTRY._replace(packing=Packing.FIELDS))[58:59] == b"\x04"


@pytest.mark.parametrize(
    ("names", "asked", "covered"),
    [
        (None, None, True),
        (None, ("a",), True),
        (("a", "b"), ("a",), True),
        (("a", "b"), ("b", "a"), True),
        (("a",), ("a", "b"), False),
        (("a",), None, False),
    ],
)
def test_an_entry_answers_for_what_was_looked_for(
    names: tuple[str, ...] | None, asked: tuple[str, ...] | None, *, covered: bool
) -> None:
    """A partial entry is no answer to a wider question, a whole one is to any."""
    assert ENTRY._replace(names=names).covers(asked) is covered


@pytest.mark.parametrize("packing", [Packing.ZSTD, Packing.FIELDS])
def test_a_packed_entry_answers_for_nothing(packing: Packing) -> None:
    """Its body is not an answer yet."""
    assert not ENTRY._replace(packing=packing).covers(("a",))


@pytest.mark.parametrize("flags", [6, 7, 8, 128, 255])
def test_flags_of_another_release_make_an_entry_foreign(flags: int) -> None:
    """Whoever does not know how a body is packed serves none of it, kept entries included."""
    raw = spelled(ENTRY)[:58] + bytes([flags]) + spelled(ENTRY)[59:]
    assert decode_record(raw) is FOREIGN
    assert decode_record(lease(9, raw)) == Leased(Incarnation(b"I" * 8), 9, None)


@given(U64, st.none() | ENTRIES)
def test_a_lease_comes_back_with_the_entry_it_keeps(deadline_ms: int, kept: Entry | None) -> None:
    """The older entry inside a lease decodes like any other."""
    raw = lease(deadline_ms, spelled(kept) if kept else b"")
    assert decode_record(raw) == Leased(Incarnation(b"I" * 8), deadline_ms, kept)


@pytest.mark.parametrize("first", [b"V\x02", b"X\x01"])
def test_a_lease_over_a_foreign_entry_keeps_none(first: bytes) -> None:
    """A kept entry of another release is not served, and the lease still counts."""
    raw = lease(9, first + spelled(ENTRY)[2:])
    assert decode_record(raw) == Leased(Incarnation(b"I" * 8), 9, None)


@given(MARKERS, st.none() | ENTRIES)
def test_writers_in_flight_count_until_the_last_deadline(
    markers: list[tuple[bytes, bytes, int, bool]], hidden: Entry | None
) -> None:
    """The record is pending until its last writer's deadline; the hidden entry is out of sight."""
    raw = pending(markers, spelled(hidden) if hidden else b"")
    assert decode_record(raw) == Pending(max((marker[2] for marker in markers), default=0))


@given(U64)
def test_a_tombstone_comes_back(until_ms: int) -> None:
    """Its one time is the whole record."""
    assert decode_record(b"T" + FORMAT + u64(until_ms)) == Tombstone(until_ms)


@given(st.sampled_from([b"", b"V\x01", b"L\x01", b"P\x01", b"T\x01", b"V\x02"]), st.binary())
@example(b"P\x01", b"\xff\xff")
def test_any_bytes_decode_to_a_record(first: bytes, rest: bytes) -> None:
    """Whatever the store holds, nothing is raised and the reader gets a state."""
    assert isinstance(decode_record(first + rest), Record)


@given(
    st.binary(max_size=80).filter(lambda raw: raw[1:2] != FORMAT or raw[:1] not in b"VLPT"),
)
@example(b"")
@example(b"V")
@example(b"X\x01")
@example(b"V\x02")
def test_other_releases_count_as_a_writer_that_never_ends(raw: bytes) -> None:
    """What this release does not know is never taken for "nothing there"."""
    assert decode_record(raw) is FOREIGN


def test_foreign_outlives_every_clock() -> None:
    """Its deadline lies beyond any time a store can tell."""
    assert FOREIGN.deadline_ms > 1000 * 60 * 60 * 24 * 365 * 100_000_000


CUTS = [
    *(spelled(ENTRY)[:end] for end in range(2, 67)),
    *(lease(1)[:end] for end in range(2, 35)),
    *(lease(1, spelled(ENTRY))[:end] for end in range(36, 35 + 67)),
    *(pending([(b"t" * 16, b"I" * 8, 1, True)] * 2)[:end] for end in range(2, 4 + 66)),
    *((b"T\x01" + u64(1))[:end] for end in range(2, 10)),
]


@pytest.mark.parametrize("raw", CUTS, ids=lambda raw: f"{raw[:1].decode()}{len(raw)}")
def test_truncated_records_are_foreign(raw: bytes) -> None:
    """Half a record is damage: nobody is served from it and nobody fills over it."""
    assert decode_record(raw) is FOREIGN


@given(st.binary(min_size=8, max_size=8), st.lists(U64, max_size=4), U64, U64)
def test_a_scope_comes_back_with_its_writers(
    generation: bytes, deadlines_ms: list[int], raised_ms: int, pages_from_ms: int
) -> None:
    """Incarnation, generation, times and deadlines decode to what was written, in order."""
    raw = scope(generation, deadlines_ms, raised_ms, pages_from_ms)
    assert decode_scope(raw) == ScopeRecord(
        HERE, Generation(generation), tuple(deadlines_ms), raised_ms, pages_from_ms
    )


@given(st.binary(max_size=90) | st.binary(max_size=90).map(lambda rest: b"G\x01" + rest))
def test_any_bytes_decode_to_a_scope_or_to_none(raw: bytes) -> None:
    """Whatever the store holds, nothing is raised."""
    assert isinstance(decode_scope(raw), ScopeRecord | None)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"V\x01" + scope(b"g" * 8, [])[2:],
        b"G\x02" + scope(b"g" * 8, [])[2:],
        scope(b"g" * 8, [])[:-1],
        scope(b"g" * 8, [1, 2])[:-1],
    ],
)
def test_an_unknown_scope_record_is_none(raw: bytes) -> None:
    """Another state, another format and damage leave the generation unknown."""
    assert decode_scope(raw) is None


@pytest.mark.parametrize(
    ("deadlines_ms", "settled", "stands"),
    [((), True, True), ((10,), False, False), ((11,), False, True), ((1, 11), False, True)],
)
def test_a_scope_stands_unless_every_writer_died(
    deadlines_ms: tuple[int, ...], *, settled: bool, stands: bool
) -> None:
    """A deadline reached is a death; one live writer keeps the record as it is."""
    record = ScopeRecord(HERE, Generation(b"g" * 8), deadlines_ms)
    assert record.settled is settled
    assert record.stands(HERE, 10) is stands


@pytest.mark.parametrize("deadlines_ms", [(), (11,)])
def test_a_scope_of_another_incarnation_does_not_stand(deadlines_ms: tuple[int, ...]) -> None:
    """A fail-over may have brought it back, whoever is in it."""
    record = ScopeRecord(HERE, Generation(b"g" * 8), deadlines_ms)
    assert not record.stands(Incarnation(b"promoted"), 10)
