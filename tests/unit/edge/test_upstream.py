"""Claims about `proxy.edge.upstream`, over real sockets to the fake upstream."""

from __future__ import annotations

import asyncio
import datetime as dt
import gzip
import json
import socket
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest

from proxy.core.errors import UpstreamFailed, UpstreamFailure
from proxy.core.request import ClientRequest
from proxy.edge.clock import SystemClock
from proxy.edge.sigv4 import Credentials, Signer
from proxy.edge.upstream import HttpUpstream, UpstreamOptions
from proxy.edge.upstream_fields import HOP_HEADER, is_loop
from proxy.flow.ports import UpstreamReply, UpstreamRequest
from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.fake_upstream_script import (
    HALF_BODY,
    RESET_AFTER,
    RESET_BEFORE,
    SILENT,
    Fault,
    Received,
)
from tests.support.raw_upstream import OK, raw_upstream, self_signed, serving_tls

CREDENTIALS = Credentials("AKIDEXAMPLE", "secret", "a-session-token")
GET = UpstreamRequest(
    operation="GetItem",
    streams=False,
    method="POST",
    target="/",
    headers=(
        ("content-type", "application/x-amz-json-1.0"),
        ("X-Amz-Target", "DynamoDB_20120810.GetItem"),
    ),
    body=json.dumps({"TableName": "orders", "Key": {"pk": {"S": "a"}}}).encode(),
    timeout_s=20.0,
    repeatable=True,
)
PUT = GET._replace(
    operation="PutItem",
    headers=(GET.headers[0], ("X-Amz-Target", "DynamoDB_20120810.PutItem")),
    body=json.dumps({"TableName": "orders", "Item": {"pk": {"S": "a"}}}).encode(),
    repeatable=False,
)


@asynccontextmanager
async def upstream_at(
    endpoint: str, credentials: Credentials | None = CREDENTIALS, **options: Any
) -> AsyncIterator[HttpUpstream]:
    """Give an adapter for one endpoint."""
    made = HttpUpstream(
        UpstreamOptions(endpoint, endpoint, "me", **options),
        signer=Signer("us-east-1"),
        credentials_of=lambda: credentials,
        clock=SystemClock(),
    )
    async with made as upstream:
        yield upstream


@pytest.fixture
async def fake() -> AsyncIterator[FakeUpstream]:
    """Give a fake upstream with one table."""
    async with FakeUpstream(compress=True) as running:
        running.tables.add("orders", pk="S")
        yield running


@pytest.fixture
async def upstream(fake: FakeUpstream) -> AsyncIterator[HttpUpstream]:
    """Give an adapter for the fake."""
    async with upstream_at(fake.endpoint) as made:
        yield made


async def failure_of(sending: Awaitable[UpstreamReply]) -> tuple[UpstreamFailure, bool]:
    """Return how an exchange failed and whether it may have been applied."""
    with pytest.raises(UpstreamFailed) as caught:
        await sending
    return caught.value.failure, caught.value.maybe_applied


def names(received: Received) -> list[str]:
    """Return the names of the fields that arrived, as they were spelled."""
    return [name for name, _ in received.headers]


async def test_answer_comes_back_whole(upstream: HttpUpstream) -> None:
    """Status, end-to-end fields and body arrive; fields about the connection do not."""
    reply = await upstream.send(GET)
    assert (reply.status, reply.body) == (200, b"{}")
    fields = {name.lower() for name, _ in reply.headers}
    assert {"x-amzn-requestid", "x-amz-crc32", "content-type", "date", "server"} <= fields
    assert not {"content-length", "connection", "transfer-encoding"} & fields


async def test_error_answer_is_an_answer(upstream: HttpUpstream) -> None:
    """An error status of upstream is returned like any other, not raised."""
    reply = await upstream.send(GET._replace(body=b"{"))
    assert reply.status == 400
    assert b"SerializationException" in reply.body


async def test_fields_travel_as_they_were(upstream: HttpUpstream, fake: FakeUpstream) -> None:
    """End-to-end fields arrive in order and spelling, doubled ones too; none is made up."""
    sent = (
        ("user-AGENT", "aws-sdk-js/3"),
        ("amz-sdk-invocation-id", "1"),
        ("X-Twice", "a"),
        ("X-Twice", "b  c"),
        *GET.headers,
    )
    await upstream.send(GET._replace(headers=sent))
    arrived = [field for field in fake.log[0].headers if field in sent]
    assert arrived == list(sent)
    added = set(names(fake.log[0])) - {name for name, _ in sent}
    assert added == {
        "Host",
        HOP_HEADER,
        "X-Amz-Date",
        "X-Amz-Security-Token",
        "Authorization",
        "Content-Length",
    }


async def test_bare_request_gets_no_fields_of_ours(
    upstream: HttpUpstream, fake: FakeUpstream
) -> None:
    """User-Agent, Accept, Accept-Encoding and Content-Type are not added where missing."""
    await upstream.send(GET._replace(headers=()))
    assert not {"User-Agent", "Accept", "Accept-Encoding", "Content-Type"} & set(names(fake.log[0]))


async def test_connection_and_signature_fields_are_not_forwarded(
    upstream: HttpUpstream, fake: FakeUpstream
) -> None:
    """What speaks of the client's connection or is the client's signature is left out."""
    dropped = (
        ("Host", "127.0.0.1:8111"),
        ("Connection", "keep-alive, X-Named"),
        ("X-Named", "the-clients"),
        ("Keep-Alive", "the-clients"),
        ("Proxy-Authorization", "the-clients"),
        ("TE", "trailers"),
        ("Expect", "100-continue"),
        ("Content-Length", "7"),
        ("Transfer-Encoding", "chunked"),
        ("authorization", "the-clients"),
        ("x-amz-date", "the-clients"),
        ("X-Amz-Security-Token", "the-clients"),
        ("X-Amz-Content-Sha256", "the-clients"),
        ("x-dynaside-cache", "refresh"),
    )
    await upstream.send(GET._replace(headers=(*dropped, *GET.headers)))
    assert not set(dropped) & set(fake.log[0].headers)
    assert fake.log[0].header("Content-Length") == str(len(GET.body))


@pytest.mark.parametrize("target", ["/", "/a//b?x=1&a=%2F", "/\u00e9", "http://other/x?y", "*"])
async def test_signature_on_the_wire_is_botocores(
    upstream: HttpUpstream, fake: FakeUpstream, target: str
) -> None:
    """The request as it arrived carries the signature botocore makes for it."""
    await upstream.send(GET._replace(target=target, headers=(*GET.headers, ("X-Any", "a  b"))))
    arrived = fake.log[0]
    assert arrived.header("Authorization") == authorization_by_botocore(arrived)


def authorization_by_botocore(arrived: Received) -> str:
    """Sign what arrived once more, at the second it was signed."""
    host = arrived.header("Host")
    request = botocore.awsrequest.AWSRequest(
        method=arrived.method, url=f"http://{host}{arrived.target}", data=arrived.body
    )
    # Content-Length is added after signing.
    unsigned = {"authorization", "x-amz-date", "x-amz-security-token", "content-length"}
    for name, text in arrived.headers:
        if name.lower() not in unsigned:
            request.headers[name] = text
    stamp = arrived.header("X-Amz-Date")
    assert stamp is not None
    now = dt.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda: now)
        botocore.auth.SigV4Auth(
            botocore.credentials.Credentials(
                CREDENTIALS.access_key, CREDENTIALS.secret_key, CREDENTIALS.session_token
            ),
            "dynamodb",
            "us-east-1",
        ).add_auth(request)
    return str(request.headers["Authorization"])


async def test_compressed_bodies_pass_untouched(upstream: HttpUpstream, fake: FakeUpstream) -> None:
    """A gzipped request arrives gzipped, and a gzipped answer comes back gzipped."""
    item = {"pk": {"S": "a"}, "v": {"S": "x" * 9000}}
    raw = gzip.compress(json.dumps({"TableName": "orders", "Item": item}).encode())
    await upstream.send(
        PUT._replace(headers=(*PUT.headers, ("Content-Encoding", "gzip")), body=raw)
    )
    reply = await upstream.send(GET._replace(headers=(*GET.headers, ("Accept-Encoding", "gzip"))))
    assert fake.log[0].body == raw
    assert ("Content-Encoding", "gzip") in reply.headers
    assert json.loads(gzip.decompress(reply.body)) == {"Item": item}


async def test_request_without_body_has_none(upstream: HttpUpstream, fake: FakeUpstream) -> None:
    """A GET, the health check for one, goes and comes without anything added."""
    reply = await upstream.send(GET._replace(method="GET", headers=(), body=b""))
    assert reply.body.startswith(b"healthy")
    assert fake.log[0].header("Content-Length") is None


async def test_body_of_megabytes_arrives(upstream: HttpUpstream, fake: FakeUpstream) -> None:
    """A body longer than one write arrives whole."""
    body = json.dumps({"TableName": "orders", "x": "y" * (5 << 20)}).encode()
    await upstream.send(GET._replace(body=body))
    assert fake.log[0].body == body


async def test_connection_is_used_again(upstream: HttpUpstream, fake: FakeUpstream) -> None:
    """Requests one after the other share one connection."""
    for _ in range(3):
        await upstream.send(GET)
    assert {received.connection for received in fake.log} == {0}


async def test_missing_credentials_send_nothing(fake: FakeUpstream) -> None:
    """Without credentials the request fails before anything is sent."""
    async with upstream_at(fake.endpoint, credentials=None) as upstream:
        assert await failure_of(upstream.send(GET)) == (UpstreamFailure.CREDENTIALS, False)
    assert fake.log == []


async def test_refused_connection_was_not_applied() -> None:
    """A refused connection is CONNECT, and no write can have been applied."""
    with socket.socket() as bound:  # bound and not listening: nobody else gets the port
        bound.bind(("127.0.0.1", 0))
        async with upstream_at(f"http://127.0.0.1:{bound.getsockname()[1]}") as upstream:
            assert await failure_of(upstream.send(PUT)) == (UpstreamFailure.CONNECT, False)


async def test_unknown_host_was_not_applied() -> None:
    """A name that does not resolve is CONNECT."""
    async with upstream_at("http://no-such-host.invalid") as upstream:
        assert await failure_of(upstream.send(PUT)) == (UpstreamFailure.CONNECT, False)


async def test_failed_tls_was_not_applied(fake: FakeUpstream) -> None:
    """A peer that speaks no TLS is CONNECT: nothing of the request was sent."""
    async with upstream_at(fake.endpoint.replace("http:", "https:")) as upstream:
        assert await failure_of(upstream.send(PUT)) == (UpstreamFailure.CONNECT, False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Make a self-signed certificate for loopback; return its file and its key's."""
    return self_signed(tmp_path_factory.mktemp("tls"))


async def test_tls_trusts_the_bundle_and_nobody_else(certificate: tuple[Path, Path]) -> None:
    """A certificate is accepted when the CA bundle vouches for it, and refused otherwise."""
    made, _ = certificate
    async with FakeUpstream(tls=serving_tls(certificate)) as fake:
        fake.tables.add("orders", pk="S")
        async with upstream_at(fake.endpoint, ca_bundle=str(made)) as upstream:
            assert (await upstream.send(PUT)).status == 200
        async with upstream_at(fake.endpoint) as upstream:
            assert await failure_of(upstream.send(PUT)) == (UpstreamFailure.CONNECT, False)
    assert fake.count("PutItem") == 1


@asynccontextmanager
async def full_backlog() -> AsyncIterator[str]:
    """Give an endpoint whose connections are never accepted: its backlog is full."""
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("timeout_s", "connect_timeout_s", "message"),
    [
        (0.1, 20.0, "connecting to upstream took too long"),
        (20.0, 0.1, "no connection: TimeoutError"),
    ],
)
async def test_slow_connect_was_not_applied(
    timeout_s: float, connect_timeout_s: float, message: str
) -> None:
    """A connection that is never accepted is CONNECT, whichever of the two bounds ends it."""
    async with (
        full_backlog() as endpoint,
        upstream_at(endpoint, connect_timeout_s=connect_timeout_s) as upstream,
    ):
        with pytest.raises(UpstreamFailed, match=message) as caught:
            await upstream.send(PUT._replace(timeout_s=timeout_s))
        assert (caught.value.failure, caught.value.maybe_applied) == (
            UpstreamFailure.CONNECT,
            False,
        )


@asynccontextmanager
async def answering(raw_reply: bytes) -> AsyncIterator[HttpUpstream]:
    """Give an adapter whose upstream answers each connection with these very bytes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(PUT.body)
        writer.write(raw_reply)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, upstream_at(f"http://127.0.0.1:{_port(server)}") as upstream:
        yield upstream


def _port(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


async def test_reply_fields_keep_order_and_spelling() -> None:
    """Fields of the answer come back in their order, doubled and in upstream's own spelling."""
    raw = (
        b"HTTP/1.1 418 Odd\r\ncontent-TYPE: x\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n"
        b"Connection: close, X-Named\r\nX-Named: 1\r\nset-cookie: a=b\r\nX-A: 2\r\n\r\n"
        b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    )
    async with answering(raw) as upstream:
        reply = await upstream.send(PUT)
    assert reply == UpstreamReply(
        418,
        (("content-TYPE", "x"), ("X-A", "1"), ("set-cookie", "a=b"), ("X-A", "2")),
        b"abc",
    )


@pytest.mark.parametrize(
    "raw_reply",
    [
        b"",
        b"no HTTP at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
)
async def test_broken_reply_may_have_been_applied(raw_reply: bytes) -> None:
    """An answer that is cut or is no HTTP is RESET: the write may have been applied."""
    async with answering(raw_reply) as upstream:
        assert await failure_of(upstream.send(PUT)) == (UpstreamFailure.RESET, True)


async def test_redirect_is_returned_and_not_followed() -> None:
    """A redirect is an answer like any other."""
    raw = b"HTTP/1.1 307 Elsewhere\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    async with answering(raw) as upstream:
        assert (await upstream.send(PUT)).status == 307


async def test_interim_replies_are_passed_over() -> None:
    """100 and 103 come before the answer, and are none."""
    raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nA: b\r\n\r\n"
    async with answering(raw + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as upstream:
        assert await upstream.send(PUT) == UpstreamReply(200, (), b"{}")


async def test_an_answer_may_dribble_in() -> None:
    """A slow answer is an answer, if it is whole in time."""
    async with raw_upstream() as raw, upstream_at(f"http://127.0.0.1:{raw.port}") as upstream:
        sending = asyncio.create_task(upstream.send(PUT))
        peer = await raw.peer()
        await peer.receive(PUT.body)
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}":
            await peer.send(bytes([byte]))
        assert (await sending).body == b"{}"


async def test_an_answer_that_dribbles_for_too_long_may_have_been_applied() -> None:
    """The time-out is for the whole answer; the connection is not used again."""
    async with raw_upstream() as raw, upstream_at(f"http://127.0.0.1:{raw.port}") as upstream:
        sending = asyncio.create_task(failure_of(upstream.send(PUT._replace(timeout_s=0.2))))
        peer = await raw.peer()
        await peer.answer(PUT.body, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{")
        assert await sending == (UpstreamFailure.TIMEOUT, True)
        assert await peer.gone()


async def test_an_early_answer_is_the_answer() -> None:
    """Upstream may refuse a long request before it has read all of it."""
    long = PUT._replace(body=b"x" * (32 << 20))
    async with raw_upstream() as raw, upstream_at(f"http://127.0.0.1:{raw.port}") as upstream:
        sending = asyncio.create_task(upstream.send(long))
        peer = await raw.peer()
        await peer.receive(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        assert (await sending).status == 413


async def test_a_write_does_not_meet_a_connection_that_has_ended() -> None:
    """Upstream closed it while it was idle: the write goes out on another one, once."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    async with raw_upstream() as raw, upstream_at(f"http://127.0.0.1:{raw.port}") as upstream:
        first = asyncio.create_task(upstream.send(PUT))
        peer = await raw.peer()
        await peer.answer(PUT.body, answer)
        await first
        peer.end()
        second = asyncio.create_task(upstream.send(PUT))
        await (await raw.peer()).answer(PUT.body, answer)
        assert (await second).status == 200


@pytest.mark.parametrize("sign", ["\r", "\n", "\0"])
async def test_a_field_that_ends_its_own_line_is_never_sent(
    upstream: HttpUpstream, fake: FakeUpstream, sign: str
) -> None:
    """No field can smuggle another one, or another request, upstream."""
    with pytest.raises(AssertionError):
        await upstream.send(PUT._replace(headers=(*PUT.headers, ("X", f"a{sign}b"))))
    assert fake.log == []


async def test_a_post_without_body_says_so(upstream: HttpUpstream, fake: FakeUpstream) -> None:
    """A length of nothing is announced where a body is usual."""
    await upstream.send(GET._replace(body=b""))
    assert fake.log[0].header("Content-Length") == "0"


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://h", "h"),
        ("http://h:80", "h"),
        ("https://h:443/", "h"),
        ("https://h:80", "h:80"),
        ("http://[::1]:8000", "[::1]:8000"),
    ],
)
def test_host_is_named_without_its_usual_port(url: str, host: str) -> None:
    """As every client does: the signature covers this very field."""
    made = HttpUpstream(
        UpstreamOptions(url, url, "me"),
        signer=Signer("us-east-1"),
        credentials_of=lambda: CREDENTIALS,
        clock=SystemClock(),
    )
    assert f"\r\nHost: {host}\r\n".encode() in made._head(made._data, GET)


async def test_silence_may_have_been_applied(upstream: HttpUpstream, fake: FakeUpstream) -> None:
    """An answer that does not come in time is TIMEOUT, applied or not."""
    await upstream.send(GET)  # so that connecting takes nothing of the short time-out
    fake.fail("PutItem", SILENT)
    silent = upstream.send(PUT._replace(timeout_s=0.1))
    assert await failure_of(silent) == (UpstreamFailure.TIMEOUT, True)


@pytest.mark.parametrize("fault", [RESET_BEFORE, RESET_AFTER, HALF_BODY])
@pytest.mark.parametrize("reused", [False, True])
async def test_broken_write_is_not_repeated(
    upstream: HttpUpstream, fake: FakeUpstream, *, fault: Fault, reused: bool
) -> None:
    """A write whose connection breaks is RESET, perhaps applied, and was sent once."""
    if reused:
        await upstream.send(GET)
    fake.fail("PutItem", fault)
    assert await failure_of(upstream.send(PUT)) == (UpstreamFailure.RESET, True)
    assert fake.count("PutItem") == 1


async def test_read_is_repeated_once_after_an_idle_connection_broke(
    upstream: HttpUpstream, fake: FakeUpstream
) -> None:
    """A read on a connection that had been idle and breaks is sent once more."""
    await upstream.send(GET)
    fake.fail("GetItem", RESET_BEFORE)
    assert (await upstream.send(GET)).status == 200
    assert fake.count("GetItem") == 3


async def test_read_is_not_repeated_twice(upstream: HttpUpstream, fake: FakeUpstream) -> None:
    """A read that breaks again is given up."""
    await upstream.send(GET)
    fake.fail("GetItem", RESET_BEFORE, times=5)
    assert await failure_of(upstream.send(GET)) == (UpstreamFailure.RESET, True)
    assert fake.count("GetItem") == 3


async def test_read_on_a_new_connection_is_not_repeated(
    upstream: HttpUpstream, fake: FakeUpstream
) -> None:
    """A new connection that breaks was no idle one: the read is not repeated."""
    fake.fail("GetItem", RESET_BEFORE)
    assert await failure_of(upstream.send(GET)) == (UpstreamFailure.RESET, True)
    assert fake.count("GetItem") == 1


async def test_cut_answer_is_not_repeated(upstream: HttpUpstream, fake: FakeUpstream) -> None:
    """An answer cut in its middle is RESET; the connection was alive, so nothing is repeated."""
    await upstream.send(GET)
    fake.fail("GetItem", HALF_BODY)
    assert await failure_of(upstream.send(GET)) == (UpstreamFailure.RESET, True)
    assert fake.count("GetItem") == 2


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
async def test_no_method_is_repeated_by_itself(
    upstream: HttpUpstream, fake: FakeUpstream, method: str
) -> None:
    """No method is sent a second time behind our back when an idle connection breaks."""
    await upstream.send(GET)
    fake.fail("Odd", RESET_BEFORE)
    odd = PUT._replace(method=method, headers=(("X-Amz-Target", "X.Odd"),))
    assert await failure_of(upstream.send(odd)) == (UpstreamFailure.RESET, True)
    assert fake.count("Odd") == 1


async def test_busy_connections_are_overload(fake: FakeUpstream) -> None:
    """A request that finds no free connection in time is OVERLOAD: nothing was sent."""
    gate = fake.hold("GetItem")
    async with upstream_at(fake.endpoint, connections_max=1) as upstream:
        first = asyncio.create_task(upstream.send(GET))
        await gate.reached()
        waiting = upstream.send(PUT._replace(timeout_s=0.1))
        assert await failure_of(waiting) == (UpstreamFailure.OVERLOAD, False)
        gate.release()
        assert (await first).status == 200
        assert (await upstream.send(PUT)).status == 200
    assert fake.count("PutItem") == 1


async def test_waiting_requests_are_bounded(fake: FakeUpstream) -> None:
    """More requests than may wait fail at once, and the places are given back afterwards."""
    gate = fake.hold("GetItem")
    async with upstream_at(fake.endpoint, connections_max=1, waiting_max=0) as upstream:
        first = asyncio.create_task(upstream.send(GET))
        await gate.reached()
        assert await failure_of(upstream.send(PUT)) == (UpstreamFailure.OVERLOAD, False)
        gate.release()
        await first
        assert (await upstream.send(PUT)).status == 200


async def test_cancelled_exchange_gives_its_place_back(fake: FakeUpstream) -> None:
    """A caller that goes away leaves no connection and no place taken."""
    gate = fake.hold("GetItem")
    async with upstream_at(fake.endpoint, connections_max=1, waiting_max=0) as upstream:
        first = asyncio.create_task(upstream.send(GET))
        await gate.reached()
        first.cancel()
        await asyncio.wait([first])
        assert first.cancelled()
        assert (await upstream.send(PUT)).status == 200
        gate.release()


async def test_proxy_of_the_environment_is_not_used(
    fake: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An HTTP proxy named in the environment is not asked."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with upstream_at(fake.endpoint) as upstream:
        assert (await upstream.send(GET)).status == 200


async def test_streams_go_to_their_own_endpoint(fake: FakeUpstream) -> None:
    """A request for Streams goes to the endpoint for Streams, under the endpoint's path."""
    async with HttpUpstream(
        UpstreamOptions("http://no-such-host.invalid", f"{fake.endpoint}/base/", "me"),
        signer=Signer("us-east-1"),
        credentials_of=lambda: CREDENTIALS,
        clock=SystemClock(),
    ) as upstream:
        await upstream.send(GET._replace(streams=True))
    assert fake.log[0].target == "/base/"


async def test_unencodable_field_is_left_out(upstream: HttpUpstream, fake: FakeUpstream) -> None:
    """A field with bytes outside UTF-8 is not sent; one in UTF-8 is."""
    odd = (("X-Latin", "caf\udce9"), ("X-Utf", "caf\u00e9"))
    assert (await upstream.send(GET._replace(headers=(*odd, *GET.headers)))).status == 200
    assert fake.log[0].header("X-Latin") is None
    assert fake.log[0].header("X-Utf") == "caf\u00e9"


async def test_own_hop_is_a_loop(upstream: HttpUpstream, fake: FakeUpstream) -> None:
    """Each request carries our name, which we recognise when it comes back, and only ours."""
    await upstream.send(GET._replace(headers=((HOP_HEADER, "another"), *GET.headers)))
    arrived = fake.log[0].headers

    def passed(name: str, *fields: tuple[str, str]) -> bool:
        return is_loop(ClientRequest("POST", "/", fields, b""), name)

    assert passed("me", *arrived)
    assert passed("another", *arrived)
    assert not passed("somebody", *arrived)
    assert not passed("me", ("X-Other", "me"))
    assert passed("me", (HOP_HEADER.lower(), "a, me"))


async def test_credentials_that_are_gone_leave_the_connection(fake: FakeUpstream) -> None:
    """Nothing is sent, and the idle connection stays for the next request."""
    held: list[Credentials | None] = [CREDENTIALS]
    async with HttpUpstream(
        UpstreamOptions(fake.endpoint, fake.endpoint, "me"),
        signer=Signer("us-east-1"),
        credentials_of=lambda: held[0],
        clock=SystemClock(),
    ) as upstream:
        await upstream.send(GET)
        held[0] = None
        assert await failure_of(upstream.send(PUT)) == (UpstreamFailure.CREDENTIALS, False)
        held[0] = CREDENTIALS
        await upstream.send(GET)
    assert {received.connection for received in fake.log} == {0}


async def test_a_read_that_waited_for_its_connection_is_repeated_too() -> None:
    """It was given one that another request had used, which turned out to be closed."""
    async with (
        raw_upstream() as raw,
        upstream_at(f"http://127.0.0.1:{raw.port}", connections_max=1) as upstream,
    ):
        first = asyncio.create_task(upstream.send(GET))
        peer = await raw.peer()
        second = asyncio.create_task(upstream.send(GET))
        await peer.answer(GET.body)
        assert (await first).status == 200
        await peer.receive(GET.body)
        peer.reset()
        await (await raw.peer()).answer(GET.body)
        assert (await second).status == 200


@pytest.mark.parametrize("breaks", [False, True])
async def test_a_read_is_repeated_on_another_idle_connection(*, breaks: bool) -> None:
    """Where there is one; a second time it is not repeated, however many others there are."""
    async with raw_upstream() as raw, upstream_at(f"http://127.0.0.1:{raw.port}") as upstream:
        idle = [asyncio.create_task(upstream.send(GET)) for _ in range(3)]
        peers = [await raw.peer() for _ in idle]
        for peer in peers:
            await peer.answer(GET.body)
        await asyncio.gather(*idle)
        reading = asyncio.create_task(upstream.send(GET))
        asked = {asyncio.create_task(peer.receive(GET.body)): peer for peer in peers}
        for ends in (True, breaks):
            done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            peer = asked.pop(done.pop())
            if ends:
                peer.reset()
            else:
                await peer.send(OK)
        if breaks:
            assert await failure_of(reading) == (UpstreamFailure.RESET, True)
        else:
            assert (await reading).status == 200
        for waiting in asked:
            assert not waiting.done()
            waiting.cancel()


async def test_an_exchange_that_is_late_on_an_idle_connection_ends_it() -> None:
    """An answer that comes later must not meet the next request."""
    async with raw_upstream() as raw, upstream_at(f"http://127.0.0.1:{raw.port}") as upstream:
        first = asyncio.create_task(upstream.send(PUT))
        peer = await raw.peer()
        await peer.answer(PUT.body)
        await first
        late = asyncio.create_task(failure_of(upstream.send(PUT._replace(timeout_s=0.05))))
        await peer.receive(PUT.body)
        assert await late == (UpstreamFailure.TIMEOUT, True)
        assert await peer.gone()
        assert all(not bound._until_s for bound in upstream._bounds.values())


async def test_a_caller_that_goes_away_from_an_idle_connection_ends_it() -> None:
    """Nobody watches its time any more."""
    async with raw_upstream() as raw, upstream_at(f"http://127.0.0.1:{raw.port}") as upstream:
        first = asyncio.create_task(upstream.send(PUT))
        peer = await raw.peer()
        await peer.answer(PUT.body)
        await first
        leaving = asyncio.create_task(upstream.send(PUT))
        await peer.receive(PUT.body)
        leaving.cancel()
        await asyncio.wait([leaving])
        assert leaving.cancelled()
        assert await peer.gone()
        assert all(not bound._until_s for bound in upstream._bounds.values())
