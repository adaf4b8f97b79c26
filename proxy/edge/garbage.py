"""Decides when Python looks for unreachable cycles: hardly ever, and never at a load's expense.

Reference counts free what a request made: no way through the proxy leaves a cycle behind, but
malformed HTTP (`tests/integration/test_garbage.py`). The collector does not know that. By itself it
looks at everything again whenever a quarter of it is new, and with caches full of copies and plans
that takes a tenth of a second to two, in which nobody is answered. So:

1. What is there at the start stays, and is left out of every look.
2. Young objects are looked at once, in portions; who survives is not looked at again.
3. Everything is looked at when the process has grown by more than its copies explain. So garbage,
   should there be some after all, takes GROWN_BYTES at most, and a share of the near cache.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from proxy.edge.log import logger

YOUNG_MAX: Final = 10_000
"""Objects made and not freed until the young ones are looked at.

A request makes some 500 that live as long as it does; so many take 1 to 5 ms to be looked at.
"""
NEVER: Final = 2**31 - 1
GROWN_BYTES: Final = 64 * 1024 * 1024
COPIES_SHARE: Final = 1.15
"""What copies take of a process, by what they are charged."""
LOOK_S: Final = 5.0

_STATM: Final = Path("/proc/self/statm")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int | None:
    """Return what this process has in memory, or None where the system does not tell."""
    try:
        return int(_STATM.read_bytes().split()[1]) * _PAGE_BYTES
    except OSError:
        return None


class Garbage:
    """The search for cycles in this process, from `sought_rarely` on.

    Args:
        copies_bytes: what the near cache's copies are charged now.
        resident: what the process has in memory; where that is None the search stays Python's.
    """

    def __init__(
        self,
        copies_bytes: Callable[[], int],
        resident: Callable[[], int | None] = resident_bytes,
    ) -> None:
        self._copies_bytes = copies_bytes
        self._resident = resident
        self._known_bytes: int | None = None

    @contextmanager
    def sought_rarely(self) -> Iterator[None]:
        """Look for cycles by the rules above; what was made until now is left out."""
        if self._unexplained() is None:
            yield
            return
        before = gc.get_threshold()
        gc.freeze()  # with the garbage of the imports, 2,000 objects: a look takes 40 ms
        gc.set_threshold(YOUNG_MAX, NEVER, NEVER)
        self._known_bytes = self._unexplained()
        try:
            yield
        finally:
            self._known_bytes = None
            gc.set_threshold(*before)
            gc.unfreeze()

    async def watch(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Look at the process's size for ever, and at everything in it when that is due."""
        while True:
            await sleep(LOOK_S)
            self.look()

    def look(self) -> bool:
        """Look at everything if the process has grown for no reason; tell whether it was so."""
        now_bytes = self._unexplained()
        if now_bytes is None or self._known_bytes is None:
            return False
        if now_bytes < self._known_bytes + GROWN_BYTES:
            return False
        began_s = time.perf_counter()
        found = gc.collect()
        took_ms = round(1000 * (time.perf_counter() - began_s))
        self._known_bytes = self._unexplained()
        logger("dynaside").info("looked for garbage", objects=found, took_ms=took_ms)
        return True

    def _unexplained(self) -> int | None:
        resident = self._resident()
        return None if resident is None else resident - int(COPIES_SHARE * self._copies_bytes())
