"""Claims of proxy.stream_graph: settings reach what reads streams."""

from __future__ import annotations

from proxy.core.cache_key import KeySpace
from proxy.core.stream_lag import OverLag
from proxy.edge.clock import SystemClock
from proxy.flow.streams import Streams
from proxy.settings import load_settings
from proxy.stream_graph import StreamGraph
from tests.fakes.memory_store import MemoryStore
from tests.fakes.memory_stream_store import MemoryStreamStore
from tests.fakes.scripted_upstream import ScriptedUpstream
from tests.fakes.virtual_clock import VirtualClock

ARN = "arn:aws:dynamodb:us-east-1:1:table/named/stream/2026-11-30T00:48:05.899"
STORE = {"store.url": "redis://127.0.0.1:1"}


async def built(**flags: object) -> Streams | None:
    """Build the streams of a process with these settings."""
    given = {name.replace("__", "."): value for name, value in flags.items()}
    settings = load_settings(flags={**STORE, **given}, environ={})
    memory = MemoryStore(VirtualClock())
    graph = StreamGraph(settings, keys=KeySpace("n", "r"), clock=SystemClock(), emit=lambda _: None)
    streams = MemoryStreamStore(memory)
    return graph.streams(ScriptedUpstream(VirtualClock()), memory, streams, settings.policy_of)


async def test_without_a_table_that_asks_for_it_nothing_is_read() -> None:
    """Nobody looks at the store or at upstream for it."""
    assert await built() is None
    assert await built(tables={"orders": {"streams": False}}) is None


async def test_every_setting_reaches_its_place() -> None:
    """Paces, bounds, names; a process that does not read only watches."""
    tables = {"orders": {"streams": True}, "named": {"streams": True, "stream_arn": ARN}}
    streams = await built(
        tables=tables,
        streams__reads=False,
        streams__lease_s=7,
        streams__idle_poll_s=2,
        streams__discover_s=9,
        streams__lag_max_s=20,
        streams__over_lag="bypass",
        streams__short_ttl_s=3,
        upstream__read_timeout_s=4,
    )
    assert streams is not None
    orders, named = streams._readers["orders"], streams._readers["named"]  # type: ignore[index]
    assert (orders._arn, named._arn, orders._reader) == (None, ARN, None)
    pace = orders._ports.pace
    assert (pace.lease_s, pace.idle_poll_s, pace.discover_s) == (7, 2, 9)
    lag = streams.policies._lag
    assert (lag.lag_s_max, lag.over_lag, lag.short_ttl_s) == (20, OverLag.BYPASS, 3)
    assert orders._ports.client._timeout_s == 4
    reading = await built(tables=tables)
    assert reading is not None
    assert reading._readers["orders"]._reader is not None  # type: ignore[index]
