"""The metrics of the store's state; a part of `proxy.edge.metrics`.

Its durations and failures, counted per request, stay there: their children are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from proxy.core.store_fitness import Flaw
from proxy.flow import events

BREAKER_STATES: Final = ("closed", "open", "probing")


class StoreMetrics:
    """Show the store's state in a registry.

    Args:
        registry: of the process.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"dynaside_{name}", text, labels, registry=registry)

        self._serving = gauge("store_serving", "1 while hits and fills are allowed.")
        self._nodes_out = gauge(
            "store_nodes_out", "Nodes of the store's cluster without hits and fills now."
        )
        self._connections = gauge("store_connections", "Open connections to the store.")
        self._connects = Counter(
            "dynaside_store_connects_total", "Connections made to the store.", registry=registry
        )
        self._detours = Counter(
            "dynaside_store_detours_total",
            "Connections to the store that go a slower way, since redis-py has changed inside.",
            registry=registry,
        )
        self._evicted = gauge(
            "store_evicted_keys", "Keys the store evicted since its start, by its own count."
        )
        flaws = gauge("store_flaw", "1 while the store lacks this for level strict.", "flaw")
        self._flaws = {flaw: flaws.labels(flaw) for flaw in Flaw}
        breaker = gauge(
            "store_breaker_state", "1 for the state the store's breaker is in.", "state"
        )
        self._breaker = {state: breaker.labels(state) for state in BREAKER_STATES}
        self._on_breaker(events.BreakerMoved("closed"))

    def handlers(self) -> dict[type, Callable[[Any], None]]:
        """Return who shows which event."""
        return {
            events.StoreServing: self._on_serving,
            events.StoreFitness: self._on_fitness,
            events.StoreConnections: self._on_connections,
            events.StoreDetour: lambda _: self._detours.inc(),
            events.StoreEvictions: lambda e: self._evicted.set(e.evicted_total),
            events.BreakerMoved: self._on_breaker,
        }

    def _on_serving(self, event: events.StoreServing) -> None:
        self._serving.set(event.serving)
        self._nodes_out.set(event.nodes_out)

    def _on_fitness(self, event: events.StoreFitness) -> None:
        for flaw, gauge in self._flaws.items():
            gauge.set(flaw in event.flaws)

    def _on_connections(self, event: events.StoreConnections) -> None:
        self._connections.set(event.open_now)
        self._connects.inc(event.opened)

    def _on_breaker(self, event: events.BreakerMoved) -> None:
        for state, gauge in self._breaker.items():
            gauge.set(state == event.state)
