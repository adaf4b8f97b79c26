"""Refreshes the entries of hot items before their time is over, in the background.

The fill goes over an entry that is fresh still, by a lease that is forced (as a ConsistentRead's
is): the entry serves from inside the lease, a write ends the lease as it ends any other, and of
all proxies one gets it. Whoever does not get it leaves it at that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.core.errors import StoreUnavailable, UpstreamFailed
from proxy.core.fence import RecordState
from proxy.core.fetches import FetchPlan
from proxy.core.record import Entry
from proxy.core.values import CacheKey, Generation, TableName
from proxy.flow.events import Emit, RefreshEnded
from proxy.flow.filler import Filler, Landing
from proxy.flow.hot_reads import HotReads
from proxy.flow.ports import Clock, Store
from proxy.flow.tasks import TaskOwner

REFRESHES_MAX: Final = 64
"""At one time. With more, upstream is slow, and should get nothing that can be spared."""


@dataclass(frozen=True, slots=True)
class AheadPorts:
    """What refreshes work with."""

    store: Store
    filler: Filler
    hot: HotReads
    tasks: TaskOwner
    clock: Clock
    emit: Emit


class RefreshAhead:
    """The refreshes ahead of time of one process."""

    def __init__(self, ports: AheadPorts) -> None:
        self._ports = ports
        self._refreshing: set[CacheKey] = set()

    def served(self, plan: FetchPlan, entry: Entry, store_now_ms: int) -> None:
        """Take note that a fresh entry answers a read, and start its refresh if that is due.

        Args:
            plan: of the read.
            entry: of an item or a page; pages are never hot.
            store_now_ms: the store's clock.
        """
        cache_key = plan.identity.cache_key
        if plan.control.only_if_cached or cache_key in self._refreshing:
            return
        if len(self._refreshing) < REFRESHES_MAX and self._ports.hot.due(plan, entry, store_now_ms):
            self._refreshing.add(cache_key)
            task = self._ports.tasks.spawn(self._refresh(plan), "refresh ahead")
            task.add_done_callback(lambda _: self._refreshing.discard(cache_key))

    def landed(self, table: TableName, landing: Landing, asked_s: float) -> bool:
        """Take note of how long a fetch took that was asked for then; False if it failed."""
        if landing.fetched is None or landing.fetched.found is None:
            return False
        self._ports.hot.took(table, self._ports.clock.monotonic_s() - asked_s)
        return True

    async def _refresh(self, plan: FetchPlan) -> None:
        asked_s = self._ports.clock.monotonic_s()
        generation = await self._still_due(plan)
        if generation is None:
            return
        try:
            landing = await self._ports.filler.refresh_ahead(plan, generation)
        except UpstreamFailed:
            self._ports.hot.failed()
            self._ports.emit(RefreshEnded(plan.table, replaced=False))
            return
        if landing is None:
            return
        if not self.landed(plan.table, landing, asked_s):
            self._ports.hot.failed()
        self._ports.emit(RefreshEnded(plan.table, landing.stored))

    async def _still_due(self, plan: FetchPlan) -> Generation | None:
        """Look up the entry; return the generation to fill under, None if it must not be refreshed.

        Another proxy may have refreshed it a moment ago: this process's copy may be older than
        what the store holds, and a forced lease would be granted over the new entry too.
        """
        try:
            seen = await self._ports.store.lookup(plan.identity, plan.names)
        except StoreUnavailable:
            return None
        if seen.state is not RecordState.ENTRY or seen.entry is None:
            return None
        chance = self._ports.hot.chance(plan, seen.entry, seen.store_now_ms)
        return seen.generation if chance else None
