"""Claims about items that are read often, with real processes, one store and a DynamoDB."""

from __future__ import annotations

import asyncio
import itertools
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from proxy.embedded.valkey import RunningStore
from tests.fakes.fake_upstream import FakeUpstream
from tests.support.proxy_process import RunningProxy, running_proxy
from tests.support.serving import Wire, item, key, post

pytestmark = pytest.mark.store

NAME = "key-of-a-customer"
# A life long enough for a busy machine to pause now and then, and short enough for a test.
FRESH_S = 8
REFRESHES = 2


@pytest.fixture
async def fake() -> AsyncIterator[FakeUpstream]:
    """A DynamoDB with table `t` that holds one item."""
    async with FakeUpstream() as upstream:
        upstream.tables.add("t", pk="S")
        upstream.tables.call("PutItem", item(NAME, 1))
        yield upstream


def refreshed(*proxies: RunningProxy) -> float:
    """Return how many entries were replaced in the background."""
    return sum(proxy.metric("dynaside_refreshes_total", replaced="true") for proxy in proxies)


async def read_until_refreshed(proxies: tuple[RunningProxy, ...]) -> Counter[str]:
    """Read the item from all proxies in turn, until it was refreshed a few times."""
    says: Counter[str] = Counter()
    async with (
        asyncio.timeout(120),
        Wire(*proxies[0].address) as one,
        Wire(*proxies[1].address) as other,
    ):
        for count, wire in enumerate(itertools.cycle((one, other))):
            await wire.send(post("GetItem", key(NAME)))
            says[(await wire.reply()).cache.partition("; ttl")[0]] += 1
            if count % 500 == 0 and await asyncio.to_thread(refreshed, *proxies) >= REFRESHES:
                return says
    raise AssertionError


@pytest.mark.parametrize("level", ["strict", "session"])
async def test_a_hot_item_does_not_expire(
    fake: FakeUpstream, empty_valkey: RunningStore, level: str
) -> None:
    """Two proxies read it all the time: one miss, one refresh per life, and nothing but hits."""
    settings = {
        "store.namespace": f"test-{uuid.uuid4().hex[:8]}",
        "defaults.level": level,
        "defaults.fresh_ttl_s": FRESH_S,
        "workers": 1,
    }
    given = {"upstream": fake.endpoint, "store": empty_valkey.url, "settings": settings}
    with running_proxy(**given) as one, running_proxy(**given) as other:
        says = await read_until_refreshed((one, other))
        hot = json.loads(one.ops("/hot")[1])
        share = one.metric("dynaside_hot_key_share", table="t")
    assert says["dynaside; fwd=miss; stored"] == 1
    assert set(says) == {"dynaside; fwd=miss; stored", "dynaside; hit"}
    assert fake.count("GetItem") <= 1 + REFRESHES + 1  # another one may have begun meanwhile
    ((shown,), name) = hot["tables"][0]["keys"], hot["tables"][0]["table"]
    assert (name, shown["share"], shown["share_error"], share) == ("t", 1.0, 0.0, 1.0)
    assert NAME not in json.dumps(hot)
