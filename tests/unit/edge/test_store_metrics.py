"""Claims of proxy.edge.store_metrics."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from proxy.core.store_fitness import Flaw
from proxy.edge.store_metrics import BREAKER_STATES, StoreMetrics
from proxy.flow import events


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry of its own."""
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> StoreMetrics:
    """The metrics in it."""
    return StoreMetrics(registry)


def tell(metrics: StoreMetrics, event: events.Event) -> None:
    """Hand an event to whoever shows it."""
    metrics.handlers()[type(event)](event)


MOVES: list[tuple[events.Event, str, float]] = [
    (events.StoreDetour(), "store_detours_total", 1),
    (events.StoreServing(serving=True, why="open", nodes_out=2), "store_serving", 1),
    (events.StoreServing(serving=True, why="open", nodes_out=2), "store_nodes_out", 2),
    (events.StoreConnections(3, 1), "store_connections", 3),
    (events.StoreConnections(3, 1), "store_connects_total", 1),
    (events.StoreEvictions(42), "store_evicted_keys", 42),
]


@pytest.mark.parametrize(("event", "name", "number"), MOVES, ids=[name for _, name, _ in MOVES])
def test_each_event_moves_its_metric(
    metrics: StoreMetrics,
    registry: CollectorRegistry,
    event: events.Event,
    name: str,
    number: float,
) -> None:
    """From 0, which is there from the start."""
    assert registry.get_sample_value(f"dynaside_{name}") == 0
    tell(metrics, event)
    assert registry.get_sample_value(f"dynaside_{name}") == number


def test_a_flaw_that_has_gone_is_0_again(
    metrics: StoreMetrics, registry: CollectorRegistry
) -> None:
    """Every flaw has its series from the start."""
    for flaws, number in (((), 0), ((Flaw.EVICTION,), 1), ((Flaw.REPLICAS,), 0)):
        tell(metrics, events.StoreFitness(flaws, demanded=True))
        shown = registry.get_sample_value("dynaside_store_flaw", {"flaw": "eviction"})
        assert shown == number


def test_the_breaker_is_in_one_state(metrics: StoreMetrics, registry: CollectorRegistry) -> None:
    """Closed at first, then whatever was told."""
    for state in ("closed", "open", "probing"):
        if state != "closed":
            tell(metrics, events.BreakerMoved(state))
        found = {
            s: registry.get_sample_value("dynaside_store_breaker_state", {"state": s})
            for s in BREAKER_STATES
        }
        assert found == {s: float(s == state) for s in BREAKER_STATES}
