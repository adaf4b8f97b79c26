"""The `Clock` port on the running loop's own time, which is virtual in unit tests."""

from __future__ import annotations

import asyncio

from proxy.core.values import TOKEN_BYTES, Token


class VirtualClock:
    """A clock that tests can push; its tokens count up, its chances are what the test says.

    `chance` from 0 to 1 is where `uniform` lies between its limits.
    """

    def __init__(self) -> None:
        self.chance = 0.0
        self._paused_s = 0.0
        self._tokens = 0

    def monotonic_s(self) -> float:
        """Seconds since the loop was made, pauses included."""
        return asyncio.get_running_loop().time() + self._paused_s

    def wall_s(self) -> float:
        """Seconds since an epoch."""
        return 1_700_000_000.0 + self.monotonic_s()

    async def sleep(self, delay_s: float) -> None:
        """Suspend the caller; the loop's time moves on once nothing else can."""
        await asyncio.sleep(delay_s)

    def uniform(self, low: float, high: float) -> float:
        """Return the number at `chance` between the limits."""
        return low + self.chance * (high - low)

    def token(self) -> Token:
        """Return 16 bytes that were never returned before."""
        self._tokens += 1
        return Token(self._tokens.to_bytes(TOKEN_BYTES, "big"))

    def pause(self, for_s: float) -> None:
        """Pass time without letting anybody run, as a stopped process sees it."""
        self._paused_s += for_s
