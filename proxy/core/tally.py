"""Sums up how long things took, for histograms: plain integers, read when somebody wants them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

LATENCY_BOUNDS_S: Final = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""From a near hit (50 µs) to the longest write time-out (10 s)."""


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
        self.counts[bisect_left(LATENCY_BOUNDS_S, elapsed_s)] += 1
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
