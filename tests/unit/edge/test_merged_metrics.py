"""Claims of proxy.edge.merged_metrics."""

from __future__ import annotations

from proxy.core.values import Outcome, TableName
from proxy.edge.merged_metrics import MergedMetrics
from proxy.edge.metrics import Metrics, MetricsIdentity
from proxy.flow import events
from tests.support.serving import total

IDENTITY = MetricsIdentity("1", "3", "1", "abc", "session", "invalidate")


def worker(*seen: events.Event) -> str:
    """Return what a worker exposes after some events."""
    metrics = Metrics(IDENTITY)
    for event in (events.StoreServing(serving=True, why=""), *seen):
        metrics.on_event(event)
    return metrics.exposition(None)[0].decode()


def hits(count: int, elapsed_s: float = 0.001) -> tuple[events.Event, ...]:
    """Return events of that many hits on table `t"1`."""
    table = TableName('t"1')
    answered = events.RequestAnswered("GetItem", table, Outcome.HIT, None, 200, elapsed_s)
    return (answered,) * count


def merged(metrics: MergedMetrics) -> str:
    """Return the merged text."""
    body, content_type = metrics.exposition(None)
    assert content_type.startswith("text/plain")
    return body.decode()


def requests(metrics: MergedMetrics) -> float:
    """Return how many requests the merged text counts."""
    return total(merged(metrics), "dynaside_requests_total", 'outcome="hit"')


def test_counters_and_histograms_are_summed() -> None:
    """Two workers look like one that did the work of both."""
    metrics = MergedMetrics(2)
    metrics.saw(0, worker(*hits(2)))
    metrics.saw(1, worker(*hits(3, 0.2)))
    text = merged(metrics)
    assert requests(metrics) == 5
    name = "dynaside_request_duration_seconds"
    assert total(text, f"{name}_count") == 5
    assert round(total(text, f"{name}_sum"), 6) == 0.602
    assert total(text, f"{name}_bucket", 'le="0.001"') == 2
    assert total(text, f"{name}_bucket", 'le="+Inf"') == 5
    one = worker(*hits(1)).splitlines()
    for line in one:
        if line.startswith(("# HELP dynaside", "# TYPE dynaside")):
            assert line in text.splitlines()


def test_gauges_follow_their_meaning() -> None:
    """Amounts are summed, facts are not; one worker without a store shows as 0."""
    metrics = MergedMetrics(2)
    metrics.saw(0, worker(events.DebtsChanged(2), events.StoreEvictions(7)))
    other = worker(
        events.DebtsChanged(3),
        events.StoreEvictions(9),
        events.StoreServing(serving=False, why="gone"),
        events.BreakerMoved("open"),
    )
    metrics.saw(1, other)
    text = merged(metrics)
    assert total(text, "dynaside_debts") == 5
    assert total(text, "dynaside_store_evicted_keys") == 9
    assert total(text, "dynaside_store_serving") == 0
    assert total(text, "dynaside_build_info") == 1
    breaker = "dynaside_store_breaker_state"
    states = [total(text, breaker, f'state="{state}"') for state in ("closed", "open", "probing")]
    assert states == [0, 1, 0]


def test_counts_outlive_their_worker() -> None:
    """The sum never falls: what an ended worker counted stays, its gauges go."""
    metrics = MergedMetrics(2)
    metrics.saw(0, worker(*hits(4), events.DebtsChanged(2)))
    metrics.saw(1, worker(*hits(1)))
    metrics.ended(0)
    assert requests(metrics) == 5
    assert total(merged(metrics), "dynaside_debts") == 0
    metrics.saw(0, worker(*hits(1)))
    assert requests(metrics) == 6
    metrics.ended(0)
    metrics.ended(0)  # one that was never scraped
    assert requests(metrics) == 6
    assert total(merged(metrics), "dynaside_worker_restarts_total") == 3


def test_supervisor_is_part_of_the_sums() -> None:
    """Its own memory counts, and so do the workers that it keeps."""
    metrics = MergedMetrics(2)
    alone = total(merged(metrics), "process_resident_memory_bytes")
    assert alone > 0
    metrics.observe_ready(lambda: 1)
    metrics.saw(0, worker())
    assert total(merged(metrics), "dynaside_workers") == 2
    assert total(merged(metrics), "dynaside_workers_ready") == 1
    assert "_created" not in merged(metrics)
    assert total(merged(metrics), "process_start_time_seconds") < 1e10


def test_openmetrics_is_given_when_asked() -> None:
    """Prometheus asks for it by name."""
    metrics = MergedMetrics(1)
    metrics.saw(0, worker(*hits(1)))
    body, content_type = metrics.exposition("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
