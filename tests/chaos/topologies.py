"""The stores that a run may use: what they are made of, and how they lose and find primaries.

Every server takes writes only while a replica keeps up with it: what an operator is told to set.
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from tests.chaos.links import Entrance, StoreLinks, listen_again
from tests.support.fault_proxy import FaultProxy
from tests.support.redis_server import RedisServer, data_server, promote

ACKNOWLEDGED_BY: Final[Mapping[str, str]] = {
    "min-replicas-to-write": "1",
    "min-replicas-max-lag": "2",
}
"""Level `strict` stands on it. In seconds: the shortest that a busy machine keeps."""

FAULTS_OF_ALL: Final = (
    "store stopped",
    "store paused",
    "store full",
    "store flushed",
    "store restarted empty",
    "store restarted old",
    "store failed over",
    "store replica stopped",
)

FAULTS_OF_REPLICATED: Final = (*FAULTS_OF_ALL, "store killed", "store handed over")
FAULTS_OF_CLUSTER: Final = (*FAULTS_OF_REPLICATED, "store slot moved")


class Topology(ABC):
    """Servers that together are one store.

    Attributes:
        faults: names of those that it can suffer (`tests/chaos/store_faults.py`).
        servers: those for data, in no order.
    """

    faults: ClassVar[tuple[str, ...]] = FAULTS_OF_ALL
    exchange: ClassVar[bool] = True
    """Whether servers tell proxies each other's addresses."""

    def __init__(self) -> None:
        self._links: list[StoreLinks] = []

    async def new_links(self) -> StoreLinks:
        """Return the ways of one more proxy to the store."""
        links = StoreLinks(self.entrances, exchange=self.exchange)
        await links.listen()
        self._links.append(links)
        return links

    @property
    @abstractmethod
    def servers(self) -> Sequence[RedisServer]:
        """Those that have data."""

    @property
    @abstractmethod
    def entrances(self) -> Sequence[Entrance]:
        """What proxies speak to."""

    @abstractmethod
    def settings(self, links: StoreLinks) -> dict[str, Any]:
        """Return how a proxy finds the store by its links."""

    @abstractmethod
    async def start(self) -> None:
        """Start everything and return once it is whole."""

    @abstractmethod
    async def primary(self, chances: random.Random) -> RedisServer:
        """Return the primary, or one of them."""

    @abstractmethod
    async def replica_of(self, primary: RedisServer) -> RedisServer:
        """Return a replica, such that without it the primary takes no writes or few are left."""

    @abstractmethod
    async def restart(self, server: RedisServer) -> None:
        """Start a killed server again, over what it left."""

    @abstractmethod
    async def isolate(self, primary: RedisServer) -> None:
        """Cut a primary off from its peers, not from proxies: its replicas miss what comes."""

    @abstractmethod
    async def replaced(self, primary: RedisServer) -> None:
        """Return once another server is the primary instead of a killed or isolated one."""

    @abstractmethod
    async def rejoin(self, server: RedisServer) -> None:
        """Let its peers reach an isolated server again."""

    def suffers(self, faults: Sequence[str]) -> list[str]:
        """Return those faults that are not about the store, or that it can suffer."""
        return [each for each in faults if each in self.faults or each not in FAULTS_OF_CLUSTER]

    @abstractmethod
    async def settled(self) -> None:
        """Return once every server is there and in its place."""

    def forget(self) -> None:
        """Forget what links keep for tests."""
        for links in self._links:
            links.forget()

    async def close(self) -> None:
        """End everything."""
        for links in self._links:
            await links.close()


class Single(Topology):
    """One primary; beside it a replica, over a link that can be cut, to fail over to.

    Nothing fails over by itself: whoever operates it promotes the replica, leads the proxies to it
    and ends the old primary, at once. An old one that goes on answering is another topology's.

    Args:
        binary: the servers' program.
    """

    exchange = False

    def __init__(self, binary: Path) -> None:
        super().__init__()
        self._primary = _acknowledged(data_server(binary))
        self._binary = binary
        self._replication = FaultProxy(self._primary.address)
        self._replica = self._primary

    @property
    def servers(self) -> Sequence[RedisServer]:
        """Both."""
        return self._primary, self._replica

    @property
    def entrances(self) -> Sequence[Entrance]:
        """The primary."""
        return (Entrance(self._primary.address, self._primary.port),)

    def settings(self, links: StoreLinks) -> dict[str, Any]:
        """Return the primary's URL."""
        (link,) = links.all
        return {"store.url": link.url}

    async def start(self) -> None:
        """Start both and return once the replica is in step."""
        self._primary.start()
        await asyncio.to_thread(self._primary.wait)
        await self._replication.listen()
        await self._add_replica()

    async def primary(self, chances: random.Random) -> RedisServer:
        """Return the primary."""
        return self._primary

    async def replica_of(self, primary: RedisServer) -> RedisServer:
        """Return the replica."""
        return self._replica

    async def restart(self, server: RedisServer) -> None:
        """Start the killed primary again, on the same port, over what it left."""
        server.start()
        await asyncio.to_thread(server.wait)

    async def isolate(self, primary: RedisServer) -> None:
        """Let the replica miss what comes from now on."""
        await self._replication.refuse()

    async def replaced(self, primary: RedisServer) -> None:
        """Promote the replica, let everybody move to it, and end the old one.

        Between the promotion and the move nobody talks to the new primary, after it nobody to the
        old one.
        """
        await asyncio.to_thread(promote, self._replica)
        self._primary = self._replica
        for links in self._links:
            links.move(self._primary.address)
        primary.close()

    async def rejoin(self, server: RedisServer) -> None:
        """Give the new primary a replica of its own."""
        self._replication.replace_server(self._primary.address)
        await listen_again(self._replication)
        await self._add_replica()

    async def settled(self) -> None:
        """Return once the replica is in step."""
        await asyncio.to_thread(self._replica.child.wait_until, self._in_step)

    def forget(self) -> None:
        """Forget what links keep for tests."""
        super().forget()
        self._replication.requests.clear()

    async def close(self) -> None:
        """End everything."""
        await super().close()
        await self._replication.close()
        for server in self.servers:
            server.close()

    async def _add_replica(self) -> None:
        self._replica = _acknowledged(data_server(self._binary, replica_of=self._replication.port))
        self._replica.start()
        await asyncio.to_thread(self._replica.wait)
        await self.settled()

    def _in_step(self) -> bool:
        return self._replica.info("replication").get("master_link_status") == "up"


def _acknowledged(server: RedisServer) -> RedisServer:
    server.flags = {**server.flags, **ACKNOWLEDGED_BY}
    return server
