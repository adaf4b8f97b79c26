"""The metrics of audits, of tables in shadow and of switched modes; a part of `proxy.edge.metrics`.

These events are rare, so no child is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from proxy.core.values import AuditResult, Mode, ShadowResult
from proxy.flow import events

STALE_AGE_BUCKETS_S: Final = (
    *(0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0),
    *(300.0, 600.0, 1800.0, 3600.0, 86_400.0),
)
"""From a write just made to an entry of a day: what TTLs are made of."""

FOUND_BY: Final = {False: "audit", True: "shadow"}
"""Who found a stale entry, by whether it was served to nobody."""


class AuditMetrics:
    """Count in a registry.

    Args:
        registry: of the process.
        table: gives a table's label.
    """

    def __init__(self, registry: CollectorRegistry, table: Callable[[str | None], str]) -> None:
        self._table = table
        self._audits = Counter(
            "dynaside_audits_total",
            "Hits that were to be compared with DynamoDB.",
            ("table", "result"),
            registry=registry,
        )
        self._stale_age_s = Histogram(
            "dynaside_stale_age_seconds",
            "Age of entries found stale: the longest that they can have been wrong.",
            ("found_by",),
            buckets=STALE_AGE_BUCKETS_S,
            registry=registry,
        )
        for found_by in FOUND_BY.values():
            self._stale_age_s.labels(found_by)
        self._shadow_reads = Counter(
            "dynaside_shadow_reads_total",
            "Reads in shadow: what the cache would have answered, against DynamoDB's answer.",
            ("table", "result"),
            registry=registry,
        )
        self._switches = Counter(
            "dynaside_mode_switches_total",
            "Modes of tables switched by an operator.",
            ("table", "mode"),
            registry=registry,
        )

    def admit(self, table: str) -> None:
        """Let the series of a new table label start at 0."""
        for audit_result in AuditResult:
            self._audits.labels(table, audit_result)
        for shadow_result in ShadowResult:
            self._shadow_reads.labels(table, shadow_result)
        for mode in Mode:
            self._switches.labels(table, mode)

    def handlers(self) -> dict[type, Callable[[Any], None]]:
        """Return who counts which event."""
        return {
            events.AuditEnded: self._on_audit,
            events.StaleFound: self._on_stale,
            events.ShadowCompared: self._on_shadow,
            events.ModeSwitched: self._on_switch,
        }

    def _on_audit(self, event: events.AuditEnded) -> None:
        self._audits.labels(self._table(event.table), event.result).inc()

    def _on_stale(self, event: events.StaleFound) -> None:
        self._stale_age_s.labels(FOUND_BY[event.in_shadow]).observe(event.age_s)

    def _on_shadow(self, event: events.ShadowCompared) -> None:
        self._shadow_reads.labels(self._table(event.table), event.result).inc()

    def _on_switch(self, event: events.ModeSwitched) -> None:
        self._switches.labels(self._table(event.table), event.mode).inc()
