"""Run the proxy inside the test's own event loop, on real sockets, and speak raw HTTP to it."""

from __future__ import annotations

import asyncio
import json
import uuid
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import urlsplit

import pytest

from proxy.edge.clock import SystemClock
from proxy.edge.listeners import DataListener, OpsListener
from proxy.services import Services, build_services
from proxy.settings import load_settings
from tests.support.proxy_process import ENVIRON

JSON_1_0: Final = "application/x-amz-json-1.0"
AUTHORIZATION: Final = "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/dynamodb/aws4_request"


@dataclass(frozen=True)
class Reply:
    """One answer as it came; names of `fields` in lower case."""

    status: int
    version: str
    fields: dict[str, str]
    body: bytes

    @property
    def content(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The name of the error, without its namespace."""
        return str(self.content["__type"]).rpartition("#")[2]

    @property
    def cache(self) -> str:
        """What Cache-Status says."""
        return self.fields["cache-status"]

    @property
    def crc32_right(self) -> bool:
        """Whether `x-amz-crc32` is there and fits the body."""
        return self.fields.get("x-amz-crc32") == str(zlib.crc32(self.body))


class Wire:
    """One raw connection to the data port; use as `async with`."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port

    async def __aenter__(self) -> Self:
        """Connect."""
        self.reader, self.writer = await asyncio.open_connection(*self._address, limit=2**26)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Hang up, at once and without regard to what is on its way."""
        self.writer.transport.abort()

    async def send(self, raw: bytes) -> None:
        """Send bytes."""
        self.writer.write(raw)
        await self.writer.drain()

    async def head(self) -> tuple[str, int, dict[str, str]]:
        """Read up to the empty line: version, status, fields."""
        raw = await self.reader.readuntil(b"\r\n\r\n")
        line, *fields = raw.decode().rstrip("\r\n").split("\r\n")
        version, status, *_ = line.split(" ")
        pairs = (field.split(": ", 1) for field in fields)
        return version, int(status), {name.lower(): text for name, text in pairs}

    async def reply(self, *, bodiless: bool = False) -> Reply:
        """Read one whole answer; `bodiless` for one to HEAD."""
        version, status, fields = await self.head()
        length = 0 if bodiless else int(fields.get("content-length", 0))
        return Reply(status, version, fields, await self.reader.readexactly(length))

    async def closed(self) -> bool:
        """Wait for the other side to close; True when nothing more came before it did."""
        return await self.reader.read() == b""


@dataclass(frozen=True)
class Serving:
    """A proxy that runs in this loop."""

    services: Services
    host: str
    port: int
    ops_port: int

    def wire(self) -> Wire:
        """Return a raw connection to the data port, not yet open."""
        return Wire(self.host, self.port)

    async def ask(self, raw: bytes) -> Reply:
        """Send one request on a connection of its own and return the answer."""
        async with self.wire() as wire:
            await wire.send(raw)
            return await wire.reply()

    async def call(self, operation: str, body: Mapping[str, Any], **fields: Any) -> Reply:
        """Make one DynamoDB call."""
        return await self.ask(post(operation, body, **fields))

    async def ops(self, path: str) -> Reply:
        """Ask the ops port."""
        async with Wire(self.host, self.ops_port) as wire:
            await wire.send(f"GET {path} HTTP/1.1\r\nHost: ops\r\n\r\n".encode())
            return await wire.reply()

    async def metric(self, name: str, *labels: str) -> float:
        """Return the sum of a metric's samples with all of these labels, as `table="t"`."""
        return total((await self.ops("/metrics")).body.decode(), name, *labels)


def total(scrape: str, name: str, *labels: str) -> float:
    """Return the sum of a metric's samples with all of these labels, as `table="t"`."""
    lines = (line for line in scrape.splitlines() if not line.startswith("#"))
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.partition(" ")[0].partition("{")[0] == name
        and all(label in line for label in labels)
    )


def post(
    operation: str,
    body: Mapping[str, Any] | bytes,
    *,
    version: str = "1.1",
    framed: bool = True,
    **fields: Any,
) -> bytes:
    """Return the bytes of one request.

    Args:
        operation: `GetItem`, …
        body: as JSON, or the very bytes.
        version: of HTTP.
        framed: send Content-Length and the body; else the head alone, to be framed by `fields`.
        fields: more header fields, `_` for `-`; an empty text leaves one of ours out.
    """
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    ours = {
        "Host": "dynamodb",
        "Content-Type": JSON_1_0,
        "X-Amz-Target": f"DynamoDB_20120810.{operation}",
        "Authorization": AUTHORIZATION,
        **({"Content-Length": str(len(raw))} if framed else {}),
        **{name.replace("_", "-"): text for name, text in fields.items()},
    }
    lines = "".join(f"{name}: {text}\r\n" for name, text in ours.items() if text)
    return f"POST / HTTP/{version}\r\n{lines}\r\n".encode() + (raw if framed else b"")


def key(name: str) -> dict[str, Any]:
    """Return the body of a GetItem or DeleteItem on table `t`, whose key is `pk`."""
    return {"TableName": "t", "Key": {"pk": {"S": name}}}


def item(name: str, version: int) -> dict[str, Any]:
    """Return the body of a PutItem on table `t`."""
    return {"TableName": "t", "Item": {"pk": {"S": name}, "n": {"N": str(version)}}}


@asynccontextmanager
async def serving(
    upstream: str,
    *,
    store: str | None = None,
    settings: Mapping[str, Any] | None = None,
    port: int = 0,
) -> AsyncIterator[Serving]:
    """Serve on free ports of loopback, or on `port`, with fixed credentials.

    Inside the block the store serves.
    """
    flags = {
        "upstream.endpoint": upstream,
        "store.url": store,
        "store.namespace": f"test-{uuid.uuid4().hex[:8]}",
        "store.quarantine_s": 0,
        "store.accept_unfit": True,
        "audit.share": 0,  # tests count what goes upstream
        **(settings or {}),
    }
    loaded = load_settings(flags=flags, environ={})
    async with AsyncExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, text in ENVIRON.items():
            patch.setenv(name, text)
        services = await build_services(loaded, SystemClock(), stack)
        ops = OpsListener(services.ops_app)
        stack.push_async_callback(ops.close)
        data = DataListener(services.data_server, port_shared=False)
        stack.push_async_callback(data.close)
        await ops.start("127.0.0.1", 0)
        await data.start("127.0.0.1", port)
        ports = [urlsplit(url).port or 0 for url in (data.url, ops.url)]
        served = Serving(services, "127.0.0.1", *ports)
        if store is not None:
            await store_serves(served)
        yield served


async def store_serves(served: Serving, *, wanted: bool = True) -> None:
    """Wait until the store serves, or no longer does."""

    async def told() -> bool:
        shown = (await served.ops("/status")).content
        return bool(shown["store"]["serving"]) is wanted

    await until_told(told)


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something in this process holds, 20 s at most."""

    async def told() -> bool:
        return holds()

    await until_told(told)


async def until_told(told: Callable[[], Awaitable[bool]]) -> None:
    """Ask until the answer is yes, 20 s at most: what is asked has no way to tell by itself."""
    async with asyncio.timeout(20):
        while not await told():  # noqa: ASYNC110 - see the docstring
            await asyncio.sleep(0.005)
