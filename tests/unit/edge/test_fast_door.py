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

from proxy.core.hits import Hit
from proxy.core.request import Answer, ClientRequest
from proxy.edge.http_connection import Connection
from proxy.flow.events import InvariantViolated
from proxy.flow.store_hits import Asker
from tests.support.data_server import Server
from tests.support.door_requests import BODY, raw_request
from tests.support.hits import hit_of
from tests.support.memory_peer import MemoryPeer, turns, without_varying

PLAIN = raw_request()
PUT = raw_request(X_Amz_Target="DynamoDB_20120810.PutItem")
BYPASS = raw_request(X_Dynaside_Cache="bypass")
HIT = hit_of().answer


class Rig:
    """A server whose door holds one answer, and whose handler has the same."""

    def __init__(self, **options: Any) -> None:
        self.asked: list[bytes] = []
        self.handled: list[bytes] = []
        self.answer: Hit | None = hit_of()
        self.handlers_answer = HIT
        self.gate = asyncio.Event()
        self.gate.set()
        running = Server(self._handle, answer_now=self._answer_now, **options)
        self.server, self.events = running.data_server, running.events
        self.peer = MemoryPeer(self.server)

    def _answer_now(self, body: bytes) -> Hit | None:
        self.asked.append(body)
        return self.answer

    async def _handle(self, request: ClientRequest) -> Answer:
        await self.gate.wait()
        self.handled.append(request.body)
        return self.handlers_answer


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
        made.answer = hit_of()
        assert made.peer.send(PLAIN) != b""
        assert made.handled == [BODY]


@pytest.mark.parametrize(
    "other",
    [
        BYPASS,
        PUT,
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


async def test_a_connection_that_has_not_begun_waits_a_turn() -> None:
    """Until aiohttp is ready for a first request; what comes meanwhile is held."""
    async with rig(connections_max=2) as made:
        fresh = MemoryPeer(made.server)
        assert fresh.send(PLAIN) == b""
        assert not fresh.transport.reading
        await turns()
        assert (made.asked, made.handled) == ([BODY], [])
        assert fresh.received.endswith(HIT.body)
        assert fresh.transport.reading
        await fresh.hang_up()


async def test_what_aiohttp_is_not_ready_for_after_a_turn_it_has() -> None:
    """The door does not wait for ever."""
    async with rig() as made:
        connection = made.peer.connection
        waiter, connection._waiter = connection._waiter, None
        assert made.peer.send(PLAIN) == b""
        await asyncio.sleep(0)
        assert (made.asked, len(connection._messages)) == ([], 1)
        connection._waiter = waiter
        waiter.set_result(None)
        await turns()
        assert made.handled == [BODY]


async def test_a_connection_that_ends_while_it_waits_a_turn_is_left() -> None:
    """Nothing is answered on it."""
    async with rig(connections_max=2) as made:
        fresh = MemoryPeer(made.server)
        fresh.send(PLAIN)
        fresh.connection.force_close()
        await turns()
        assert (made.asked, fresh.received) == ([], b"")


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
        made.answer = hit_of()
        made.answer.crc32 = None  # type: ignore[assignment]
        answer = await made.peer.ask(PLAIN)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert made.handled == [BODY]
        (event,) = made.events
        assert isinstance(event, InvariantViolated)
        assert "TypeError: http_answer.py:hit:" in event.where


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


# --- requests that wait for something ------------------------------------------------------


@asynccontextmanager
async def in_work(data: bytes = PUT, **options: Any) -> AsyncIterator[Rig]:
    """Give a rig whose handler has a request, and waits."""
    async with rig(**options) as made:
        made.gate.clear()
        made.answer = None
        assert made.peer.send(data) == b""
        await turns()
        assert made.server.in_flight == 1
        yield made
        made.gate.set()
        await turns()
        assert (made.server.in_flight, made.server.bodies.used) == (0, 0)


@pytest.mark.parametrize("data", [PLAIN, PUT, BYPASS], ids=["get", "put", "field"])
async def test_an_ordinary_request_is_served_past_aiohttp(
    monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    """Whatever it asks; and aiohttp, which never saw it, would have answered the same."""
    async with rig() as made:
        made.answer = None
        seen: list[bytes] = []
        received = Connection.data_received

        def note(connection: Any, piece: bytes) -> None:
            seen.append(piece)
            received(connection, piece)

        monkeypatch.setattr(Connection, "data_received", note)
        short = await made.peer.ask(data)
        assert seen == []
        long = await made.peer.ask(data[:50]) + await made.peer.ask(data[50:])
        assert b"".join(seen) == data
        assert without_varying(short) == without_varying(long)
        assert made.handled == [BODY, BODY]


async def test_what_comes_meanwhile_is_held() -> None:
    """One read at most: the transport is paused until the answer is out."""
    async with in_work() as made:
        made.answer = hit_of()
        for piece in (PLAIN, PUT[:30], PUT[30:]):
            assert made.peer.send(piece) == b""
            assert not made.peer.transport.reading
        assert made.handled == []
        made.answer = None
        made.gate.set()
        await turns()
        assert made.handled == [BODY, BODY, BODY]
        assert made.peer.transport.reading
        made.answer = hit_of()
        assert made.peer.send(PLAIN) != b""


async def test_answers_do_not_overtake_each_other() -> None:
    """One at hand waits for the one before, and is taken as if it came only then."""
    async with in_work() as made:
        made.answer = hit_of()
        made.handlers_answer = HIT._replace(body=b"first")
        assert made.peer.send(PLAIN) == b""
        made.gate.set()
        await turns()
        assert (made.asked, made.handled) == ([BODY], [BODY])
        first, _, second = made.peer.transport.written.partition(b"first")
        assert first.startswith(b"HTTP/1.1 200 OK")
        assert second.endswith(HIT.body)


async def test_a_client_that_hangs_up_ends_nothing_half_way() -> None:
    """The handler goes on: it may be writing."""
    async with in_work() as made:
        await made.peer.hang_up()
        assert made.handled == []
        made.gate.set()
        await turns()
        assert made.handled == [BODY]
        assert made.peer.transport.written == b""


async def test_what_comes_after_the_end_is_for_nobody() -> None:
    """Nothing is kept for a connection that was closed."""
    async with in_work() as made:
        made.peer.connection.force_close()
        made.peer.connection.data_received(PLAIN)
        made.gate.set()
        await turns()
        assert made.handled == [BODY]


async def test_a_drain_that_begins_meanwhile_makes_it_the_last_answer() -> None:
    """It says so, and what came after it is left to another connection."""
    async with in_work() as made:
        made.peer.send(PLAIN)
        made.server.draining = True
        made.gate.set()
        await turns()
        assert made.peer.transport.written.count(b"Connection: close\r\n") == 1
        assert made.peer.transport.closing
        assert made.handled == [BODY]


async def test_a_close_that_begins_meanwhile_waits_for_the_answer() -> None:
    """`close` means: no further request."""
    async with in_work() as made:
        made.peer.connection.close()
        made.peer.send(PLAIN)
        made.gate.set()
        await turns()
        assert made.peer.transport.written.count(b"HTTP/1.1 200 OK") == 1
        assert made.peer.transport.closing


async def test_a_shutdown_waits_for_the_answer() -> None:
    """Up to its time; the request after it is not begun."""
    async with in_work() as made:
        ending = asyncio.create_task(made.peer.connection.shutdown(60))
        await turns()
        made.peer.send(PLAIN)
        assert not ending.done()
        made.gate.set()
        await ending
        assert made.handled == [BODY]
        assert made.peer.transport.written.count(b"HTTP/1.1 200 OK") == 1
        assert made.peer.transport.closing


async def test_a_shutdown_ends_what_takes_too_long() -> None:
    """What it held is given back."""
    async with in_work() as made:
        await made.peer.connection.shutdown(0)
        await turns()
        assert (made.server.in_flight, made.server.bodies.used) == (0, 0)
        assert (made.peer.transport.closing, made.peer.transport.written) == (True, b"")


async def test_a_shutdown_of_an_idle_connection_closes_it() -> None:
    """At once."""
    async with rig() as made:
        made.peer.connection.close()
        await made.peer.connection.shutdown(60)
        assert made.peer.transport.closing


async def test_a_slow_client_gets_its_answers_one_by_one() -> None:
    """Its next request is begun when it has taken the answer before."""
    async with in_work() as made:
        made.peer.connection.pause_writing()
        made.peer.send(PLAIN)
        made.gate.set()
        await turns()
        assert made.handled == [BODY]
        made.peer.connection.resume_writing()
        await turns()
        assert made.handled == [BODY, BODY]


async def test_a_slow_client_may_go_away() -> None:
    """Then nobody waits for it."""
    async with in_work() as made:
        made.peer.connection.pause_writing()
        made.gate.set()
        await turns()
        await made.peer.hang_up()
        assert made.peer.connection._work is None


async def test_a_slow_client_may_be_gone_already() -> None:
    """The answer is for nobody then."""
    async with in_work() as made:
        made.peer.connection.pause_writing()
        await made.peer.hang_up()
        made.gate.set()
        await turns()
        assert made.peer.connection._work is None


async def test_a_connection_in_work_is_not_idle() -> None:
    """However long the answer takes; the idle time counts from then on."""
    async with in_work() as made:
        connection = made.peer.connection
        connection._next_keepalive_close_time = -1.0
        connection._process_keepalive()
        assert not made.peer.transport.closing
        made.gate.set()
        await turns()
        connection._next_keepalive_close_time = -1.0
        connection._process_keepalive()
        assert made.peer.transport.closing


async def test_bodies_in_work_count() -> None:
    """What one holds another cannot have: it is refused by the way that reads bodies."""
    async with in_work(bodies_bytes_max=len(BODY)) as made:
        assert made.server.bodies.used == len(BODY)
        other = MemoryPeer(made.server)
        await turns()
        answer = await other.ask(PUT)
        assert b"http.bodies_bytes_max" in answer
        await other.hang_up()


async def test_an_answer_that_cannot_be_sent_is_an_error_and_told() -> None:
    """A bug of ours costs one request."""
    async with rig() as made:
        made.handlers_answer = HIT._replace(headers=(("X", "a\r\nb"),))
        answer = await made.peer.ask(PUT)
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert isinstance(made.events[0], InvariantViolated)


# --- requests that one lookup may answer ---------------------------------------------------


class Looking(Rig):
    """A rig whose store has an answer, or who goes on from what it saw."""

    def __init__(self, **options: Any) -> None:
        self.looked: list[bytes] = []
        self.found: Any = hit_of()
        super().__init__(look_up=self._look_up, **options)
        self.answer = None

    def _look_up(self, body: bytes, asker: Asker) -> None:
        self.looked.append(body)
        if isinstance(self.found, Exception):
            raise self.found
        if self.gate.is_set():
            asker.found(self.found)
        else:
            self.asker = asker


@asynccontextmanager
async def looking(**options: Any) -> AsyncIterator[Looking]:
    """Give such a rig with one connection, which waits for a request."""
    made = Looking(**options)
    await turns()
    yield made
    await made.peer.hang_up()
    assert (made.server.in_flight, made.server.bodies.used) == (0, 0)


async def test_what_the_store_has_is_answered_as_the_handler_would() -> None:
    """To the byte, and the handler is not asked."""
    async with looking() as made:
        short = await made.peer.ask(PLAIN)
        assert (made.looked, made.handled) == ([BODY], [])
        made.found = None
        long = await made.peer.ask(PLAIN)
        assert (made.looked, made.handled) == ([BODY, BODY], [BODY])
        assert without_varying(short) == without_varying(long)


@pytest.mark.parametrize("other", [BYPASS, PUT], ids=["field", "operation"])
async def test_only_plain_reads_are_looked_up(other: bytes) -> None:
    """All else is the handler's at once."""
    async with looking() as made:
        await made.peer.ask(other)
        assert (made.looked, made.handled) == ([], [BODY])


async def test_who_saw_something_goes_on() -> None:
    """In the place of the handler, with the whole request."""
    async with looking() as made:
        requests: list[ClientRequest] = []

        async def goes_on(request: ClientRequest) -> Answer:
            requests.append(request)
            return HIT._replace(body=b"seen")

        made.found = goes_on
        assert (await made.peer.ask(PLAIN)).endswith(b"seen")
        (request,) = requests
        assert (request.body, request.operation, made.handled) == (BODY, "GetItem", [])


async def test_a_bug_in_a_lookup_is_told_and_the_handler_answers() -> None:
    """The connection goes on."""
    async with looking() as made:
        made.found = ValueError("bug")
        assert (await made.peer.ask(PLAIN)).startswith(b"HTTP/1.1 200 OK\r\n")
        assert made.handled == [BODY]
        (event,) = made.events
        assert isinstance(event, InvariantViolated)


async def test_a_drain_during_a_lookup_makes_it_the_last_answer() -> None:
    """It says so."""
    async with looking() as made:
        made.gate.clear()
        made.peer.send(PLAIN)
        await turns()
        made.server.draining = True
        made.asker.found(made.found)
        await turns()
        assert made.peer.transport.written.count(b"Connection: close\r\n") == 1
        assert made.peer.transport.written.endswith(HIT.body)
        assert made.peer.transport.closing


async def test_who_may_not_enter_is_not_answered_by_a_lookup() -> None:
    """The handler decides about them."""
    async with looking() as made:
        door = made.peer.connection._door
        made.peer.connection._door = replace(door, admits=lambda _: False)
        await made.peer.ask(PLAIN)
        assert (made.looked, made.handled) == ([], [BODY])


async def test_what_comes_during_a_lookup_is_held() -> None:
    """And taken in its turn, when the store's reply has been answered."""
    async with looking() as made:
        made.gate.clear()
        for _ in range(2):
            assert made.peer.send(PLAIN) == b""
        assert (made.looked, made.peer.transport.reading) == ([BODY], False)
        made.gate.set()
        made.asker.found(made.found)
        assert made.looked == [BODY, BODY]
        assert made.peer.transport.written.count(HIT.body) == 2
        assert made.peer.transport.reading


async def test_a_client_that_does_not_read_waits_for_a_lookups_answer() -> None:
    """What follows on its connection is taken up when it has read."""
    async with looking() as made:
        made.gate.clear()
        made.peer.send(PLAIN)
        made.peer.connection.pause_writing()
        made.asker.found(made.found)
        made.peer.send(PLAIN)
        await turns()
        assert made.peer.transport.written.count(HIT.body) == 1
        made.gate.set()
        made.peer.connection.resume_writing()
        await turns()
        assert made.peer.transport.written.count(HIT.body) == 2


async def test_a_hit_that_cannot_be_worded_is_told_and_the_handler_answers() -> None:
    """A bug of ours costs no request."""
    async with looking() as made:
        made.found.crc32 = None
        assert (await made.peer.ask(PLAIN)).endswith(HIT.body)
        assert made.handled == [BODY]
        assert isinstance(made.events[0], InvariantViolated)


async def test_a_bug_behind_a_lookup_is_told() -> None:
    """Whoever looks up says so, and has found nothing."""
    async with looking() as made:
        made.gate.clear()
        made.peer.send(PLAIN)
        made.asker.broke(ValueError("bug"))
        made.gate.set()
        made.asker.found(None)
        await turns()
        assert made.handled == [BODY]
        assert isinstance(made.events[0], InvariantViolated)


async def test_a_bug_after_an_answer_answers_nothing_more() -> None:
    """The request has its answer."""
    async with looking() as made:

        def look_up(_: bytes, asker: Asker) -> None:
            asker.found(made.found)
            raise ValueError

        made.peer.connection._door = replace(made.peer.connection._door, looks_up=look_up)
        assert (await made.peer.ask(PLAIN)).count(HIT.body) == 1
        assert isinstance(made.events[0], InvariantViolated)


async def test_a_client_that_hangs_up_during_a_lookup_gets_nothing() -> None:
    """And leaves nothing behind."""
    async with looking() as made:
        made.gate.clear()
        made.peer.send(PLAIN)
        await made.peer.hang_up()
        made.asker.found(made.found)
        assert made.peer.transport.written == b""


async def test_a_shutdown_waits_for_a_lookup() -> None:
    """Its answer goes out; one that does not come in time is left."""
    for answered in (True, False):
        async with looking() as made:
            made.gate.clear()
            made.peer.send(PLAIN)
            ending = asyncio.ensure_future(made.peer.connection.shutdown(None if answered else 0))
            await turns()
            assert ending.done() is not answered
            made.asker.found(made.found)
            await ending
            assert (HIT.body in made.peer.transport.written) is answered
