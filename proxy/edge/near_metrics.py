"""The metrics of the near cache, read from its own counts at each scrape: a hit costs nothing."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from proxy.flow.near_reads import NearReads


class NearMetrics(Collector):
    """Show one process's near cache in a registry.

    Args:
        registry: of the process.
        near: what is shown.
    """

    def __init__(self, registry: CollectorRegistry, near: NearReads) -> None:
        self._near = near
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yield what is there, and what happened since the start."""
        near, cache = self._near, self._near.cache
        yield GaugeMetricFamily("dynaside_near_bytes", "Bytes of copies.", cache.kept_bytes)
        yield GaugeMetricFamily("dynaside_near_copies", "Copies of entries.", len(cache))
        for name, meaning, count in (
            ("near_hits", "Reads that a copy answered.", near.hits),
            ("near_pushes", "Records that the store said had changed.", near.pushes),
            ("near_evictions", "Copies that left for want of space.", cache.evictions),
            (
                "near_refused",
                "Copies that were not taken: too large, or a full share.",
                cache.refused,
            ),
        ):
            yield CounterMetricFamily(f"dynaside_{name}", meaning, count)
