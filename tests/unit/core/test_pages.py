"""Claims about what a reader may use of a page."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.core.cache_key import KeySpace
from proxy.core.fence import RecordState
from proxy.core.pages import STORE_CLOCK_MARGIN_MS, PageSighting, sight_page
from proxy.core.record import Entry, Leased, Record, ScopeRecord
from proxy.core.values import Generation, Incarnation, TableName

KEYS = KeySpace("test", "eu-west-1")
TABLE = TableName("orders")
PAGE = KEYS.page(TABLE, b"request", KEYS.scan_key(TABLE))
HERE = Incarnation(b"incarnat")
NOW_MS = 100_000
LATE_MS = NOW_MS - STORE_CLOCK_MARGIN_MS
THEN = ScopeRecord(HERE, Generation(b"table   "), (), raised_ms=1_000, pages_from_ms=2_000)
SCOPE = ScopeRecord(HERE, Generation(b"scope   "), (), raised_ms=3_000)


def see(
    raw: Record | None = None, table: ScopeRecord = THEN, scope: ScopeRecord = SCOPE
) -> PageSighting:
    """Return what a reader of PAGE sees at NOW_MS."""
    return sight_page(raw, table, scope, page=PAGE, incarnation=HERE, store_now_ms=NOW_MS)


def entry() -> Entry:
    """Return an entry as a reader fills it who saw THEN and SCOPE."""
    return Entry(
        incarnation=HERE,
        generation=see().sighting.generation,
        digest=PAGE.record.digest,
        filled_ms=0,
        soft_ms=2 * NOW_MS,
        hard_ms=3 * NOW_MS,
        negative=False,
        item_bytes=1,
        crc32=1,
        body=b"{}",
    )


def test_a_page_counts_under_the_generations_it_was_filled_under() -> None:
    """Both unchanged: the entry is there, also while somebody refreshes it."""
    assert see(entry()).sighting.entry == entry()
    leased = see(Leased(HERE, NOW_MS + 1, entry())).sighting
    assert (leased.state, leased.entry) == (RecordState.LEASED, entry())


@pytest.mark.parametrize("changed", ["table", "scope", "swapped"])
def test_a_page_does_not_count_when_either_generation_changed(changed: str) -> None:
    """A write to the table or to the scope drops it; the two are never mistaken for each other."""
    other = Generation(b"raised  ")
    table, scope = {
        "table": (replace(THEN, generation=other), SCOPE),
        "scope": (THEN, replace(SCOPE, generation=other)),
        "swapped": (
            replace(THEN, generation=SCOPE.generation),
            replace(SCOPE, generation=THEN.generation),
        ),
    }[changed]
    assert see(entry(), table, scope).sighting.entry is None


@pytest.mark.parametrize("deadline_ms", [NOW_MS - 1, NOW_MS + 1])
@pytest.mark.parametrize("written", ["table", "scope"])
def test_a_page_does_not_count_while_a_write_may_change_it(written: str, deadline_ms: int) -> None:
    """A writer in the table's or the scope's record hides it, alive or dead."""
    table, scope = THEN, SCOPE
    if written == "table":
        table = replace(THEN, deadlines_ms=(deadline_ms,))
    else:
        scope = replace(SCOPE, deadlines_ms=(deadline_ms,))
    sighting = see(entry(), table, scope).sighting
    assert (sighting.table_pending, sighting.entry) == (True, None)


@pytest.mark.parametrize(
    ("pages_from_ms", "ready"), [(0, False), (1, True), (LATE_MS, True), (LATE_MS + 1, False)]
)
def test_pages_are_ready_when_that_time_is_surely_over(pages_from_ms: int, *, ready: bool) -> None:
    """A proxy may think the store's clock later than it is, so it waits a little longer."""
    assert see(table=replace(THEN, pages_from_ms=pages_from_ms)).ready is ready


@pytest.mark.parametrize(("table_ms", "scope_ms"), [(1_000, 9_000), (9_000, 1_000)])
def test_quiet_counts_from_the_younger_raise(table_ms: int, scope_ms: int) -> None:
    """And never says more than is sure."""
    seen = see(table=replace(THEN, raised_ms=table_ms), scope=replace(SCOPE, raised_ms=scope_ms))
    assert seen.quiet_s == (LATE_MS - 9_000) / 1000
