"""Claims of proxy.edge.redis_submission: whoever waits is told once, and may have given up."""

from __future__ import annotations

import asyncio

import pytest

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.edge.redis_command import Replies
from proxy.edge.redis_submission import Awaited, Submission

PROBLEM = StoreUnavailable(StoreFailure.RESET, "gone")


def awaited() -> tuple[Awaited, asyncio.Future[Replies]]:
    """Return two commands, and what their caller waits for."""
    settled: asyncio.Future[Replies] = asyncio.get_running_loop().create_future()
    return Awaited((("PING",), ("GET", b"a")), settled), settled


async def test_commands_go_out_as_one_piece() -> None:
    """In the protocol's own form."""
    made, _ = awaited()
    assert made.packed == b"*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n"
    assert (made.count, made.given_up) == (2, False)


async def test_the_caller_gets_the_replies() -> None:
    """All of them."""
    made, settled = awaited()
    made.replies += [b"PONG", None]
    made.settle()
    assert await settled == [b"PONG", None]


async def test_the_caller_gets_a_failure_of_its_own() -> None:
    """Exceptions collect tracebacks."""
    made, settled = awaited()
    made.fail(PROBLEM)
    with pytest.raises(StoreUnavailable) as failed:
        await settled
    assert (failed.value.failure, str(failed.value)) == (PROBLEM.failure, str(PROBLEM))
    assert failed.value is not PROBLEM


async def test_a_caller_that_gave_up_is_told_nothing() -> None:
    """Neither way."""
    made, settled = awaited()
    settled.cancel()
    assert made.given_up
    made.settle()
    made.fail(PROBLEM)
    assert settled.cancelled()


async def test_others_need_not_be_asked_whether_they_wait() -> None:
    """What has no caller to cancel always does."""

    class Plain(Submission):
        def settle(self) -> None:
            """Nobody is told."""

        def fail(self, problem: StoreUnavailable) -> None:
            """Nobody is told."""

    assert not Plain(b"", 1).given_up
