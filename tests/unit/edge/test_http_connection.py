"""Claims of proxy.edge.http_connection: what is no request still gets a readable answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from proxy.core.request import Answer, ClientRequest
from tests.support.data_server import Server, echo, server
from tests.support.memory_peer import MemoryPeer
from tests.support.serving import post, until


async def test_bytes_after_a_request_that_are_not_http() -> None:
    """The request is answered, then the rest gets its 400."""
    gate = asyncio.Event()

    async def wait(request: ClientRequest) -> Answer:
        await gate.wait()
        return await echo(request)

    async with server(wait) as running, running.wire() as wire:
        await wire.send(post("GetItem", b"{}"))
        await until(lambda: running.data_server.in_flight == 1)
        await wire.send(b"\x00\x00\r\n\r\n")
        gate.set()
        assert (await wire.reply()).status == 200
        assert (await wire.reply()).status == 400
        assert await wire.closed()


async def test_error_after_an_answer_was_begun_ends_the_connection() -> None:
    """Nothing can be said any more once bytes of an answer are out."""
    running = Server(echo)
    connection = running.data_server()
    request: Any = type("Request", (), {"writer": type("Writer", (), {"output_size": 1})})
    with pytest.raises(ConnectionError, match="begun"):
        connection.handle_error(request)
    await web.ServerRunner(running.data_server).cleanup()


async def test_connections_have_a_limit() -> None:
    """The connection beyond the limit is told so; when one ends there is room again."""
    async with server(connections_max=1) as running:
        async with running.wire() as first:
            await first.send(post("GetItem", b"{}"))
            await first.reply()
            async with running.wire() as second:
                reply = await second.reply()
                assert (reply.status, reply.fields["connection"]) == (503, "close")
                assert await second.closed()
        await until(lambda: not running.data_server.full)
        async with running.wire() as third:
            await third.send(post("GetItem", b"{}"))
            assert (await third.reply()).status == 200


@pytest.mark.parametrize("pipelined", [False, True])
async def test_malformed_chunks_get_an_answer(*, pipelined: bool) -> None:
    """A body that turns out to be none ends with 400, while it is read or while it waits."""
    gate = asyncio.Event()

    async def wait(request: ClientRequest) -> Answer:
        await gate.wait()
        return await echo(request)

    first = post("GetItem", b"{}") if pipelined else b""
    begun = post("GetItem", b"", framed=False, Transfer_Encoding="chunked") + b"1\r\nx\r\n"
    async with server(wait) as running, running.wire() as wire:
        await wire.send(first + begun)
        await until(lambda: running.data_server.in_flight == 1)
        await wire.send(b"zz\r\n")
        gate.set()
        if pipelined:
            assert (await wire.reply()).status == 200
        assert (await wire.reply()).status == 400


async def test_a_connection_that_sent_no_http_leaves_nothing_for_the_collector() -> None:
    """The error that aiohttp queues refers to itself by its traceback."""
    async with server() as running:
        peer = MemoryPeer(running.data_server)
        peer.send(b"\x00\x00\r\n\r\n")
        assert len(peer.connection._messages) == 1
        await peer.hang_up()
        assert len(peer.connection._messages) == 0
