"""Takes each command to the server of its record, and on where a cluster says it has moved.

Reads are never taken on: while its slot moves, a record is read upstream. On the node that a slot
comes to, it may still be unknown whether the node's incarnation is about to change.
Source: Redis Cluster specification, "MOVED Redirection", "ASK redirection": a command that was
answered so has not been executed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Final, NamedTuple, Protocol

from redis.exceptions import AskError, MovedError, NoScriptError

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.fence import Proven
from proxy.core.store_fitness import Flaw
from proxy.core.values import CacheKey
from proxy.edge.redis_command import Command, Replies, with_text
from proxy.edge.redis_lane import Lane
from proxy.edge.redis_lanes import RedisLanes
from proxy.edge.redis_primary import PrimaryView

_HOPS_MAX: Final = 3  # the server that the map knows, one that it did not know, one by ASK

Build = Callable[[PrimaryView], Command]
"""Makes a command for the connection that it will go out on."""


class Routes(Protocol):
    """Which server has which record; implemented by `redis_topology` and `redis_cluster`."""

    @property
    def serving(self) -> bool:
        """Whether some server is up, proven and past its quarantine."""
        ...

    @property
    def quarantined(self) -> bool:
        """Whether none serves, and one of them only waits for its quarantine to end."""
        ...

    @property
    def why_not_serving(self) -> str:
        """In a few words, what is out; empty when nothing is."""
        ...

    @property
    def unfit(self) -> bool:
        """Whether some server may lose what level `strict` stands on."""
        ...

    @property
    def flaws(self) -> tuple[Flaw, ...]:
        """What any of the servers lacks for `strict`."""
        ...

    def lanes_for(self, cache_key: CacheKey) -> RedisLanes:
        """Return the lanes to a record's server; raises StoreUnavailable where nobody knows it."""
        ...

    def elsewhere(self, told_by: RedisLanes, redirect: AskError) -> RedisLanes:
        """Return the lanes to where a server sent us, and remember it if that is for good."""
        ...

    def blamed(self, unavailable: StoreUnavailable) -> StoreUnavailable:
        """Return the error a caller sees: whether all of the store is out, or only a part."""
        ...


class Need(Enum):
    """What a step needs of its connection."""

    SERVING = auto()  # hits and fills are allowed
    CONNECTED = auto()
    SOON = auto()  # connected, and worth a short wait
    SETTLED = auto()  # so, and to a primary that no older one can serve beside

    @classmethod
    def of_write(cls, *, settled: bool) -> Need:
        """Return what the begin of a write needs."""
        return cls.SETTLED if settled else cls.SOON


class Told(NamedTuple):
    """A reply, what is known of the connection that brought it, and who tells of changes to it."""

    reply: Any
    view: PrimaryView
    source: Proven | None = None


class Courier:
    """Carries commands for `RedisStore`."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes

    def together(self, *cache_keys: CacheKey) -> bool:
        """Tell whether all these records are on one server, as far as is known."""
        try:
            first, *others = map(self._routes.lanes_for, cache_keys)
        except StoreUnavailable:
            return False
        return all(each is first for each in others)

    async def read(self, *asked: tuple[CacheKey, Command]) -> list[Told]:
        """Read records, in this order where they are on one server, else all at the same time.

        Raises:
            StoreUnavailable: one of the servers may not serve hits, or fails, or a record's slot
                is moving.
        """
        commands = [command for _, command in asked]
        try:
            homes = [self._routes.lanes_for(cache_key) for cache_key, _ in asked]
            if homes.count(homes[0]) == len(homes):
                lane, view = homes[0].pick_serving()
                source = lane.source  # of now: what is void by the time of the reply stays void
                replies = await lane.submit(*commands)
                told = [Told(reply, view, source) for reply in replies]
            else:
                told = await _read_each(homes, commands)
        except StoreUnavailable as unavailable:
            raise self._routes.blamed(unavailable) from unavailable
        for home, each in zip(homes, told, strict=True):
            if isinstance(each.reply, AskError):
                self._routes.elsewhere(home, each.reply)
                raise _moving()
        return told

    async def step(
        self, cache_key: CacheKey, need: Need, build: Build, *more: Command
    ) -> tuple[Replies, PrimaryView]:
        """Run one step on a record, with more commands right behind it.

        Args:
            cache_key: the record's name.
            need: of the connection.
            build: makes the step's command; called again for another server.
            more: commands for the same connection; their replies may be errors.

        Raises:
            StoreUnavailable: no such connection, or it broke.
        """
        asking = False
        try:
            lanes = self._routes.lanes_for(cache_key)
            for _ in range(_HOPS_MAX):
                lane, view = _pick_now(lanes, need) or await _pick_soon(lanes, need)
                commands = (build(view), *more)
                if asking:
                    replies = await _run_asking(lane, commands)
                else:
                    replies = await lane.submit(*commands)
                if isinstance(replies[0], NoScriptError):
                    replies = await _run_with_text(lane, commands, asking=asking)
                if not isinstance(replies[0], AskError):
                    return replies, view
                lanes = self._routes.elsewhere(lanes, replies[0])
                asking = not isinstance(replies[0], MovedError)
                if need is Need.SERVING:
                    break
        except StoreUnavailable as unavailable:
            raise self._routes.blamed(unavailable) from unavailable
        raise _moving()


async def _read_each(homes: list[RedisLanes], commands: list[Command]) -> list[Told]:
    picked = [home.pick_serving() for home in homes]
    views = [(view, lane.source) for lane, view in picked]
    pairs = zip(picked, commands, strict=True)
    replies = await asyncio.gather(*(lane.submit(command) for (lane, _), command in pairs))
    return [Told(reply, *view) for view, (reply,) in zip(views, replies, strict=True)]


def _pick_now(lanes: RedisLanes, need: Need) -> tuple[Lane, PrimaryView] | None:
    """Return a lane; None where that may take a moment."""
    if need is Need.SERVING:
        return lanes.pick_serving()
    if need is Need.CONNECTED:
        return lanes.pick_any()
    return lanes.pick_any() if need is Need.SOON and lanes.connected else None


async def _pick_soon(lanes: RedisLanes, need: Need) -> tuple[Lane, PrimaryView]:
    return await lanes.pick_soon(settled=need is Need.SETTLED)


async def _run_with_text(lane: Lane, commands: tuple[Command, ...], *, asking: bool) -> Replies:
    """Run a step once more after a SCRIPT FLUSH: give the store its text again."""
    commands = (with_text(commands[0]), *commands[1:])
    return await (_run_asking(lane, commands) if asking else lane.submit(*commands))


async def _run_asking(lane: Lane, commands: tuple[Command, ...]) -> Replies:
    return (await lane.submit(("ASKING",), *commands))[1:]


def _moving() -> StoreUnavailable:
    reason = "a record is on its way to another node"
    return StoreUnavailable(StoreFailure.REFUSED, reason, partial=True)
