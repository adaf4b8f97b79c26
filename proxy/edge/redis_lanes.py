"""Keeps a few lanes to the store connected, and each lane's proof of whom it talks to.

Every connection learns its server's incarnation when it is made, and again with each heartbeat: a
write-capable script, so that a demoted primary cannot pass for one. Hits need a young proof.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import redis.exceptions

from proxy.core.cache_key import KeySpace
from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.values import FailOver
from proxy.edge.redis_connection import Access, Connect
from proxy.edge.redis_fitness import FitnessWatch
from proxy.edge.redis_lane import Command, Lane, LaneLimits, Replies
from proxy.edge.redis_primary import PrimaryView, ServerInfo, parse_info, parse_lag
from proxy.edge.redis_sentinel import SentinelOptions
from proxy.edge.scripts import STEPS, load_script
from proxy.flow.events import Emit, StoreConnections, StoreEvictions, StoreServing
from proxy.flow.ports import Clock

_GATE_KEPT_MS: Final = 7 * 24 * 3600 * 1000
_INFO: Final[Command] = ("INFO", "server", "replication", "stats", "memory")
_LAG: Final[Command] = ("CONFIG", "GET", "min-replicas-max-lag")


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
        quarantine_s: how long an incarnation nobody has seen before serves nothing, beside the
            time that an older primary may have taken writes; 0 for no quarantine at all.
        fail_over: whether strict writes wait for a new primary to be the only one.
        fitness_demanded: whether some table is `strict` and its operator takes no risk.
        tls: whether servers that are not named by a URL speak TLS.
        ca_file: certificates to trust instead of the system's.
        sentinel: who knows where the primary is, instead of a URL.
    """

    url: str
    limits: LaneLimits
    username: str | None = None
    password: str | None = None
    lanes: int = 2
    heartbeat_s: float = 1.0
    heartbeat_age_s_max: float = 3.0
    quarantine_s: float = 30.0
    fail_over: FailOver = FailOver.SAFE
    fitness_demanded: bool = True
    tls: bool = False
    ca_file: str | None = None
    sentinel: SentinelOptions | None = None

    @property
    def unsettled_s(self) -> float:
        """How long hits of an older primary go on, once it takes no writes any more."""
        return min(self.heartbeat_age_s_max, self.quarantine_s)

    @property
    def access(self) -> Access:
        """How the store's servers let us in."""
        timeout_s = self.limits.connect_timeout_s
        return Access(self.username, self.password, self.tls, self.ca_file, timeout_s)


class RedisLanes:
    """A few shared connections.

    Args:
        options: how far to trust the store.
        connect: makes connections to the server that is meant.
        keys: names the gate's record.
        clock: time and sleep.
        emit: takes events.
    """

    def __init__(
        self, options: StoreOptions, *, connect: Connect, keys: KeySpace, clock: Clock, emit: Emit
    ) -> None:
        self._options = options
        self._connect = connect
        self._keys = keys
        self._clock = clock
        self._emit = emit
        self._views: list[PrimaryView | None] = [None] * options.lanes
        self._lanes = [self._make_lane(index) for index in range(options.lanes)]
        self._any_up = asyncio.Event()
        self._next = 0
        self._told: tuple[bool, str] | None = None
        self._config_denied = [False] * options.lanes
        self.fitness = FitnessWatch(
            clock, emit, demanded=options.fitness_demanded, healed_s=options.quarantine_s
        )

    async def serve(self) -> None:
        """Keep the lanes connected and proven for ever; cancel to stop."""
        async with asyncio.TaskGroup() as tasks:
            for lane in self._lanes:
                tasks.create_task(lane.serve())
            tasks.create_task(self._beat())

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
        if any(lane.up for lane in self._lanes):
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

    def _pick_settled(self) -> tuple[Lane, PrimaryView]:
        now_s = self._clock.monotonic_s()

        def suits(index: int) -> bool:
            view = self._views[index]
            return self._lanes[index].up and view is not None and view.settled(now_s)

        try:
            return self._pick(suits)
        except StoreUnavailable:
            self.pick_any()  # raises its own where nothing is connected
            reason = "the store's primary is new, an older one may still serve"
            raise StoreUnavailable(StoreFailure.UNSETTLED, reason) from None

    def leave(self) -> None:
        """Leave every connection: another server is the primary now."""
        for lane in self._lanes:
            lane.reconnect()

    def _make_lane(self, index: int) -> Lane:
        async def greet(round_trip: Callable[..., Awaitable[Replies]]) -> None:
            load: list[Command] = [("SCRIPT", "LOAD", load_script(step).text) for step in STEPS]
            checked(await round_trip(*load))
            self._config_denied[index] = False
            self._views[index] = await self._heartbeat(index, round_trip)

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

    async def _heartbeat(
        self, index: int, round_trip: Callable[..., Awaitable[Replies]]
    ) -> PrimaryView:
        options, sent_s = self._options, self._clock.monotonic_s()
        server = await self._ask(index, round_trip)
        whole_s = options.quarantine_s
        if whole_s:
            # Writes may have begun at an older primary while this one was there already.
            whole_s += server.traits.old_primary_s
        quarantine_s = max(0.0, whole_s - server.primary_for_s)
        gate_key = self._keys.gate_key(server.incarnation)
        command: Command = (
            "EVALSHA",
            load_script("heartbeat").sha,
            1,
            gate_key,
            milliseconds(quarantine_s),
            _GATE_KEPT_MS,
        )
        ((store_ms, gate_in_ms),) = checked(await round_trip(command))
        self._emit(StoreEvictions(server.evicted_total))
        received_s = self._clock.monotonic_s()
        self.fitness.see(server.incarnation, server.traits)
        gate_in_s = gate_in_ms / 1000
        # Both count from when the incarnation was first seen: it settles first, by the difference.
        settles_in_s = gate_in_s - (options.quarantine_s - options.unsettled_s)
        if options.fail_over is FailOver.AVAILABLE:
            settles_in_s = 0.0
        return PrimaryView(
            server.incarnation, sent_s, received_s, store_ms, gate_in_s, settles_in_s
        )

    async def _ask(self, index: int, round_trip: Callable[..., Awaitable[Replies]]) -> ServerInfo:
        """Ask the server about itself; once CONFIG was denied, not for that: denials are logged."""
        if self._config_denied[index]:
            (info,) = checked(await round_trip(_INFO))
            return parse_info(info)
        info, lag = await round_trip(_INFO, _LAG)
        lag_s_max = parse_lag(lag)
        self._config_denied[index] = lag_s_max is None
        (info,) = checked([info])
        return parse_info(info, lag_s_max)

    async def pick_soon(self, *, settled: bool = False) -> tuple[Lane, PrimaryView]:
        """Return a connected lane, waiting one round trip's time-out for it at most.

        A fence is worth that much: without it a write leaves older entries in other proxies until
        the store is back, and lanes that were just cut off mostly are back within milliseconds.

        Args:
            settled: only one to a primary that no older one can serve beside.

        Raises:
            StoreUnavailable: there is none; UNSETTLED where there are others.
        """
        if not any(lane.up for lane in self._lanes):
            with suppress(TimeoutError):
                async with asyncio.timeout(self._options.limits.timeout_s):
                    await self._any_up.wait()
        return self._pick_settled() if settled else self.pick_any()

    async def _beat(self) -> None:
        while True:
            await self._clock.sleep(self._options.heartbeat_s)
            await asyncio.gather(*(self._beat_lane(index) for index in range(len(self._lanes))))
            self._tell_serving()

    async def _beat_lane(self, index: int) -> None:
        lane, before = self._lanes[index], self._views[index]
        if not lane.up or before is None:
            return

        async def round_trip(*commands: Command) -> Replies:
            return await lane.submit(*commands)

        try:
            view = await self._heartbeat(index, round_trip)
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
