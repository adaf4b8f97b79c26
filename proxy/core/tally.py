"""Sums up how long things took, for histograms: plain integers, read when somebody wants them."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

LATENCY_BOUNDS_S: Final = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""From a near hit (50 µs) to the longest write time-out (10 s)."""

_FIRST_S: Final = LATENCY_BOUNDS_S[0]


class LatencyTally:
    """How often something took how long.

    Attributes:
        counts: for each of LATENCY_BOUNDS_S how many took no longer than that, but longer than the
            bound before it; at the end those that took longer than all.
        sum_s: of all.
    """

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self.sum_s = 0.0

    def add(self, elapsed_s: float) -> None:
        """Count one."""
        # Hits mostly take less than the first bound: then there is nothing to look for.
        place = 0 if elapsed_s <= _FIRST_S else bisect_left(LATENCY_BOUNDS_S, elapsed_s)
        self.counts[place] += 1
        self.sum_s += elapsed_s

    def merge(self, other: LatencyTally) -> None:
        """Count all of another tally."""
        self.counts = [sum(both) for both in zip(self.counts, other.counts, strict=True)]
        self.sum_s += other.sum_s

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.counts)

    @property
    def cumulative(self) -> Sequence[int]:
        """How many took no longer than each bound, at the end all."""
        so_far, sums = 0, []
        for count in self.counts:
            so_far += count
            sums.append(so_far)
        return sums


class HitSums:
    """Hits of one kind on one table that nobody was told of yet.

    Attributes:
        latencies: how many there were, and how long they took.
        units: read capacity that they saved.
        note_s: monotonic time from which on the table is to be noted as read once more.
    """

    __slots__ = ("latencies", "note_s", "units")

    def __init__(self) -> None:
        self.latencies = LatencyTally()
        self.units = 0.0
        self.note_s = -math.inf

    def add(self, units: float, elapsed_s: float) -> None:
        """Count one."""
        self.units += units
        self.latencies.add(elapsed_s)

    def take(self) -> tuple[LatencyTally, float]:
        """Return both sums, and begin anew."""
        taken = self.latencies, self.units
        self.latencies, self.units = LatencyTally(), 0.0
        return taken
