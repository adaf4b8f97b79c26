"""Claims about `proxy.flow.dispatcher`: every request finds its path, every error its shape."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from typing import Any

import pytest

from proxy.core.errors import StoreFailure, UpstreamFailure
from proxy.core.policy import NearPolicy, QueryPolicy
from proxy.core.request import ClientRequest, Headers
from proxy.core.values import BypassReason, Level, Mode, Outcome, WriteMode
from proxy.flow.events import RequestAnswered
from tests.support.flow_world import TABLE, Proxy, World, client_request, key_of, value_of

GET = {"TableName": TABLE, "Key": key_of("a")}
PUT: dict[str, Any] = {"TableName": TABLE, "Item": {**key_of("a"), "v": {"S": "2"}}}
UNSIGNED = (("X-Amz-Target", "DynamoDB_20120810.GetItem"),)


@pytest.fixture
async def proxy(world: World) -> Proxy:
    """Give one proxy; item a holds "1"."""
    world.put_elsewhere("a", "1")
    return world.proxy()


async def test_reads_and_writes_find_their_paths(proxy: Proxy) -> None:
    """A GetItem is read through, a PutItem and a change of the table are fenced."""
    requests = [
        client_request("GetItem", GET),
        client_request("GetItem", GET),
        client_request("PutItem", PUT),
        client_request("DeleteTable", {"TableName": TABLE}),
    ]
    answers = [await proxy.dispatcher.answer(request) for request in requests]
    assert [answer.outcome for answer in answers] == [
        Outcome.MISS,
        Outcome.HIT,
        Outcome.WRITE,
        Outcome.WRITE,
    ]
    assert [step.name for step in proxy.store.steps][-4:] == [
        "begin",
        "end",
        "begin_table",
        "end_table",
    ]


async def test_query_is_answered_on_its_path(proxy: Proxy) -> None:
    """Where the table says so, a Scan meets the store."""
    world = proxy.world
    world.policy = replace(world.policy, queries=QueryPolicy(enabled=True, scans=True))
    answer = await proxy.dispatcher.answer(client_request("Scan", {"TableName": TABLE}))
    assert (answer.reason, proxy.store.asked("lookup_page")) == (BypassReason.PAGES_SOON, 1)


async def test_every_request_is_told_once(proxy: Proxy) -> None:
    """Operation, table, outcome, reason, status and time of each answer are told."""
    await proxy.world.clock.sleep(9.0)
    gate = proxy.world.upstream.hold("GetItem")
    answering = proxy.tasks.spawn(
        proxy.dispatcher.answer(client_request("GetItem", {**GET, "ConsistentRead": True})), "test"
    )
    await gate.reached()
    proxy.world.clock.pause(0.5)
    gate.release()
    await answering
    assert proxy.told(RequestAnswered) == [
        RequestAnswered(
            operation="GetItem",
            table=TABLE,
            outcome=Outcome.BYPASS,
            reason=BypassReason.CONSISTENT_READ,
            status=200,
            elapsed_s=0.5,
        )
    ]


async def test_batches_of_reads_go_their_own_way(proxy: Proxy) -> None:
    """A BatchGetItem is answered from the cache, and told as one request."""
    batch = client_request("BatchGetItem", {"RequestItems": {TABLE: {"Keys": [key_of("a")]}}})
    answers = [await proxy.dispatcher.answer(batch) for _ in range(2)]
    assert [answer.outcome for answer in answers] == [Outcome.MISS, Outcome.HIT]
    assert [(each.operation, each.table) for each in proxy.told(RequestAnswered)] == [
        ("BatchGetItem", TABLE)
    ] * 2


@pytest.mark.parametrize(
    ("request_", "reason", "told"),
    [
        (client_request("Query", {"TableName": TABLE}), BypassReason.OPERATION, "Query"),
        (client_request("GetItem", b"{"), BypassReason.UNDECODABLE, "GetItem"),
        (ClientRequest("GET", "/", (), b""), BypassReason.OPERATION, "other"),
    ],
)
async def test_what_is_not_cached_passes_through(
    proxy: Proxy, request_: ClientRequest, reason: BypassReason, told: str
) -> None:
    """Everything else reaches upstream as it came, and its answer comes back as it is."""
    proxy.world.upstream.answer("", b"\x00raw", status=418)
    answer = await proxy.dispatcher.answer(request_)
    assert (answer.status, answer.body) == (418, b"\x00raw")
    assert (answer.outcome, answer.reason) == (Outcome.BYPASS, reason)
    assert proxy.world.upstream.sent[0].body == request_.body
    assert [each.operation for each in proxy.told(RequestAnswered)] == [told]


async def test_table_that_is_off_passes_through_with_its_name(proxy: Proxy) -> None:
    """The bypass names the table, so that the operator finds it."""
    proxy.world.policy = replace(proxy.world.policy, mode=Mode.OFF)
    answer = await proxy.dispatcher.answer(client_request("GetItem", GET))
    assert (answer.table, answer.reason) == (TABLE, BypassReason.TABLE_OFF)


async def test_write_around_passes_through(proxy: Proxy) -> None:
    """A write that the operator wants around the cache is not fenced."""
    proxy.world.policy = replace(proxy.world.policy, write_mode=WriteMode.AROUND)
    answer = await proxy.dispatcher.answer(client_request("PutItem", PUT))
    assert (answer.reason, proxy.store.steps) == (BypassReason.WRITE_AROUND, [])


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", UNSIGNED),
        ("GET", UNSIGNED),
        ("POST", ()),
        ("POST", (("X-Amz-Target", "DynamoDB_20990101.GetItem"),)),
        ("PUT", ()),
        ("DELETE", ()),
    ],
)
async def test_unsigned_request_is_refused(proxy: Proxy, method: str, headers: Headers) -> None:
    """The proxy signs for nobody whom DynamoDB would refuse, known operation or not."""
    answer = await proxy.dispatcher.answer(ClientRequest(method, "/", headers, b"{}"))
    assert answer.status == 400
    assert json.loads(answer.body)["__type"].endswith("#MissingAuthenticationTokenException")
    assert proxy.world.upstream.sent == []
    assert [each.outcome for each in proxy.told(RequestAnswered)] == [Outcome.REJECTED]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_unsigned_request_that_asks_for_nothing_passes(proxy: Proxy, method: str) -> None:
    """Health checks and preflights carry no signature, at DynamoDB neither."""
    answer = await proxy.dispatcher.answer(ClientRequest(method, "/", (), b""))
    assert answer.outcome is Outcome.BYPASS
    assert len(proxy.world.upstream.sent) == 1


async def test_presigned_request_is_let_in(proxy: Proxy) -> None:
    """A signature in the query counts as one in the header."""
    target = "/?X-Amz-Signature=0123"
    answer = await proxy.dispatcher.answer(ClientRequest("POST", target, UNSIGNED, b"{}"))
    assert answer.outcome is Outcome.BYPASS


async def test_request_with_two_targets_is_refused(proxy: Proxy) -> None:
    """Upstream might read the other one, and apply a write that no fence covers."""
    request = client_request("GetItem", GET)
    doubled = (*request.headers, ("x-amz-TARGET", "DynamoDB_20120810.PutItem"))
    answer = await proxy.dispatcher.answer(request._replace(headers=doubled))
    assert (answer.status, proxy.world.upstream.sent) == (400, [])


@pytest.mark.parametrize("coding", ["gzip", "GZIP ", "identity"])
async def test_compressed_write_is_fenced_and_sent_as_it_came(proxy: Proxy, coding: str) -> None:
    """The proxy looks into the compressed body to find the item, and forwards it compressed."""
    raw = json.dumps(PUT).encode()
    body = raw if coding == "identity" else gzip.compress(raw)
    request = client_request("PutItem", body, Content_Encoding=coding)
    proxy.world.upstream.answer("PutItem", {})
    answer = await proxy.dispatcher.answer(request)
    assert (answer.status, answer.outcome) == (200, Outcome.WRITE)
    sent = [each for each in proxy.world.upstream.sent if each.operation == "PutItem"]
    assert [each.body for each in sent] == [body]
    assert proxy.store.asked("end") == 1


@pytest.mark.parametrize("operation", ["PutItem", "BatchWriteItem"])
@pytest.mark.parametrize("body", [b"no gzip", gzip.compress(b" " * 1025)])
async def test_write_that_cannot_be_inflated_is_refused(
    proxy: Proxy, operation: str, body: bytes
) -> None:
    """Nobody can say what it would write: it must not reach upstream without a fence."""
    request = client_request(operation, body, Content_Encoding="gzip")
    answer = await proxy.dispatcher.answer(request)
    assert (answer.status, answer.outcome) == (400, Outcome.REJECTED)
    assert proxy.world.upstream.sent == []


@pytest.mark.parametrize(
    ("operation", "reason"),
    [("GetItem", BypassReason.UNDECODABLE), ("Query", BypassReason.UNDECODABLE)],
)
async def test_compressed_read_passes_through(
    proxy: Proxy, operation: str, reason: BypassReason
) -> None:
    """Reads are not looked into when compressed: upstream answers them."""
    body = gzip.compress(json.dumps(GET).encode())
    answer = await proxy.dispatcher.answer(client_request(operation, body, Content_Encoding="gzip"))
    assert (answer.outcome, answer.reason) == (Outcome.BYPASS, reason)
    assert proxy.world.upstream.sent[0].body == body


async def test_unfenced_request_in_an_unknown_coding_passes_through(proxy: Proxy) -> None:
    """What cannot write needs no looking into."""
    request = client_request("TransactGetItems", b"\x00", Content_Encoding="br")
    answer = await proxy.dispatcher.answer(request)
    assert (answer.outcome, answer.reason) == (Outcome.BYPASS, BypassReason.OPERATION)


@pytest.mark.parametrize("failure", list(UpstreamFailure))
@pytest.mark.parametrize("operation", ["GetItem", "PutItem", "Query"])
async def test_silence_of_upstream_becomes_an_error_that_sdks_retry(
    proxy: Proxy, operation: str, failure: UpstreamFailure
) -> None:
    """On every path every kind of silence is answered 5xx in DynamoDB's shape."""
    proxy.world.upstream.refuse(operation, failure)
    body = PUT if operation == "PutItem" else GET
    answer = await proxy.dispatcher.answer(client_request(operation, body))
    assert answer.status in {500, 503}
    assert "__type" in json.loads(answer.body)
    assert [each.outcome for each in proxy.told(RequestAnswered)] == [Outcome.FAILED]


@pytest.mark.parametrize("failure", list(StoreFailure))
async def test_strict_write_without_a_store_is_answered_so_that_sdks_retry(
    proxy: Proxy, failure: StoreFailure
) -> None:
    """A refused strict write is a 500, not a 400 that the application would see as its mistake."""
    proxy.world.policy = replace(proxy.world.policy, level=Level.STRICT)
    proxy.store.down = failure
    answer = await proxy.dispatcher.answer(client_request("PutItem", PUT))
    assert (answer.status, answer.outcome) == (500, Outcome.FAILED)
    assert json.loads(answer.body)["__type"].endswith("#InternalServerError")
    assert proxy.world.upstream.count("PutItem") == 0


async def test_malformed_write_is_refused_as_dynamodb_does(proxy: Proxy) -> None:
    """A write that cannot be read is a SerializationException, and never sent."""
    answer = await proxy.dispatcher.answer(client_request("PutItem", b"{"))
    assert answer.status == 400
    assert json.loads(answer.body)["__type"].endswith("#SerializationException")
    assert proxy.world.upstream.sent == []


async def test_bug_is_not_dressed_up_as_an_answer(proxy: Proxy) -> None:
    """Only the proxy's own errors become answers; the server handles what nobody expected."""

    async def fall(_: object) -> None:
        raise ZeroDivisionError

    proxy.store.before = fall
    with pytest.raises(ZeroDivisionError):
        await proxy.dispatcher.answer(client_request("GetItem", GET))
    proxy.store.before = None
    assert value_of(await proxy.get("a")) == "1"


DENIED = {"__type": "AccessDeniedException"}
MISMATCH = {"message": "The provided key element does not match the schema"}
UPDATE = {"TableName": TABLE, "Key": key_of("a"), "UpdateExpression": ""}
DELETE = {"TableName": TABLE, "Key": key_of("a")}


@pytest.mark.parametrize(
    ("operation", "body"), [("GetItem", GET), ("UpdateItem", UPDATE), ("DeleteItem", DELETE)]
)
async def test_accepted_key_lets_the_next_put_fence_its_item(
    proxy: Proxy, operation: str, body: dict[str, object]
) -> None:
    """Where DescribeTable is denied, other requests tell the key attributes' names."""
    proxy.world.upstream.answer("DescribeTable", DENIED, status=400)
    put = client_request("PutItem", PUT)
    await proxy.dispatcher.answer(put)
    assert proxy.store.asked("begin_table") == 1
    await proxy.world.clock.sleep(1.0)
    assert (await proxy.dispatcher.answer(client_request(operation, body))).status == 200
    await proxy.dispatcher.answer(put)
    assert proxy.store.asked("begin_table") == 1


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("GetItem", GET),
        ("PutItem", PUT),
        ("DeleteItem", DELETE),
        ("TransactWriteItems", {"TransactItems": [{"Delete": DELETE}, {"Put": PUT}]}),
    ],
)
async def test_refused_key_makes_the_key_schema_be_asked_for_again(
    proxy: Proxy, operation: str, body: dict[str, object]
) -> None:
    """The table may have been made anew past every proxy."""
    put = client_request("PutItem", PUT)
    await proxy.dispatcher.answer(put)
    await proxy.world.clock.sleep(40.0)
    proxy.world.upstream.answer(operation, MISMATCH, status=400)
    assert (await proxy.dispatcher.answer(client_request(operation, body))).status == 400
    await proxy.dispatcher.answer(put)
    assert proxy.world.upstream.count("DescribeTable") == 2


async def test_hits_and_transactions_teach_no_key(proxy: Proxy) -> None:
    """A hit is no judgement of upstream's, and a transaction may be a mere repetition."""
    await proxy.dispatcher.answer(client_request("GetItem", GET))
    proxy.world.upstream.answer("DescribeTable", DENIED, status=400)
    put = client_request("PutItem", PUT)
    other = {**PUT["Item"], **key_of("b")}
    await proxy.dispatcher.answer(client_request("PutItem", {"TableName": TABLE, "Item": other}))
    await proxy.world.clock.sleep(1.0)
    proxy.world.upstream.answer("TransactWriteItems", {})
    one = {"TransactItems": [{"Delete": DELETE}]}
    await proxy.dispatcher.answer(client_request("TransactWriteItems", one))
    await proxy.dispatcher.answer(put)
    assert proxy.store.asked("begin_table") == 2


async def test_a_read_that_passes_drops_older_copies_of_what_it_shows(world: World) -> None:
    """The next read, which may be answered by a copy, is not older."""
    world.put_elsewhere("a", "1")
    world.near = NearPolicy()
    proxy = world.proxy()
    for _ in range(2):
        await proxy.ask("GetItem", GET)
    assert len(proxy.near.cache) == 1
    await proxy.ask("GetItem", GET, X_Dynaside_Cache="bypass")
    assert len(proxy.near.cache) == 0
