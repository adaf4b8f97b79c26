"""The real clock."""

from __future__ import annotations

import time

from proxy.core.values import TOKEN_BYTES
from proxy.edge.clock import SystemClock


def test_clocks_are_the_machines() -> None:
    """Monotonic and wall time are what the machine says."""
    clock = SystemClock()
    assert time.monotonic() <= clock.monotonic_s() <= time.monotonic()
    assert time.time() <= clock.wall_s() <= time.time() + 1


async def test_sleep_suspends_at_least_that_long() -> None:
    """A sleep ends no earlier than asked for."""
    clock = SystemClock()
    before_s = clock.monotonic_s()
    await clock.sleep(0.01)
    assert clock.monotonic_s() - before_s >= 0.009


def test_uniform_stays_between_its_limits() -> None:
    """Chances lie between the limits, and are not always the same."""
    chances = {SystemClock().uniform(2.0, 3.0) for _ in range(100)}
    assert len(chances) > 1
    assert all(2.0 <= chance <= 3.0 for chance in chances)


def test_tokens_do_not_repeat() -> None:
    """Each token is 16 bytes nobody had before."""
    tokens = {SystemClock().token() for _ in range(1000)}
    assert len(tokens) == 1000
    assert {len(token) for token in tokens} == {TOKEN_BYTES}
