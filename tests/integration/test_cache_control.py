"""`X-Dynaside-Cache` through sockets and with a real SDK: what is sent, answered and counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from proxy.embedded.valkey import RunningStore
from tests.fakes.fake_upstream import FakeUpstream
from tests.support.proxy_process import RunningProxy, running_proxy
from tests.support.sdk import boto3_client
from tests.support.serving import Serving, item, key, serving

pytestmark = pytest.mark.store


@pytest.fixture
async def fake() -> AsyncIterator[FakeUpstream]:
    """Give a DynamoDB with table `t`, where item a has n=1."""
    async with FakeUpstream() as made:
        made.tables.add("t", pk="S")
        made.tables.call("PutItem", item("a", 1))
        yield made


@pytest.fixture
async def proxy(fake: FakeUpstream, valkey: RunningStore) -> AsyncIterator[Serving]:
    """Give a proxy in front of it."""
    async with serving(fake.endpoint, store=valkey.url) as made:
        yield made


async def number(proxy: Serving, wish: str = "") -> tuple[str, str]:
    """Read item a; return its number and what the cache says."""
    reply = await proxy.call("GetItem", key("a"), X_Dynaside_Cache=wish)
    return reply.content["Item"]["n"]["N"], reply.cache


async def test_directives_do_what_they_say(fake: FakeUpstream, proxy: Serving) -> None:
    """Bypass leaves the older entry, refresh replaces it, and the field never goes upstream."""
    assert await number(proxy) == ("1", "dynaside; fwd=miss; stored")
    fake.tables.call("PutItem", item("a", 2))
    assert (await number(proxy, "only-if-cached"))[0] == "1"
    assert await number(proxy, "bypass") == ("2", "dynaside; fwd=bypass; detail=requested")
    assert (await number(proxy))[0] == "1"
    assert await number(proxy, "refresh") == ("2", "dynaside; fwd=request; stored")
    assert (await number(proxy, "max-age=300"))[0] == "2"
    fake.tables.call("PutItem", item("a", 3))
    assert await number(proxy, "max-age=0") == ("3", "dynaside; fwd=request; stored")
    assert (await number(proxy))[0] == "3"
    sent = [name.lower() for received in fake.log for name, _ in received.headers]
    assert "x-dynaside-cache" not in sent


async def test_nothing_is_sent_for_the_cache_alone(fake: FakeUpstream, proxy: Serving) -> None:
    """An item that is not cached is a 400 of our own, counted for its table."""
    reply = await proxy.call("GetItem", key("a"), X_Dynaside_Cache="only-if-cached")
    assert (reply.status, reply.error) == (400, "NotCachedException")
    assert (reply.cache, reply.crc32_right) == ("dynaside; detail=not-cached", True)
    labels = ('table="t"', 'outcome="not_cached"')
    assert await proxy.metric("dynaside_requests_total", *labels) == 1
    assert fake.log == []


@pytest.mark.parametrize("wish", ["no-cache", "bypass, refresh", "max-age=-1"])
async def test_nonsense_is_refused_on_reads_and_ignored_on_writes(
    fake: FakeUpstream, proxy: Serving, wish: str
) -> None:
    """The read is the client's to correct; the write is fenced and takes effect."""
    await number(proxy)
    read = await proxy.call("GetItem", key("a"), X_Dynaside_Cache=wish)
    assert (read.status, read.error) == (400, "ValidationException")
    assert "X-Dynaside-Cache" in read.content["message"]
    written = await proxy.call("PutItem", item("a", 2), X_Dynaside_Cache=wish)
    assert written.cache == "dynaside; fwd=bypass; detail=write-invalidated"
    assert (await number(proxy))[0] == "2"


@pytest.fixture
def process(fake: FakeUpstream, valkey: RunningStore) -> Iterator[RunningProxy]:
    """Give a proxy process, which a blocking SDK can talk to while this loop serves the fake."""
    with running_proxy(upstream=fake.endpoint, store=valkey.url) as running:
        running.wait_serving()
        yield running


@pytest.mark.parametrize("event", ["before-sign", "before-send"])
async def test_boto3_sends_the_field_by_an_event(
    fake: FakeUpstream, process: RunningProxy, event: str
) -> None:
    """Signed or not, it steers the read; what is not cached is an error that is not repeated."""
    await asyncio.to_thread(_tour, process, fake, event)


def _tour(running: RunningProxy, fake: FakeUpstream, event: str) -> None:
    wishes: list[str] = []
    client = boto3_client(running.endpoint, attempts=3)

    def wish(request: Any, **_: Any) -> None:
        if wishes:
            request.headers["X-Dynaside-Cache"] = wishes[0]

    client.meta.events.register(f"{event}.dynamodb.GetItem", wish)

    def read() -> tuple[str, str]:
        reply = client.get_item(**key("a"))
        says = reply["ResponseMetadata"]["HTTPHeaders"]["cache-status"]
        return reply["Item"]["n"]["N"], says.partition(";")[2]

    wishes[:] = ["only-if-cached"]
    with pytest.raises(ClientError, match="NotCachedException") as caught:
        read()
    assert caught.value.response["ResponseMetadata"]["RetryAttempts"] == 0
    assert fake.count("GetItem") == 0
    wishes.clear()
    assert read() == ("1", " fwd=miss; stored")
    fake.tables.call("PutItem", item("a", 2))
    wishes[:] = ["refresh"]
    assert read() == ("2", " fwd=request; stored")
    wishes[:] = ["only-if-cached"]
    assert read()[0] == "2"
