"""Lets thousands ask at once for one item that nobody has cached, and counts what DynamoDB sees."""

from __future__ import annotations

import asyncio
import itertools
import json
import resource
import time
import uuid
from contextlib import AsyncExitStack, ExitStack
from typing import Any, Final

from proxy.embedded.valkey import RunningStore
from tests.bench.speed.load import key_of
from tests.fakes.fake_upstream import FakeUpstream
from tests.support.proxy_process import running_proxy
from tests.support.serving import Wire, post

PROCESSES: Final = 4
TABLE: Final = "items"
ITEM: Final = {**key_of(0), "v": {"S": "x" * 200}}
ANSWERED_AFTER_S: Final = 0.05
OPENED_AT_ONCE: Final = 500


def allow_files() -> None:
    """Raise this process's limit of open files as far as we may; children inherit it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def stampede(store: RunningStore, readers: int) -> dict[str, Any]:
    """Return how many reads DynamoDB saw, and after how long everybody had the item.

    Connections are open before; then all requests are sent at once. Lease and time-outs are the
    defaults: a reader who waits too long for another proxy's fill asks by himself, and counts.
    """
    request = post("GetItem", {"TableName": TABLE, "Key": key_of(0)})
    async with FakeUpstream() as upstream, AsyncExitStack() as open_wires:
        upstream.tables.add(TABLE, pk="S")
        upstream.tables.call("PutItem", {"TableName": TABLE, "Item": ITEM})
        with ExitStack() as stack:
            shared = {"store.namespace": f"bench-{uuid.uuid4().hex[:8]}"}
            proxies = [
                stack.enter_context(
                    running_proxy(upstream=upstream.endpoint, store=store.url, settings=shared)
                )
                for _ in range(PROCESSES)
            ]
            ways = itertools.islice(itertools.cycle(proxies), readers)
            wires = [Wire(*proxy.address) for proxy in ways]
            for first in range(0, readers, OPENED_AT_ONCE):
                opening = wires[first : first + OPENED_AT_ONCE]
                await asyncio.gather(*map(open_wires.enter_async_context, opening))
            gate = upstream.hold("GetItem")
            began_s = time.monotonic()
            sending = asyncio.gather(*(wire.send(request) for wire in wires))
            await gate.reached()
            await asyncio.sleep(ANSWERED_AFTER_S)
            upstream.release()
            await sending
            replies = await asyncio.gather(*(wire.reply() for wire in wires))
            took_s = time.monotonic() - began_s
    assert all(json.loads(reply.body) == {"Item": ITEM} for reply in replies), "everybody got it"
    return {
        "readers": readers,
        "processes": PROCESSES,
        "upstream_reads": upstream.count("GetItem"),
        "all_answered_s": round(took_s, 2),
    }
