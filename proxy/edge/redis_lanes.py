"""Keeps a few lanes to the store connected, and each lane's proof of whom it talks to.

Every connection learns its server's incarnation when it is made, and again with each heartbeat: a
write-capable script, so that a demoted primary cannot pass for one. Hits need a young proof.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

import redis.exceptions

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.values import CacheKey, Incarnation
from proxy.edge.redis_connection import Access, Address, Connect
from proxy.edge.redis_lane import Command, Lane, LaneLimits, Replies
from proxy.edge.redis_primary import PrimaryView, ServerInfo, parse_info
from proxy.edge.redis_sentinel import SentinelOptions
from proxy.edge.scripts import STEPS, load_script
from proxy.flow.events import Emit, StoreConnections, StoreEvictions, StoreServing
from proxy.flow.ports import Clock

_GATE_KEPT_MS: Final = 7 * 24 * 3600 * 1000
_INFO: Final[Command] = ("INFO", "server", "replication", "stats")
_CLUSTER_INFO: Final[Command] = ("CLUSTER", "INFO")

GateKey = Callable[[Incarnation], CacheKey | None]
"""Names the gate's record of an incarnation; None where its server can hold none."""


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How to reach the store and how far to trust it. Times in seconds.

    Args:
        url: `redis://`, `rediss://` or `unix://`, where the store is one server.
        limits: bounds of each lane.
        username, password: for the store's servers; override what the URL says.
        lanes: shared connections; 0 when there is no store at all.
        heartbeat_s: how often each connection proves that it talks to a primary.
        heartbeat_age_s_max: hits stop when the last proof is older.
        quarantine_s: how long an incarnation nobody has seen before serves nothing.
        tls: whether servers that are not named by a URL speak TLS.
        ca_file: certificates to trust instead of the system's.
        sentinel: who knows where the primary is, instead of a URL.
        cluster: some nodes of the cluster, instead of a URL; they know the others.
    """

    url: str
    limits: LaneLimits
    username: str | None = None
    password: str | None = None
    lanes: int = 2
    heartbeat_s: float = 1.0
    heartbeat_age_s_max: float = 3.0
    quarantine_s: float = 30.0
    tls: bool = False
    ca_file: str | None = None
    sentinel: SentinelOptions | None = None
    cluster: tuple[Address, ...] = ()

    @property
    def access(self) -> Access:
        """How the store's servers let us in."""
        timeout_s = self.limits.connect_timeout_s
        return Access(self.username, self.password, self.tls, self.ca_file, timeout_s)


class RedisLanes:
    """A few shared connections to one server.

    Args:
        options: how far to trust the store.
        connect: makes connections to the server that is meant.
        gate_key: names the gate's record.
        clock: time and sleep.
        emit: takes events.
    """

    def __init__(
        self,
        options: StoreOptions,
        *,
        connect: Connect,
        gate_key: GateKey,
        clock: Clock,
        emit: Emit,
    ) -> None:
        self._options = options
        self._connect = connect
        self._gate_key = gate_key
        self._clock = clock
        self._emit = emit
        self._views: list[PrimaryView | None] = [None] * options.lanes
        self._lanes = [self._make_lane(index) for index in range(options.lanes)]
        self._any_up = asyncio.Event()
        self._next = 0
        self._told: tuple[bool, str] | None = None
        self._doubts = 0
        self._tasks: asyncio.TaskGroup | None = None

    async def serve(self) -> None:
        """Keep the lanes connected and proven for ever; cancel to stop."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for lane in self._lanes:
                tasks.create_task(lane.serve())
            tasks.create_task(self._beat())

    @property
    def connected(self) -> bool:
        """Whether some lane is up."""
        return any(lane.up for lane in self._lanes)

    @property
    def serving(self) -> bool:
        """Whether some lane is up, proven and past its quarantine."""
        now_s = self._clock.monotonic_s()
        return any(self._may_serve(index, now_s) for index in range(len(self._lanes)))

    @property
    def quarantined(self) -> bool:
        """Whether a primary is there and proven, and only its quarantine is not over."""
        now_s, age_s_max = self._clock.monotonic_s(), self._options.heartbeat_age_s_max
        return not self.serving and any(
            lane.up and view is not None and view.proven(now_s, age_s_max)
            for lane, view in zip(self._lanes, self._views, strict=True)
        )

    @property
    def why_not_serving(self) -> str:
        """In a few words, why `serving` is False."""
        if self.serving:
            return ""
        if self.quarantined:
            return "quarantine after a start or fail-over of the store"
        if self.connected:
            return "the store's heartbeat is too old"
        problems = [lane.problem for lane in self._lanes]
        return str(problems[0] or "not connected yet") if problems else "no store is configured"

    def pick_serving(self) -> tuple[Lane, PrimaryView]:
        """Return a lane that may look up and fill.

        Raises:
            StoreUnavailable: there is none.
        """
        now_s = self._clock.monotonic_s()
        return self._pick(lambda index: self._may_serve(index, now_s))

    def pick_any(self) -> tuple[Lane, PrimaryView]:
        """Return a lane that is connected: fences need no more than that.

        Raises:
            StoreUnavailable: there is none.
        """
        return self._pick(lambda index: self._lanes[index].up)

    def leave(self) -> None:
        """Leave every connection: another server is the primary now."""
        for lane in self._lanes:
            lane.reconnect()

    def doubt(self) -> None:
        """Serve nothing until a heartbeat sent from now on says that the server still may.

        What it took over, or when, may have changed its incarnation or its gate.
        """
        self._doubts += 1
        for index, view in enumerate(self._views):
            if view is not None:
                self._views[index] = replace(view, gate_in_s=math.inf)
        if self._tasks is not None and self.connected:
            self._tasks.create_task(self._beat_once())

    def _make_lane(self, index: int) -> Lane:
        async def greet(round_trip: Callable[..., Awaitable[Replies]]) -> None:
            load: list[Command] = [("SCRIPT", "LOAD", load_script(step).text) for step in STEPS]
            checked(await round_trip(*load))
            self._views[index] = await self._heartbeat(round_trip)

        def changed() -> None:
            if not self._lanes[index].up:
                self._views[index] = None
            open_now = sum(lane.up for lane in self._lanes)
            if open_now:
                self._any_up.set()
            else:
                self._any_up.clear()
            self._emit(StoreConnections(open_now, int(self._lanes[index].up)))
            self._tell_serving()

        return Lane(
            connect=self._connect,
            greet=greet,
            changed=changed,
            clock=self._clock,
            limits=self._options.limits,
        )

    async def _heartbeat(self, round_trip: Callable[..., Awaitable[Replies]]) -> PrimaryView:
        sent_s, doubts = self._clock.monotonic_s(), self._doubts
        questions = (_INFO, _CLUSTER_INFO) if self._options.cluster else (_INFO,)
        server = parse_info(*checked(await round_trip(*questions)))
        store_ms, gate_in_s = await self._ask_gate(server, round_trip)
        self._emit(StoreEvictions(server.evicted_total))
        if doubts != self._doubts:
            gate_in_s = math.inf
        return PrimaryView(server.incarnation, sent_s, store_ms, gate_in_s)

    async def _ask_gate(
        self, server: ServerInfo, round_trip: Callable[..., Awaitable[Replies]]
    ) -> tuple[int, float]:
        """Return the store's clock, and in how many seconds the gate opens."""
        gate_key = self._gate_key(server.incarnation)
        if gate_key is None:
            ((seconds, microseconds),) = checked(await round_trip(("TIME",)))
            return int(seconds) * 1000 + int(microseconds) // 1000, math.inf
        quarantine_s = max(0.0, self._options.quarantine_s - server.primary_for_s)
        command: Command = (
            "EVALSHA",
            load_script("heartbeat").sha,
            1,
            gate_key,
            milliseconds(quarantine_s),
            _GATE_KEPT_MS,
        )
        ((store_ms, gate_in_ms),) = checked(await round_trip(command))
        return store_ms, gate_in_ms / 1000

    async def pick_soon(self) -> tuple[Lane, PrimaryView]:
        """Return a connected lane, waiting one round trip's time-out for it at most.

        A fence is worth that much: without it a write leaves older entries in other proxies until
        the store is back, and lanes that were just cut off mostly are back within milliseconds.

        Raises:
            StoreUnavailable: there is none.
        """
        if not self.connected:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._options.limits.timeout_s):
                    await self._any_up.wait()
        return self.pick_any()

    async def _beat(self) -> None:
        while True:
            await self._clock.sleep(self._options.heartbeat_s)
            await self._beat_once()

    async def _beat_once(self) -> None:
        await asyncio.gather(*(self._beat_lane(index) for index in range(len(self._lanes))))
        self._tell_serving()

    async def _beat_lane(self, index: int) -> None:
        lane, before = self._lanes[index], self._views[index]
        if not lane.up or before is None:
            return

        async def round_trip(*commands: Command) -> Replies:
            return await lane.submit(*commands)

        try:
            view = await self._heartbeat(round_trip)
        except StoreUnavailable as unavailable:
            # A server that answers but is no primary any more: forget it, and find the new one.
            # A full queue says nothing about the server; leaving would fail all that waits in it.
            if unavailable.failure is not StoreFailure.FULL:
                lane.reconnect()
            return
        if view.incarnation != before.incarnation:
            lane.reconnect()
        elif self._views[index] is before:
            self._views[index] = view

    def _may_serve(self, index: int, now_s: float) -> bool:
        view = self._views[index]
        return (
            self._lanes[index].up
            and view is not None
            and view.proven(now_s, self._options.heartbeat_age_s_max)
            and view.gate_open(now_s)
        )

    def _pick(self, suits: Callable[[int], bool]) -> tuple[Lane, PrimaryView]:
        count = len(self._lanes)
        for offset in range(count):
            index = (self._next + offset) % count
            view = self._views[index]
            if view is not None and suits(index):
                self._next = index + 1
                return self._lanes[index], view
        raise StoreUnavailable(StoreFailure.CLOSED, self.why_not_serving or "not connected")

    def _tell_serving(self) -> None:
        if not any(lane.up or lane.problem for lane in self._lanes):
            return  # the first attempt has not ended: nothing is known yet
        told = (self.serving, self.why_not_serving)
        if told != self._told:
            self._told = told
            self._emit(StoreServing(*told))


def checked(replies: Replies) -> Replies:
    """Return replies of which none is an error.

    Raises:
        StoreUnavailable: one of them is; the connection stays good.
    """
    for reply in replies:
        if isinstance(reply, redis.exceptions.RedisError):
            reason = f"the store refused: {str(reply)[:80]}"
            raise StoreUnavailable(StoreFailure.REFUSED, reason)
    return replies


def milliseconds(seconds: float) -> int:
    """Return whole milliseconds, as scripts take them."""
    return round(seconds * 1000)
