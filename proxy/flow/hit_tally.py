"""Sums hits up until somebody counts: an event with each would take as long as all the rest."""

from __future__ import annotations

from proxy.core.near_copy import NearHit
from proxy.core.tally import LatencyTally
from proxy.core.values import Outcome, TableName
from proxy.flow.events import Emit, HitsAnswered


class _Hits:
    """Hits on one table, of one outcome, that nobody was told of yet."""

    __slots__ = ("latencies", "units")

    def __init__(self) -> None:
        self.latencies = LatencyTally()
        self.units = 0.0


class HitTally:
    """Hits that were answered past the dispatcher.

    Args:
        emit: takes events.
    """

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._hits: dict[TableName, _Hits] = {}
        self._negative_hits: dict[TableName, _Hits] = {}

    def add(self, table: TableName, hit: NearHit, elapsed_s: float) -> None:
        """Count a hit on an item of a table that took so many seconds."""
        of_outcome = self._hits if hit.answer.outcome is Outcome.HIT else self._negative_hits
        told = of_outcome.get(table)
        if told is None:
            told = of_outcome[table] = _Hits()
        told.units += hit.units
        told.latencies.add(elapsed_s)

    def tell(self) -> None:
        """Tell what was added since the last time; to be called before anybody counts."""
        for outcome, of_outcome in (
            (Outcome.HIT, self._hits),
            (Outcome.NEGATIVE_HIT, self._negative_hits),
        ):
            told = list(of_outcome.items())
            of_outcome.clear()
            for table, hits in told:
                self._emit(HitsAnswered(table, outcome, hits.units, hits.latencies))
