"""One connection at work: order, pushes, silence, bounds and the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import InvalidResponse

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.edge.redis_command import Command
from proxy.edge.redis_pipeline import IN_FLIGHT_MAX, Pipeline
from proxy.edge.redis_submission import Awaited
from tests.support.virtual_time import VirtualTimeLoop

TIMEOUT_S = 0.2
PRIMARY_CHANGED = StoreUnavailable(StoreFailure.CLOSED, "the store's primary changed")
PUSH = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n"


class Connection:
    """A pipeline whose other side is the test; `told` has what it told, in order."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.written: list[bytes] = []
        self.pipeline = Pipeline(
            timeout_s=TIMEOUT_S,
            room=lambda: self.told.append("room"),
            pushed=self.told.append,
            ended=lambda problem: self.told.append(problem.failure),
        )
        self.pipeline.wire = self

    def write(self, data: bytes, /) -> None:
        self.written.append(data)

    def close(self) -> None:
        """Nothing holds this side."""

    def send(self, *words: str) -> asyncio.Future[list[Any]]:
        """Send one command per word, as one caller."""
        commands: tuple[Command, ...] = tuple((word,) for word in words)
        submission = Awaited(commands, asyncio.get_running_loop().create_future())
        self.pipeline.send([submission])
        return submission.settled


def in_virtual_time(scenario: Callable[[], Any]) -> Any:
    """Run a scenario whose time-outs cost nothing."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(scenario())


async def failure_of(settled: asyncio.Future[list[Any]]) -> tuple[StoreFailure, str]:
    """Wait for a failure; return its kind and its text."""
    with pytest.raises(StoreUnavailable) as failed:
        await settled
    return failed.value.failure, str(failed.value)


async def test_replies_find_their_callers_in_order_however_they_are_cut() -> None:
    """Two callers, three commands; the bytes come one by one."""
    connection = Connection()
    first, second = connection.send("A", "B"), connection.send("C")
    assert connection.written[0] == b"*1\r\n$1\r\nA\r\n*1\r\n$1\r\nB\r\n"
    for byte in b"$1\r\n1\r\n-ERR no\r\n_\r\n":
        connection.pipeline.data_received(bytes([byte]))
    one, error = first.result()
    assert (one, str(error)) == (b"1", "ERR no")
    assert second.result() == [None]


async def test_a_push_is_told_where_it_stands_in_the_stream() -> None:
    """Before the reply behind it is given to anybody, after the reply before it was."""
    connection = Connection()
    seen: list[tuple[bool, bool]] = []
    connection.pipeline = Pipeline(
        timeout_s=TIMEOUT_S,
        room=lambda: None,
        pushed=lambda _: seen.append((first.done(), second.done())),
        ended=lambda _: None,
    )
    connection.pipeline.wire = connection
    first, second = connection.send("A"), connection.send("B")
    connection.pipeline.data_received(b"+a\r\n" + PUSH + b"+b\r\n")
    assert seen == [(True, False)]
    assert second.result() == [b"b"]


async def test_a_reply_that_nobody_waits_for_ends_the_connection() -> None:
    """Whatever comes next could be anybody's: everybody fails, and what comes later is dropped."""
    connection = Connection()
    settled = connection.send("A")
    connection.pipeline.data_received(b"+a\r\n+whose?\r\n")
    assert settled.result() == [b"a"]
    assert connection.told == [StoreFailure.RESET, "room"]
    connection.pipeline.data_received(b"+late\r\n")
    connection.pipeline.take(b"late")
    connection.pipeline.connection_lost(None)
    assert connection.told == [StoreFailure.RESET, "room"]
    assert connection.pipeline.room == 0


async def test_bytes_that_are_no_protocol_end_the_connection() -> None:
    """The one who waits is told that it broke."""
    connection = Connection()
    settled = connection.send("A")
    connection.pipeline.data_received(b"HTTP/1.1 400 Bad Request\r\n")
    failure, why = await failure_of(settled)
    assert failure is StoreFailure.RESET
    assert why.startswith("the store's connection broke")


async def test_replies_that_somebody_else_has_read_count_alike() -> None:
    """One that nobody waits for is refused, so that the reader ends the connection."""
    connection = Connection()
    settled, given_up = connection.send("A"), connection.send("B")
    given_up.cancel()
    for reply in (b"a", b"b"):
        connection.pipeline.take(reply)
    assert settled.result() == [b"a"]
    with pytest.raises(InvalidResponse):
        connection.pipeline.take(b"whose?")
    assert connection.told == ["room", "room"]


async def test_room_is_bounded_and_comes_back() -> None:
    """By what is in flight, and by a socket that takes nothing."""
    connection = Connection()
    pipeline = connection.pipeline
    settled = connection.send("A", "B")
    assert pipeline.room == IN_FLIGHT_MAX - 2
    pipeline.pause_writing()
    assert pipeline.room == 0
    pipeline.resume_writing()
    pipeline.data_received(b"+a\r\n+b\r\n")
    assert (pipeline.room, settled.done()) == (IN_FLIGHT_MAX, True)
    assert connection.told == ["room", "room"]


async def test_who_leaves_waits_for_what_is_in_flight() -> None:
    """Nothing more is sent; the end comes with the last reply, at once where none is awaited."""
    busy, idle = Connection(), Connection()
    settled = busy.send("A")
    for each in (busy, idle):
        each.pipeline.leave(PRIMARY_CHANGED)
        assert (each.pipeline.room, each.told) == (0, [])
    await asyncio.sleep(0)
    assert (busy.told, idle.told) == ([], [StoreFailure.CLOSED])
    busy.pipeline.data_received(b"+a\r\n")
    assert settled.result() == [b"a"]
    assert busy.told == [StoreFailure.CLOSED, "room"]


async def test_the_end_is_told_before_whoever_waits_is() -> None:
    """So that nobody who is told to try again finds the lane still up; and it is told once."""
    connection = Connection()
    first, given_up = connection.send("A"), connection.send("B")
    given_up.cancel()
    connection.pipeline.end(PRIMARY_CHANGED)
    connection.pipeline.end(PRIMARY_CHANGED)
    assert connection.told == [StoreFailure.CLOSED]
    assert await failure_of(first) == (StoreFailure.CLOSED, str(PRIMARY_CHANGED))


def test_a_silent_store_is_given_up() -> None:
    """One time-out, one turn; also where an earlier command has left its timer behind."""

    async def scenario() -> float:
        connection, loop = Connection(), asyncio.get_running_loop()
        early = connection.send("A")
        loop.call_later(0.5 * TIMEOUT_S, connection.pipeline.data_received, b"+a\r\n")
        await early
        silent = connection.send("B")
        assert await failure_of(silent) == (StoreFailure.TIMEOUT, "the store is silent")
        return loop.time()

    assert 1.5 * TIMEOUT_S <= in_virtual_time(scenario) < 1.8 * TIMEOUT_S


def test_an_idle_connection_is_not_silent() -> None:
    """Where nothing is awaited nothing has to come, and a new command finds a whole time-out."""

    async def scenario() -> None:
        connection, loop = Connection(), asyncio.get_running_loop()
        for _ in range(2):
            settled = connection.send("A")
            loop.call_later(0.9 * TIMEOUT_S, connection.pipeline.data_received, b"+a\r\n")
            await settled
            later: asyncio.Future[None] = loop.create_future()
            loop.call_later(10 * TIMEOUT_S, later.set_result, None)
            await later
        assert StoreFailure.TIMEOUT not in connection.told

    in_virtual_time(scenario)


def test_a_batch_may_take_longer_than_one_time_out_while_replies_come() -> None:
    """The bound is on silence: parts of one large reply are enough."""

    async def scenario() -> None:
        connection, loop = Connection(), asyncio.get_running_loop()
        settled = connection.send("A")
        connection.pipeline.data_received(b"$5\r\n")
        for step in range(5):
            loop.call_later(0.8 * step * TIMEOUT_S, connection.pipeline.data_received, b"x")
        loop.call_later(4 * TIMEOUT_S, connection.pipeline.data_received, b"\r\n")
        assert await settled == [b"xxxxx"]

    in_virtual_time(scenario)


def test_another_time_out_holds_from_the_next_command_on() -> None:
    """A greeting may take longer than what comes after it, and leaves no timer of its own."""

    async def scenario() -> float:
        connection, loop = Connection(), asyncio.get_running_loop()
        connection.pipeline.wait_at_most(100 * TIMEOUT_S)
        greeting = connection.send("A")
        connection.pipeline.data_received(b"+a\r\n")
        await greeting
        connection.pipeline.wait_at_most(TIMEOUT_S)
        await failure_of(connection.send("B"))
        return loop.time()

    assert in_virtual_time(scenario) < 2 * TIMEOUT_S
