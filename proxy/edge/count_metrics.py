"""Counters of our own: one more costs a tenth of the library's, which takes a lock for each.

Only the event loop counts, and whoever scrapes reads them there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

_SUFFIX: Final = "_total"


class Count:
    """How often something happened, or how much of it there was.

    Attributes:
        total: since the start; whoever is in a hurry adds to it himself.
    """

    __slots__ = ("total",)

    def __init__(self) -> None:
        self.total = 0.0

    def inc(self, amount: float = 1.0) -> None:
        """Count something more, ≥ 0."""
        self.total += amount


class Counts(Collector):
    """One counter with labels.

    Args:
        registry: shows it.
        name: of the counter; ends with `_total`.
        meaning: its help.
        labels: their names.

    Attributes:
        counts: by label values; one that is not there begins with its first use.
    """

    def __init__(
        self, registry: CollectorRegistry, name: str, meaning: str, labels: tuple[str, ...]
    ) -> None:
        self.counts: defaultdict[tuple[object, ...], Count] = defaultdict(Count)
        self._name = name.removesuffix(_SUFFIX)
        self._meaning = meaning
        self._labels = labels
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yield the counter."""
        family = CounterMetricFamily(self._name, self._meaning, labels=self._labels)
        for values, count in self.counts.items():
            family.add_metric([str(value) for value in values], count.total)
        yield family
