"""Who asks for one lookup, and waits for what it finds."""

from __future__ import annotations

import asyncio

from proxy.core.hits import Hit
from proxy.flow.store_hits import Answers


class Asked:
    """A `store_hits.Asker`; `told` is what it was told, or raises what a bug raised."""

    def __init__(self) -> None:
        self.told: asyncio.Future[Hit | Answers | None] = asyncio.get_running_loop().create_future()

    def found(self, found: Hit | Answers | None) -> None:
        """Take it; twice is an error."""
        if not self.told.done() or self.told.exception() is None:
            self.told.set_result(found)

    def broke(self, error: Exception) -> None:
        """Take a bug."""
        self.told.set_exception(error)
