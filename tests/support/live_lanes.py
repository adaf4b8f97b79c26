"""Runs `RedisLanes` in a test and waits for what they tell, never for time to pass."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Final

from proxy.core.cache_key import KeySpace
from proxy.core.policy import FencePolicy
from proxy.core.values import Incarnation, Layout
from proxy.edge.clock import SystemClock
from proxy.edge.redis_cluster import RedisCluster
from proxy.edge.redis_connection import Address
from proxy.edge.redis_lane import LaneLimits
from proxy.edge.redis_lanes import RedisLanes
from proxy.edge.redis_options import StoreOptions
from proxy.edge.redis_sentinel import SentinelOptions
from proxy.edge.redis_store import RedisStore
from proxy.edge.redis_topology import OneServer, build_topology
from proxy.flow.events import Event
from proxy.flow.ports import Clock, NearFeed
from tests.support.store_topologies import MASTER_NAME, SentinelTopology

WAIT_S: Final = 30.0
"""After this long a test that waits for a state fails."""

KEYS: Final = KeySpace("test", "eu-west-1")
LIMITS: Final = LaneLimits(timeout_s=5.0, connect_timeout_s=5.0, queue_max=10_000)


@dataclass(slots=True)
class LiveLanes:
    """Lanes at work, what they told, and a store on top."""

    clock: Clock
    events: list[Event] = field(default_factory=list)
    routes: OneServer | RedisCluster = field(init=False)
    told: asyncio.Condition = field(default_factory=asyncio.Condition)

    def store(self, fence: FencePolicy, layout: Layout = Layout.BLOB) -> RedisStore:
        """Return a store over these lanes that takes records for this layout."""
        return RedisStore(self.routes, fence=fence, clock=self.clock, layout_of=lambda _: layout)

    @property
    def lanes(self) -> RedisLanes:
        """The lanes to the store's one server."""
        assert isinstance(self.routes, OneServer), "a cluster has lanes per node"
        return self.routes.lanes

    @property
    def incarnation(self) -> Incarnation:
        """The store's incarnation as some lane knows it."""
        return self.lanes.pick_any()[1].incarnation

    def heard(self, event: Event) -> None:
        """Take an event."""
        self.events.append(event)
        asyncio.get_running_loop().create_task(self._wake())

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return once `holds()`, asked again after each event."""
        async with asyncio.timeout(WAIT_S), self.told:
            await self.told.wait_for(holds)

    async def _wake(self) -> None:
        async with self.told:
            self.told.notify_all()


@asynccontextmanager
async def live_lanes(
    options: StoreOptions,
    clock: Clock | None = None,
    *,
    feed: NearFeed | None = None,
    ping_s: float = 0.02,
) -> AsyncIterator[LiveLanes]:
    """Keep lanes connected while the block runs, tracked where a feed is given."""
    live = LiveLanes(clock or SystemClock())
    live.routes = build_topology(options, keys=KEYS, clock=live.clock, emit=live.heard)
    if feed is not None:
        live.routes.track(feed, ping_s=ping_s)
    serving = asyncio.create_task(live.routes.serve())
    try:
        yield live
    finally:
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


def options(url: str, **changes: object) -> StoreOptions:
    """Return options without a quarantine, so that a store serves as soon as it is connected."""
    return replace(StoreOptions(url, LIMITS, quarantine_s=0.0), **changes)  # type: ignore[arg-type]


def sentinel_of(topology: SentinelTopology) -> SentinelOptions:
    """Return where the sentinels of a topology are."""
    addresses = tuple(Address(*each.address) for each in topology.sentinels)
    return SentinelOptions(addresses, MASTER_NAME)
