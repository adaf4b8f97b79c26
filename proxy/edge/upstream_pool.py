"""Keeps connections to upstream: how many, who gets which, for how long.

A *slot* is the right to one connection: from before it is opened until it has gone, so that there
are never more than `connections_max`, those being opened and closed included. Who finds no slot
waits in line. No `await` lies between looking at the pool and changing it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from proxy.edge.upstream_connection import UpstreamConnection
from proxy.edge.upstream_dialer import Dialer, Origin

CLOSE_S: Final = 2.0  # aborted connections go with the loop's next turns; a bound in case not

_Idle = tuple[UpstreamConnection, float]  # and since when
_Waiting = tuple[Origin, asyncio.Future[UpstreamConnection | None]]


class UpstreamPool:
    """Give connections and take them back.

    Args:
        dialer: opens them.
        connections_max: open ones, to all origins together.
        idle_s: how long an unused one is kept.
    """

    def __init__(self, dialer: Dialer, *, connections_max: int, idle_s: float) -> None:
        self._dialer = dialer
        self._connections_max = connections_max
        self._idle_s = idle_s
        self._loop = asyncio.get_running_loop()
        self._slots = 0
        self._open: dict[UpstreamConnection, Origin] = {}
        # Latest last: the most recently used is taken first, so that a surplus gets old.
        self._idle: defaultdict[Origin, deque[tuple[UpstreamConnection, float]]] = defaultdict(
            deque
        )
        self._waiting: deque[tuple[Origin, asyncio.Future[UpstreamConnection | None]]] = deque()
        self._sweeping: asyncio.TimerHandle | None = None
        self._closed = False
        self._emptied = asyncio.Event()

    def take(self, origin: Origin) -> UpstreamConnection | None:
        """Give an idle connection, None where there is none."""
        idle = self._idle[origin]
        while idle:
            connection, since_s = idle.pop()
            if self._loop.time() - since_s < self._idle_s and connection.quiet:
                return connection
            connection.abort()
        return None

    async def open(self, origin: Origin, *, queued: Callable[[bool], None]) -> UpstreamConnection:
        """Give a new connection, or one that another exchange gave back, when there is a slot.

        Args:
            origin: to whom.
            queued: told True when the wait for a slot begins, and False when it has ended.

        Raises:
            OSError: there is none; nothing was sent.
        """
        if self._closed:
            raise ConnectionAbortedError("the pool is closed")
        if self._slots < self._connections_max:
            self._slots += 1
            return await self._dialed(origin)
        self._make_room(origin)
        queued(True)
        given = await self._waited(origin)
        queued(False)
        return given if given is not None else await self._dialed(origin)

    def give_back(self, connection: UpstreamConnection) -> None:
        """Take a connection after an exchange; a lost one has given its slot back by itself."""
        if not connection.open:
            return
        origin = self._open[connection]
        if connection.exchanges == 1:
            self._dialer.remember(connection, origin)
        waiting = self._first_waiting()
        if waiting is None:
            self._keep(connection, origin)
        elif waiting[0] == origin:
            self._waiting.popleft()
            waiting[1].set_result(connection)
        else:
            connection.abort()  # its slot goes to whoever waits

    async def close(self) -> None:
        """End every connection and every wait."""
        self._closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        while (waiting := self._first_waiting()) is not None:
            self._waiting.popleft()
            waiting[1].set_exception(ConnectionAbortedError("the pool is closed"))
        await self._dialer.close()
        for connection in self._open:
            connection.abort()
        if self._open:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), CLOSE_S)

    async def _dialed(self, origin: Origin) -> UpstreamConnection:
        """Open a connection in a slot of the caller's; it gives the slot back when it has gone."""
        try:
            connection = await self._dialer.dial(origin)
        except BaseException:
            self._free_slot()
            raise
        self._open[connection] = origin
        connection.adopt(self._lost)
        if self._closed or not connection.open:
            connection.abort()
            raise ConnectionAbortedError("gone again before it was of use")
        return connection

    async def _waited(self, origin: Origin) -> UpstreamConnection | None:
        """Wait in line; return a connection, or None for a slot to open one in."""
        while True:
            waiter: asyncio.Future[UpstreamConnection | None] = self._loop.create_future()
            self._waiting.append((origin, waiter))
            try:
                given = await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._decline(waiter.result())  # given just as its caller went away
                raise
            if given is None or given.quiet:
                return given
            given.abort()

    def _decline(self, given: UpstreamConnection | None) -> None:
        if given is None:
            self._free_slot()
        else:
            self.give_back(given)

    def _first_waiting(self) -> _Waiting | None:
        while self._waiting:
            if not self._waiting[0][1].done():
                return self._waiting[0]
            self._waiting.popleft()  # its caller went away
        return None

    def _make_room(self, origin: Origin) -> None:
        """End the longest idle connection to another origin; its slot goes to who waits."""
        others = [idle for other, idle in self._idle.items() if other != origin and idle]
        if others:
            min(others, key=lambda idle: idle[0][1]).popleft()[0].abort()

    def _keep(self, connection: UpstreamConnection, origin: Origin) -> None:
        self._idle[origin].append((connection, self._loop.time()))
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(self._idle_s, self._sweep)

    def _sweep(self) -> None:
        """End what has been idle for too long, and come again when the next one is."""
        now_s = self._loop.time()
        for idle in self._idle.values():
            while idle and now_s - idle[0][1] >= self._idle_s:
                idle.popleft()[0].abort()
        since_s = min((idle[0][1] for idle in self._idle.values() if idle), default=None)
        self._sweeping = None
        if since_s is not None:
            self._sweeping = self._loop.call_at(since_s + self._idle_s, self._sweep)

    def _lost(self, connection: UpstreamConnection) -> None:
        origin = self._open.pop(connection)
        idle = self._idle[origin]
        self._idle[origin] = deque(each for each in idle if each[0] is not connection)
        if self._closed and not self._open:
            self._emptied.set()
        self._free_slot()

    def _free_slot(self) -> None:
        waiting = self._first_waiting()
        if waiting is None:
            self._slots -= 1
        else:
            self._waiting.popleft()
            waiting[1].set_result(None)
