"""Real processes, one store: no reader ever sees an item older than what was acknowledged.

Each item has one writer, which writes through changing proxies (`tests.support.single_writers`).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

import aiohttp
import pytest

from proxy.embedded.dynamodb import RunningDynamoDB
from proxy.embedded.valkey import RunningStore
from tests.support.proxy_process import RunningProxy, running_proxy
from tests.support.single_writers import ITEMS, Client, History, read, write

WRITES_EACH: Final = 60
READERS: Final = 16
PROXIES: Final = 3


@pytest.fixture(params=["invalidate", "through"])
def proxies(
    request: pytest.FixtureRequest, valkey: RunningStore, dynamodb: RunningDynamoDB
) -> Iterator[list[RunningProxy]]:
    """Three proxies of one store; entries turn stale quickly, so that refreshes take part."""
    settings = {
        "store.namespace": f"coherence-{request.param}",
        "defaults.write_mode": request.param,
        "defaults.fresh_ttl_s": 0.2,
        "defaults.grace_s": 1.0,
    }
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                running_proxy(upstream=dynamodb.endpoint, store=valkey.url, settings=settings)
            )
            for _ in range(PROXIES)
        ]


async def test_no_read_is_older_than_an_acknowledged_write(proxies: list[RunningProxy]) -> None:
    """Readers and writers through three proxies: every read is at or above its floor."""
    table = f"coherence-{random.randrange(10**9)}"
    history = History()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        client = Client(session, proxies, table)
        await client.create()
        versions = range(1, WRITES_EACH + 1)
        writers = [write(client, history, item, versions) for item in range(ITEMS)]
        readers = [read(client, history) for _ in range(READERS)]
        await asyncio.gather(*writers, *readers)
    assert not history.violations
    assert history.outcomes["hit"] > WRITES_EACH, history.outcomes
    assert history.outcomes["fwd=miss"] > ITEMS, history.outcomes
    assert history.outcomes["fwd=partial"] > ITEMS, history.outcomes
