"""The metrics of streams: what happened as counts, how far tables are behind at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from proxy.core.stream_answers import StreamTrouble
from proxy.core.stream_records import GapReason, PoisonReason, RecordResult
from proxy.core.values import TableName
from proxy.flow import events
from proxy.flow.stream_reader import StreamStatus

UNKNOWN_LAG_S: Final = float("inf")
"""Shown while nobody knows how far a table is behind: alerts on a bound see it."""


class StreamEventMetrics:
    """Count what happened; a part of `proxy.edge.metrics`.

    Args:
        registry: of the process.
        label_of: gives a table's label.
    """

    def __init__(self, registry: CollectorRegistry, label_of: Callable[[TableName], str]) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"dynaside_{name}", text, ("table", *labels), registry=registry)

        self._label_of = label_of
        self._records = counter("stream_records_total", "Records read, by what they did.", "result")
        self._gaps = counter(
            "stream_gaps_total", "Times a table was voided since records were not read.", "reason"
        )
        self._troubles = counter(
            "stream_troubles_total", "Requests about streams that brought nothing.", "trouble"
        )
        self._parked = counter(
            "stream_parked_total", "Records parked since they could not be applied.", "reason"
        )
        self._pushed_out = counter(
            "stream_parked_dropped_total", "Parked records that gave way to newer."
        )

        self._over_lag = counter(
            "stream_over_lag_total", "Times a table's lag went over its bound."
        )

    def admit(self, label: str) -> None:
        """Let the series of a table that has a stream begin at 0."""
        for result in RecordResult:
            self._records.labels(label, result).inc(0)
        for gap in GapReason:
            self._gaps.labels(label, gap).inc(0)
        for trouble in StreamTrouble:
            self._troubles.labels(label, trouble).inc(0)
        for poison in PoisonReason:
            self._parked.labels(label, poison).inc(0)
        self._pushed_out.labels(label).inc(0)
        self._over_lag.labels(label).inc(0)

    def handlers(self) -> dict[type, Callable[[Any], None]]:
        """Return who counts which event."""
        label_of = self._label_of
        return {
            events.StreamRecordsApplied: lambda e: self._records.labels(
                label_of(e.table), e.result
            ).inc(e.records),
            events.StreamGap: lambda e: self._gaps.labels(label_of(e.table), e.reason).inc(),
            events.StreamTroubled: lambda e: self._troubles.labels(
                label_of(e.table), e.trouble
            ).inc(),
            events.StreamParked: self._on_parked,
            events.StreamLagMoved: lambda e: self._over_lag.labels(label_of(e.table)).inc(e.over),
        }

    def _on_parked(self, event: events.StreamParked) -> None:
        label = self._label_of(event.table)
        self._parked.labels(label, event.reason).inc()
        self._pushed_out.labels(label).inc(event.pushed_out)


class StreamMetrics(Collector):
    """Show how far tables are behind.

    Args:
        registry: of the process.
        status: tells.
    """

    def __init__(
        self, registry: CollectorRegistry, status: Callable[[], Mapping[TableName, StreamStatus]]
    ) -> None:
        self._status = status
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yield one series per table whose stream is read."""
        status = self._status()
        for name, meaning, read in _GAUGES:
            family = GaugeMetricFamily(f"dynaside_{name}", meaning, labels=("table",))
            for table, each in status.items():
                family.add_metric((table,), read(each))
            yield family


def _lag(status: StreamStatus) -> float:
    return UNKNOWN_LAG_S if status.lag_s is None else status.lag_s


_GAUGES: Final[tuple[tuple[str, str, Callable[[StreamStatus], float]], ...]] = (
    (
        "stream_lag_seconds",
        "How long ago all writes of a table were known to have taken effect here; +Inf: unknown.",
        _lag,
    ),
    (
        "stream_iterator_age_seconds",
        "How old the last records were that this process read, in its shard furthest behind.",
        lambda each: each.iterator_age_s,
    ),
    ("stream_degraded", "1 while a table's lag is over its bound.", lambda each: float(each.over)),
    (
        "stream_shards",
        "Shards of a table that are left to be read.",
        lambda each: float(each.shards),
    ),
    (
        "stream_shards_held",
        "Shards of a table that this process reads.",
        lambda each: float(each.held),
    ),
    ("stream_readers", "Processes that read a table's stream.", lambda each: float(each.readers)),
)
