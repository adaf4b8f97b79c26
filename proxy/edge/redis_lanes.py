"""Keeps a few lanes to the store connected, and each lane's proof of whom it talks to.

Every connection learns its server's incarnation when it is made, and again with each heartbeat: a
write-capable script, so that a demoted primary cannot pass for one. Hits need a young proof.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.edge.redis_command import Command, Replies, checked
from proxy.edge.redis_connection import Connect
from proxy.edge.redis_fitness import FitnessWatch
from proxy.edge.redis_heartbeat import GateKey, Heartbeat, RoundTrip
from proxy.edge.redis_lane import Lane
from proxy.edge.redis_options import StoreOptions
from proxy.edge.redis_primary import PrimaryView
from proxy.edge.redis_tracking import Tracking
from proxy.edge.scripts import STEPS, load_script
from proxy.flow.events import Emit, StoreConnections, StoreDetour, StoreServing
from proxy.flow.ports import Clock, NearFeed


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
        self._clock = clock
        self._emit = emit
        self._heartbeat = Heartbeat(options, gate_key=gate_key, clock=clock, emit=emit)
        self._views: list[PrimaryView | None] = [None] * options.lanes
        self._lanes = [self._make_lane(index) for index in range(options.lanes)]
        self._any_up = asyncio.Event()
        self._next = 0
        self._ready: list[tuple[Lane, PrimaryView]] = []
        self._serving_until_s = -math.inf
        self._told: tuple[bool, str] | None = None
        self._doubts = 0
        self._trackings: list[Tracking] = []
        self._ping_s = math.inf
        self._tasks: asyncio.TaskGroup | None = None

    async def serve(self) -> None:
        """Keep the lanes connected and proven for ever; cancel to stop."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                for lane in self._lanes:
                    tasks.create_task(lane.serve())
                tasks.create_task(self._beat())
                tasks.create_task(self._prove())
        finally:
            for tracking in self._trackings:
                tracking.stop()

    def track(self, feed: NearFeed, *, ping_s: float) -> None:
        """Let every connection tell of changes to what is read on it; before they are made.

        Args:
            feed: takes what they push.
            ping_s: how often each one proves that nothing it pushed is still on its way.
        """
        self._trackings = [Tracking(lane, feed, self._clock) for lane in self._lanes]
        self._ping_s = ping_s

    @property
    def fitness(self) -> FitnessWatch:
        """What the server lacks for level `strict`."""
        return self._heartbeat.fitness

    @property
    def connected(self) -> bool:
        """Whether some lane is up."""
        return any(lane.up for lane in self._lanes)

    @property
    def serving(self) -> bool:
        """Whether some lane is up, proven and past its quarantine."""
        now_s = self._clock.monotonic_s()
        # Asked with every hit; what was found holds until the proof is too old or a view changes.
        return now_s <= self._serving_until_s or self._find_serving(now_s)

    def _find_serving(self, now_s: float) -> bool:
        self._ready = [
            (self._lanes[index], view)
            for index, view in enumerate(self._views)
            if view is not None and self._may_serve(index, now_s)
        ]
        sent_s = min((view.sent_s for _, view in self._ready), default=-math.inf)
        self._serving_until_s = sent_s + self._options.heartbeat_age_s_max
        return bool(self._ready)

    def _see(self, index: int, view: PrimaryView | None) -> None:
        self._views[index] = view
        self._serving_until_s = -math.inf
        sent_s = -math.inf if view is None else view.sent_s
        for tracking in self._trackings[index : index + 1]:
            tracking.may_serve(sent_s + self._options.heartbeat_age_s_max)

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
        """Return a lane that may look up and fill: the same one within a turn of the loop.

        Raises:
            StoreUnavailable: there is none.
        """
        if not self.serving:
            raise self._none()
        ready = self._ready
        picked = ready[self._next % len(ready)]
        if not picked[0].flushes:
            self._next += 1
            picked = ready[self._next % len(ready)]
        return picked

    def pick_any(self) -> tuple[Lane, PrimaryView]:
        """Return a lane that is connected: fences need no more than that.

        Raises:
            StoreUnavailable: there is none.
        """
        return self._pick(lambda index, _: self._lanes[index].up)

    def _pick_settled(self) -> tuple[Lane, PrimaryView]:
        def suits(index: int, now_s: float) -> bool:
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

    def doubt(self) -> None:
        """Serve nothing until a heartbeat sent from now on says that the server still may.

        What it took over, or when, may have changed its incarnation or its gate.
        """
        self._doubts += 1
        for index, view in enumerate(self._views):
            if view is not None:
                self._see(index, replace(view, gate_in_s=math.inf))
        for tracking in self._trackings:
            tracking.doubt()
        if self._tasks is not None and self.connected:
            self._tasks.create_task(self._beat_once())

    def _make_lane(self, index: int) -> Lane:
        async def greet(round_trip: RoundTrip) -> None:
            load: list[Command] = [("SCRIPT", "LOAD", load_script(step).text) for step in STEPS]
            checked(await round_trip(*load))
            for tracking in self._trackings[index : index + 1]:
                await tracking.start(round_trip)
            self._heartbeat.connected()
            self._see(index, await self._ask(round_trip))

        def changed() -> None:
            self._serving_until_s = -math.inf
            if not self._lanes[index].up:
                self._see(index, None)
                for tracking in self._trackings[index : index + 1]:
                    tracking.stop()
            open_now = sum(lane.up for lane in self._lanes)
            if open_now:
                self._any_up.set()
            else:
                self._any_up.clear()
            self._emit(StoreConnections(open_now, int(self._lanes[index].up)))
            if self._lanes[index].up and not self._lanes[index].pushes:
                self._emit(StoreDetour())
            self._tell_serving()

        def pushed(push: list[Any]) -> None:
            for tracking in self._trackings[index : index + 1]:
                tracking.take(push)

        return Lane(
            connect=self._connect,
            greet=greet,
            changed=changed,
            clock=self._clock,
            limits=self._options.limits,
            pushed=pushed,
        )

    async def _ask(self, round_trip: RoundTrip) -> PrimaryView:
        doubts = self._doubts
        view = await self._heartbeat.ask(round_trip)
        return view if doubts == self._doubts else replace(view, gate_in_s=math.inf)

    async def pick_soon(self, *, settled: bool = False) -> tuple[Lane, PrimaryView]:
        """Return a connected lane, waiting one round trip's time-out for it at most.

        A fence is worth that much: without it a write leaves older entries in other proxies until
        the store is back, and lanes that were just cut off mostly are back within milliseconds.

        Args:
            settled: only one to a primary that no older one can serve beside.

        Raises:
            StoreUnavailable: there is none; UNSETTLED where there are others.
        """
        if not self.connected:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._options.limits.timeout_s):
                    await self._any_up.wait()
        return self._pick_settled() if settled else self.pick_any()

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
            view = await self._ask(round_trip)
        except StoreUnavailable as unavailable:
            # A server that answers but is no primary any more: forget it, and find the new one.
            # A full queue says nothing about the server; leaving would fail all that waits in it.
            if unavailable.failure is not StoreFailure.FULL:
                lane.reconnect()
            return
        if view.incarnation != before.incarnation:
            lane.reconnect()
        elif self._views[index] is before:
            self._see(index, view)

    async def _prove(self) -> None:
        """Have lanes proven that may serve: a connection to no primary tells of nothing."""
        while True:
            await self._clock.sleep(self._ping_s)
            now_s = self._clock.monotonic_s()
            for index, tracking in enumerate(self._trackings):
                if self._may_serve(index, now_s):
                    tracking.ping()

    def _may_serve(self, index: int, now_s: float) -> bool:
        view = self._views[index]
        return (
            self._lanes[index].up
            and view is not None
            and view.proven(now_s, self._options.heartbeat_age_s_max)
            and view.gate_open(now_s)
        )

    def _pick(self, suits: Callable[[int, float], bool]) -> tuple[Lane, PrimaryView]:
        count, now_s = len(self._lanes), self._clock.monotonic_s()
        for offset in range(count):
            index = (self._next + offset) % count
            view = self._views[index]
            if view is not None and suits(index, now_s):
                self._next = index + 1
                return self._lanes[index], view
        raise self._none()

    def _none(self) -> StoreUnavailable:
        return StoreUnavailable(StoreFailure.CLOSED, self.why_not_serving or "not connected")

    def _tell_serving(self) -> None:
        if not any(lane.up or lane.problem for lane in self._lanes):
            return  # the first attempt has not ended: nothing is known yet
        told = (self.serving, self.why_not_serving)
        if told != self._told:
            self._told = told
            self._emit(StoreServing(*told))
