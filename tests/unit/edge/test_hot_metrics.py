"""Claims of `proxy.edge.hot_metrics`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from proxy.core.hot_keys import HotKeys
from proxy.core.values import Digest, TableName
from proxy.edge.hot_metrics import HotMetrics
from proxy.flow.hot_reads import HotReads
from tests.fakes.virtual_clock import VirtualClock


async def test_the_share_of_the_most_read_item_is_shown_by_table() -> None:
    """Tables beyond the bound share a label, which shows the highest of them."""
    registry, keys = CollectorRegistry(), HotKeys()
    hot = HotReads(keys, clock=VirtualClock())
    HotMetrics(registry, hot, lambda table: table if table == "orders" else "other")

    def share(table: str) -> float | None:
        return registry.get_sample_value("dynaside_hot_key_share", {"table": table})

    assert share("orders") is None
    for table, rest in (("orders", 20), ("b", 10), ("c", 30)):
        for number in range(40):
            keys.count(TableName(table), Digest(b"%d" % max(0, number - 39 + rest)), 0.0)
    assert (share("orders"), share("other")) == (0.5, 0.75)
