"""What a fault works with: the world that it breaks, chances, a log, and its time.

Lengths are shorter and longer than leases and markers (`tests/chaos/profiles.py`).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from tests.chaos.world import World

LENGTHS_S: Final = (0.1, 0.7, 2.0, 4.5)
"""Shorter than a lease, longer than one, shorter than a marker, longer than one."""


@dataclass
class Trouble:
    """What a fault works with.

    Args:
        world: what it breaks.
        chances: seeded.
        tell: takes one line for the log.
        over: set when everything is to be mended now.
    """

    world: World
    chances: random.Random
    tell: Callable[[str], None]
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def last(self, for_s: float, *, whole: bool = False) -> None:
        """Wait: the one place where a fault takes its time.

        Args:
            for_s: how long.
            whole: even if the trouble is over before.
        """
        if whole:
            await asyncio.sleep(for_s)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(for_s):
                await self.over.wait()

    def length_s(self) -> float:
        """Draw how long a fault lasts."""
        return self.chances.choice(LENGTHS_S)
