"""Claims about `proxy.edge.upstream_bound`, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from proxy.edge.upstream_bound import Bound, LateError
from tests.support.virtual_time import VirtualTimeLoop

TIMEOUT_S = 5.0


class Exchange:
    """A connection that notes when it was told of an error."""

    def __init__(self) -> None:
        self.failed_s: list[float] = []

    def fail(self, error: Exception) -> None:
        """Note it, the first time."""
        assert isinstance(error, LateError)
        if not self.failed_s:
            self.failed_s.append(asyncio.get_running_loop().time())


def run(claim: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a claim on virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(claim())


async def passed(duration_s: float) -> None:
    """Let virtual time pass."""
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    loop.call_later(duration_s, over.set_result, None)
    await over


async def begun(bound: Bound, *after_s: float) -> list[Exchange]:
    """Begin exchanges one after the other."""
    made = []
    for pause_s in after_s:
        await passed(pause_s)
        made.append(Exchange())
        bound.watch(made[-1])
    return made


def test_each_exchange_is_ended_when_its_own_time_is_over() -> None:
    """Not a moment earlier or later, though one timer looks after all of them."""

    async def claim() -> None:
        exchanges = await begun(Bound(TIMEOUT_S), 0.0, 1.0, 0.25, 0.0)
        await passed(20.0)
        assert [each.failed_s for each in exchanges] == [[5.0], [6.0], [6.25], [6.25]]

    run(claim)


def test_what_has_ended_is_left_alone() -> None:
    """Whatever it was that looked after it looks after the others."""

    async def claim() -> None:
        bound = Bound(TIMEOUT_S)
        exchanges = await begun(bound, 0.0, 1.0, 1.0)
        for each in exchanges[:2]:
            bound.forget(each)
        await passed(20.0)
        assert [each.failed_s for each in exchanges] == [[], [], [7.0]]

    run(claim)


def test_the_time_counts_anew_with_each_exchange() -> None:
    """On one connection too; and there is always a timer while there is an exchange."""

    async def claim() -> None:
        bound, exchange = Bound(TIMEOUT_S), Exchange()
        other = Exchange()
        for start_s in (0.0, 3.0, 6.0, 20.0):
            await passed(start_s - asyncio.get_running_loop().time())
            assert bound.watch(exchange) == start_s + TIMEOUT_S
            await passed(2.0)
            bound.forget(exchange)
        bound.watch(exchange)
        bound.watch(other)
        bound.forget(other)
        await passed(TIMEOUT_S)
        assert (exchange.failed_s, other.failed_s) == ([27.0], [])

    run(claim)


def test_a_new_exchange_is_watched_while_a_late_one_has_not_ended_yet() -> None:
    """Who was told of the end may take a while to heed it."""

    async def claim() -> None:
        bound = Bound(TIMEOUT_S)
        (late,) = await begun(bound, 0.0)
        await passed(TIMEOUT_S)
        (other,) = await begun(bound, 1.0)
        bound.forget(late)
        await passed(20.0)
        assert (late.failed_s, other.failed_s) == ([5.0], [11.0])

    run(claim)


@pytest.mark.parametrize("exchanges", [0, 1])
def test_a_closed_bound_ends_nothing(exchanges: int) -> None:
    """Its connections are closed by whoever owns them."""

    async def claim(count: int) -> None:
        bound = Bound(TIMEOUT_S)
        watched = await begun(bound, *[0.0] * count)
        bound.close()
        await passed(20.0)
        assert [each.failed_s for each in watched] == [[]] * count

    run(partial(claim, exchanges))
