"""Who waits for a lookup, and a store that looks up in both of its ways."""

from __future__ import annotations

import asyncio
from typing import Any

from proxy.core.errors import StoreUnavailable
from proxy.core.fence import ItemIdentity, Sighting
from proxy.flow.ports import Store


class Reader:
    """A `ports.LookupReader`; `told` is what it was told, once, or what was raised.

    None is "unsure".
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.told: asyncio.Future[Sighting | None] = loop.create_future()

    def saw(self, sighting: Sighting) -> None:
        """Take it."""
        self.told.set_result(sighting)

    def unsure(self) -> None:
        """Take it."""
        self.told.set_result(None)

    def failed(self, problem: StoreUnavailable) -> None:
        """Take it."""
        self.told.set_exception(problem)

    def broke(self, error: Exception) -> None:
        """Take it."""
        self.told.set_exception(error)


async def look_up(store: Store, identity: ItemIdentity) -> Sighting | None:
    """Return what a reader is told.

    Raises:
        StoreUnavailable: it is told so.
    """
    reader = Reader()
    store.look_up(identity, reader)
    return await reader.told


class BothWays:
    """A store of which every lookup is made in both ways, which must agree; a `ports.Store`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        """Be the store in all else."""
        return getattr(self._store, name)

    async def lookup(
        self, identity: ItemIdentity, names: tuple[str, ...] | None = None
    ) -> Sighting:
        """See `ports.Store`."""
        await self._store.lookup(identity, names)  # learns the table, if need be
        short = await look_up(self._store, identity)
        sighting = await self._store.lookup(identity, names)
        if short is not None and names is None:
            assert short._replace(store_now_ms=0) == sighting._replace(store_now_ms=0)
        return sighting
