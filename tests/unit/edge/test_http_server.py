"""Claims of proxy.edge.http_server, over real sockets, with a handler of the test's own."""

from __future__ import annotations

import asyncio
import socket

import pytest

from proxy.core.errors import RequestRejected
from proxy.core.hits import Hit
from proxy.core.request import Answer, ClientRequest
from proxy.core.values import Outcome
from proxy.edge.http_server import _place
from proxy.flow.events import InvariantViolated
from tests.support.data_server import Server, echo, server
from tests.support.hits import hit_of
from tests.support.serving import post, until


async def test_request_reaches_the_handler_as_it_came() -> None:
    """Method, target, fields in their spelling and order, and the body's bytes."""
    seen: list[ClientRequest] = []

    async def keep(request: ClientRequest) -> Answer:
        seen.append(request)
        return await echo(request)

    async with server(keep) as running, running.wire() as wire:
        await wire.send(b"PUT /a%20b?c HTTP/1.1\r\nHost: h\r\nX-mIxEd: \xff1\r\n\r\n")
        assert (await wire.reply()).status == 200
    odd = b"\xff1".decode("utf-8", "surrogateescape")
    assert seen == [ClientRequest("PUT", "/a%20b?c", (("Host", "h"), ("X-mIxEd", odd)), b"")]


async def test_upstreams_own_fields_are_kept() -> None:
    """An answer that came from upstream keeps its fields; only what is missing is added."""
    fields = (("Server", "AWS"), ("x-amzn-RequestId", "R"), ("Content-Type", "text/x"))

    async def upstream(_: ClientRequest) -> Answer:
        return Answer(201, fields, b"{}", Outcome.MISS)

    async with server(upstream) as running, running.wire() as wire:
        await wire.send(post("GetItem", b"{}"))
        reply = await wire.reply()
    assert reply.status == 201
    assert [reply.fields[name.lower()] for name, _ in fields] == [text for _, text in fields]
    assert "x-amz-crc32" not in reply.fields


async def test_own_answers_get_their_fields() -> None:
    """An answer of the proxy's own gets server, request id, checksum and Cache-Status."""
    async with server() as running, running.wire() as wire:
        await wire.send(post("GetItem", b"{}"))
        fields = (await wire.reply()).fields
    assert (fields["server"], fields["x-amz-crc32"]) == ("S", "1")
    assert len(fields["x-amzn-requestid"]) == 52
    assert fields["cache-status"].startswith("dynaside; hit")


async def test_cache_status_is_optional() -> None:
    """Switched off, the field is not there."""
    async with server(cache_status=False) as running, running.wire() as wire:
        await wire.send(post("GetItem", b"{}"))
        assert "cache-status" not in (await wire.reply()).fields


async def test_errors_become_answers() -> None:
    """A ProxyError is answered in DynamoDB's shape with its own status."""

    async def refuse(_: ClientRequest) -> Answer:
        raise RequestRejected("a#B", "why", status=418)

    async with server(refuse) as running, running.wire() as wire:
        await wire.send(post("GetItem", b"{}"))
        reply = await wire.reply()
    assert (reply.status, reply.content) == (418, {"__type": "a#B", "message": "why"})
    assert running.events == []


async def test_bugs_become_500_and_an_event_without_values() -> None:
    """Whatever else is raised is counted by its place; the connection goes on."""

    async def fail(_: ClientRequest) -> Answer:
        raise ValueError("secret")

    async with server(fail) as running, running.wire() as wire:
        for _ in range(2):
            await wire.send(post("GetItem", b"{}"))
            assert (await wire.reply()).status == 500
    assert len(running.events) == 2
    (event, _) = running.events
    assert isinstance(event, InvariantViolated)
    assert event.where.startswith("request: ValueError: test_http_server.py:fail:")


def test_place_of_an_error_that_was_never_raised() -> None:
    """An exception without a traceback has no place."""
    assert _place(ValueError()) == "unknown"


async def test_loop_is_refused() -> None:
    """A request that carries this process's own mark is answered 508."""
    async with server() as running, running.wire() as wire:
        await wire.send(post("GetItem", b"{}", X_Hop="me"))
        assert (await wire.reply()).status == 508


@pytest.mark.parametrize("method", ["POST", "OPTIONS", "GET"])
@pytest.mark.parametrize("origin", ["https://evil.example", "null", ""])
async def test_web_pages_are_refused_where_they_are_not_allowed(method: str, origin: str) -> None:
    """A request with an Origin gets 403 from the proxy itself, and nothing a browser lets read."""
    seen: list[ClientRequest] = []

    async def keep(request: ClientRequest) -> Answer:
        seen.append(request)
        return await echo(request)

    async with server(keep, cross_origin=False) as running, running.wire() as wire:
        request = (
            f"{method} / HTTP/1.1\r\nHost: h\r\noRIGIN: {origin}\r\nContent-Length: 2\r\n\r\n{{}}"
        )
        await wire.send(request.encode())
        reply = await wire.reply()
        assert reply.status == 403
        assert reply.content["__type"] == "com.amazon.coral.service#AccessDeniedException"
        assert "http.cross_origin" in reply.content["message"]
        assert not [name for name in reply.fields if name.startswith("access-control-")]
        assert seen == []
        await wire.send(post("GetItem", b"{}"))
        assert (await wire.reply()).status == 200


@pytest.mark.parametrize("allowed", [True, False])
async def test_errors_before_the_handler_are_readable_for_allowed_pages_only(
    *, allowed: bool
) -> None:
    """An answer of the server's own carries CORS fields only where pages are let in."""
    async with server(cross_origin=allowed) as running, running.wire() as wire:
        await wire.send(post("GetItem", b" " * 1001, Origin="https://a.example"))
        reply = await wire.reply()
    assert reply.status == 413
    assert ("access-control-allow-origin" in reply.fields) is allowed


async def test_drain_closes_connections() -> None:
    """While draining every answer is the last of its connection."""
    async with server() as running, running.wire() as wire:
        running.data_server.draining = True
        await wire.send(post("GetItem", b"{}"))
        assert (await wire.reply()).fields["connection"] == "close"
        assert await wire.closed()


async def test_busy_until_the_answer_is_out() -> None:
    """A server is busy while it answers, and while the client has not taken all of the answer."""
    gate = asyncio.Event()
    size = 32 * 1024 * 1024

    async def wait(_: ClientRequest) -> Answer:
        await gate.wait()
        return Answer(200, (), b"x" * size, Outcome.HIT)

    async with server(wait) as running:
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.setblocking(False)
            await asyncio.get_running_loop().sock_connect(slow, ("127.0.0.1", running.port))
            reader, writer = await asyncio.open_connection(sock=slow)
            assert not running.data_server.busy
            writer.write(post("GetItem", b"{}"))
            await until(lambda: running.data_server.in_flight == 1)
            assert running.data_server.busy
            gate.set()
            await until(lambda: running.data_server.in_flight == 0)
            assert running.data_server.busy
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(size)
            await until(lambda: not running.data_server.busy)
            writer.close()


async def test_hits_at_hand_are_answered_at_once() -> None:
    """A server that is given them has a door; a bug in it is told as any other."""

    def answer_now(body: bytes) -> Hit | None:
        assert body == b"{}", "secret"
        return hit_of(b"{}")

    async with server(answer_now=answer_now) as running, running.wire() as wire:
        for _ in range(2):
            await wire.send(post("GetItem", b"{}"))
            assert (await wire.reply()).fields["cache-status"].startswith("dynaside; hit")
        await wire.send(post("GetItem", b"[]"))
        assert (await wire.reply()).body == b"[]"
    (event,) = running.events
    assert isinstance(event, InvariantViolated)
    assert event.where.startswith("request: AssertionError: test_http_server.py:answer_now:")


async def test_what_is_no_request_is_refused_and_the_connection_ends() -> None:
    """A refusal has the form of any other answer, and is the last one."""
    running = Server(echo)
    refusal = running.data_server.refusal(Answer(400, (), b"{}", Outcome.REJECTED, crc32=1))
    assert (refusal.status, refusal.keep_alive) == (400, False)
    assert refusal.headers["Server"] == "S"
