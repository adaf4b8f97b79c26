"""Claims about the metrics of streams."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from proxy.core.stream_answers import StreamTrouble
from proxy.core.stream_records import GapReason, PoisonReason, RecordResult
from proxy.core.values import TableName
from proxy.edge.stream_metrics import StreamEventMetrics, StreamMetrics
from proxy.flow import events
from proxy.flow.stream_reader import StreamStatus

TABLE = TableName("orders")


def counted(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    """Return a sample of a table."""
    return registry.get_sample_value(f"dynaside_stream_{name}", {"table": TABLE, **labels})


def test_events_are_counted() -> None:
    """By table and by what they say."""
    registry = CollectorRegistry()
    metrics = StreamEventMetrics(registry, str)
    handlers = metrics.handlers()
    for event in (
        events.StreamRecordsApplied(TABLE, RecordResult.SAME, 3),
        events.StreamGap(TABLE, GapReason.TRIMMED),
        events.StreamTroubled(TABLE, StreamTrouble.THROTTLED),
        events.StreamParked(TABLE, PoisonReason.NO_KEYS, 2),
        events.StreamLagMoved(TABLE, over=True),
        events.StreamLagMoved(TABLE, over=False),
    ):
        handlers[type(event)](event)
    assert counted(registry, "records_total", result="same") == 3
    assert counted(registry, "gaps_total", reason="trimmed") == 1
    assert counted(registry, "troubles_total", trouble="throttled") == 1
    assert counted(registry, "parked_total", reason="no-keys") == 1
    assert counted(registry, "parked_dropped_total") == 2
    assert counted(registry, "over_lag_total") == 1


def test_what_alerts_watch_begins_at_zero() -> None:
    """An increase is only seen in a series that was there before."""
    registry = CollectorRegistry()
    StreamEventMetrics(registry, str).admit(TABLE)
    for gap in GapReason:
        assert counted(registry, "gaps_total", reason=gap) == 0
    for poison in PoisonReason:
        assert counted(registry, "parked_total", reason=poison) == 0
    assert counted(registry, "records_total", result="failed") == 0
    assert counted(registry, "troubles_total", trouble="denied") == 0
    assert counted(registry, "parked_dropped_total") == 0


def test_the_lag_is_shown_as_of_each_scrape() -> None:
    """An unknown one is infinite, so that every bound is passed."""
    registry = CollectorRegistry()
    status = StreamStatus("enabled", 1.5, False, 4, 2, 3, 0.5)
    metrics = StreamMetrics(registry, lambda: {TABLE: status})
    names = ("lag_seconds", "iterator_age_seconds", "degraded", "shards", "shards_held", "readers")
    assert [counted(registry, name) for name in names] == [1.5, 0.5, 0, 4, 2, 3]
    assert len(list(metrics.collect())) == len(names)
    status = StreamStatus("denied", None, True, 0, 0, 0)
    assert [counted(registry, name) for name in names] == [float("inf"), 0, 1, 0, 0, 0]
