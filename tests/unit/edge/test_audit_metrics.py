"""Claims of proxy.edge.audit_metrics."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from proxy.core.values import AuditResult, Level, Mode, ShadowResult, TableName
from proxy.edge.audit_metrics import AuditMetrics
from proxy.flow import events

ORDERS = TableName("orders")


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry of its own."""
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> AuditMetrics:
    """The metrics, with tables' names for labels."""
    return AuditMetrics(registry, str)


MOVES: list[tuple[events.Event, str, dict[str, str], float]] = [
    (
        events.AuditEnded(ORDERS, AuditResult.STALE),
        "dynaside_audits_total",
        {"table": "orders", "result": "stale"},
        1,
    ),
    (
        events.StaleFound(ORDERS, Level.STRICT, 2.5, "m", in_shadow=False),
        "dynaside_stale_age_seconds_sum",
        {"found_by": "audit"},
        2.5,
    ),
    (
        events.StaleFound(ORDERS, Level.STRICT, 2.5, "m", in_shadow=True),
        "dynaside_stale_age_seconds_bucket",
        {"found_by": "shadow", "le": "5.0"},
        1,
    ),
    (
        events.ShadowCompared(ORDERS, ShadowResult.WOULD_MISS),
        "dynaside_shadow_reads_total",
        {"table": "orders", "result": "would-miss"},
        1,
    ),
    (
        events.ModeSwitched(ORDERS, Mode.OFF, 100),
        "dynaside_mode_switches_total",
        {"table": "orders", "mode": "off"},
        1,
    ),
]


@pytest.mark.parametrize(("event", "sample", "labels", "count"), MOVES)
def test_each_event_moves_its_sample(
    registry: CollectorRegistry,
    metrics: AuditMetrics,
    event: events.Event,
    sample: str,
    labels: dict[str, str],
    count: float,
) -> None:
    """One event, one sample."""
    metrics.handlers()[type(event)](event)
    assert registry.get_sample_value(sample, labels) == count


def test_series_of_a_new_table_start_at_zero(
    registry: CollectorRegistry, metrics: AuditMetrics
) -> None:
    """rate() sees no increase in a series that appears with its first count."""
    metrics.admit("orders")
    for result in AuditResult:
        labels = {"table": "orders", "result": result.value}
        assert registry.get_sample_value("dynaside_audits_total", labels) == 0
    for shadow in ShadowResult:
        labels = {"table": "orders", "result": shadow.value}
        assert registry.get_sample_value("dynaside_shadow_reads_total", labels) == 0
    for mode in Mode:
        labels = {"table": "orders", "mode": mode.value}
        assert registry.get_sample_value("dynaside_mode_switches_total", labels) == 0
