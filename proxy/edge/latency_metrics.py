"""Histograms over tallies of our own: one more observation costs a third of the library's.

The library's histogram takes a lock for each of its parts; here only the event loop counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from proxy.core.tally import LATENCY_BOUNDS_S, LatencyTally

_LE: Final = (*map(floatToGoString, LATENCY_BOUNDS_S), "+Inf")


class Latencies(Collector):
    """One histogram of seconds.

    Args:
        registry: shows it.
        name: of the histogram.
        meaning: its help.
        labels: their names.

    Attributes:
        tallies: by label values; one that is not there begins with its first use.
    """

    def __init__(
        self, registry: CollectorRegistry, name: str, meaning: str, labels: tuple[str, ...]
    ) -> None:
        self.tallies: defaultdict[tuple[str, ...], LatencyTally] = defaultdict(LatencyTally)
        self._name = name
        self._meaning = meaning
        self._labels = labels
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yield the histogram."""
        family = HistogramMetricFamily(self._name, self._meaning, labels=self._labels)
        for values, tally in self.tallies.items():
            buckets = list(zip(_LE, map(float, tally.cumulative), strict=True))
            family.add_metric([str(value) for value in values], buckets, tally.sum_s)
        yield family
