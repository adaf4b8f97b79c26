"""Sends requests to DynamoDB over HTTP, signed with the process's own credentials.

The way of one request: fields, signature, connection, reply, and what a failure means. Bodies pass
untouched in both directions, compressed or not.
Invariants: nothing that may write is ever sent twice; `maybe_applied` is False only where no byte
of the request can have left this process.
"""

from __future__ import annotations

import asyncio
import string
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple, Self
from urllib.parse import quote, urlsplit

from proxy.core.cache_control import FIELD
from proxy.core.errors import UpstreamFailed, UpstreamFailure
from proxy.core.request import ClientRequest
from proxy.edge.sigv4 import Credentials, Signer, Unsigned
from proxy.edge.upstream_connection import UnansweredError, UpstreamConnection
from proxy.edge.upstream_dialer import Dialer, Origin
from proxy.edge.upstream_parser import BadReplyError
from proxy.edge.upstream_pool import UpstreamPool
from proxy.flow.ports import Clock, UpstreamReply, UpstreamRequest

HOP_HEADER: Final = "X-Dynaside-Hop"
"""Names every proxy process that a request has passed; seeing our own name again is a loop."""

# RFC 9110 §7.6.1; fields beginning with `proxy-` are dropped as well.
HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
# Made anew for each request we send, or meant for us alone. `Date` takes part in signing where it
# is present.
REMADE: Final = frozenset(
    {"host", "content-length", "expect", "date", FIELD.lower()}
    | {"authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"}
)
NOT_REPLIED: Final = frozenset({"content-length"})
BODILESS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods whose empty body is not announced by a length."""

_HOP: Final = HOP_HEADER.lower()
_HARMLESS: Final = frozenset({"keep-alive", "close"})  # they name no field that is not dropped yet
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class UpstreamOptions:
    """Where upstream is and how many connections it gets; all times in seconds.

    Args:
        dynamodb_url: endpoint for DynamoDB; a path in it is put before every target.
        streams_url: endpoint for DynamoDB Streams.
        instance_id: random name of this process, for `HOP_HEADER`.
        connections_max: open connections to both endpoints together.
        waiting_max: requests that may wait for a free connection; one more fails at once.
        idle_s: how long an unused connection stays open.
        connect_timeout_s: bound on making one connection, TLS included.
        ca_bundle: PEM file of the authorities to trust, or None for the system's.
    """

    dynamodb_url: str
    streams_url: str
    instance_id: str
    connections_max: int = 64
    waiting_max: int = 1024
    idle_s: float = 20.0
    connect_timeout_s: float = 2.0
    ca_bundle: str | None = None


class _Step(Enum):
    """How far one exchange has come."""

    QUEUED = 1  # every connection is busy
    CONNECTING = 2
    ON_NEW = 3  # has a connection: from here on something may have been sent
    ON_REUSED = 4


@dataclass(slots=True)
class _Exchange:
    step: _Step = _Step.CONNECTING

    def queued(self, waits: bool) -> None:  # noqa: FBT001 - told by position
        self.step = _Step.QUEUED if waits else _Step.CONNECTING

    def timed_out(self) -> UpstreamFailed:
        match self.step:
            case _Step.QUEUED:
                return _failed(UpstreamFailure.OVERLOAD, "no upstream connection became free")
            case _Step.CONNECTING:
                return _failed(UpstreamFailure.CONNECT, "connecting to upstream took too long")
            case _:
                return _failed(
                    UpstreamFailure.TIMEOUT, "upstream did not answer in time", sent=True
                )

    def broken(self, error: Exception) -> UpstreamFailed:
        if self.step.value < _Step.ON_NEW.value:
            return _failed(UpstreamFailure.CONNECT, f"no connection: {type(error).__name__}")
        return _failed(UpstreamFailure.RESET, f"broken off: {type(error).__name__}", sent=True)


class _Endpoint(NamedTuple):
    """One of the addresses that requests go to; `path` is put before every target."""

    origin: Origin
    host: str
    path: str


class _Message(NamedTuple):
    """One request as it is sent."""

    origin: Origin
    method: str
    head: bytes
    body: bytes


class HttpUpstream:
    """DynamoDB behind the `Upstream` port; use as `async with`, inside a running loop.

    Args:
        options: endpoints and limits.
        signer: signs for the endpoints' region.
        credentials_of: returns the credentials to use now, or None while there are none.
        clock: wall time for signatures.
    """

    def __init__(
        self,
        options: UpstreamOptions,
        *,
        signer: Signer,
        credentials_of: Callable[[], Credentials | None],
        clock: Clock,
    ) -> None:
        self._options = options
        self._data = _endpoint(options.dynamodb_url)
        self._streams = _endpoint(options.streams_url)
        self._signer = signer
        self._credentials_of = credentials_of
        self._clock = clock
        self._in_flight = 0
        self._in_flight_max = options.connections_max + options.waiting_max

    async def __aenter__(self) -> Self:
        """Open the connection pool; connects to nothing yet."""
        options = self._options
        dialer = Dialer(connect_timeout_s=options.connect_timeout_s, ca_bundle=options.ca_bundle)
        self._pool = UpstreamPool(
            dialer, connections_max=options.connections_max, idle_s=options.idle_s
        )
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close every connection; exchanges still running fail as RESET."""
        await self._pool.close()

    async def send(self, request: UpstreamRequest) -> UpstreamReply:
        """Send one request and return the whole answer, whatever its status.

        A repeatable request is sent once more when a connection that had been idle turns out to
        be closed; its time-out covers both tries and the wait for a connection.

        Raises:
            UpstreamFailed: no complete answer came.
        """
        if self._in_flight >= self._in_flight_max:
            raise _failed(UpstreamFailure.OVERLOAD, "too many requests wait for upstream")
        self._in_flight += 1
        exchange = _Exchange()
        try:
            async with asyncio.timeout(request.timeout_s):
                return await self._tried(request, exchange)
        except TimeoutError:
            raise exchange.timed_out() from None
        finally:
            self._in_flight -= 1

    async def _tried(self, request: UpstreamRequest, exchange: _Exchange) -> UpstreamReply:
        """Send a request, perhaps twice."""
        repeatable = request.repeatable
        while True:
            # Made anew for each try: credentials and time may have changed.
            message = self._prepared(request)
            try:
                connection = await self._connection(message.origin, exchange)
                reply = await connection.exchange(message.method, message.head, message.body)
            except (OSError, BadReplyError) as error:
                unanswered = isinstance(error, UnansweredError)
                if not (repeatable and unanswered and exchange.step is _Step.ON_REUSED):
                    raise exchange.broken(error) from error
                repeatable = False
                exchange.step = _Step.CONNECTING
            else:
                self._pool.give_back(connection)
                fields = end_to_end(reply.fields, besides=NOT_REPLIED)
                return UpstreamReply(reply.status, tuple(fields), reply.body)

    async def _connection(self, origin: Origin, exchange: _Exchange) -> UpstreamConnection:
        connection = self._pool.take(origin)
        if connection is None:
            connection = await self._pool.open(origin, queued=exchange.queued)
        exchange.step = _Step.ON_REUSED if connection.exchanges else _Step.ON_NEW
        return connection

    def _prepared(self, request: UpstreamRequest) -> _Message:
        """Return a request with its signature, as it will be sent."""
        credentials = self._credentials_of()
        if credentials is None:
            raise _failed(UpstreamFailure.CREDENTIALS, "no AWS credentials to sign with")
        endpoint = self._streams if request.streams else self._data
        method, body = request.method, request.body
        target = endpoint.path + origin_form(request.target)
        headers = [("Host", endpoint.host), *end_to_end(request.headers, besides=REMADE)]
        headers.append((HOP_HEADER, self._options.instance_id))
        unsigned = Unsigned(method, target, headers, body)
        headers += self._signer.sign(unsigned, credentials, self._clock.wall_s())
        if body or method not in BODILESS:
            headers.append(("Content-Length", str(len(body))))
        lines = [f"{name}: {text}\r\n" for name, text in headers]
        head = f"{method} {target} HTTP/1.1\r\n{''.join(lines)}\r\n".encode()
        ends = len(lines) + 2
        clean = head.count(b"\r") == head.count(b"\n") == ends and b"\0" not in head
        assert clean, "a field that would end its own line"
        return _Message(endpoint.origin, method, head, body)


def _endpoint(url: str) -> _Endpoint:
    parts = urlsplit(url)
    assert parts.hostname is not None, "an endpoint without a host passed the settings"
    port = parts.port or _PORTS[parts.scheme]
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if port != _PORTS[parts.scheme]:
        host = f"{host}:{port}"
    return _Endpoint(
        Origin(parts.scheme == "https", parts.hostname, port), host, parts.path.rstrip("/")
    )


def is_loop(request: ClientRequest, instance_id: str) -> bool:
    """Tell whether a request has already passed the process named `instance_id`.

    Args:
        request: as received.
        instance_id: the name the process gives in `UpstreamOptions`.
    """
    if request.header(_HOP) is None:
        return False
    return any(
        instance_id in (hop.strip() for hop in text.split(","))
        for name, text in request.headers
        if name.lower() == _HOP
    )


def end_to_end(
    headers: tuple[tuple[str, str], ...], *, besides: frozenset[str]
) -> list[tuple[str, str]]:
    """Return the fields that travel on, in order: none that speaks of one connection only.

    Args:
        headers: the fields as received; names in any case.
        besides: further names to drop, in lower case.

    Source: RFC 9110 §7.6.1. A field with bytes outside UTF-8 cannot be sent and is dropped too.
    """
    kept = [
        (name, text)
        for name, text in headers
        if _travels(name, besides) and (text.isascii() or _is_text(text))
    ]
    options = [text.lower() for name, text in headers if name.lower() == "connection"]
    if not _HARMLESS.issuperset(options):
        named = {option.strip() for text in options for option in text.split(",")}
        kept = [(name, text) for name, text in kept if name.lower() not in named]
    return kept


@lru_cache(maxsize=1024)
def _travels(name: str, besides: frozenset[str]) -> bool:
    lower = name.lower()
    return not (lower in HOP_BY_HOP or lower in besides or lower.startswith("proxy-"))


def origin_form(target: str) -> str:
    """Return a request target as path and query in ASCII, whatever form the client chose.

    Shapes: `/a?b` stays; `http://host/a?b` gives `/a?b`; `*` gives `/`; no fragment remains.
    Source: RFC 9112 §3.2.
    """
    if target == "/":
        return target
    if not target.startswith("/"):
        parts = urlsplit(target)
        path = parts.path if parts.path.startswith("/") else "/"
        target = f"{path}?{parts.query}" if parts.query else path
    without_fragment = target.partition("#")[0]
    return quote(without_fragment.encode(errors="surrogateescape"), safe=string.punctuation)


def _is_text(text: str) -> bool:
    # The server reads bytes outside UTF-8 as lone surrogates, which cannot be encoded again.
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _failed(failure: UpstreamFailure, message: str, *, sent: bool = False) -> UpstreamFailed:
    return UpstreamFailed(failure, message, maybe_applied=sent)
