"""Explores several scenarios on all processors and puts together what was called in them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import TypeVar

from tests.fakes.memory_scripts import Stored
from tests.model.steps import Call, Done, Specification

S = TypeVar("S")
Explore = Callable[[S, Specification], list[str] | None]
"""Takes every step of one scenario in every order; returns the shortest failing run, if any."""
Performed = dict[tuple[Stored | None, Call], Done]


def explore_all(explore: Explore[S], scenarios: Sequence[S], now_ms: int) -> Specification:
    """Return a specification that has performed every call of every scenario.

    Args:
        explore: a function of a module: other processes import it.
        scenarios: the longest should not come last.
        now_ms: where the store's clock stands still.

    Raises:
        AssertionError: a scenario breaks the promise; says which and how.
    """
    whole = Specification(now_ms)
    # From a process of its own: pytest's workers have threads, and Python objects to forking those.
    fresh = get_context("forkserver")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=fresh) as pool:
        explored = pool.map(partial(_explore_one, explore, now_ms=now_ms), scenarios)
        for scenario, (performed, failing_run) in zip(scenarios, explored, strict=True):
            assert failing_run is None, "\n".join([str(scenario), *failing_run])
            whole.performed |= performed
    return whole


def _explore_one(
    explore: Explore[S], scenario: S, *, now_ms: int
) -> tuple[Performed, list[str] | None]:
    specification = Specification(now_ms)
    failing_run = explore(scenario, specification)
    return specification.performed, failing_run
