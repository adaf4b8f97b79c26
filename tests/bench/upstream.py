"""Measures the way to DynamoDB: `python -m tests.bench.upstream --out FILE`.

The same GetItem goes to a fake upstream in a process of its own: by the proxy's client, by an
aiohttp session that signs as the proxy does, and by aiobotocore; then through a proxy process, as a
miss and as a pass-through. Ways take turns in every round, so that whatever else the machine does
meets them alike; what is told is the median of the rounds. CPU is that of the process which has the
way in it: this one, or the proxy's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import uvloop
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

from proxy.core.json_text import compact
from proxy.edge.clock import SystemClock
from proxy.edge.sigv4 import Credentials, Signer, Unsigned
from proxy.edge.upstream import HttpUpstream, UpstreamOptions
from proxy.embedded.process import Child
from proxy.embedded.valkey import RunningStore, start_valkey
from proxy.flow.ports import UpstreamRequest
from tests.bench.setting import setting
from tests.support.proxy_process import (
    ACCESS_KEY,
    ENVIRON,
    REGION,
    SECRET_KEY,
    RunningProxy,
    start_proxy,
)

TABLE: Final = "items"
PASSED: Final = "passed"
AT_ONCE: Final = 32  # requests at one time while CPU is measured; latency: one
CONTENT: Final = "x" * 240  # an answer of 300 bytes
CREDENTIALS: Final = Credentials(ACCESS_KEY, SECRET_KEY)
JSON_1_0: Final = "application/x-amz-json-1.0"
AUTHORIZATION: Final = "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/dynamodb/aws4_request"

BOTOCORE: Final = "aiobotocore get_item"
SESSION: Final = "aiohttp session"
CLIENT: Final = "the proxy's client"
DIRECT: Final = "raw, direct"
MISS: Final = "raw, a miss"
PASS: Final = "raw, passed through"
WAYS: Final = (BOTOCORE, SESSION, CLIENT, DIRECT, PASS, MISS)

Ask = Callable[[str], Awaitable[None]]
"""Reads the item of this name, in one way."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to an item: how to ask, and whose CPU it costs."""

    ask: Ask
    cpu_s: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Measured:
    """One line of the result.

    Args:
        way: which.
        cpu_us: per request; of the load generator for the direct way.
        botocore_ratio: aiobotocore's CPU over this one's.
        p50_us: latency, one request at a time.
    """

    way: str
    cpu_us: float
    botocore_ratio: float
    p50_us: float


def get_body(table: str, name: str) -> bytes:
    """Return the body of a read."""
    return compact({"TableName": table, "Key": {"pk": {"S": name}}})


def request(operation: str, body: bytes) -> UpstreamRequest:
    """Return a request as the flows make them."""
    target = f"DynamoDB_20120810.{operation}"
    headers = (("Content-Type", JSON_1_0), ("X-Amz-Target", target))
    return UpstreamRequest(operation, False, "POST", "/", headers, body, 20.0, True)


def process_cpu_s(child: Child) -> float:
    """Return the CPU time of a process so far, all its threads together."""
    tasks = Path(f"/proc/{child.pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def start_cost(child: Child) -> dict[str, float]:
    """Return what a process has cost so far: seconds of CPU, and MiB of memory."""
    status = Path(f"/proc/{child.pid}/status").read_text()
    rss_kib = int(status.partition("VmRSS:")[2].split()[0])
    return {"cpu_s": round(process_cpu_s(child), 2), "rss_mib": round(rss_kib / 1024, 1)}


@asynccontextmanager
async def fake_upstream() -> AsyncIterator[str]:
    """Run a fake upstream in a process of its own; give its endpoint."""
    command = ("-m", "tests.fakes.fake_upstream", "--table", f"{TABLE}:pk=S")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, "--table", f"{PASSED}:pk=S", stdout=pipe
    )
    try:
        assert process.stdout is not None
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.kill()
        await process.wait()


class Raw:
    """A load generator that does next to nothing: some connections, and requests as bytes."""

    def __init__(self, endpoint: str, table: str) -> None:
        self._host = urlsplit(endpoint).netloc
        self._table = table
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, name: str) -> None:
        """Read one item."""
        reader, writer = self._free.pop() if self._free else await self._connected()
        body = get_body(self._table, name)
        head = (
            f"POST / HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: {JSON_1_0}\r\n"
            f"X-Amz-Target: DynamoDB_20120810.GetItem\r\nX-Amz-Date: 20260101T000000Z\r\n"
            f"Accept-Encoding: identity\r\nUser-Agent: bench\r\namz-sdk-invocation-id: {name}\r\n"
            f"amz-sdk-request: attempt=1\r\nAuthorization: {AUTHORIZATION}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answered = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert answered.startswith(b"http/1.1 200"), answered
        length = answered.partition(b"content-length:")[2].partition(b"\r\n")[0]
        assert CONTENT.encode() in await reader.readexactly(int(length))
        self._free.append((reader, writer))

    async def close(self) -> None:
        """End the connections."""
        for _, writer in self._free:
            writer.close()
            await writer.wait_closed()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, _, port = self._host.partition(":")
        return await asyncio.open_connection(host, int(port))


async def own_client(endpoint: str, stack: AsyncExitStack) -> Ask:
    """Ask with the proxy's own client."""
    upstream = await stack.enter_async_context(own_upstream(endpoint))

    async def ask(name: str) -> None:
        reply = await upstream.send(request("GetItem", get_body(TABLE, name)))
        assert reply.status == 200

    return ask


def own_upstream(endpoint: str) -> HttpUpstream:
    """Return the proxy's own client."""
    return HttpUpstream(
        UpstreamOptions(endpoint, endpoint, "bench"),
        signer=Signer(REGION),
        credentials_of=lambda: CREDENTIALS,
        clock=SystemClock(),
    )


async def fill(endpoint: str, names: Sequence[str]) -> None:
    """Write the items that will be read, into both tables."""
    async with own_upstream(endpoint) as upstream:

        async def put(name: str) -> None:
            item = {"pk": {"S": name}, "v": {"S": CONTENT}}
            for table in (TABLE, PASSED):
                sent = request("PutItem", compact({"TableName": table, "Item": item}))
                assert (await upstream.send(sent)).status == 200

        await at_once(put, names)


async def aiohttp_session(endpoint: str, stack: AsyncExitStack) -> Ask:
    """Ask with an aiohttp session, signing as the proxy does."""
    session = await stack.enter_async_context(
        aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar())
    )
    signer, clock, host = Signer(REGION), SystemClock(), urlsplit(endpoint).netloc

    async def ask(name: str) -> None:
        sent = request("GetItem", get_body(TABLE, name))
        headers = [("Host", host), *sent.headers]
        unsigned = Unsigned("POST", "/", headers, sent.body)
        headers = [*headers, *signer.sign(unsigned, CREDENTIALS, clock.wall_s())]
        async with session.post(endpoint, data=sent.body, headers=headers) as reply:
            assert reply.status == 200
            await reply.read()

    return ask


async def aiobotocore_client(endpoint: str, stack: AsyncExitStack) -> Ask:
    """Ask with aiobotocore's own get_item, as an application would."""
    client = await stack.enter_async_context(
        AioSession().create_client(
            "dynamodb",
            region_name=REGION,
            endpoint_url=endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=AioConfig(max_pool_connections=AT_ONCE),
        )
    )

    async def ask(name: str) -> None:
        answer = await client.get_item(TableName=TABLE, Key={"pk": {"S": name}})
        assert answer["Item"]["v"]["S"] == CONTENT

    return ask


async def at_once(ask: Ask, names: Sequence[str]) -> None:
    """Ask for all of them, AT_ONCE at a time."""
    left = iter(names)

    async def work() -> None:
        for name in left:
            await ask(name)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


@asynccontextmanager
async def ways(proxy: RunningProxy, endpoint: str) -> AsyncIterator[dict[str, Way]]:
    """Give every way, each with connections of its own."""
    async with AsyncExitStack() as stack:

        def raw(where: str, table: str) -> Ask:
            made = Raw(where, table)
            stack.push_async_callback(made.close)
            return made.ask

        def proxy_cpu_s() -> float:
            return process_cpu_s(proxy.child)

        own_cpu_s = time.process_time
        yield {
            BOTOCORE: Way(await aiobotocore_client(endpoint, stack), own_cpu_s),
            SESSION: Way(await aiohttp_session(endpoint, stack), own_cpu_s),
            CLIENT: Way(await own_client(endpoint, stack), own_cpu_s),
            DIRECT: Way(raw(endpoint, TABLE), own_cpu_s),
            PASS: Way(raw(proxy.endpoint, PASSED), proxy_cpu_s),
            MISS: Way(raw(proxy.endpoint, TABLE), proxy_cpu_s),
        }


async def measured_once(way: Way, names: Sequence[str]) -> tuple[float, float]:
    """Read each item once; return CPU µs per request, and the median latency in µs."""
    busy, alone = names[: -len(names) // 4], names[-len(names) // 4 :]
    started_s = way.cpu_s()
    await at_once(way.ask, busy)
    cpu_us = 1e6 * (way.cpu_s() - started_s) / len(busy)
    taken_us = []
    for name in alone:
        asked_s = time.perf_counter()
        await way.ask(name)
        taken_us.append(1e6 * (time.perf_counter() - asked_s))
    return cpu_us, median(taken_us)


async def measure(
    store: RunningStore, *, reads: int, rounds: int
) -> tuple[dict[str, float], list[Measured]]:
    """Measure the proxy's start, then every way `rounds` times, in turns, after a first time."""
    # Each read of a miss needs an item of its own.
    names = [f"item-{number}" for number in range(reads * (rounds + 1))]
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    async with fake_upstream() as endpoint:
        await fill(endpoint, names)
        off = {"tables": {PASSED: {"mode": "off"}}}
        proxy = start_proxy(upstream=endpoint, store=store.url, settings=off, environ=ENVIRON)
        start = start_cost(proxy.child)
        async with AsyncExitStack() as stack:
            stack.callback(proxy.child.stop)
            made = await stack.enter_async_context(ways(proxy, endpoint))
            for turn in range(rounds + 1):
                for name, way in made.items():
                    taken[name].append(
                        await measured_once(way, names[turn * reads : (turn + 1) * reads])
                    )
    cpu_us = {name: median(each[0] for each in times[1:]) for name, times in taken.items()}
    cells = [
        Measured(
            name,
            round(cpu_us[name], 1),
            round(cpu_us[BOTOCORE] / cpu_us[name], 1),
            round(median(each[1] for each in taken[name][1:]), 0),
        )
        for name in WAYS
    ]
    return start, cells


def lines(cells: Sequence[Measured]) -> Iterator[str]:
    """Yield the table."""
    yield f"{'way':>20} {'CPU µs':>8} {'botocore /':>11} {'p50 µs':>8}"
    for cell in cells:
        yield f"{cell.way:>20} {cell.cpu_us:8.1f} {cell.botocore_ratio:11.1f} {cell.p50_us:8.0f}"


def run(*, reads: int, rounds: int) -> dict[str, Any]:
    """Measure; return the result file's content."""
    with (
        closing(start_valkey(unix_socket=True)) as store,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        start, cells = runner.run(measure(store, reads=reads, rounds=rounds))
    result = setting("aiobotocore", "aiohttp", "uvloop")
    result |= {"reads": reads, "rounds": rounds, "at_once": AT_ONCE, "start": start}
    return result | {"cells": [asdict(cell) for cell in cells]}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where the result goes, as JSON")
    parser.add_argument("--reads", type=int, default=1000, help="reads per way and round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; their median is told")
    given = parser.parse_args(arguments)
    result = run(reads=given.reads, rounds=given.rounds)
    print("\n".join(lines([Measured(**cell) for cell in result["cells"]])))  # noqa: T201
    given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
