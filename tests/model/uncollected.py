"""Stops the search for cycles while a model is explored."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Look for no cycles; also for a whole function, as a decorator.

    A model's states are tuples, hundreds of thousands and all alive, and none is part of a cycle:
    looking took a third of the time.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()
