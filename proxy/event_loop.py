"""Chooses the event loop of a process, before anything runs in it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the loop; None for asyncio's own."""
    if sys.platform != "linux":
        return None
    import uvloop  # noqa: PLC0415 - not there on other systems

    return uvloop.new_event_loop
