"""Claims of `proxy.edge.near_metrics`."""

from prometheus_client import CollectorRegistry

from proxy.core.near_cache import NearCache
from proxy.core.near_rules import NearRules
from proxy.core.policy import NearPolicy
from proxy.core.values import CacheKey
from proxy.edge.near_metrics import NearMetrics
from proxy.flow.near_reads import NearReads
from tests.fakes.virtual_clock import VirtualClock


def test_counts_are_those_of_the_near_cache_at_each_scrape() -> None:
    """Nothing is copied: what is read is what is there now."""
    registry = CollectorRegistry()
    cache = NearCache(bytes_max=1_000_000, table_share_max=1.0)
    near = NearReads(cache, NearRules(cache), policy=NearPolicy(), clock=VirtualClock())
    NearMetrics(registry, near)

    def shown(name: str) -> float | None:
        return registry.get_sample_value(f"dynaside_near_{name}")

    assert shown("pushes_total") == 0.0
    near.hits = 3
    near.invalidated([CacheKey(b"a"), CacheKey(b"b")])
    cache.evictions, cache.refused = 4, 5
    names = ("hits_total", "pushes_total", "evictions_total", "refused_total", "copies")
    assert [shown(name) for name in names] == [3.0, 2.0, 4.0, 5.0, 0.0]
    assert shown("bytes") == cache.kept_bytes
