"""Stores that look after themselves: sentinels with a primary and two replicas, and a cluster.

Between the servers lie links as well, one in front of each server, by which its peers know it. So a
primary can be cut off from its replicas, and from whoever watches over it, while proxies see it: it
takes writes that nobody else will have, until it notices. Sentinels reach each other past all
links, and proxies have links of their own (`tests/chaos/links.py`).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

from proxy.core.values import CacheKey
from proxy.edge.redis_slots import slot_of
from proxy.embedded.process import LOOPBACK, POLL_S, EngineError
from tests.chaos.links import Entrance, StoreLinks, listen_again, told
from tests.chaos.topologies import (
    ACKNOWLEDGED_BY,
    FAULTS_OF_CLUSTER,
    FAULTS_OF_REPLICATED,
    Topology,
)
from tests.support.fault_proxy import FaultProxy
from tests.support.raw_store import RawStore
from tests.support.redis_server import RedisServer
from tests.support.slot_moves import move_slot
from tests.support.store_topologies import (
    BUS_OFFSET,
    MASTER_NAME,
    ClusterTopology,
    SentinelTopology,
    accepts_failover,
    is_primary,
    until,
)

MOVES_MAX: Final = 50
"""Attempts to move a slot: a node may refuse while its replica lags."""

_SOONER_MS: Final = {"INFO-PERIOD": 1000, "PUBLISH-PERIOD": 500, "TILT-PERIOD": 5000}
"""Sentinels look every 10 s else, and leave a primary that came back as it is for 8 s."""


_OWN_HOST: Final = "127.0.1.{}"
"""Where a node calls its peers from."""


class _BusLink(FaultProxy):
    """In front of a node's bus: nodes that were shut out do not get through.

    Args:
        bus: where to.
        shut_out: hosts that nodes call from, each from its own.
    """

    def __init__(self, bus: tuple[str, int], shut_out: set[str]) -> None:
        super().__init__(bus)
        self._shut_out = shut_out

    def enforce(self) -> None:
        """Break what is there of those shut out."""
        for writer in self._writers:
            if writer.get_extra_info("peername")[0] in self._shut_out:
                writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if writer.get_extra_info("peername")[0] in self._shut_out:
            writer.transport.abort()
            return
        await super()._accept(reader, writer)


class _Launcher(Protocol):
    servers: list[RedisServer]
    told: dict[int, int]

    def stages(self) -> Iterator[Callable[[], None]]: ...

    def whole(self) -> bool: ...

    def close(self) -> None: ...


class _Replicated(Topology):
    faults: ClassVar[tuple[str, ...]] = FAULTS_OF_REPLICATED

    def __init__(self, launched: _Launcher) -> None:
        super().__init__()
        self._launched = launched
        self._inner: dict[int, list[FaultProxy]] = {}
        for server in launched.servers:
            server.flags = {**server.flags, **ACKNOWLEDGED_BY}
            self._lay(server, FaultProxy(server.address), launched.told[server.port])

    @property
    def servers(self) -> Sequence[RedisServer]:
        """All of them."""
        return self._launched.servers

    @property
    def entrances(self) -> Sequence[Entrance]:
        """All servers."""
        return [Entrance(each.address, self._launched.told[each.port]) for each in self.servers]

    async def start(self) -> None:
        """Start everything and return once it is whole."""
        for link in self._all_inner():
            await link.listen()
        for wait in self._launched.stages():
            await asyncio.to_thread(wait)
        await self.settled()

    async def restart(self, server: RedisServer) -> None:
        """Start a killed server again, over what it left."""
        server.start()
        await asyncio.to_thread(server.wait)

    async def isolate(self, primary: RedisServer) -> None:
        """Refuse its peers."""
        for link in self._inner[primary.port]:
            await link.refuse()

    async def rejoin(self, server: RedisServer) -> None:
        """Let its peers in again."""
        for link in self._inner[server.port]:
            await listen_again(link)

    async def settled(self) -> None:
        """Return once every server is there and in its place."""
        await _until("the store is whole again", self._launched.whole)

    def forget(self) -> None:
        """Forget what links keep for tests."""
        super().forget()
        for link in self._all_inner():
            link.requests.clear()

    async def close(self) -> None:
        """End everything."""
        await super().close()
        for link in self._all_inner():
            with suppress(AssertionError):  # it does not listen yet
                await link.close()
        self._launched.close()

    def _lay(self, server: RedisServer, link: FaultProxy, told_port: int) -> None:
        link.port = told_port
        self._inner.setdefault(server.port, []).append(link)

    def _all_inner(self) -> list[FaultProxy]:
        return [link for links in self._inner.values() for link in links]


class Sentinel(_Replicated):
    """A primary and two replicas, over whom three sentinels watch.

    Args:
        binary: the servers' program.
    """

    def __init__(self, binary: Path) -> None:
        self._sentinels = SentinelTopology(binary, apart=True)
        super().__init__(self._sentinels)

    @property
    def entrances(self) -> Sequence[Entrance]:
        """All servers and sentinels."""
        sentinels = self._sentinels.sentinels
        return [
            *super().entrances,
            *(Entrance(each.address, each.port, sentinel=True) for each in sentinels),
        ]

    def settings(self, links: StoreLinks) -> dict[str, Any]:
        """Return where the sentinels are."""
        return {
            "store.sentinel.addresses": told(links.sentinels),
            "store.sentinel.primary_name": MASTER_NAME,
        }

    async def start(self) -> None:
        """Start everything and return once it is whole."""
        await super().start()
        for sentinel in self._sentinels.sentinels:
            for name, for_ms in _SOONER_MS.items():
                await asyncio.to_thread(sentinel.ask, "SENTINEL", "DEBUG", name, str(for_ms))

    async def primary(self, chances: random.Random) -> RedisServer:
        """Return the server that the sentinels name."""
        return await asyncio.to_thread(lambda: self._sentinels.primary)

    async def replica_of(self, primary: RedisServer) -> RedisServer:
        """Return the first replica: the other one is left."""
        return next(server for server in self.servers if server is not primary)

    async def restart(self, server: RedisServer) -> None:
        """Start a killed server again, as a replica if it was replaced."""
        primary = await asyncio.to_thread(lambda: self._sentinels.primary)
        flags = {name: text for name, text in server.flags.items() if name != "replicaof"}
        if primary is not server:
            flags["replicaof"] = f"{LOOPBACK} {self._sentinels.told[primary.port]}"
        server.flags = flags
        await super().restart(server)

    async def replaced(self, primary: RedisServer) -> None:
        """Return once the sentinels name another."""
        await _until("another primary", lambda: self._is_replaced(primary))

    async def hand_over(self, primary: RedisServer) -> None:
        """Order a fail-over and return once there is another primary."""
        sentinel = self._sentinels.sentinels[0]
        await _until("a good replica", lambda: accepts_failover(sentinel))
        await self.replaced(primary)

    def _is_replaced(self, old: RedisServer) -> bool:
        new = self._sentinels.primary
        return new is not old and is_primary(new)


class Cluster(_Replicated):
    """Three primaries with a third of the slots each, and a replica of each.

    Args:
        binary: the servers' program.
    """

    faults = FAULTS_OF_CLUSTER

    def __init__(self, binary: Path) -> None:
        self._nodes = ClusterTopology(binary, apart=True)
        super().__init__(self._nodes)
        self._shut_out: set[str] = set()
        self._buses: list[_BusLink] = []
        for number, node in enumerate(self.servers, start=1):
            node.flags = {**node.flags, "bind-source-addr": _OWN_HOST.format(number)}
            bus = _BusLink((LOOPBACK, node.port + BUS_OFFSET), self._shut_out)
            self._lay(node, bus, self._nodes.told_bus[node.port])
            self._buses.append(bus)

    def settings(self, links: StoreLinks) -> dict[str, Any]:
        """Return where two shards' nodes are: they know the others."""
        return {"store.cluster.addresses": told(links.servers[::2])}

    async def isolate(self, primary: RedisServer) -> None:
        """Refuse its peers, and keep it from them: whom a node hears of is not taken for dead."""
        self._shut_out.add(primary.flags["bind-source-addr"])
        for bus in self._buses:
            bus.enforce()
        await super().isolate(primary)

    async def rejoin(self, server: RedisServer) -> None:
        """Let it and its peers speak to each other again."""
        self._shut_out.discard(server.flags["bind-source-addr"])
        await super().rejoin(server)

    async def primary(self, chances: random.Random) -> RedisServer:
        """Return one of the primaries."""
        return chances.choice(await asyncio.to_thread(lambda: self._nodes.primaries))

    async def replica_of(self, primary: RedisServer) -> RedisServer:
        """Return its only one."""
        return self._nodes.twin(primary)

    async def replaced(self, primary: RedisServer) -> None:
        """Return once its replica has taken over."""
        await _until("another primary", lambda: is_primary(self._nodes.twin(primary)))

    async def hand_over(self, primary: RedisServer) -> None:
        """Order a fail-over and return once there is another primary."""
        twin = self._nodes.twin(primary)
        while not await asyncio.to_thread(is_primary, twin):
            with suppress(EngineError, OSError):
                await asyncio.to_thread(twin.ask, "CLUSTER", "FAILOVER")
            with suppress(EngineError):
                await _until("a fail-over", lambda: is_primary(twin), for_s=6.0)

    def owner(self, cache_key: CacheKey) -> RedisServer:
        """Return the node that has a record's slot, as one of them says; it blocks."""
        slot = slot_of(cache_key)
        with RawStore(self._nodes.primaries[0].address) as node:
            ranges = node.run("CLUSTER", "SLOTS")
        told_port = next(port for low, high, (_, port, *_), *_ in ranges if low <= slot <= high)
        return next(each for each in self.servers if self._nodes.told[each.port] == told_port)

    async def move(self, cache_key: CacheKey, taker: RedisServer) -> None:
        """Hand a record's slot over to another primary, with all that is in it."""
        for _ in range(MOVES_MAX):
            with suppress(AssertionError, EngineError, OSError):  # a replica lags: again
                return await asyncio.to_thread(self._move, slot_of(cache_key), cache_key, taker)
            await asyncio.sleep(POLL_S)
        raise EngineError(f"slot {slot_of(cache_key)} cannot be moved")

    def _move(self, slot: int, cache_key: CacheKey, taker: RedisServer) -> None:
        giver = self.owner(cache_key)
        others = [each for each in self.others(giver) if each is not taker]
        if giver is not taker:
            move_slot(slot, giver, taker, others)

    def others(self, primary: RedisServer) -> list[RedisServer]:
        """Return the other primaries; it blocks."""
        return [each for each in self._nodes.primaries if each is not primary]


async def _until(what: str, holds: Callable[[], bool], *, for_s: float | None = None) -> None:
    """Ask servers, of whom some may be dead, until they say yes."""

    def asked() -> bool:
        try:
            return holds()
        except (OSError, EngineError):
            return False

    await asyncio.to_thread(until, what, asked, **({} if for_s is None else {"for_s": for_s}))
