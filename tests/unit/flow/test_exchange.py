"""Claims about `proxy.flow.exchange`."""

from __future__ import annotations

import json
import zlib

import pytest

from proxy.core.batch_fetch import WantedItem
from proxy.core.errors import UpstreamFailed, UpstreamFailure
from proxy.core.operations import Capacity
from proxy.core.request import ClientRequest
from proxy.core.values import Outcome, TableName
from proxy.flow.events import CapacityConsumed, UpstreamAnswered, UpstreamSilent
from proxy.flow.exchange import Exchange, Timeouts, checksum, pass_fetched, pass_on
from proxy.flow.ports import UpstreamReply
from tests.fakes.fake_upstream_script import FAILED, RESET_AFTER, THROTTLED
from tests.support.flow_world import READ_TIMEOUT_S, TABLE, Proxy, World, client_request, key_of

PUT = {"TableName": TABLE, "Item": key_of("a")}


@pytest.fixture
async def proxy(world: World) -> Proxy:
    """Give one proxy."""
    return world.proxy()


async def test_forwarded_request_keeps_every_byte(world: World, proxy: Proxy) -> None:
    """Method, target, header fields and body reach upstream as the client sent them."""
    body = b'{ "TableName" : "orders", "Key" : {"pk":{"S":"\\u0061"}} }'
    request = client_request("GetItem", body, X_Odd="1")
    reply = await proxy.exchange.forward(request, TABLE)
    sent = world.upstream.sent[0]
    assert (sent.method, sent.target) == ("POST", "/")
    assert (sent.headers, sent.body) == (request.headers, body)
    assert reply == UpstreamReply(200, reply.headers, b"{}")


@pytest.mark.parametrize(
    ("operation", "repeatable"),
    [
        *((name, True) for name in ("GetItem", "BatchGetItem", "Query", "Scan", "DescribeTable")),
        *((name, False) for name in ("PutItem", "TransactWriteItems", "ExecuteStatement", "New")),
    ],
)
async def test_only_reads_may_be_sent_again(
    world: World, proxy: Proxy, operation: str, *, repeatable: bool
) -> None:
    """A read gets the reads' time-out and may be repeated; whatever may write may not."""
    await proxy.exchange.forward(client_request(operation, PUT), TABLE)
    sent = world.upstream.sent[0]
    assert (sent.operation, sent.streams, sent.repeatable) == (operation, False, repeatable)
    assert sent.timeout_s == (READ_TIMEOUT_S if repeatable else world.fence.write_timeout_s)


async def test_request_without_an_operation_is_forwarded_by_its_method(
    world: World, proxy: Proxy
) -> None:
    """What is no DynamoDB call is passed on as it is; a GET may be repeated, a POST may not."""
    for method in ("GET", "POST"):
        await proxy.exchange.forward(ClientRequest(method, "/ping", (), b""), None)
    assert [sent.repeatable for sent in world.upstream.sent] == [True, False]
    assert {sent.operation for sent in world.upstream.sent} == {"other"}


async def test_streams_request_is_marked_for_its_endpoint(world: World, proxy: Proxy) -> None:
    """A call of DynamoDB Streams goes to the other endpoint."""
    headers = (("X-Amz-Target", "DynamoDBStreams_20120810.GetRecords"),)
    await proxy.exchange.forward(ClientRequest("POST", "/", headers, b"{}"), None)
    assert world.upstream.sent[0].streams
    assert world.upstream.sent[0].repeatable


async def test_own_question_is_a_repeatable_read(world: World, proxy: Proxy) -> None:
    """The proxy's own requests are ordinary DynamoDB calls."""
    await proxy.exchange.ask("DescribeTable", b'{"TableName":"orders"}', TABLE)
    sent = world.upstream.sent[0]
    assert dict(sent.headers) == {
        "Content-Type": "application/x-amz-json-1.0",
        "X-Amz-Target": "DynamoDB_20120810.DescribeTable",
    }
    assert (sent.method, sent.target) == ("POST", "/")
    assert (sent.streams, sent.repeatable) == (False, True)
    assert sent.timeout_s == READ_TIMEOUT_S


async def test_exchange_is_told_with_its_duration(world: World, proxy: Proxy) -> None:
    """Every answer is told with operation, table, status and elapsed time."""
    await world.clock.sleep(9.0)
    gate = world.upstream.hold("GetItem")
    plan = world.read_plan("a")
    fetching = proxy.tasks.spawn(proxy.exchange.fetch(plan, consistent=True), "fetch")
    await gate.reached()
    world.clock.pause(1.5)
    gate.release()
    await fetching
    assert proxy.told(UpstreamAnswered) == [
        UpstreamAnswered("GetItem", TABLE, 200, throttled=False, elapsed_s=1.5)
    ]


@pytest.mark.parametrize(
    ("status", "error", "throttled"),
    [
        (400, "ProvisionedThroughputExceededException", True),
        (400, "ThrottlingException", True),
        (400, "RequestLimitExceeded", True),
        (400, "ValidationException", False),
        (500, "InternalServerError", False),
    ],
)
async def test_throttle_is_told_apart_from_other_errors(
    world: World, proxy: Proxy, *, status: int, error: str, throttled: bool
) -> None:
    """DynamoDB throttles with HTTP 400: only the error's name tells."""
    world.upstream.answer("GetItem", {"__type": f"com.amazonaws#{error}"}, status=status)
    fetched = await proxy.exchange.fetch(world.read_plan("a"), consistent=True)
    assert [told.throttled for told in proxy.told(UpstreamAnswered)] == [throttled]
    assert fetched.failed is (throttled or status == 500)
    assert fetched.found is None
    assert proxy.told(CapacityConsumed) == []


async def test_fetch_asks_for_the_whole_item(world: World, proxy: Proxy) -> None:
    """A fetch drops the projection, and is consistent when told."""
    plan = world.read_plan("a", ProjectionExpression="v", ReturnConsumedCapacity="TOTAL")
    for consistent in (True, False):
        await proxy.exchange.fetch(plan, consistent=consistent)
    bodies = [json.loads(sent.body) for sent in world.upstream.sent]
    whole = {"TableName": TABLE, "Key": key_of("a"), "ReturnConsumedCapacity": "TOTAL"}
    assert bodies == [{**whole, "ConsistentRead": True}, whole]


@pytest.mark.parametrize(
    ("characters", "consistent", "units"),
    [(1, True, 1.0), (1, False, 0.5), (9000, True, 3.0), (9000, False, 1.5), (0, True, 1.0)],
)
async def test_fetch_tells_what_it_cost(
    world: World, proxy: Proxy, *, characters: int, consistent: bool, units: float
) -> None:
    """Capacity is computed from the item's size; an absence costs as the smallest item."""
    if characters:
        world.put_elsewhere("a", "x" * characters)
    await proxy.exchange.fetch(world.read_plan("a"), consistent=consistent)
    assert proxy.told(CapacityConsumed) == [CapacityConsumed(TABLE, units)]


def wanted(*pks: str, table: TableName = TABLE, consistent: bool = False) -> list[WantedItem]:
    """Want items of one table."""
    return [WantedItem(table, key_of(pk), consistent) for pk in pks]


async def test_batch_fetch_gives_each_item_its_part(world: World, proxy: Proxy) -> None:
    """One request; every item is told apart from its absence, with upstream's whole reply."""
    world.put_elsewhere("a", "1")
    fetched, consumed = await proxy.exchange.fetch_batch(wanted("x", "a"), Capacity.NONE)
    items = [json.loads(each.found.body).get("Item") for each in fetched if each.found]
    assert [item and item["v"] for item in items] == [None, {"S": "1"}]
    assert (consumed, [sent.operation for sent in world.upstream.sent]) == ((), ["BatchGetItem"])
    assert world.upstream.sent[0].repeatable
    assert all(each.batched and not each.unprocessed and not each.others for each in fetched)
    assert proxy.told(UpstreamAnswered)[0].table == TABLE


async def test_batch_fetch_tells_what_each_table_cost(world: World, proxy: Proxy) -> None:
    """By the size of the items, absences included; double where the table was read consistently."""
    other = TableName("users")
    world.upstream.tables.add(other, pk="S")
    world.put_elsewhere("a", "x" * 9000)
    both = [*wanted("a", "x"), *wanted("a", table=other, consistent=True)]
    await proxy.exchange.fetch_batch(both, Capacity.NONE)
    assert proxy.told(CapacityConsumed) == [
        CapacityConsumed(TABLE, 2.0),
        CapacityConsumed(other, 1.0),
    ]
    assert proxy.told(UpstreamAnswered)[0].table is None


async def test_batch_fetch_in_part_marks_what_was_left(world: World, proxy: Proxy) -> None:
    """An unprocessed item is neither there nor absent, and cost nothing."""
    charged = {"TableName": TABLE, "CapacityUnits": 0.5}
    left = {TABLE: {"Keys": [key_of("b")]}}
    reply = {"Responses": {TABLE: []}, "UnprocessedKeys": left, "ConsumedCapacity": [charged]}
    world.upstream.answer("BatchGetItem", reply)
    fetched, consumed = await proxy.exchange.fetch_batch(wanted("a", "b"), Capacity.TOTAL)
    assert [(each.unprocessed, each.others) for each in fetched] == [(False, False), (True, True)]
    assert consumed == (charged,)
    assert proxy.told(CapacityConsumed) == [CapacityConsumed(TABLE, 0.5)]


@pytest.mark.parametrize(
    ("status", "error", "others"),
    [
        (400, "ValidationException", True),
        (400, "ThrottlingException", False),
        (500, "InternalServerError", False),
        (200, "Novelty", True),
    ],
)
async def test_refused_batch_says_nothing_about_an_item(
    world: World, proxy: Proxy, *, status: int, error: str, others: bool
) -> None:
    """It may be another item's fault; load and breakage are everybody's."""
    world.upstream.answer("BatchGetItem", {"__type": f"com.amazonaws#{error}"}, status=status)
    fetched, consumed = await proxy.exchange.fetch_batch(wanted("a", "b"), Capacity.NONE)
    assert [(each.found, each.others, each.unprocessed) for each in fetched] == [
        (None, others, False)
    ] * 2
    assert (consumed, proxy.told(CapacityConsumed)) == ((), [])


async def test_age_counts_from_the_question(world: World, proxy: Proxy) -> None:
    """An item is as old as the moment it was asked for, not as its answer."""
    gate = world.upstream.hold("GetItem")
    await world.clock.sleep(7.0)
    fetching = proxy.tasks.spawn(
        proxy.exchange.fetch(world.read_plan("a"), consistent=True), "fetch"
    )
    await gate.reached()
    world.clock.pause(3.0)
    gate.release()
    assert (await fetching).asked_s == pytest.approx(7.0)


async def test_reply_that_is_not_understood_is_kept_whole(world: World, proxy: Proxy) -> None:
    """An answer with members unknown to the proxy is passed on, not taken apart."""
    world.upstream.answer("GetItem", {"Item": {}, "Novelty": 1})
    fetched = await proxy.exchange.fetch(world.read_plan("a"), consistent=True)
    assert (fetched.found, fetched.failed) == (None, False)
    assert json.loads(fetched.reply.body) == {"Item": {}, "Novelty": 1}


@pytest.mark.parametrize("status", [302, 400, 500])
async def test_empty_error_is_no_absence(world: World, proxy: Proxy, status: int) -> None:
    """Only a 200 says that there is no such item, whatever the body looks like."""
    world.upstream.answer("GetItem", b"{}", status=status)
    fetched = await proxy.exchange.fetch(world.read_plan("a"), consistent=True)
    assert (fetched.found, proxy.told(CapacityConsumed)) == (None, [])


@pytest.mark.parametrize("failure", list(UpstreamFailure))
async def test_silence_is_told_and_raised(
    world: World, proxy: Proxy, failure: UpstreamFailure
) -> None:
    """Every reason for having no answer reaches the caller and the telemetry."""
    match failure:
        case UpstreamFailure.TIMEOUT:
            world.upstream.hold("PutItem")
        case UpstreamFailure.RESET:
            world.upstream.fail("PutItem", RESET_AFTER)
        case _:
            world.upstream.refuse("PutItem", failure)
    with pytest.raises(UpstreamFailed) as raised:
        await proxy.exchange.forward(client_request("PutItem", PUT), TABLE)
    assert raised.value.failure is failure
    assert proxy.events == [UpstreamSilent("PutItem", TABLE, failure)]


@pytest.mark.parametrize("fault", [THROTTLED, FAILED])
async def test_load_and_breakage_count_as_failed(world: World, proxy: Proxy, fault: object) -> None:
    """A throttle (400) and a 5xx are answers that an old entry may be better than."""
    world.upstream.fail("GetItem", THROTTLED if fault is THROTTLED else FAILED)
    assert (await proxy.exchange.fetch(world.read_plan("a"), consistent=True)).failed


async def test_reply_is_passed_on_whole() -> None:
    """Status, header fields and body of a forwarded request's answer are upstream's own."""
    fields = (("Content-Type", "application/json"), ("x-amzn-RequestId", "1"))
    answer = pass_on(UpstreamReply(418, fields, b"tea"), Outcome.BYPASS, TABLE)
    assert (answer.status, answer.headers, answer.body) == (418, fields, b"tea")
    assert (answer.outcome, answer.table) == (Outcome.BYPASS, TABLE)


async def test_reply_to_our_own_fetch_is_marked_as_such() -> None:
    """The server must know that some header fields followed our request, not the caller's."""
    reply = UpstreamReply(200, (("Content-Type", "application/x-amz-json-1.0"),), b"{}")
    assert not pass_on(reply, Outcome.MISS, TABLE).fetched
    answer = pass_fetched(reply, Outcome.MISS, TABLE)
    assert answer == pass_on(reply, Outcome.MISS, TABLE)._replace(fetched=True)


async def test_checksum_is_the_one_that_sdks_verify() -> None:
    """`x-amz-crc32` is the plain CRC-32 of the body."""
    assert checksum(b"{}") == zlib.crc32(b"{}")


@pytest.mark.parametrize(
    ("operation", "table", "told"),
    [
        ("GetItem", "gone", ["gone"]),
        ("GetItem", "orders", []),
        ("GetItem", None, []),
        ("DescribeTable", "gone", []),
    ],
)
async def test_a_table_that_upstream_does_not_know_is_told(
    proxy: Proxy, operation: str, table: TableName | None, told: list[str]
) -> None:
    """Where one table was named, and nobody was just asking for it."""
    lost: list[TableName] = []

    async def tell(name: TableName) -> None:
        lost.append(name)

    proxy.exchange.when_lost(tell)
    body = {"TableName": table or "gone", "Key": key_of("a")}
    await proxy.exchange.forward(client_request(operation, body), table)
    assert lost == told


async def test_an_exchange_that_nobody_listens_to_passes_a_refusal_on(world: World) -> None:
    """Without a listener nothing else happens."""
    exchange = Exchange(
        world.upstream, clock=world.clock, emit=lambda _: None, timeouts=Timeouts(1.0, 1.0)
    )
    body = {"TableName": "gone", "Key": key_of("a")}
    reply = await exchange.forward(client_request("GetItem", body), TableName("gone"))
    assert reply.status == 400
