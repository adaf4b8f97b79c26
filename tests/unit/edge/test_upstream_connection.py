"""Claims about `proxy.edge.upstream_connection`, over real sockets to a server that is told all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from proxy.edge import upstream_connection
from proxy.edge.upstream_connection import UnansweredError, UpstreamConnection
from proxy.edge.upstream_parser import BadReplyError, RawReply
from tests.support.raw_upstream import OK, Peer, raw_upstream
from tests.support.serving import until

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n\r\n"
BODY = b"{}"


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[UpstreamConnection, Peer]]:
    """Give both ends of a connection."""
    loop = asyncio.get_running_loop()
    async with raw_upstream() as upstream:
        _, connection = await loop.create_connection(UpstreamConnection, "127.0.0.1", upstream.port)
        lost = asyncio.Event()
        connection.adopt(lambda _: lost.set())
        try:
            yield connection, await upstream.peer()
        finally:
            connection.abort()
            await lost.wait()


def begun(connection: UpstreamConnection) -> asyncio.Task[RawReply]:
    """Send a request and do not wait for the reply."""
    return asyncio.create_task(connection.exchange("POST", HEAD, BODY))


async def exchanged(connection: UpstreamConnection, peer: Peer, raw: bytes = OK) -> RawReply:
    """Let the peer answer one request with these bytes."""
    sending = begun(connection)
    await peer.answer(BODY, raw)
    return await sending


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_requests_follow_each_other(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """One connection carries one exchange after the other, on the loop of the product too."""

    async def twice() -> None:
        async with connected() as (connection, peer):
            for count in (1, 2):
                assert connection.quiet
                assert await exchanged(connection, peer) == (
                    200,
                    (("Content-Length", "2"),),
                    b"ok",
                    True,
                )
                assert connection.exchanges == count
            assert connection.tls is None

    run(twice(), loop_factory)


def run(
    claim: Coroutine[Any, Any, None], loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Run a claim on a loop of its own."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(claim)


async def test_request_arrives_as_given() -> None:
    """Head and body travel untouched."""
    async with connected() as (connection, peer):
        sending = begun(connection)
        assert await peer.receive(BODY) == HEAD + BODY
        await peer.send(OK)
        await sending


async def test_a_reply_that_closes_ends_the_connection() -> None:
    """Where upstream wants no more requests, none is sent."""
    async with connected() as (connection, peer):
        raw = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        assert (await exchanged(connection, peer, raw)).status == 200
        assert not connection.open
        assert await peer.gone()


async def test_the_end_of_the_connection_may_end_the_reply() -> None:
    """A body without length ends with the connection."""
    async with connected() as (connection, peer):
        sending = begun(connection)
        await peer.answer(BODY, b"HTTP/1.1 200 OK\r\n\r\nabc")
        peer.end()
        assert (await sending).body == b"abc"
        assert not connection.open


@pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no"])
@pytest.mark.parametrize("way", [Peer.end, Peer.reset])
async def test_a_cut_reply_is_an_error(raw: bytes, way: Callable[[Peer], None]) -> None:
    """The error tells whether anything of the reply had come."""
    async with connected() as (connection, peer):
        sending = begun(connection)
        await peer.receive(BODY)
        await peer.send(raw)
        await until(lambda: connection._parser.began == bool(raw))
        way(peer)
        with pytest.raises(OSError) as caught:
            await sending
        assert isinstance(caught.value, UnansweredError) == (raw == b"")
        assert not connection.open


async def test_garbage_is_an_error_and_ends_the_connection() -> None:
    """What is no reply cannot be told from a part of another one."""
    async with connected() as (connection, peer):
        with pytest.raises(BadReplyError):
            await exchanged(connection, peer, b"garbage\r\n\r\n")
        assert not connection.open
        assert await peer.gone()


async def test_what_nobody_asked_for_ends_the_connection() -> None:
    """A reply that comes before its request is never given to anybody."""
    async with connected() as (connection, peer):
        await peer.send(OK)
        assert await peer.gone()
        assert not connection.open


@pytest.mark.parametrize("way", [Peer.end, Peer.reset])
async def test_an_idle_connection_that_ends_is_not_open(way: Callable[[Peer], None]) -> None:
    """Upstream may end a connection that nobody uses."""
    async with connected() as (connection, peer):
        await exchanged(connection, peer)
        way(peer)
        await until(lambda: connection._lost)
        assert not connection.quiet


async def test_what_follows_a_reply_ends_the_connection() -> None:
    """A second reply is no answer to the next request, even if nobody has looked at the first."""
    async with connected() as (connection, _peer):
        sending = begun(connection)
        await asyncio.sleep(0)
        connection.data_received(OK)
        connection.data_received(OK)
        assert not connection.open
        assert (await sending).body == b"ok"


async def test_unread_bytes_are_noticed_before_a_request_is_sent() -> None:
    """A connection is not quiet while something waits in its socket, which the loop reads later."""
    async with connected() as (connection, peer):
        assert connection.quiet
        connection._transport.pause_reading()
        await peer.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        await until(lambda: not connection.quiet)
        assert connection.open


async def test_a_cancelled_exchange_ends_the_connection() -> None:
    """A reply that comes too late must not meet the next request."""
    async with connected() as (connection, peer):
        sending = begun(connection)
        await peer.receive(BODY)
        sending.cancel()
        await asyncio.wait([sending])
        assert sending.cancelled()
        assert not connection.open
        assert await peer.gone()


async def test_an_exchange_cancelled_just_after_its_reply_ends_the_connection() -> None:
    """The caller went away with the reply: nobody would give the connection back."""
    async with connected() as (connection, _peer):
        sending = begun(connection)
        await asyncio.sleep(0)
        connection.data_received(OK)
        sending.cancel()
        await asyncio.wait([sending])
        assert sending.cancelled()
        assert not connection.open


async def test_aborting_fails_the_exchange() -> None:
    """Who waits for a reply is told."""
    async with connected() as (connection, peer):
        sending = begun(connection)
        await peer.receive(BODY)
        connection.abort()
        with pytest.raises(UnansweredError):
            await sending


async def test_a_long_request_leaves_the_loop_to_others() -> None:
    """A long body is written in pieces, as fast as upstream reads, and arrives whole."""
    body = bytes(range(256)) * (20 << 10) + b"end of body"
    async with connected() as (connection, peer):
        sending = asyncio.create_task(connection.exchange("POST", HEAD, body))
        await asyncio.sleep(0)
        assert len(connection._unsent) > len(body) - 3 * upstream_connection.PIECE_BYTES
        await until(lambda: not connection._may_write)
        peer._reader._limit = 2 * len(body)  # type: ignore[attr-defined]
        assert await peer.receive(b"end of body") == HEAD + body
        await peer.send(OK)
        assert (await sending).reusable
        assert connection.quiet


async def test_an_early_reply_stops_the_request() -> None:
    """What upstream answers before it has read all is the answer; the rest is not sent."""
    body = b"x" * (32 << 20)
    async with connected() as (connection, peer):
        sending = asyncio.create_task(connection.exchange("POST", HEAD, body))
        await peer.receive(HEAD)
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        assert (await sending).status == 413
        assert not connection.open


async def test_one_who_comes_too_late_is_told_of_the_loss() -> None:
    """A connection that was lost before anybody owned it tells its new owner at once."""
    async with connected() as (connection, _peer):
        connection.abort()
        await until(lambda: connection._lost)
        told: list[UpstreamConnection] = []
        connection.adopt(told.append)
        assert told == [connection]


async def test_a_connection_without_owner_may_be_lost() -> None:
    """Between TLS and the pool nobody is there to be told."""
    async with raw_upstream() as upstream:
        _, connection = await asyncio.get_running_loop().create_connection(
            UpstreamConnection, "127.0.0.1", upstream.port
        )
        connection.abort()
        await until(lambda: connection._lost)
        assert not connection.quiet
