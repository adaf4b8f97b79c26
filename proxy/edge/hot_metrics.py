"""The metric of hot items, computed at each scrape: a read costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from proxy.flow.hot_reads import HotReads


class HotMetrics(Collector):
    """Show how much of each table's reads is for one item.

    Args:
        registry: of the process.
        hot: what is shown.
        label_of: gives a table's label; tables that share one show the highest of them.
    """

    def __init__(
        self, registry: CollectorRegistry, hot: HotReads, label_of: Callable[[str], str]
    ) -> None:
        self._hot = hot
        self._label_of = label_of
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yield one gauge per table that was read of late."""
        family = GaugeMetricFamily(
            "dynaside_hot_key_share",
            "Share of a table's reads that is for its most read item, by samples, at least.",
            labels=("table",),
        )
        shares: dict[str, float] = {}
        for table, share in self._hot.top_shares().items():
            label = self._label_of(table)
            shares[label] = max(share, shares.get(label, 0.0))
        for label, share in shares.items():
            family.add_metric((label,), share)
        yield family
