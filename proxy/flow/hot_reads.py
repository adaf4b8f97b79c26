"""Samples which items are read, and tells which of them a read should refresh ahead of time.

Only about one read in `Sampling.every` is counted, with a random number of reads between two of
them, so that no pattern in the reads can hide from it. All others pay for one subtraction. Which
items are hot decides nothing but when they are refreshed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.core.audit import mark_of
from proxy.core.fetches import FetchPlan
from proxy.core.hot_keys import TABLES_MAX, HotKeys, SpaceSaving
from proxy.core.record import Entry
from proxy.core.refresh_ahead import chance_ahead
from proxy.core.values import TableName, Token
from proxy.flow.ports import Clock

TOP: Final = 10
"""Items shown per table."""

_TOOK_S: Final = 0.05  # of a table that this process has not fetched from: rather too early
_TOOK_WEIGHT: Final = 0.2  # of the last fetch in the average
_PAUSE_S: Final = 1.0  # after upstream failed: a fetch ahead of time is the last it needs
_SHARE_SAMPLES_MIN: Final = 32.0  # of fewer, one item may have half by chance


@dataclass(frozen=True, slots=True)
class Sampling:
    """How reads are sampled, and from when on an item is hot.

    Args:
        every: one read in so many is counted, on average; at least 1.
        hot: counted so often, for sure, with older counts faded: 3 of one in 64 are some 190
            reads within the last minute or two, so 2 to 3 reads a second and more. What is read
            less is not worth a fetch that nobody may need.
    """

    every: int = 64
    hot: float = 3.0


SAMPLING: Final = Sampling()


@dataclass(frozen=True, slots=True)
class HotKey:
    """One of a table's most read items.

    Args:
        mark: hash of its identity, under a key that this process alone has.
        share: of the table's reads, 0 to 1, at most.
        share_error: by how much that may be too high.
        reads_per_s: at most, likewise.
    """

    mark: str
    share: float
    share_error: float
    reads_per_s: float


@dataclass(frozen=True, slots=True)
class HotTable:
    """A table's reads of the last minutes, and the items that most of them were for."""

    table: TableName
    reads_per_s: float
    sampled: float
    keys: tuple[HotKey, ...]


class HotReads:
    """The hot items of one process.

    Args:
        keys: counts samples.
        clock: tells time and chance.
        sampling: how often, and what hot means.

    Attributes:
        left: reads until the next sample, that one included; see `read`.
    """

    def __init__(self, keys: HotKeys, *, clock: Clock, sampling: Sampling = SAMPLING) -> None:
        self._keys = keys
        self._clock = clock
        self._sampling = sampling
        self._took_s: dict[TableName, float] = {}
        self._secret: Token | None = None
        self._paused_until_s = 0.0
        self.left = self._draw()

    def read(self, plan: FetchPlan) -> None:
        """Take note of one read of an item, whatever answers it."""
        self.left -= 1
        if self.left <= 0:
            self.sample(plan)

    def sample(self, plan: FetchPlan) -> None:
        """Count a read, and draw after how many others the next one is counted."""
        self.left = self._draw()
        self._keys.count(plan.table, plan.identity.digest, self._clock.monotonic_s())

    def took(self, table: TableName, seconds: float) -> None:
        """Take note of how long a fetch with its fill took."""
        before_s = self._took_s.get(table, seconds)
        if table in self._took_s or len(self._took_s) < TABLES_MAX:
            self._took_s[table] = before_s + _TOOK_WEIGHT * (seconds - before_s)

    def failed(self) -> None:
        """Take note that a refresh ahead of time failed: for a moment there is no other."""
        self._paused_until_s = self._clock.monotonic_s() + _PAUSE_S

    def chance(self, plan: FetchPlan, entry: Entry, store_now_ms: int) -> float:
        """Return how likely a read of a fresh entry should start its refresh, were it hot."""
        if not plan.policy.refresh_ahead:
            return 0.0
        return chance_ahead(entry, store_now_ms, self._took_s.get(plan.table, _TOOK_S))

    def due(self, plan: FetchPlan, entry: Entry, store_now_ms: int) -> bool:
        """Tell whether this read of a fresh entry is the one that has it refreshed."""
        chance = self.chance(plan, entry, store_now_ms)
        if chance == 0.0 or self._clock.monotonic_s() < self._paused_until_s:
            return False
        if self._keys.sure(plan.table, plan.identity.digest) < self._sampling.hot:
            return False
        return self._clock.uniform(0, 1) <= chance

    def top_shares(self) -> dict[TableName, float]:
        """Return what share of each table's reads is for its most read item, at least."""
        tables = self._keys.tables(self._clock.monotonic_s())
        return {table: _top_share(counters) for table, counters in tables}

    def report(self) -> tuple[HotTable, ...]:
        """Return the most read items of every table that was read of late."""
        now_s = self._clock.monotonic_s()
        span_s = max(1.0, self._keys.span_s(now_s))  # at the start: rather too few than too many
        per_s = self._sampling.every / span_s
        return tuple(self._table(*each, per_s) for each in self._keys.tables(now_s))

    def _table(self, table: TableName, counters: SpaceSaving, per_s: float) -> HotTable:
        secret = self._secret = self._secret or self._clock.token()
        total = counters.total
        keys = tuple(
            HotKey(
                mark_of(each.digest, secret),
                each.count / total,
                each.error / total,
                per_s * each.count,
            )
            for each in counters.top(TOP)
        )
        return HotTable(table, per_s * total, total, keys)

    def _draw(self) -> int:
        return int(self._clock.uniform(1, 2 * self._sampling.every))


def _top_share(counters: SpaceSaving) -> float:
    top = counters.top(1)[0]
    return (top.count - top.error) / counters.total if counters.total >= _SHARE_SAMPLES_MIN else 0.0
