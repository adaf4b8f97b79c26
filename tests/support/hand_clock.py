"""The real clock, except that heartbeats come when the test says, and time can be skipped."""

from __future__ import annotations

import asyncio

from proxy.edge.clock import SystemClock


class HandClock(SystemClock):
    """A clock for lanes whose heartbeats a test wants to give itself.

    Args:
        heartbeat_s: sleeps of this length last until `beat`.
    """

    def __init__(self, heartbeat_s: float = 1.0) -> None:
        self._heartbeat_s = heartbeat_s
        self._beats = asyncio.Semaphore(0)
        self._skipped_s = 0.0

    def monotonic_s(self) -> float:
        """Seconds, skipped ones included."""
        return super().monotonic_s() + self._skipped_s

    async def sleep(self, delay_s: float) -> None:
        """Suspend the caller, until the next beat if it sleeps for a heartbeat."""
        if delay_s == self._heartbeat_s:
            await self._beats.acquire()
        else:
            await super().sleep(delay_s)

    def beat(self) -> None:
        """Let one heartbeat happen."""
        self._beats.release()

    def skip(self, seconds: float) -> None:
        """Let time pass without anybody noticing."""
        self._skipped_s += seconds
