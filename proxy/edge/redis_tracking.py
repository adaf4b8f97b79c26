"""Lets one connection to the store tell of changes to what was read on it.

RESP3 in the default mode of CLIENT TRACKING: the store remembers what a connection has read, and
pushes once when that changes, expires or is evicted, whoever did it, ourselves included. Commands
are run one after the other and their output keeps that order: what changed before a PING was run
stands in the stream before its PONG. So a PONG that was taken proves that nothing is missing of all
that changed before its PING was sent.
Source: Redis documentation, "Client-side caching"; RESP3 specification, "Push type".
"""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from functools import partial
from typing import Any, Final

from proxy.core.errors import StoreUnavailable
from proxy.edge.redis_command import Replies
from proxy.edge.redis_heartbeat import RoundTrip
from proxy.edge.redis_lane import Lane
from proxy.flow.ports import Clock, NearFeed

_INVALIDATE: Final = b"invalidate"


class TrackedConnection:
    """What one connection told until something makes it void; a `ports.NearSource`."""

    __slots__ = ("_gone", "proven_s", "serves_until_s")

    def __init__(self, proven_s: float, serves_until_s: float) -> None:
        self._gone = False
        self.proven_s = proven_s
        self.serves_until_s = serves_until_s

    def prove(self, sent_s: float) -> None:
        """Note that a PING of then was answered."""
        if not self._gone:
            self.proven_s = sent_s

    def end(self) -> None:
        """Prove nothing, for ever."""
        self._gone, self.proven_s = True, -math.inf


class Tracking:
    """Keeps one lane's connections tracked, and hands on what they push.

    Args:
        lane: its `source` is kept here: the present connection's, None while it is not tracked.
        feed: takes what is pushed.
        clock: monotonic time.
    """

    def __init__(self, lane: Lane, feed: NearFeed, clock: Clock) -> None:
        self._lane = lane
        self._feed = feed
        self._clock = clock
        self._source: TrackedConnection | None = None
        self._serves_until_s = -math.inf

    async def start(self, round_trip: RoundTrip) -> None:
        """Have a new connection tracked; without, where the store or redis-py does not let us."""
        if not self._lane.pushes:
            return
        started_s = self._clock.monotonic_s()
        if await round_trip(("CLIENT", "TRACKING", "ON")) == [b"OK"]:
            # It has told nothing yet, so nothing that changed before can be missing of it.
            self._have(TrackedConnection(started_s, self._serves_until_s))

    def stop(self) -> None:
        """Let go of a connection that is gone."""
        self._have(None)

    def doubt(self) -> None:
        """Let go of all that the connection told so far; it goes on telling."""
        if self._source is not None:
            self._have(TrackedConnection(-math.inf, self._serves_until_s))

    def may_serve(self, until_s: float) -> None:
        """Note until when what is read on the connection may be served; -inf for no longer."""
        self._serves_until_s = until_s
        if self._source is not None:
            self._source.serves_until_s = until_s

    def take(self, push: list[Any]) -> None:
        """Take a push, where it stands in the stream."""
        match push:
            case [kind, list(cache_keys)] if kind == _INVALIDATE:
                self._feed.invalidated(cache_keys)
            case [kind, None] if kind == _INVALIDATE:  # FLUSHALL, or the store forgot what we read
                self.doubt()
            case _:
                pass  # of something that nobody here asked for

    def ping(self) -> None:
        """Ask for a proof; a lane without room for it is not proven this time."""
        source, sent_s = self._source, self._clock.monotonic_s()
        if source is not None:
            with suppress(StoreUnavailable):
                settled = self._lane.submit(("PING",))
                settled.add_done_callback(partial(_proven, source, sent_s))

    def _have(self, source: TrackedConnection | None) -> None:
        former, self._source = self._source, source
        self._lane.source = source
        if former is not None:
            former.end()
            self._feed.lost(former)


def _proven(source: TrackedConnection, sent_s: float, settled: asyncio.Future[Replies]) -> None:
    if settled.exception() is None and settled.result() == [b"PONG"]:
        source.prove(sent_s)
