"""The `Upstream` port: kept by the adapter before the fake and real engines, and by its stand-in.

The stand-in, `ScriptedUpstream`, is what the flows' unit tests use. The second half states what
both fakes promise beyond DynamoDB: faults, gates, lag.
"""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
import zlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from proxy.core.errors import UpstreamFailed
from proxy.edge.clock import SystemClock
from proxy.edge.sigv4 import Credentials, Signer
from proxy.edge.upstream import HttpUpstream, UpstreamOptions
from proxy.flow.ports import Upstream, UpstreamReply, UpstreamRequest
from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.fake_upstream_script import (
    FAILED,
    FAILED_APPLIED_LATER,
    FAILED_YET_APPLIED,
    RESET_AFTER,
    SILENT_YET_APPLIED,
    THROTTLED,
    UNAVAILABLE,
    UNPROCESSED,
    Fault,
    Match,
)
from tests.fakes.scripted_upstream import ScriptedUpstream

Json = dict[str, Any]
Fake = FakeUpstream | ScriptedUpstream
KEY: Json = {"pk": {"S": "a"}}


def request(operation: str, body: Json, *, timeout_s: float = 20.0) -> UpstreamRequest:
    """Return a request as the flows make them."""
    return UpstreamRequest(
        operation=operation,
        streams=False,
        method="POST",
        target="/",
        headers=(
            ("Content-Type", "application/x-amz-json-1.0"),
            ("X-Amz-Target", f"DynamoDB_20120810.{operation}"),
        ),
        body=json.dumps(body).encode(),
        timeout_s=timeout_s,
        repeatable=False,
    )


def get(table: str, *, consistent: bool = True) -> UpstreamRequest:
    """Return a read of the one item."""
    return request("GetItem", {"TableName": table, "Key": KEY, "ConsistentRead": consistent})


def put(table: str, content: str, *, timeout_s: float = 20.0) -> UpstreamRequest:
    """Return a write of the one item."""
    item = {**KEY, "v": {"S": content}}
    return request("PutItem", {"TableName": table, "Item": item}, timeout_s=timeout_s)


def content_of(reply: UpstreamReply) -> str | None:
    """Return what a read found, or None for no item."""
    item = json.loads(reply.body).get("Item")
    return None if item is None else item["v"]["S"]


def adapter(endpoint: str) -> HttpUpstream:
    """Return the adapter for one endpoint."""
    return HttpUpstream(
        UpstreamOptions(endpoint, endpoint, "me"),
        signer=Signer("us-east-1"),
        credentials_of=lambda: Credentials("AKIDEXAMPLE", "secret"),
        clock=SystemClock(),
    )


@pytest.fixture
async def sockets() -> AsyncIterator[FakeUpstream]:
    """Give a fake that listens, with one table."""
    async with FakeUpstream() as running:
        running.tables.add("t", pk="S")
        yield running


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedUpstream]:
    """Give a fake in this process, with one table."""
    made = ScriptedUpstream(SystemClock())
    made.tables.add("t", pk="S")
    yield made
    await made.close()


@pytest.fixture(params=["sockets", "scripted"])
def fake(request: pytest.FixtureRequest) -> Fake:
    """Give each of the fakes."""
    made: Fake = request.getfixturevalue(request.param)
    return made


@pytest.fixture
async def upstream(fake: Fake) -> AsyncIterator[Upstream]:
    """Give the port in front of the fake."""
    if isinstance(fake, ScriptedUpstream):
        yield fake
        return
    async with adapter(fake.endpoint) as made:
        yield made


@pytest.fixture(
    params=[
        "sockets",
        "scripted",
        pytest.param("dynamodb", marks=pytest.mark.engine),
        pytest.param("dynalite", marks=pytest.mark.engine),
    ]
)
def engine(request: pytest.FixtureRequest) -> Any:
    """Give each fake and each real engine."""
    return request.getfixturevalue(request.param)


@pytest.fixture
async def anywhere(engine: Any) -> AsyncIterator[Upstream]:
    """Give the port in front of each of them."""
    if isinstance(engine, ScriptedUpstream):
        yield engine
        return
    async with adapter(engine.endpoint) as made:
        yield made


async def test_any_status_is_returned_whole(anywhere: Upstream) -> None:
    """Success and refusal come back with status, request id, checksum and body that agree."""
    table = f"contract-{uuid.uuid4().hex[:12]}"
    for sent, status in ((request("ListTables", {}), 200), (get(table), 400)):
        reply = await anywhere.send(sent)
        fields = {name.lower(): text for name, text in reply.headers}
        assert reply.status == status
        assert "x-amzn-requestid" in fields
        assert int(fields.get("x-amz-crc32", zlib.crc32(reply.body))) == zlib.crc32(reply.body)
        assert json.loads(reply.body)


@pytest.mark.parametrize(
    ("fault", "status", "error", "after"),
    [
        (THROTTLED, 400, "ProvisionedThroughputExceededException", "old"),
        (FAILED, 500, "InternalServerError", "old"),
        (UNAVAILABLE, 503, "ServiceUnavailableException", "old"),
        (FAILED_YET_APPLIED, 500, "InternalServerError", "new"),
    ],
)
async def test_fault_strikes_once_and_applies_as_said(
    upstream: Upstream, fake: Fake, *, fault: Fault, status: int, error: str, after: str
) -> None:
    """A scripted error answers one request, which took effect exactly when the script says so."""
    await upstream.send(put("t", "old"))
    fake.fail("PutItem", fault)
    reply = await upstream.send(put("t", "new"))
    assert (reply.status, json.loads(reply.body)["__type"].rpartition("#")[2]) == (status, error)
    assert content_of(await upstream.send(get("t"))) == after
    assert (await upstream.send(put("t", "newest"))).status == 200


@pytest.mark.parametrize("fault", [RESET_AFTER, SILENT_YET_APPLIED])
async def test_lost_answer_belongs_to_an_applied_write(
    upstream: Upstream, fake: Fake, fault: Fault
) -> None:
    """A write whose answer is lost is in the table all the same."""
    await upstream.send(get("t"))  # so that connecting takes nothing of the short time-out
    fake.fail("PutItem", fault)
    with pytest.raises(UpstreamFailed) as caught:
        await upstream.send(put("t", "new", timeout_s=0.1))
    assert caught.value.maybe_applied
    await fake.counted("PutItem", 1)
    assert content_of(await upstream.send(get("t"))) == "new"


async def test_delayed_effect_lands_when_told(upstream: Upstream, fake: Fake) -> None:
    """A write may land long after its answer, over what was written in between."""
    fake.fail("PutItem", FAILED_APPLIED_LATER)
    assert (await upstream.send(put("t", "delayed"))).status == 500
    await upstream.send(put("t", "between"))
    assert content_of(await upstream.send(get("t"))) == "between"
    fake.land()
    assert content_of(await upstream.send(get("t"))) == "delayed"


@pytest.mark.parametrize(("after_effect", "visible"), [(False, None), (True, "held")])
async def test_held_write_is_visible_only_after_its_effect(
    upstream: Upstream, fake: Fake, *, after_effect: bool, visible: str | None
) -> None:
    """A gate holds on the side of the effect that it names, and only what it fits."""
    gate = fake.hold(Match("PutItem", "held"), after_effect=after_effect)
    writing = asyncio.create_task(upstream.send(put("t", "held")))
    await gate.reached()
    assert content_of(await upstream.send(get("t"))) == visible
    fake.release()
    assert (await writing).status == 200
    assert content_of(await upstream.send(get("t"))) == "held"


async def test_held_write_lands_although_its_client_has_gone(
    upstream: Upstream, fake: Fake
) -> None:
    """A client that gives up does not take its write back."""
    gate = fake.hold("PutItem")
    written = fake.hold("PutItem", after_effect=True)
    writing = asyncio.create_task(upstream.send(put("t", "orphan")))
    await gate.reached()
    writing.cancel()
    await asyncio.wait([writing])
    gate.release()
    await written.reached()
    assert content_of(await upstream.send(get("t"))) == "orphan"


async def test_lagging_replica_shows_older_versions(upstream: Upstream, fake: Fake) -> None:
    """Eventually consistent reads look back as many versions as told; consistent ones do not."""
    for content in ("1", "2", "3"):
        await upstream.send(put("t", content))
    seen = []
    for lag in (0, 1, 2, 3, 9):
        fake.tables.lag_versions = lag
        seen.append(content_of(await upstream.send(get("t", consistent=False))))
    assert seen == ["3", "2", "1", None, None]
    assert content_of(await upstream.send(get("t"))) == "3"


async def test_lag_in_seconds_hides_younger_versions(upstream: Upstream, fake: Fake) -> None:
    """With a lag in seconds, eventually consistent reads do not see what is younger."""
    await upstream.send(put("t", "1"))
    fake.tables.lag_s = 3600.0
    assert content_of(await upstream.send(get("t", consistent=False))) is None
    assert content_of(await upstream.send(get("t"))) == "1"


async def test_unprocessed_part_of_a_batch_is_left_out(sockets: FakeUpstream) -> None:
    """Of a batch that is processed in part, the rest comes back and took no effect."""
    items: list[Json] = [{"pk": {"S": name}} for name in "abc"]
    writes: list[Json] = [{"PutRequest": {"Item": item}} for item in items]
    wanted = {"RequestItems": {"t": {"Keys": items}}}
    async with adapter(sockets.endpoint) as upstream:
        sockets.fail("BatchWriteItem", UNPROCESSED)
        reply = await upstream.send(request("BatchWriteItem", {"RequestItems": {"t": writes}}))
        assert json.loads(reply.body) == {"UnprocessedItems": {"t": [writes[1]]}}
        sockets.fail("BatchGetItem", UNPROCESSED)
        reply = await upstream.send(request("BatchGetItem", wanted))
    assert json.loads(reply.body) == {
        "Responses": {"t": [items[0], items[2]]},
        "UnprocessedKeys": {"t": {"Keys": [items[1]]}},
    }


async def test_unsigned_request_is_refused(sockets: FakeUpstream) -> None:
    """The fake notices a request that carries no signature."""
    headers = {"X-Amz-Target": "DynamoDB_20120810.ListTables"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(sockets.endpoint, data=b"{}", headers=headers) as reply,
    ):
        assert reply.status == 400
        assert b"MissingAuthenticationToken" in await reply.read()


async def test_fake_obeys_over_its_control_endpoint() -> None:
    """As a process of its own the fake prints its endpoint and takes every order as JSON."""
    command = ("-m", "tests.fakes.fake_upstream", "--table", "t:pk=S")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=pipe)
    try:
        assert process.stdout is not None
        endpoint = (await process.stdout.readline()).decode().strip()
        async with adapter(endpoint) as upstream, aiohttp.ClientSession() as session:
            failing = {"operation": "GetItem", "reply": "error-503", "effect": "never"}
            other = {"name": "u", "keys": {"pk": "S"}}
            holding = {"operation": "PutItem", "after_effect": False}
            order: Json = {"fail": failing, "table": other, "hold": holding, "lag_versions": 1}
            await session.post(f"{endpoint}/_fake", json=order)
            assert (await upstream.send(get("u"))).status == 503
            writing = asyncio.create_task(upstream.send(put("u", "x")))
            counts: Json = {}
            while counts != {"counts": {"GetItem": 1, "PutItem": 1}}:
                async with session.post(f"{endpoint}/_fake", json={}) as reply:
                    counts = await reply.json()
            assert not writing.done()
            await session.post(f"{endpoint}/_fake", json={"release": True, "land": True})
            assert (await writing).status == 200
    finally:
        process.kill()
        await process.wait()
