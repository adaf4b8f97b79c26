"""A near feed that keeps what it was told, and lets a test wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from proxy.core.values import CacheKey
from proxy.flow.ports import NearSource
from tests.support.live_lanes import WAIT_S


class HeardFeed:
    """A `ports.NearFeed`.

    Attributes:
        changed: records that were told to have changed, in order.
        gone: sources whose word is void.
    """

    def __init__(self) -> None:
        self.changed: list[bytes] = []
        self.gone: list[NearSource] = []
        self._told = asyncio.Event()

    def invalidated(self, cache_keys: Sequence[CacheKey]) -> None:
        """See `ports.NearFeed`."""
        self.changed += cache_keys
        self._told.set()

    def lost(self, source: NearSource) -> None:
        """See `ports.NearFeed`."""
        self.gone.append(source)
        self._told.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return once `holds()`, asked again whenever something was told."""
        async with asyncio.timeout(WAIT_S):
            while not holds():
                self._told.clear()
                await self._told.wait()
