"""Claims about what is written, over real sockets: batches in part, and updates that tell."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.embedded.valkey import RunningStore
from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.fake_upstream_script import FAILED_APPLIED_LATER, RESET_AFTER, UNPROCESSED
from tests.support.serving import Serving, item, key, serving

pytestmark = pytest.mark.store

LONG = "x" * 20_000


@asynccontextmanager
async def proxied(
    store: RunningStore, mode: str, *, compress: bool = False
) -> AsyncIterator[tuple[FakeUpstream, Serving]]:
    """Give a table `t` whose items a, b and c hold 1 and are cached, and a proxy before it."""
    settings = {"defaults.write_mode": mode}
    async with FakeUpstream(compress=compress) as upstream:
        upstream.tables.add("t", pk="S")
        async with serving(upstream.endpoint, store=store.url, settings=settings) as proxy:
            for name in "abc":
                await proxy.call("PutItem", item(name, 1))
                await proxy.call("GetItem", key(name))
            yield upstream, proxy


async def batch(proxy: Serving, version: int, *names: str) -> Any:
    """Put items of a version; return the answer."""
    puts = [{"PutRequest": {"Item": item(name, version)["Item"]}} for name in names]
    reply = await proxy.call("BatchWriteItem", {"RequestItems": {"t": puts}})
    return reply.content if reply.status == 200 else reply.error


async def seen(proxy: Serving) -> list[tuple[str, bool]]:
    """Return the version of each item, and whether it was a hit."""
    replies = [await proxy.call("GetItem", key(name)) for name in "abc"]
    return [(reply.content["Item"]["n"]["N"], "; hit" in reply.cache) for reply in replies]


@pytest.mark.parametrize("mode", ["invalidate", "through"])
async def test_unprocessed_items_are_not_taken_for_written(valkey: RunningStore, mode: str) -> None:
    """What upstream left out is read as it was; the rest of the table stays cached."""
    async with proxied(valkey, mode) as (upstream, proxy):
        upstream.fail("BatchWriteItem", UNPROCESSED)
        answer = await batch(proxy, 2, "a", "b")
        assert [put["PutRequest"]["Item"]["pk"] for put in answer["UnprocessedItems"]["t"]] == [
            {"S": "b"}
        ]
        assert await seen(proxy) == [("2", False), ("1", False), ("1", True)]
        assert await batch(proxy, 3, "a", "b") == {"UnprocessedItems": {}}
        through = mode == "through"
        assert await seen(proxy) == [("3", through), ("3", through), ("1", True)]


@pytest.mark.parametrize("fault", [RESET_AFTER, FAILED_APPLIED_LATER])
async def test_batch_of_unknown_outcome_keeps_its_items_uncached(
    valkey: RunningStore, fault: Any
) -> None:
    """Whenever it lands, reads of its items show it; other items stay cached."""
    async with proxied(valkey, "through") as (upstream, proxy):
        upstream.fail("BatchWriteItem", fault)
        assert await batch(proxy, 2, "a", "b") == "InternalServerError"
        before = await seen(proxy)
        upstream.land()
        assert [hit for _, hit in before] == [False, False, True]
        assert await seen(proxy) == [("2", False), ("2", False), ("1", True)]


async def test_update_of_a_large_item_is_stored_and_answered_as_asked(valkey: RunningStore) -> None:
    """The caller takes compressed answers, and upstream compresses what is large.

    The proxy asks for the item uncompressed, and answers with the little that was asked for.
    """
    update = {
        **key("a"),
        "UpdateExpression": "SET s = :s",
        "ExpressionAttributeValues": {":s": {"S": LONG}},
    }
    async with proxied(valkey, "through", compress=True) as (upstream, proxy):
        reply = await proxy.call("UpdateItem", update, Accept_Encoding="gzip")
        assert (reply.status, reply.body, reply.crc32_right) == (200, b"{}", True)
        assert reply.fields["content-length"] == "2"
        assert "content-encoding" not in reply.fields
        assert upstream.log[-1].header("accept-encoding") is None
        hit = await proxy.call("GetItem", key("a"))
        assert "; hit" in hit.cache
        assert hit.content["Item"]["s"] == {"S": LONG}
