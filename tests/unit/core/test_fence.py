"""Claims about what a reader may use of a record, and what a status says about a write."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from proxy.core.fence import (
    Begun,
    LeaseReply,
    LeaseState,
    RecordState,
    WriteOutcome,
    begun_under,
    classify_write,
    sight,
)
from proxy.core.record import FOREIGN, Entry, Leased, Pending, Record, ScopeRecord, Tombstone
from proxy.core.values import Digest, Generation, Incarnation

NOW_MS = 1_000
HERE = Incarnation(b"incarnat")
OTHER_INCARNATION = Incarnation(b"promoted")
GENERATION = Generation(b"generate")
DIGEST = Digest(b"digest of this i")
SETTLED = ScopeRecord(HERE, GENERATION, ())
ENTRY = Entry(
    incarnation=HERE,
    generation=GENERATION,
    digest=DIGEST,
    filled_ms=0,
    soft_ms=5_000,
    hard_ms=9_000,
    negative=False,
    item_bytes=1,
    crc32=1,
    body=b"{}",
)
MISFITS = {
    "incarnation": ENTRY._replace(incarnation=OTHER_INCARNATION),
    "generation": ENTRY._replace(generation=Generation(b"earlier ")),
    "digest": ENTRY._replace(digest=Digest(b"digest of anothe")),
}
LIVE, OVER = NOW_MS + 1, NOW_MS


def seen(raw: Record | None, table: ScopeRecord = SETTLED) -> tuple[RecordState, Entry | None]:
    """Return what a reader of DIGEST sees at NOW_MS on a connection to HERE."""
    sighting = sight(raw, table, incarnation=HERE, digest=DIGEST, store_now_ms=NOW_MS)
    return sighting.state, sighting.entry


@pytest.mark.parametrize(
    ("raw", "state", "entry"),
    [
        (None, RecordState.ABSENT, None),
        (ENTRY, RecordState.ENTRY, ENTRY),
        (Leased(HERE, LIVE, None), RecordState.LEASED, None),
        (Leased(HERE, LIVE, ENTRY), RecordState.LEASED, ENTRY),
        (Leased(HERE, OVER, None), RecordState.ABSENT, None),
        (Leased(HERE, OVER, ENTRY), RecordState.ENTRY, ENTRY),
        (Leased(OTHER_INCARNATION, LIVE, None), RecordState.ABSENT, None),
        (Leased(OTHER_INCARNATION, LIVE, ENTRY), RecordState.ENTRY, ENTRY),
        (Pending(LIVE), RecordState.PENDING, None),
        (Pending(OVER), RecordState.ABSENT, None),
        (FOREIGN, RecordState.PENDING, None),
        (Tombstone(LIVE), RecordState.ABSENT, None),
        (Tombstone(OVER), RecordState.ABSENT, None),
    ],
)
def test_each_state_is_seen_as_what_a_reader_may_do(
    raw: Record | None, state: RecordState, entry: Entry | None
) -> None:
    """A lease or a marker counts until its deadline; the kept entry serves either way."""
    assert seen(raw) == (state, entry)


@pytest.mark.parametrize("misfit", MISFITS.values(), ids=MISFITS)
@pytest.mark.parametrize(
    ("kind", "state"),
    [("entry", RecordState.ABSENT), ("live", RecordState.LEASED), ("over", RecordState.ABSENT)],
)
def test_an_entry_counts_only_here_now_and_for_its_item(
    misfit: Entry, kind: str, state: RecordState
) -> None:
    """Another primary's, another generation's or another item's entry is nobody's, kept or not."""
    raws: dict[str, Record] = {
        "entry": misfit,
        "live": Leased(HERE, LIVE, misfit),
        "over": Leased(HERE, OVER, misfit),
    }
    assert seen(raws[kind]) == (state, None)


@pytest.mark.parametrize("deadline_ms", [LIVE, OVER])
@pytest.mark.parametrize("raw", [ENTRY, Leased(HERE, LIVE, ENTRY), Leased(HERE, OVER, ENTRY), None])
def test_no_entry_counts_while_its_table_is_being_written(
    raw: Record | None, deadline_ms: int
) -> None:
    """A table-wide writer, alive or dead, hides every entry of the table."""
    table = ScopeRecord(HERE, GENERATION, (deadline_ms,))
    sighting = sight(raw, table, incarnation=HERE, digest=DIGEST, store_now_ms=NOW_MS)
    assert sighting.entry is None
    assert sighting.table_pending


@pytest.mark.parametrize(
    ("raw", "table"),
    [*product([None, ENTRY, Pending(LIVE)], [SETTLED, ScopeRecord(HERE, GENERATION, (LIVE,))])],
)
def test_a_sighting_carries_what_a_fill_needs(raw: Record | None, table: ScopeRecord) -> None:
    """Generation and the store's time are those of the reply, whatever the state."""
    sighting = sight(raw, table, incarnation=HERE, digest=DIGEST, store_now_ms=NOW_MS)
    assert sighting.generation == GENERATION
    assert sighting.store_now_ms == NOW_MS
    assert sighting.table_pending is not table.settled


@pytest.mark.parametrize(
    ("table", "there", "expected"),
    [
        (None, False, Begun(None, pages=False)),
        (None, True, Begun(None, pages=True)),
        (SETTLED, True, Begun(GENERATION, pages=False)),
        (replace(SETTLED, pages_from_ms=1), True, Begun(GENERATION, pages=True)),
        (
            ScopeRecord(HERE, GENERATION, (LIVE,), pages_from_ms=2**40),
            True,
            Begun(None, pages=True),
        ),
        (ScopeRecord(HERE, GENERATION, (OVER,)), True, Begun(None, pages=False)),
    ],
)
def test_a_writer_fences_pages_unless_none_is_cached_for_sure(
    table: ScopeRecord | None, expected: Begun, *, there: bool
) -> None:
    """A record that cannot be read may ask for it; an unsettled one has no generation to give."""
    assert begun_under(table, HERE, there=there) == expected


@pytest.mark.parametrize("pages_from_ms", [0, 1])
def test_a_writer_stores_nothing_under_a_table_record_of_another_incarnation(
    pages_from_ms: int,
) -> None:
    """Its generation may be an older one that a fail-over brought back."""
    table = replace(SETTLED, pages_from_ms=pages_from_ms)
    begun = begun_under(table, OTHER_INCARNATION, there=True)
    assert begun == Begun(None, pages=pages_from_ms > 0)


@pytest.mark.parametrize("status", range(100, 600))
def test_only_a_definite_answer_ends_the_doubt_about_a_write(status: int) -> None:
    """2xx applied it, 4xx but 408 refused it; everything else may hide an applied write."""
    expected = WriteOutcome.UNKNOWN
    if status // 100 == 2:
        expected = WriteOutcome.INVALIDATED
    elif status // 100 == 4 and status != 408:
        expected = WriteOutcome.ABORTED
    assert classify_write(status) is expected


def test_write_outcomes_are_the_letters_that_the_scripts_know() -> None:
    """`end.lua` compares these letters; UNKNOWN is never sent."""
    assert {outcome.name: outcome.value for outcome in WriteOutcome} == {
        "STORED": "S",
        "INVALIDATED": "I",
        "ABORTED": "A",
        "UNKNOWN": "U",
    }


def test_a_granted_lease_is_strong_unless_the_store_says_otherwise() -> None:
    """Forgetting to say so costs a consistent read, never a stale fill."""
    assert LeaseReply(LeaseState.LEASED).strong
