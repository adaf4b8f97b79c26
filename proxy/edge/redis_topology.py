"""Puts the store's lanes together for the topology that the settings name.

One server, or the primary that sentinels name: every connection to a server proves by itself that
it talks to a primary, so both need no more than `RedisLanes`. A cluster has such lanes for each of
its primaries. Replicas are never read.
"""

from __future__ import annotations

import asyncio
from typing import Final

from redis.exceptions import AskError

from proxy.core.cache_key import KeySpace
from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.store_fitness import Flaw
from proxy.core.values import CacheKey
from proxy.edge.redis_cluster import RedisCluster
from proxy.edge.redis_connection import url_connect
from proxy.edge.redis_lanes import RedisLanes
from proxy.edge.redis_options import StoreOptions
from proxy.edge.redis_sentinel import Sentinels
from proxy.flow.events import Emit
from proxy.flow.ports import Clock, NearFeed

_HEARTBEATS_PER_LOOK: Final = 5


class OneServer:
    """All records on one server; see `redis_courier.Routes`.

    Args:
        options: where the store is and how far to trust it.
        keys: names the gate's record.
        clock: time and sleep.
        emit: takes events.
    """

    def __init__(self, options: StoreOptions, *, keys: KeySpace, clock: Clock, emit: Emit) -> None:
        self._clock = clock
        self._look_s = options.heartbeat_s * _HEARTBEATS_PER_LOOK
        self._sentinels: Sentinels | None = None
        connect = url_connect(options.url, options.access)
        if options.sentinel is not None:
            timeout_s = options.limits.connect_timeout_s
            self._sentinels = Sentinels(options.sentinel, options.access, timeout_s=timeout_s)
            connect = self._sentinels.connect
        self.lanes = RedisLanes(
            options, connect=connect, gate_key=keys.gate_key, clock=clock, emit=emit
        )

    async def serve(self) -> None:
        """Keep the lanes connected and proven for ever; cancel to stop."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.lanes.serve())
            if self._sentinels is not None:
                tasks.create_task(self._look(self._sentinels))

    def track(self, feed: NearFeed, *, ping_s: float) -> None:
        """Let every connection tell of changes to what is read on it; before `serve`."""
        self.lanes.track(feed, ping_s=ping_s)

    @property
    def serving(self) -> bool:
        """Whether some lane is up, proven and past its quarantine."""
        return self.lanes.serving

    @property
    def quarantined(self) -> bool:
        """Whether the primary is there and only its quarantine is not over."""
        return self.lanes.quarantined

    @property
    def why_not_serving(self) -> str:
        """In a few words, why `serving` is False."""
        return self.lanes.why_not_serving

    @property
    def unfit(self) -> bool:
        """Whether the server may lose what level `strict` stands on."""
        return self.lanes.fitness.unfit

    @property
    def flaws(self) -> tuple[Flaw, ...]:
        """What the server lacks for `strict`."""
        return self.lanes.fitness.flaws

    def lanes_for(self, _: CacheKey) -> RedisLanes:
        """Return the lanes."""
        return self.lanes

    def elsewhere(self, _told_by: RedisLanes, _redirect: AskError) -> RedisLanes:
        """Refuse: whoever sends us elsewhere is one of several."""
        reason = "the store is a node of a cluster: name it in store.cluster"
        raise StoreUnavailable(StoreFailure.REFUSED, reason)

    def blamed(self, unavailable: StoreUnavailable) -> StoreUnavailable:
        """Return the error as it is: there is no other part."""
        return unavailable

    async def _look(self, sentinels: Sentinels) -> None:
        """Leave a primary when the sentinels name another, though it still takes heartbeats.

        An old primary that is cut off from the sentinels does so, until the cut is healed.
        """
        while True:
            await self._clock.sleep(self._look_s)
            if await sentinels.name_another():
                self.lanes.leave()


def build_topology(
    options: StoreOptions, *, keys: KeySpace, clock: Clock, emit: Emit
) -> OneServer | RedisCluster:
    """Return what the options name; whoever keeps it awaits its `serve`."""
    kind = RedisCluster if options.cluster else OneServer
    return kind(options, keys=keys, clock=clock, emit=emit)
