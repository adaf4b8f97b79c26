"""Finds which items of each table are read most, from samples, in bounded memory.

Space-Saving: a table has so many counters; an item without one takes over the smallest, with its
count as the error. So a count is never too low and at most its error too high, the error is at
most the table's total shared out among the counters, and whatever was counted more often than
that has a counter. All of a table's numbers are halved together as time passes, which leaves
these bounds as they are.

Source: Metwally, Agrawal, El Abbadi, "Efficient computation of frequent and top-k elements in data
streams", ICDT 2005, section 3. A minimum is looked for instead of kept in their linked list: it
takes 2 µs, and only a sampled read of an item without a counter pays for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from proxy.core.values import Digest, TableName

COUNTERS_MAX: Final = 64
"""Per table: what takes more than 1/64 of a table's reads has a counter."""

TABLES_MAX: Final = 200
"""Beyond it further tables are not counted: 200 tables have 2 MB of counters."""

HALF_LIFE_S: Final = 60.0
_HALVINGS_MAX: Final = 64  # nothing that was counted before is left then
_FADED: Final = 0.5  # a table with less was not read for long


@dataclass(frozen=True, slots=True)
class Counted:
    """One item: counted `count` times at most, `count - error` times at least."""

    digest: Digest
    count: float
    error: float


class SpaceSaving:
    """The counters of one table.

    Args:
        counters_max: how many, at least 1.

    Attributes:
        total: of what was counted, faded like the counts.
    """

    def __init__(self, counters_max: int = COUNTERS_MAX) -> None:
        self.total = 0.0
        self._counters_max = counters_max
        self._counts: dict[Digest, float] = {}
        self._errors: dict[Digest, float] = {}

    def count(self, digest: Digest) -> None:
        """Count one read of an item."""
        self.total += 1.0
        known = self._counts.get(digest)
        if known is None:
            known = self._errors[digest] = self._take_over()
        self._counts[digest] = known + 1.0

    def sure(self, digest: Digest) -> float:
        """Return how often an item was counted at least; 0 without a counter."""
        return self._counts.get(digest, 0.0) - self._errors.get(digest, 0.0)

    @property
    def unknown_max(self) -> float:
        """How often an item without a counter may have been counted."""
        full = len(self._counts) >= self._counters_max
        return min(self._counts.values()) if full else 0.0

    def top(self, number: int) -> tuple[Counted, ...]:
        """Return the items with the highest counts, highest first."""
        ordered = sorted(self._counts, key=self._counts.__getitem__, reverse=True)
        return tuple(Counted(each, self._counts[each], self._errors[each]) for each in ordered)[
            :number
        ]

    def fade(self, share: float) -> None:
        """Keep this share of all numbers."""
        self.total *= share
        for numbers in (self._counts, self._errors):
            for digest in numbers:
                numbers[digest] *= share

    def _take_over(self) -> float:
        if len(self._counts) < self._counters_max:
            return 0.0
        loser = min(self._counts, key=self._counts.__getitem__)
        del self._errors[loser]
        return self._counts.pop(loser)


class HotKeys:
    """The counters of all tables; they fade by half every `HALF_LIFE_S`.

    Args:
        tables_max: how many tables are counted at one time.
        counters_max: per table.
    """

    def __init__(self, *, tables_max: int = TABLES_MAX, counters_max: int = COUNTERS_MAX) -> None:
        self._tables_max = tables_max
        self._counters_max = counters_max
        self._tables: dict[TableName, SpaceSaving] = {}
        self._faded_s: float | None = None
        self._span_s = 0.0

    def count(self, table: TableName, digest: Digest, now_s: float) -> None:
        """Count one sampled read at a monotonic time."""
        self._fade(now_s)
        counters = self._tables.get(table)
        if counters is None:
            if len(self._tables) >= self._tables_max:
                return
            counters = self._tables[table] = SpaceSaving(self._counters_max)
        counters.count(digest)

    def sure(self, table: TableName, digest: Digest) -> float:
        """Return how often an item was counted at least, as of the last sample."""
        counters = self._tables.get(table)
        return counters.sure(digest) if counters is not None else 0.0

    def tables(self, now_s: float) -> Iterator[tuple[TableName, SpaceSaving]]:
        """Yield every table that was read of late, with its counters as of a monotonic time."""
        self._fade(now_s)
        yield from list(self._tables.items())

    def span_s(self, now_s: float) -> float:
        """Return the seconds that the counts stand for, faded as they are: rate is count / span."""
        self._fade(now_s)
        return self._span_s + now_s - self._began_s(now_s)

    def _began_s(self, now_s: float) -> float:
        if self._faded_s is None:
            self._faded_s = now_s
        return self._faded_s

    def _fade(self, now_s: float) -> None:
        began_s = self._began_s(now_s)
        halvings = int((now_s - began_s) / HALF_LIFE_S)
        if halvings < 1:
            return
        self._faded_s = began_s + halvings * HALF_LIFE_S
        halvings = min(halvings, _HALVINGS_MAX)
        for _ in range(halvings):
            self._span_s = (self._span_s + HALF_LIFE_S) / 2
        for table, counters in list(self._tables.items()):
            counters.fade(0.5**halvings)
            if counters.total < _FADED:
                del self._tables[table]
