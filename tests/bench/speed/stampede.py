"""Lets thousands ask at once for one item that nobody has cached, and counts what DynamoDB sees.

`python -m tests.bench.speed.stampede` is the DynamoDB of it, in a process of its own: in the one
that asks, its answer would wait until all was sent.
"""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import resource
import socket
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from proxy.embedded.process import log_path, new_folder, spawn
from proxy.embedded.valkey import RunningStore
from tests.bench.speed.load import key_of
from tests.fakes.fake_upstream import FakeUpstream
from tests.support.proxy_process import ROOT, RunningProxy, running_proxy
from tests.support.serving import post

PROCESSES: Final = 4
TABLE: Final = "items"
ITEM: Final = {**key_of(0), "v": {"S": "x" * 200}}
ANSWERED_AFTER_S: Final = 0.9
"""Shorter than readers wait, and enough for most of the requests to be looked up and to miss."""
SILENCE_S_MAX: Final = 60.0


def allow_files() -> None:
    """Raise this process's limit of open files as far as we may; children inherit it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def stampede(store: RunningStore, readers: int) -> dict[str, Any]:
    """Return how many reads DynamoDB saw, and after how long everybody had the item.

    Connections are open before; then all requests are sent, before DynamoDB answers the first
    read. Lease and time-outs are the defaults: a reader who waits too long for another proxy's
    fill asks by himself, and counts.
    """
    request = post("GetItem", {"TableName": TABLE, "Key": key_of(0)})
    with _upstream() as endpoint, ExitStack() as stack:
        shared = {"store.namespace": f"bench-{uuid.uuid4().hex[:8]}"}
        proxies = [
            stack.enter_context(running_proxy(upstream=endpoint, store=store.url, settings=shared))
            for _ in range(PROCESSES)
        ]
        ways = itertools.islice(itertools.cycle(proxies), readers)
        wires = [
            stack.enter_context(socket.create_connection(proxy.address, SILENCE_S_MAX))
            for proxy in ways
        ]
        began_s = time.monotonic()
        for wire in wires:
            wire.sendall(request)
        sent_s = time.monotonic() - began_s
        answers = [_answer(wire) for wire in wires]
        took_s = time.monotonic() - began_s
        assert all(answer == {"Item": ITEM} for answer in answers), "everybody got it"
        return {
            "readers": readers,
            "processes": PROCESSES,
            "missed": sum(map(_missed, proxies)),
            "upstream_reads": _reads(endpoint),
            "all_sent_s": round(sent_s, 2),
            "all_answered_s": round(took_s, 2),
        }


def _answer(wire: socket.socket) -> Any:
    with closing(http.client.HTTPResponse(wire, method="POST")) as reply:
        reply.begin()
        return json.loads(reply.read())


def _missed(proxy: RunningProxy) -> int:
    """Return how many readers of a proxy waited for DynamoDB, their own read or another's."""
    name = "dynaside_requests_total"
    return int(sum(proxy.metric(name, outcome=outcome) for outcome in ("miss", "coalesced")))


def _reads(endpoint: str) -> int:
    with closing(http.client.HTTPConnection(urlsplit(endpoint).netloc)) as connection:
        connection.request("POST", "/_fake", body=b"{}")
        return int(json.load(connection.getresponse())["counts"]["GetItem"])


@contextmanager
def _upstream() -> Iterator[str]:
    folder = new_folder()
    command = [sys.executable, "-m", __name__]
    child = spawn("upstream", command, folder=folder, environ={"PYTHONPATH": str(ROOT)})
    try:
        child.wait_until(lambda: log_path(folder).read_text().endswith("\n"))
        yield log_path(folder).read_text().strip()
    finally:
        child.stop()


async def _serve() -> None:
    """Hold the first read, and all that come meanwhile, for a while; serve until killed."""
    async with FakeUpstream() as upstream:
        upstream.tables.add(TABLE, pk="S")
        upstream.tables.call("PutItem", {"TableName": TABLE, "Item": ITEM})
        gate = upstream.hold("GetItem")
        sys.stdout.write(upstream.endpoint + "\n")
        sys.stdout.flush()
        await gate.reached()
        await asyncio.sleep(ANSWERED_AFTER_S)
        upstream.release()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve())
