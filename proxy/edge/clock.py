"""Performs time and randomness; everything else gets them from here."""

from __future__ import annotations

import asyncio
import os
import random
import time

from proxy.core.values import TOKEN_BYTES, Token


class SystemClock:
    """The real clock, implementing `proxy.flow.ports.Clock`."""

    monotonic_s = staticmethod(time.monotonic)
    """Seconds on a clock that never goes back; it also runs while the process is stopped."""

    def wall_s(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    async def sleep(self, delay_s: float) -> None:
        """Suspend the caller for `delay_s` seconds."""
        await asyncio.sleep(delay_s)

    def uniform(self, low: float, high: float) -> float:
        """Return a random number between `low` and `high`."""
        return random.uniform(low, high)  # noqa: S311 - jitter, not a secret

    def token(self) -> Token:
        """Return 16 random bytes that no other writer or reader will ever have."""
        return Token(os.urandom(TOKEN_BYTES))
