"""Ends exchanges that take too long: one timer for all that have the same bound.

A timer and a scope for each exchange would cost as much as its signature. Exchanges of one bound
run out in the order in which they began, so the first one tells when to look again.
"""

from __future__ import annotations

import asyncio
from typing import Protocol


class LateError(Exception):
    """The time for an exchange is over."""


class Exchanging(Protocol):
    """A connection with a request on its way."""

    def fail(self, error: Exception) -> None:
        """Tell who waits for the reply of an error; nothing where it has come by now."""
        ...


class Bound:
    """The bound of some exchanges.

    Args:
        timeout_s: how long each may take.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._until_s: dict[Exchanging, float] = {}  # in the order in which they run out
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, connection: Exchanging) -> float:
        """Fail its exchange with LateError when the time is over; return when, on the loop's clock.

        Whoever calls this calls `forget` when the exchange has ended.
        """
        until_s = self._until_s[connection] = self._loop.time() + self._timeout_s
        if self._timer is None:
            self._timer = self._loop.call_at(until_s, self._look)
        return until_s

    def forget(self, connection: Exchanging) -> None:
        """Take note that the exchange has ended, in whichever way."""
        del self._until_s[connection]

    def close(self) -> None:
        """End no more exchanges."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        now_s = self._loop.time()
        for connection, until_s in self._until_s.items():
            if until_s > now_s:
                self._timer = self._loop.call_at(until_s, self._look)
                return
            connection.fail(LateError())
