"""Claims of proxy.edge.fast_door, on connections in memory: what is answered at once, and what not.

That both ways give the same is claimed in tests/integration/test_door_differential.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from proxy.core.near_copy import NearHit
from proxy.core.policy import TablePolicy
from proxy.core.request import Answer, ClientRequest
from proxy.core.values import Outcome
from proxy.flow.events import InvariantViolated
from tests.support.data_server import Server
from tests.support.door_requests import BODY, raw_request
from tests.support.memory_peer import MemoryPeer, turns, without_varying

PLAIN = raw_request()
HIT = Answer(200, (), b'{"Item":{}}', Outcome.HIT, crc32=7, ttl_s=9, detail="near")


class Rig:
    """A server whose door holds one answer, and whose handler has the same."""

    def __init__(self, **options: Any) -> None:
        self.asked: list[bytes] = []
        self.handled: list[bytes] = []
        self.answer: Answer | None = HIT
        self.gate = asyncio.Event()
        self.gate.set()
        running = Server(self._handle, answer_now=self._answer_now, **options)
        self.server, self.events = running.data_server, running.events
        self.peer = MemoryPeer(self.server)

    def _answer_now(self, body: bytes) -> NearHit | None:
        self.asked.append(body)
        if self.answer is None:
            return None
        return NearHit(self.answer, TablePolicy(), units=0.5, until_s=0)

    async def _handle(self, request: ClientRequest) -> Answer:
        await self.gate.wait()
        self.handled.append(request.body)
        return HIT


@asynccontextmanager
async def rig(**options: Any) -> AsyncIterator[Rig]:
    """Give a rig with one connection, which waits for a request."""
    made = Rig(**options)
    await turns()
    yield made
    await made.peer.hang_up()


async def test_a_hit_is_answered_before_anything_else_happens() -> None:
    """The answer is out when the bytes are in, and is the handler's to the byte."""
    async with rig() as made:
        at_once = made.peer.send(PLAIN)
        assert made.asked == [BODY]
        assert made.handled == []
        made.answer = None
        later = await made.peer.ask(PLAIN)
        assert made.handled == [BODY]
        assert without_varying(at_once) == without_varying(later)
        assert at_once != later


async def test_what_is_not_at_hand_goes_to_the_handler() -> None:
    """None means: not now; and the next hit is answered at once again."""
    async with rig() as made:
        made.answer = None
        assert made.peer.send(PLAIN) == b""
        await turns()
        made.answer = HIT
        assert made.peer.send(PLAIN) != b""
        assert made.handled == [BODY]


@pytest.mark.parametrize(
    "other",
    [
        raw_request(X_Dynaside_Cache="bypass"),
        raw_request(X_Amz_Target="DynamoDB_20120810.PutItem"),
        raw_request(Authorization=None),
        PLAIN[:-1],
        PLAIN.replace(b"User-Agent", b"User-Agent "),
        PLAIN + PLAIN,
        b"",
    ],
    ids=["field", "operation", "unsigned", "part", "odd", "two", "nothing"],
)
async def test_all_else_is_not_even_asked(other: bytes) -> None:
    """The door does not look at bodies of what it cannot judge."""
    async with rig() as made:
        assert made.peer.send(other) == b""
        assert made.asked == []
        await turns()


async def test_the_door_opens_again_after_requests_in_parts() -> None:
    """Wherever a request was cut, the next one begins where it ended."""
    async with rig() as made:
        for at in (10, len(PLAIN) - len(BODY), len(PLAIN) - 1):
            assert made.peer.send(PLAIN[:at]) == b""
            assert made.peer.send(PLAIN[at:]) == b""
            await turns()
            assert made.peer.send(PLAIN) != b""
        assert len(made.handled) == 3


async def test_two_clients_spell_in_two_ways() -> None:
    """A head of another layout is read anew, and answered by its own Content-Type."""
    async with rig() as made:
        for content_type in ("application/json", "application/x-amz-json-1.0"):
            for _ in range(2):
                answer = made.peer.send(raw_request(Content_Type=content_type))
                assert f"Content-Type: {content_type}\r\n".encode() in answer


async def test_answers_do_not_overtake_each_other() -> None:
    """While a request is in work the next one waits behind it."""
    async with rig() as made:
        made.answer = None
        made.gate.clear()
        made.peer.send(PLAIN)
        await turns()
        made.answer = HIT
        assert made.peer.send(PLAIN) == b""
        made.gate.set()
        await turns()
        assert made.handled == [BODY, BODY]


async def test_a_connection_that_has_not_begun_waits() -> None:
    """Before aiohttp is ready for a first request the door is shut."""
    async with rig(connections_max=2) as made:
        fresh = MemoryPeer(made.server)
        assert fresh.send(PLAIN) == b""
        await turns()
        assert made.handled == [BODY]
        await fresh.hang_up()


async def test_a_full_buffer_shuts_the_door() -> None:
    """A client that does not read its answers is not given more of them at once."""
    async with rig() as made:
        made.peer.connection.pause_writing()
        assert made.peer.send(PLAIN) == b""
        made.peer.connection.resume_writing()
        await turns()
        assert made.peer.send(PLAIN) != b""


async def test_draining_shuts_the_door() -> None:
    """The answer must say that it is the last."""
    async with rig() as made:
        made.server.draining = True
        answer = await made.peer.ask(PLAIN)
        assert b"Connection: close\r\n" in answer
        assert made.asked == []


async def test_a_transport_that_ends_shuts_the_door() -> None:
    """Nothing is counted as answered that nobody can read."""
    async with rig() as made:
        made.peer.transport.closing = True
        made.peer.connection.data_received(PLAIN)
        assert made.asked == []
        made.peer.transport.closing = False


@pytest.mark.parametrize(
    "bound", ["header_bytes_max", "body_bytes_max", "bodies_bytes_max"], ids=str
)
async def test_bounds_are_those_of_the_long_way(bound: str) -> None:
    """What is larger than a bound goes to aiohttp, which refuses it."""
    large = {"header_bytes_max": len(PLAIN) - len(BODY), "body_bytes_max": len(BODY)}
    exact = large.get(bound, len(BODY))
    async with rig(**{bound: exact}) as made:
        assert made.peer.send(PLAIN) != b""
    async with rig(**{bound: exact - 1}) as made:
        assert made.peer.send(PLAIN) == b""
        await turns()
        assert made.asked == []


async def test_a_bug_is_told_and_the_request_answered_all_the_same() -> None:
    """Whatever the door stumbles over, the long way may still answer."""
    async with rig() as made:
        made.answer = HIT._replace(crc32=None)
        answer = await made.peer.ask(PLAIN)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert made.handled == [BODY]
        (event,) = made.events
        assert isinstance(event, InvariantViolated)
        assert "AssertionError: http_answer.py:_fields_of:" in event.where


async def test_callers_may_be_looked_at_first() -> None:
    """Where a hook decides who may enter, it sees each head; whom it refuses goes the long way."""
    async with rig() as made:
        heads: list[bytes] = []
        door = made.peer.connection._door

        def admits(head: bytes) -> bool:
            heads.append(head)
            return len(heads) > 1

        made.peer.connection._door = replace(door, admits=admits)
        assert made.peer.send(PLAIN) == b""
        await turns()
        assert made.peer.send(PLAIN) != b""
        assert heads == [PLAIN[: -len(BODY)]] * 2


async def test_aiohttps_counts_and_timer_go_on() -> None:
    """A hit counts as a request, and keeps its connection from being idle."""
    async with rig() as made:
        connection = made.peer.connection
        before = connection._next_keepalive_close_time = -1.0
        made.peer.send(PLAIN)
        assert connection._next_keepalive_close_time > before
        assert (connection._request_count, made.server.requests_count) == (1, 1)
