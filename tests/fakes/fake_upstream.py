"""A DynamoDB of our own over real sockets, for what no emulator has: scripted faults and lag.

In a test: `async with FakeUpstream() as fake:` with `fake.endpoint`. As a process of its own:
`python -m tests.fakes.fake_upstream --port 0 --table orders:pk=S,sk=N`, which prints its endpoint
and takes commands as JSON on `POST /_fake` (see `FakeUpstream.command`).
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import ssl
import sys
import time
import uuid
import zlib
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any, Self

from aiohttp import web

from tests.fakes.fake_upstream_script import (
    Effect,
    Fault,
    Gate,
    Match,
    Received,
    Reply,
    Script,
    Tally,
)
from tests.fakes.fake_upstream_tables import CORAL, SERVICE, DynamoError, Json
from tests.fakes.streamed_tables import StreamedTables

BODY_BYTES_MAX = 32 * 1024 * 1024
FIELD_BYTES_MAX = 64 * 1024
GZIP_BYTES_MIN = 4096
NOT_CALLS = frozenset({"GET", "HEAD", "OPTIONS"})
Outcome = tuple[int, Json]

SCRIPTED: dict[Reply, Outcome] = {
    Reply.THROTTLE: (
        400,
        {
            "__type": SERVICE + "ProvisionedThroughputExceededException",
            "message": "The level of configured provisioned throughput for the table was exceeded.",
        },
    ),
    Reply.ERROR_500: (
        500,
        {"__type": SERVICE + "InternalServerError", "message": "Internal server error"},
    ),
    Reply.ERROR_503: (503, {"__type": CORAL + "ServiceUnavailableException", "message": ""}),
}


class FakeUpstream:
    """A scripted DynamoDB on a loopback port.

    Args:
        port: 0 takes a free one.
        compress: answers of 4 KiB and more are gzipped where the client accepts it, as AWS does.
        tls: serve HTTPS with it.
        wall_s: dates what is in streams.

    `tables` holds the state, the replica lag and the streams, `log` every request as it came.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        compress: bool = False,
        tls: ssl.SSLContext | None = None,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self.tables = StreamedTables(wall_s=wall_s)
        self.log: list[Received] = []
        self._port = port
        self._compress = compress
        self._tls = tls
        self._script = Script()
        self._tallies: dict[str, Tally] = defaultdict(Tally)
        self._closing = asyncio.Event()
        self._connections: dict[object, int] = {}

    async def __aenter__(self) -> Self:
        """Listen."""
        application = web.Application(client_max_size=BODY_BYTES_MAX)
        application.router.add_post("/_fake", self._serve_command)
        application.router.add_route("*", "/{rest:.*}", self._serve)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            auto_decompress=False,
            shutdown_timeout=1.0,
            max_field_size=FIELD_BYTES_MAX,
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=self._tls)
        await site.start()
        scheme = "http" if self._tls is None else "https"
        self.endpoint = f"{scheme}://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Let go of everything held and stop."""
        self._closing.set()
        self._script.release()
        await self._runner.cleanup()

    def fail(self, match: Match | str, fault: Fault, *, times: int = 1) -> None:
        """Let the next `times` requests that fit go wrong; each fault strikes once."""
        self._script.faults += [(_match(match), fault)] * times

    def forgive(self) -> None:
        """Let nothing go wrong any more that has not yet."""
        self._script.faults.clear()

    def hold(self, match: Match | str, *, after_effect: bool = False) -> Gate:
        """Hold all requests that fit, before or after they take effect, until released."""
        gate = Gate(_match(match), after_effect=after_effect)
        self._script.gates.append(gate)
        return gate

    def release(self) -> None:
        """Open every gate."""
        self._script.release()

    def land(self) -> None:
        """Let the delayed effects (`Effect.LATER`) happen now."""
        self._script.land()

    def count(self, operation: str) -> int:
        """Return how many requests of an operation have come."""
        return self._tallies[operation].total

    @property
    def connections(self) -> int:
        """How many connections requests have come on, closed ones included."""
        return len(self._connections)

    async def counted(self, operation: str, total: int) -> None:
        """Wait until that many requests of an operation have come."""
        await self._tallies[operation].at_least(total)

    def command(self, order: Json) -> Json:
        """Obey one order of the control endpoint, each member optional; return the counts.

        Shape: {"table": {"name": "t", "keys": {"pk": "S"}}, "lag_versions": 1, "lag_s": 0.5,
        "fail": {"operation": "PutItem", "reply": "error-500", "effect": "now", "times": 2},
        "hold": {"operation": "GetItem", "after_effect": true}, "release": true, "land": true,
        "stream": {"table": "t", "step": "split"}}; see `StreamedTables.command` for the last.
        """
        if "table" in order:
            self.tables.add(order["table"]["name"], **order["table"]["keys"])
        if "stream" in order:
            self.tables.command(order["stream"])
        self.tables.lag_versions = order.get("lag_versions", self.tables.lag_versions)
        self.tables.lag_s = order.get("lag_s", self.tables.lag_s)
        if "fail" in order:
            wish = order["fail"]
            fault = Fault(Reply(wish["reply"]), Effect(wish["effect"]))
            self.fail(_wished(wish), fault, times=wish.get("times", 1))
        if "hold" in order:
            wish = order["hold"]
            self.hold(_wished(wish), after_effect=wish.get("after_effect", False))
        if order.get("release"):
            self.release()
        if order.get("land"):
            self.land()
        return {"counts": {name: tally.total for name, tally in self._tallies.items()}}

    async def _serve_command(self, request: web.Request) -> web.Response:
        return web.json_response(self.command(await request.json()))

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        received = await self._receive(request)
        await self._script.pass_gates(received, after_effect=False)
        fault = self._script.take_fault(received)
        status, body = self._outcome(received, fault)
        await self._script.pass_gates(received, after_effect=True)
        status, body = SCRIPTED.get(fault.reply, (status, body))
        if fault.reply is Reply.SILENT:
            await self._closing.wait()
        if fault.reply in {Reply.RESET, Reply.SILENT}:
            return _broken(request)
        return await self._answer(request, status, body, half=fault.reply is Reply.HALF)

    async def _receive(self, request: web.Request) -> Received:
        received = Received(
            request.headers.get("X-Amz-Target", "").rpartition(".")[2],
            request.method,
            request.raw_path,
            # Not `headers`: there aiohttp spells the names it knows in its own way.
            tuple(
                (name.decode(), text.decode(errors="surrogateescape"))
                for name, text in request.raw_headers
            ),
            await request.read(),
            self._connections.setdefault(request.protocol, len(self._connections)),
        )
        self.log.append(received)
        self._tallies[received.operation].add()
        return received

    def _outcome(self, received: Received, fault: Fault) -> Outcome:
        """Let the request take effect as scripted and return the honest answer to it."""
        match fault.effect:
            case Effect.NEVER:
                return 200, {}
            case Effect.LATER:
                self._script.delayed.append(partial(self._run, received, fault))
                return 200, {}
            case Effect.NOW:
                return self._run(received, fault)

    def _run(self, received: Received, fault: Fault) -> Outcome:
        if received.method in NOT_CALLS:
            return 200, {}
        try:
            body = _decoded(received)
            if fault.reply is Reply.UNPROCESSED:
                return 200, self._run_half(received.operation, body)
            return 200, self.tables.serve(received.header("X-Amz-Target") or "", body)
        except DynamoError as error:
            return error.status, error.body

    def _run_half(self, operation: str, body: Json) -> Json:
        left: Json = {}
        for table, wanted in body["RequestItems"].items():
            if operation == "BatchGetItem":
                left[table] = {**wanted, "Keys": wanted["Keys"][1::2]}
                wanted["Keys"] = wanted["Keys"][::2]
            else:
                left[table] = wanted[1::2]
                body["RequestItems"][table] = wanted[::2]
        member = "UnprocessedKeys" if operation == "BatchGetItem" else "UnprocessedItems"
        return {**self.tables.call(operation, body), member: left}

    async def _answer(
        self, request: web.Request, status: int, body: Json, *, half: bool
    ) -> web.StreamResponse:
        raw = json.dumps(body).encode()
        if request.method in NOT_CALLS:
            raw = b"healthy: fake upstream"
        headers = {
            "Server": "Server",
            "Content-Type": request.headers.get("Content-Type", "application/x-amz-json-1.0"),
            "x-amzn-RequestId": uuid.uuid4().hex.upper(),
        }
        accepted = request.headers.get("Accept-Encoding", "")
        if self._compress and len(raw) >= GZIP_BYTES_MIN and "gzip" in accepted:
            raw = gzip.compress(raw)
            headers["Content-Encoding"] = "gzip"
        headers["x-amz-crc32"] = str(zlib.crc32(raw))
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = len(raw)
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        await response.write(raw[: len(raw) // 2] if half else raw)
        if half:
            assert request.transport is not None
            request.transport.close()
        return response


def _match(match: Match | str) -> Match:
    return Match(match) if isinstance(match, str) else match


def _wished(wish: dict[str, Any]) -> Match:
    return Match(wish.get("operation", ""), wish.get("containing", ""))


def _broken(request: web.Request) -> web.Response:
    if request.transport is not None:  # else the client has gone already
        request.transport.abort()
    return web.Response()  # which nobody gets any more


def _decoded(received: Received) -> Json:
    """Check the signature's presence and parse the body, inflated where it is compressed."""
    authorization = received.header("Authorization") or ""
    if not authorization.startswith("AWS4-HMAC-SHA256 ") or received.header("X-Amz-Date") is None:
        text = "Request is missing Authentication Token"
        raise DynamoError(CORAL + "MissingAuthenticationTokenException", text)
    raw = received.body
    try:
        if received.header("Content-Encoding") == "gzip":
            raw = gzip.decompress(raw)
        body = json.loads(raw)
    except ValueError:
        raise DynamoError(CORAL + "SerializationException", "") from None
    if not isinstance(body, dict):
        raise DynamoError(CORAL + "SerializationException", "")
    return body


async def _run_process(port: int, tables: list[str]) -> None:
    async with FakeUpstream(port) as fake:
        for table in tables:
            name, _, keys = table.partition(":")
            fake.tables.add(name, **dict(key.split("=", 1) for key in keys.split(",")))
        sys.stdout.write(fake.endpoint + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def main() -> None:
    """Serve until killed; the first line printed is the endpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--table", action="append", default=[], help="name:attribute=type,…")
    arguments = parser.parse_args()
    asyncio.run(_run_process(arguments.port, arguments.table))


if __name__ == "__main__":
    main()
