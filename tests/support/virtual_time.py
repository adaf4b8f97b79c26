"""An event loop whose time passes only while nothing can happen: no test waits for a clock."""

from __future__ import annotations

import asyncio
import selectors


class VirtualTimeSelector(selectors.SelectSelector):
    """Skip to the next timer instead of waiting for it."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready now; move the time when nothing is."""
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "deadlock: every task waits and no timer is set"
            self.now_s += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop in debug mode that starts at 0 seconds."""

    def __init__(self) -> None:
        self._virtual = VirtualTimeSelector()
        super().__init__(self._virtual)
        self.set_debug(True)

    def time(self) -> float:
        """Seconds of virtual time since the loop was made."""
        return self._virtual.now_s


async def quiesce(turns: int = 50) -> None:
    """Let every task run until it waits for something that only the test can give."""
    for _ in range(turns):
        await asyncio.sleep(0)
