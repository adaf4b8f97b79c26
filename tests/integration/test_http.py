"""Claims about HTTP on the data port: raw bytes over real sockets, through the whole proxy."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from proxy.edge.upstream_fields import HOP_HEADER
from proxy.embedded.valkey import RunningStore
from proxy.flow.read_path import ReadPath
from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.fake_upstream_script import HALF_BODY, RESET_AFTER, SILENT, Fault
from tests.support.ports import free_port
from tests.support.serving import JSON_1_0, Reply, Serving, item, key, post, serving, until

pytestmark = pytest.mark.store

MIB = 1024 * 1024
REQUEST_ID = re.compile(r"[0-9A-Z]{32,52}")


@pytest.fixture
async def fake() -> AsyncIterator[FakeUpstream]:
    """A DynamoDB with table `t` that holds the item `a`."""
    async with FakeUpstream() as upstream:
        upstream.tables.add("t", pk="S")
        upstream.tables.call("PutItem", item("a", 1))
        yield upstream


@pytest.fixture
async def proxy(fake: FakeUpstream, valkey: RunningStore) -> AsyncIterator[Serving]:
    """A proxy in front of it."""
    async with serving(fake.endpoint, store=valkey.url) as served:
        yield served


GET = post("GetItem", key("a"))


async def test_request_may_arrive_byte_by_byte(proxy: Serving) -> None:
    """However a request is cut into packets, it gets its answer."""
    async with proxy.wire() as wire:
        for at in range(len(GET)):
            await wire.send(GET[at : at + 1])
            await asyncio.sleep(0)  # lets the byte travel alone
        assert (await wire.reply()).content == {"Item": item("a", 1)["Item"]}


async def test_pipelined_requests_are_answered_in_order(proxy: Serving) -> None:
    """Requests sent without waiting for answers get them, each its own, in order."""
    names = [f"p{i}" for i in range(20)]
    async with proxy.wire() as wire:
        await wire.send(b"".join(post("PutItem", item(name, 7)) for name in names))
        assert [(await wire.reply()).status for _ in names] == [200] * 20
        await wire.send(b"".join(post("GetItem", key(name)) for name in names))
        got = [(await wire.reply()).content["Item"]["pk"]["S"] for _ in names]
    assert got == names


async def test_connection_is_kept(proxy: Serving) -> None:
    """Many requests pass over one connection."""
    async with proxy.wire() as wire:
        for _ in range(5):
            await wire.send(GET)
            reply = await wire.reply()
            assert reply.status == 200
            assert reply.fields.get("connection", "keep-alive") == "keep-alive"


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [("1.1", "close", False), ("1.0", "", False), ("1.0", "keep-alive", True)],
)
async def test_connection_ends_when_the_client_says_so(
    proxy: Serving, version: str, connection: str, *, kept: bool
) -> None:
    """`Connection: close` and HTTP/1.0 end the connection after the answer."""
    async with proxy.wire() as wire:
        await wire.send(post("GetItem", key("a"), version=version, Connection=connection))
        assert (await wire.reply()).status == 200
        if kept:
            await wire.send(GET)
            assert (await wire.reply()).status == 200
        else:
            assert await wire.closed()


async def test_chunked_request_reaches_upstream_whole(proxy: Serving, fake: FakeUpstream) -> None:
    """A chunked body is the same to upstream as one with a length."""
    body = json.dumps(item("chunked", 3)).encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (1, body[i : i + 1]) for i in range(len(body)))
    head = post("PutItem", b"", framed=False, Transfer_Encoding="chunked")
    reply = await proxy.ask(head + chunks + b"0\r\n\r\n")
    assert reply.status == 200
    assert fake.log[-1].body == body
    assert fake.log[-1].header("content-length") == str(len(body))


async def test_expect_100_continue_is_answered_before_the_body(proxy: Serving) -> None:
    """A client that waits for permission gets it, then its answer."""
    body = json.dumps(key("a")).encode()
    async with proxy.wire() as wire:
        length = str(len(body))
        await wire.send(
            post("GetItem", b"", framed=False, Expect="100-continue", Content_Length=length)
        )
        _, status, fields = await wire.head()
        assert (status, fields) == (100, {})
        await wire.send(body)
        reply = await wire.reply()
    assert (reply.status, reply.content["Item"]["n"]) == (200, {"N": "1"})


async def test_expect_is_ignored_for_http_1_0(proxy: Serving) -> None:
    """HTTP/1.0 knows no interim answer (RFC 9110 §10.1.1)."""
    reply = await proxy.ask(post("GetItem", key("a"), version="1.0", Expect="100-continue"))
    assert reply.status == 200


async def test_upgrade_to_http_2_is_ignored(proxy: Serving) -> None:
    """Java's HTTP client offers h2c with every first request; it is served as HTTP/1.1."""
    offer: dict[str, Any] = {
        "Connection": "Upgrade, HTTP2-Settings",
        "Upgrade": "h2c",
        "HTTP2_Settings": "AAEA",
    }
    async with proxy.wire() as wire:
        for _ in range(2):
            await wire.send(post("GetItem", key("a"), **offer))
            assert (await wire.reply()).content["Item"]["n"] == {"N": "1"}


async def test_gzipped_body_is_passed_on_untouched(proxy: Serving, fake: FakeUpstream) -> None:
    """Upstream gets the compressed bytes, and the write invalidates all the same."""
    assert (await proxy.ask(GET)).content["Item"]["n"] == {"N": "1"}
    packed = gzip.compress(json.dumps(item("a", 2)).encode())
    reply = await proxy.ask(post("PutItem", packed, Content_Encoding="gzip"))
    assert reply.status == 200
    assert fake.log[-1].body == packed
    assert fake.log[-1].header("content-encoding") == "gzip"
    assert (await proxy.ask(GET)).content["Item"]["n"] == {"N": "2"}


async def test_bodies_to_16_mib_pass(proxy: Serving, fake: FakeUpstream) -> None:
    """DynamoDB's own limit is the proxy's."""
    padded = json.dumps({"RequestItems": {"t": []}}).encode().ljust(16 * MIB)
    reply = await proxy.ask(post("BatchWriteItem", padded))
    assert reply.status == 200, reply.body
    assert fake.log[-1].body == padded


@pytest.mark.parametrize("chunked", [True, False])
async def test_larger_bodies_are_refused_readably(
    proxy: Serving, fake: FakeUpstream, *, chunked: bool
) -> None:
    """A client that sends all of a too large body still reads a 413, not a reset."""
    size = 16 * MIB + 1
    if chunked:
        raw = post("PutItem", b"", framed=False, Transfer_Encoding="chunked")
        raw += b"%x\r\n%s\r\n0\r\n\r\n" % (size, b" " * size)
    else:
        raw = post("PutItem", b" " * size)
    async with proxy.wire() as wire:
        await wire.send(raw)
        reply = await wire.reply()
        assert (reply.status, reply.error) == (413, "RequestEntityTooLargeException")
        assert reply.crc32_right
        assert reply.fields["connection"] == "close"
        assert await wire.closed()
    assert fake.count("PutItem") == 0


async def test_too_large_body_is_refused_before_it_is_sent(proxy: Serving) -> None:
    """A client that asks with Expect is refused without an interim answer."""
    length = str(17 * MIB)
    async with proxy.wire() as wire:
        await wire.send(
            post("PutItem", b"", framed=False, Expect="100-continue", Content_Length=length)
        )
        assert (await wire.reply()).status == 413


async def test_header_fields_to_32_kib_pass(proxy: Serving, fake: FakeUpstream) -> None:
    """Session tokens are long; what the client sends beside them reaches upstream."""
    long = "x" * (32 * 1024 - 100)
    assert (await proxy.call("ListTables", {}, X_Long=long)).status == 200
    assert fake.log[-1].header("x-long") == long


@pytest.mark.parametrize("size", [33 * 1024, 1024 * 1024])
async def test_larger_header_fields_are_refused_readably(proxy: Serving, size: int) -> None:
    """A field beyond the limit gets a 400 in DynamoDB's shape."""
    reply = await proxy.call("ListTables", {}, X_Long="x" * size)
    assert (reply.status, reply.error) == (400, "SerializationException")


async def test_field_names_may_be_in_lower_case(proxy: Serving) -> None:
    """Field names have no case."""
    head, _, body = GET.partition(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    lower = [name.lower() + b":" + text for name, _, text in (f.partition(b":") for f in fields)]
    reply = await proxy.ask(b"\r\n".join([line, *lower]) + b"\r\n\r\n" + body)
    assert (reply.status, reply.content["Item"]["n"]) == (200, {"N": "1"})


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03secret\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: secret\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nse cret: 1\r\n\r\n",
        b"POST / HTTP/9.9\r\nHost: secret\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
    ],
)
async def test_what_is_not_http_gets_a_short_400(
    proxy: Serving, raw: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """The answer has DynamoDB's shape; the log shows neither a stack trace nor the bytes."""
    async with proxy.wire() as wire:
        await wire.send(raw)
        reply = await wire.reply()
        assert await wire.closed()
    assert (reply.status, reply.error) == (400, "SerializationException")
    assert reply.crc32_right
    assert REQUEST_ID.fullmatch(reply.fields["x-amzn-requestid"])
    assert reply.fields["server"] == "Server"
    assert len(reply.body) < 200
    assert await proxy.metric("dynaside_invariant_violations_total") == 0
    shown = "".join(capsys.readouterr())
    assert "Traceback" not in shown
    assert "secret" not in shown


async def test_broken_chunks_are_the_clients_fault(
    proxy: Serving, fake: FakeUpstream, capsys: pytest.CaptureFixture[str]
) -> None:
    """A body that is no valid chunked coding gets a 400 and counts as no bug of ours."""
    head = post("PutItem", b"", framed=False, Transfer_Encoding="chunked")
    async with proxy.wire() as wire:
        await wire.send(head + b"5\r\nhello\r\n")
        await until(lambda: proxy.services.data_server.in_flight == 1)
        await wire.send(b"zz\r\n\r\n")
        reply = await wire.reply()
        assert (reply.status, reply.error) == (400, "SerializationException")
        assert await wire.closed()
    shown = "".join(capsys.readouterr())
    assert "Traceback" not in shown
    assert "Unhandled" not in shown
    assert await proxy.metric("dynaside_invariant_violations_total") == 0
    assert fake.count("PutItem") == 0


async def test_body_that_stalls_is_given_up(fake: FakeUpstream) -> None:
    """A client that stops half-way through its body gets a 408 when its time is over."""
    settings = {"http.keepalive_s": 1}
    async with serving(fake.endpoint, settings=settings) as proxy, proxy.wire() as wire:
        await wire.send(post("PutItem", item("half", 1))[:-5])
        reply = await wire.reply()
        assert (reply.status, reply.fields["connection"]) == (408, "close")
    assert fake.count("PutItem") == 0


async def test_client_that_leaves_amid_its_body_is_no_bug(
    proxy: Serving, fake: FakeUpstream
) -> None:
    """Half a body reaches nobody and counts as no bug of ours."""
    async with proxy.wire() as wire:
        await wire.send(post("PutItem", item("half", 1))[:-5])
        await until(lambda: proxy.services.data_server.in_flight == 1)
    await until(lambda: proxy.services.data_server.in_flight == 0)
    assert await proxy.metric("dynaside_invariant_violations_total") == 0
    assert fake.count("PutItem") == 0


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
async def test_other_methods_pass_through(proxy: Serving, fake: FakeUpstream, method: str) -> None:
    """What is no DynamoDB call is upstream's to answer: `GET /` is its health check."""
    reply = await proxy.ask(f"{method} /ping?x=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert reply.status == 200
    assert (fake.log[-1].method, fake.log[-1].target) == (method, "/ping?x=1")


async def test_head_has_no_body(proxy: Serving) -> None:
    """The answer to HEAD is a head alone, and the connection goes on."""
    async with proxy.wire() as wire:
        await wire.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await wire.reply(bodiless=True)).status == 200
        await wire.send(GET)
        assert (await wire.reply()).status == 200


async def test_one_connection_too_many_is_refused_readably(
    fake: FakeUpstream, valkey: RunningStore
) -> None:
    """Beyond `http.connections_max` a connection gets a 503, and the others go on."""
    settings = {"http.connections_max": 1}
    async with (
        serving(fake.endpoint, store=valkey.url, settings=settings) as proxy,
        proxy.wire() as first,
    ):
        await first.send(GET)
        assert (await first.reply()).status == 200
        refused = await proxy.ask(GET)
        assert (refused.status, refused.error) == (503, "InternalServerError")
        assert refused.crc32_right
        assert REQUEST_ID.fullmatch(refused.fields["x-amzn-requestid"])
        await first.send(GET)
        assert (await first.reply()).status == 200


async def test_hang_up_amid_a_write_still_ends_its_fence(
    proxy: Serving, fake: FakeUpstream
) -> None:
    """The write runs on without its caller: the next read fills, the one after hits."""
    assert (await proxy.ask(GET)).status == 200
    gate = fake.hold("PutItem")
    async with proxy.wire() as wire:
        await wire.send(post("PutItem", item("a", 2)))
        await gate.reached()
    gate.release()
    await until(lambda: len(proxy.services.tasks) == 0)
    for seen in ("dynaside; fwd=miss; stored", "dynaside; hit; ttl="):
        reply = await proxy.ask(GET)
        assert reply.content["Item"]["n"] == {"N": "2"}
        assert reply.cache.startswith(seen)


async def own_answers(proxy: Serving) -> dict[str, Reply]:
    """Return one of each kind of answer that does not come from upstream."""
    await proxy.ask(GET)
    projected = key("a") | {"ProjectionExpression": "n"}
    return {
        "hit": await proxy.ask(GET),
        "projected hit": await proxy.call("GetItem", projected),
        "negative hit": [await proxy.call("GetItem", key("none")) for _ in range(2)][1],
        "error": await proxy.ask(post("GetItem", b"{")),
        "unsigned": await proxy.call("GetItem", key("a"), Authorization=""),
    }


async def test_own_answers_look_like_dynamodbs(proxy: Serving) -> None:
    """Each has a right checksum, a request id, a date, a server and the content type."""
    answers = await own_answers(proxy)
    assert answers["hit"].cache.startswith("dynaside; hit")
    assert answers["negative hit"].cache.endswith("detail=negative")
    assert answers["projected hit"].content == {"Item": {"n": {"N": "1"}}}
    for name, reply in answers.items():
        assert reply.crc32_right, name
        assert REQUEST_ID.fullmatch(reply.fields["x-amzn-requestid"]), name
        assert reply.fields["server"] == "Server", name
        assert reply.fields["date"].endswith("GMT"), name
        assert reply.fields["content-type"] == JSON_1_0, name


async def test_request_ids_are_unique(proxy: Serving) -> None:
    """Two hits have two request ids."""
    replies = [await proxy.ask(GET) for _ in range(3)]
    assert len({reply.fields["x-amzn-requestid"] for reply in replies}) == 3


async def test_content_type_follows_the_request(proxy: Serving) -> None:
    """A hit is `application/json` for whom asked so, as at DynamoDB."""
    await proxy.ask(GET)
    reply = await proxy.call("GetItem", key("a"), Content_Type="application/json; charset=utf-8")
    assert reply.cache.startswith("dynaside; hit")
    assert reply.fields["content-type"].startswith("application/json")


async def test_hits_carry_cors_fields_for_browsers(proxy: Serving) -> None:
    """A request with Origin may read the answer, also from the cache; others see no such field."""
    await proxy.ask(GET)
    reply = await proxy.call("GetItem", key("a"), Origin="https://app.example")
    assert reply.cache.startswith("dynaside; hit")
    assert reply.fields["access-control-allow-origin"] == "*"
    assert "access-control-allow-origin" not in (await proxy.ask(GET)).fields


@pytest.mark.parametrize("method", [b"POST", b"OPTIONS"])
async def test_web_page_cannot_use_the_proxys_credentials(
    fake: FakeUpstream, valkey: RunningStore, method: bytes
) -> None:
    """With `http.cross_origin` off neither a call nor its preflight reaches upstream."""
    settings = {"http.cross_origin": False}
    async with serving(fake.endpoint, store=valkey.url, settings=settings) as proxy:
        await proxy.ask(GET)
        before = len(fake.log)
        call = post("GetItem", key("a"), Origin="https://evil.example")
        reply = await proxy.ask(call.replace(b"POST", method, 1))
        assert (reply.status, reply.error) == (403, "AccessDeniedException")
        assert reply.crc32_right
        assert not [name for name in reply.fields if name.startswith("access-control-")]
        assert len(fake.log) == before


async def test_cache_status_can_be_switched_off(fake: FakeUpstream, valkey: RunningStore) -> None:
    """With `http.cache_status` off nothing tells a hit from a miss."""
    settings = {"http.cache_status": False}
    async with serving(fake.endpoint, store=valkey.url, settings=settings) as proxy:
        replies = [await proxy.ask(GET) for _ in range(2)]
    assert [reply.status for reply in replies] == [200, 200]
    assert not any("cache-status" in reply.fields for reply in replies)


async def test_loop_to_itself_is_cut() -> None:
    """A proxy that is its own upstream answers 508 after one round, not after thousands."""
    port = free_port()
    async with serving(f"http://127.0.0.1:{port}", port=port) as proxy:
        reply = await proxy.call("ListTables", {})
        assert (reply.status, reply.error) == (508, "LoopDetectedException")
        assert await proxy.metric("dynaside_upstream_responses_total") == 1


async def test_other_proxies_on_the_way_are_no_loop(proxy: Serving) -> None:
    """A request that passed another proxy is served."""
    passed: dict[str, Any] = {HOP_HEADER: "somebody, else"}
    reply = await proxy.ask(post("GetItem", key("a"), **passed))
    assert reply.status == 200


@pytest.mark.parametrize(
    ("fault", "status", "error"),
    [
        (SILENT, 500, "InternalServerError"),
        (RESET_AFTER, 500, "InternalServerError"),
        (HALF_BODY, 500, "InternalServerError"),
    ],
)
@pytest.mark.parametrize("operation", ["GetItem", "PutItem"])
async def test_upstream_that_breaks_is_an_error_that_sdks_retry(
    fake: FakeUpstream, valkey: RunningStore, operation: str, fault: Fault, status: int, error: str
) -> None:
    """Silent, reset, half a body: a 500 in DynamoDB's shape, and the next request is fine."""
    settings = {"upstream.read_timeout_s": 0.3, "upstream.write_timeout_s": 0.3}
    body = key("a") if operation == "GetItem" else item("a", 2)
    async with serving(fake.endpoint, store=valkey.url, settings=settings) as proxy:
        fake.fail(operation, fault, times=2)  # a read on a used connection is tried twice
        reply = await proxy.call(operation, body)
        assert (reply.status, reply.error) == (status, error)
        assert reply.crc32_right
        fake.forgive()
        assert (await proxy.call(operation, body)).status == 200


async def test_unreachable_upstream_is_a_503(valkey: RunningStore) -> None:
    """Nothing was sent: ServiceUnavailable, which SDKs retry."""
    async with serving(f"http://127.0.0.1:{free_port()}", store=valkey.url) as proxy:
        reply = await proxy.ask(GET)
    assert (reply.status, reply.error) == (503, "ServiceUnavailableException")


async def test_bug_of_ours_fails_one_request(
    proxy: Serving, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failed assertion is a 500, counted and logged without values; the next one is fine."""
    with monkeypatch.context() as broken:

        async def answer(*_: Any) -> Any:
            assert not _, "secret item"

        broken.setattr(ReadPath, "answer", answer)
        async with proxy.wire() as wire:
            await wire.send(GET)
            reply = await wire.reply()
            assert (reply.status, reply.error) == (500, "InternalServerError")
            assert reply.crc32_right
            broken.undo()
            await wire.send(GET)
            assert (await wire.reply()).status == 200
    assert await proxy.metric("dynaside_invariant_violations_total") == 1
    assert "secret" not in "".join(capsys.readouterr())
