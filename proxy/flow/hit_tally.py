"""Sums hits up until somebody counts: an event with each would take as long as all the rest."""

from __future__ import annotations

from proxy.core.tally import HitSums
from proxy.core.values import Outcome, TableName
from proxy.flow.events import Emit, HitsAnswered


class HitTally:
    """Hits that were answered past the dispatcher.

    There are sums for each table that ever had hits: such a table exists, and AWS has a limit of
    tables.

    Args:
        emit: takes events.
    """

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._sums: dict[tuple[Outcome, TableName], HitSums] = {}

    def of(self, outcome: Outcome, table: TableName) -> HitSums:
        """Return what sums up such hits on a table; the same one each time."""
        sums = self._sums.get((outcome, table))
        if sums is None:
            sums = self._sums[outcome, table] = HitSums()
        return sums

    def tell(self) -> None:
        """Tell what was added since the last time; to be called before anybody counts."""
        for (outcome, table), sums in self._sums.items():
            if sums.latencies.count:
                latencies, units = sums.take()
                self._emit(HitsAnswered(table, outcome, units, latencies))
