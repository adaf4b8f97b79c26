"""The processes of one run: proxies, their store, their upstream, and a link on every way.

Each proxy has a *slot*: two links that stay, one to the store and one to the upstream, and a
process that may be replaced. Every process has a number of its own, since what one process owes the
store dies with it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import aiohttp

from proxy.core.cache_key import KeySpace
from proxy.core.values import CacheKey
from proxy.embedded.process import PORT_ATTEMPTS_MAX, EngineEndedError, EngineError
from tests.chaos.links import RETRY_S, StoreLinks
from tests.chaos.recording import Stop
from tests.chaos.topologies import Topology
from tests.chaos.upstream import UpstreamProcess
from tests.sim.rig import TABLE
from tests.support.fault_proxy import FaultProxy
from tests.support.ports import free_port
from tests.support.proxy_process import (
    ENVIRON,
    READ,
    REGION,
    SERVE,
    RunningProxy,
    is_ready,
    spawn_proxy,
)
from tests.support.serving import total

PROXIES: Final = 3
HEALED_S: Final = 30.0
"""After this long without faults a proxy that does not serve is broken."""


@dataclass
class Slot:
    """One place for a proxy, or for a process that only reads; `proxy` is None while there is none.

    Args:
        store_links, upstream_link: on its ways.
        command: what it runs, `serve` or `streams`.
        busy: held by the fault that has to do with the process.
    """

    store_links: StoreLinks
    upstream_link: FaultProxy
    command: Sequence[str] = SERVE
    proxy: RunningProxy | None = None
    number: int = 0
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)


class World:
    """Everything that runs; use `running_world`.

    Args:
        topology: the store.
        upstream: the fake DynamoDB.
        settings: of every proxy, by dotted name.
        session: for clients and orders.
        readers: how many processes read streams and serve nobody.
    """

    def __init__(
        self,
        topology: Topology,
        upstream: UpstreamProcess,
        settings: Mapping[str, Any],
        session: aiohttp.ClientSession,
        *,
        readers: int = 0,
    ) -> None:
        self.topology = topology
        self.upstream = upstream
        self.session = session
        self.slots: list[Slot] = []
        self.readers: list[Slot] = []
        self.stops: list[Stop] = []
        self.store_busy = asyncio.Lock()
        self.stream_busy: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.items = range(1)
        """Those that the clients use now."""
        self.ended: list[str] = []
        """Proxies that ended although nobody killed them, and what they said last."""
        self._settings = dict(settings) | {"store.namespace": f"chaos-{uuid.uuid4().hex[:8]}"}
        self._numbers = 0
        self._commands = [SERVE] * PROXIES + [READ] * readers

    @property
    def everybody(self) -> list[Slot]:
        """All places, those of readers too."""
        return self.slots + self.readers

    async def start(self) -> None:
        """Start the store, the upstream and every proxy; return once all of them serve."""
        await self.topology.start()
        await asyncio.to_thread(self.upstream.wait)
        for command in self._commands:
            upstream_link = FaultProxy(self.upstream.address)
            await upstream_link.listen()
            slot = Slot(await self.topology.new_links(), upstream_link, command)
            (self.slots if command == SERVE else self.readers).append(slot)
        await asyncio.gather(*(self.start_proxy(slot) for slot in self.everybody))
        await self.healed()

    async def start_proxy(self, slot: Slot) -> None:
        """Start a proxy in a slot and return once it takes requests."""
        given = {
            **self._settings,
            "upstream.endpoint": f"http://127.0.0.1:{slot.upstream_link.port}",
            **self.topology.settings(slot.store_links),
        }
        proxy = await self._spawned(given, slot.command)
        self._numbers += 1
        slot.number, slot.proxy = self._numbers, proxy

    def records(self) -> list[CacheKey]:
        """Return the names of the store's records in use now: items, their table and its stream."""
        keys = KeySpace(self._settings["store.namespace"], REGION)
        items = [keys.item(TABLE, {"pk": {"S": str(item)}}).cache_key for item in self.items]
        streamed = [keys.stream_key(TABLE)] if "tables" in self._settings else []
        return [*items, keys.table_key(TABLE), *streamed]

    def kill_proxy(self, slot: Slot) -> None:
        """End a slot's process at once."""
        proxy, slot.proxy = slot.proxy, None
        if proxy is None:
            return
        with suppress(ProcessLookupError):
            os.kill(proxy.child.pid, signal.SIGKILL)
        proxy.child.stop()

    @contextmanager
    def stopped(self, slot: Slot) -> Iterator[None]:
        """Stop a slot's process for as long as the block lasts."""
        from_s = time.monotonic()
        self._send(slot, signal.SIGSTOP)
        try:
            yield
        finally:
            self._send(slot, signal.SIGCONT)
            self.stops.append(Stop(slot.number, from_s, time.monotonic()))

    def _send(self, slot: Slot, number: signal.Signals) -> None:
        if slot.proxy is not None and slot.proxy.child.process.poll() is None:
            os.kill(slot.proxy.child.pid, number)

    async def tidy(self) -> None:
        """Forget what links keep for tests, and note proxies that ended by themselves."""
        self.topology.forget()
        for slot in self.everybody:
            slot.upstream_link.requests.clear()
            if slot.proxy is not None and slot.proxy.child.process.poll() is not None:
                tail = slot.proxy.child.log_tail()
                self.ended.append(f"proxy {slot.number} ended by itself:\n{tail}")
                self.kill_proxy(slot)
                await self.start_proxy(slot)

    async def healed(self) -> None:
        """Return once the store is whole, and every proxy serves from all of it and owes nothing.

        Raises:
            EngineError: one never does.
        """
        await self.topology.settled()
        for slot in self.everybody:
            with suppress(TimeoutError):
                async with asyncio.timeout(HEALED_S):
                    while not await self._serves(slot):  # noqa: ASYNC110 - it cannot tell by itself
                        await asyncio.sleep(RETRY_S)
                    continue
            raise EngineError(f"proxy {slot.number} does not recover: {await self._why(slot)}")

    async def counted(self, metric: str, *labels: str) -> float:
        """Return the sum of a metric over the processes that run now."""
        return sum(
            [total(await self._ops(slot, "/metrics"), metric, *labels) for slot in self.everybody]
        )

    async def close(self) -> None:
        """End everything, stopped processes too."""
        for slot in self.everybody:
            self.kill_proxy(slot)
            await slot.upstream_link.close()
        await self.topology.close()
        self.upstream.child.process.kill()
        self.upstream.child.stop()

    async def _spawned(self, given: Mapping[str, Any], command: Sequence[str]) -> RunningProxy:
        attempts_left = PORT_ATTEMPTS_MAX
        while True:
            proxy = spawn_proxy(free_port(), given, ENVIRON, command=command)
            try:
                await asyncio.to_thread(proxy.child.wait_until, partial(is_ready, proxy))
            except EngineEndedError:  # perhaps somebody else took its port
                attempts_left -= 1
                if not attempts_left:
                    raise
            else:
                return proxy

    async def _serves(self, slot: Slot) -> bool:
        shown = await self._ops(slot, "/metrics")
        wanting = ("dynaside_store_nodes_out", "dynaside_store_flaw", "dynaside_debts")
        serving = total(shown, "dynaside_store_serving") == 1.0
        return serving and not any(total(shown, each) for each in wanting)

    async def _why(self, slot: Slot) -> str:
        """Return what a proxy says about its store, and the end of its log."""
        tail = slot.proxy.child.log_tail() if slot.proxy is not None else "no process"
        return f"{await self._ops(slot, '/status')}\n{tail}"

    async def _ops(self, slot: Slot, path: str) -> str:
        if slot.proxy is None:
            return ""
        try:
            async with self.session.get(slot.proxy.ops_url + path) as answer:
                return await answer.text()
        except aiohttp.ClientError:
            return ""


@asynccontextmanager
async def running_world(
    topology: Topology, settings: Mapping[str, Any], *, seed: str, readers: int = 0
) -> AsyncIterator[World]:
    """Run a world for as long as the block lasts."""
    async with AsyncExitStack() as stack:
        connector = aiohttp.TCPConnector(limit=0)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        world = World(topology, UpstreamProcess(seed), settings, session, readers=readers)
        stack.push_async_callback(world.close)
        await world.start()
        yield world
