"""Claims of proxy.edge.request_body, through a server on real sockets."""

from __future__ import annotations

import asyncio
import json

import pytest

from proxy.core.request import Answer, ClientRequest
from tests.support.data_server import echo, server
from tests.support.serving import post, until


@pytest.mark.parametrize("framed", [True, False])
async def test_body_has_a_limit(*, framed: bool) -> None:
    """One byte more than allowed is 413, whether its length was told or not; then it closes."""
    async with server() as running:
        for size, status in ((1000, 200), (1001, 413)):
            raw = b" " * size
            request = post("GetItem", raw)
            if not framed:
                request = post("GetItem", b"", framed=False, Transfer_Encoding="chunked")
                request += b"%x\r\n%s\r\n0\r\n\r\n" % (size, raw)
            async with running.wire() as wire:
                await wire.send(request)
                reply = await wire.reply()
                assert reply.status == status
                assert (reply.fields.get("connection") == "close") is (status == 413)


async def test_bodies_share_a_bound() -> None:
    """A body that finds no room is refused with 503; once the others have ended there is room."""
    held, release = asyncio.Event(), asyncio.Event()

    async def hold(request: ClientRequest) -> Answer:
        held.set()
        await release.wait()
        return await echo(request)

    body = json.dumps({"a": "b" * 600}).encode()
    async with server(hold, bodies_bytes_max=1000) as running:
        async with running.wire() as one, running.wire() as other:
            await one.send(post("GetItem", body))
            await held.wait()
            await other.send(post("GetItem", body))
            refused = await other.reply()
            assert (refused.status, refused.error) == (503, "ServiceUnavailableException")
            assert b"http.bodies_bytes_max" in refused.body
            assert await other.closed()
            release.set()
            assert (await one.reply()).status == 200
        async with running.wire() as late:
            await late.send(post("GetItem", body))
            assert (await late.reply()).status == 200


async def test_body_in_pieces_is_whole() -> None:
    """Pieces that came apart are put together."""
    body = json.dumps({"a": "b" * 100}).encode()
    raw = post("GetItem", body)
    async with server() as running, running.wire() as wire:
        await wire.send(raw[:-90])
        await until(lambda: running.data_server.in_flight == 1)
        await wire.send(raw[-90:-20])
        await asyncio.sleep(0)
        await wire.send(raw[-20:])
        assert (await wire.reply()).body == body


async def test_body_that_stalls_ends() -> None:
    """A client that stops half-way gets a 408 and loses its connection."""
    async with server(keepalive_s=0.05) as running, running.wire() as wire:
        await wire.send(post("GetItem", b"{}")[:-1])
        reply = await wire.reply()
        assert (reply.status, reply.fields["connection"]) == (408, "close")
        assert await wire.closed()


async def test_body_that_breaks_is_no_bug() -> None:
    """A malformed chunk is 400, a hang-up is nothing; neither is a violation."""
    head = post("GetItem", b"", framed=False, Transfer_Encoding="chunked") + b"1\r\na\r\n"
    async with server() as running:
        async with running.wire() as wire:
            await wire.send(head)
            await until(lambda: running.data_server.in_flight == 1)
            await wire.send(b"oops\r\n")
            reply = await wire.reply()
            assert (reply.status, reply.fields["connection"]) == (400, "close")
            assert await wire.closed()
        async with running.wire() as wire:
            await wire.send(head)
            await until(lambda: running.data_server.in_flight == 1)
        await until(lambda: running.data_server.in_flight == 0)
    assert running.events == []


async def test_expect_is_answered() -> None:
    """The interim answer comes before the body was sent."""
    async with server() as running, running.wire() as wire:
        await wire.send(
            post("GetItem", b"", framed=False, Expect="100-Continue", Content_Length="2")
        )
        assert (await wire.head())[1] == 100
        await wire.send(b"{}")
        assert (await wire.reply()).body == b"{}"
