"""Sends requests to DynamoDB over HTTP, signed with the process's own credentials.

The only user of aiohttp's client. Bodies pass untouched in both directions, compressed or not.
Invariants: nothing that may write is ever sent twice; `maybe_applied` is False only where no byte
of the request can have left this process.
"""

from __future__ import annotations

import asyncio
import io
import ssl
import string
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from types import SimpleNamespace
from typing import Final, Self
from urllib.parse import quote, urlsplit

import aiohttp
from yarl import URL  # aiohttp's own URL type: the only way to hand it a target unquoted

from proxy.core.cache_control import FIELD
from proxy.core.errors import UpstreamFailed, UpstreamFailure
from proxy.edge.sigv4 import Credentials, Signer, Unsigned
from proxy.flow.ports import Clock, UpstreamReply, UpstreamRequest

HOP_HEADER: Final = "X-Dynaside-Hop"
"""Names every proxy process that a request has passed; seeing our own name again is a loop."""

FIELD_BYTES_MAX: Final = 32 * 1024
WHOLE_BODY_BYTES_MAX: Final = 512 * 1024  # longer bodies are written in pieces, the loop runs on

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
NOT_ADDED: Final = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


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

    WAITING = 1
    QUEUED = 2  # every connection is busy
    CONNECTING = 3
    ON_NEW = 4  # has a connection: from here on something may have been sent
    ON_REUSED = 5
    REPLYING = 6  # the reply's head has come


@dataclass(slots=True)
class _Exchange:
    step: _Step = _Step.WAITING

    def timed_out(self) -> UpstreamFailed:
        match self.step:
            case _Step.QUEUED:
                return _failed(UpstreamFailure.OVERLOAD, "no upstream connection became free")
            case _Step.WAITING | _Step.CONNECTING:
                return _failed(UpstreamFailure.CONNECT, "connecting to upstream took too long")
            case _:
                return _failed(
                    UpstreamFailure.TIMEOUT, "upstream did not answer in time", sent=True
                )

    def broken(self, error: Exception) -> UpstreamFailed:
        if self.step.value < _Step.ON_NEW.value:
            return _failed(UpstreamFailure.CONNECT, f"no connection: {type(error).__name__}")
        return _failed(UpstreamFailure.RESET, f"broken off: {type(error).__name__}", sent=True)


class AiohttpUpstream:
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
        self._signer = signer
        self._credentials_of = credentials_of
        self._clock = clock
        self._in_flight = 0

    async def __aenter__(self) -> Self:
        """Open the connection pool; connects to nothing yet."""
        options = self._options
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=options.connections_max,
                keepalive_timeout=options.idle_s,
                ssl=ssl.create_default_context(cafile=options.ca_bundle),
            ),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            max_field_size=FIELD_BYTES_MAX,
            middlewares=(_send_once,),
            skip_auto_headers=NOT_ADDED,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=options.connect_timeout_s),
            trace_configs=[_trace_config()],
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close every connection; exchanges still running fail as RESET."""
        await self._session.close()

    async def send(self, request: UpstreamRequest) -> UpstreamReply:
        """Send one request and return the whole answer, whatever its status.

        A repeatable request is sent once more when a connection that had been idle turns out to
        be closed; its time-out covers both tries and the wait for a connection.

        Raises:
            UpstreamFailed: no complete answer came.
        """
        with self._admitted():
            exchange = _Exchange()
            try:
                async with asyncio.timeout(request.timeout_s):
                    try:
                        return await self._try(request, exchange)
                    except UpstreamFailed:
                        if not (request.repeatable and exchange.step is _Step.ON_REUSED):
                            raise
                    exchange.step = _Step.WAITING
                    return await self._try(request, exchange)
            except TimeoutError:
                raise exchange.timed_out() from None

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        if self._in_flight >= self._options.connections_max + self._options.waiting_max:
            raise _failed(UpstreamFailure.OVERLOAD, "too many requests wait for upstream")
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    async def _try(self, request: UpstreamRequest, exchange: _Exchange) -> UpstreamReply:
        url, headers = self._prepared(request)
        try:
            async with self._session.request(
                request.method,
                url,
                data=_payload(request.body),
                headers=headers,
                allow_redirects=False,
                trace_request_ctx=exchange,
            ) as reply:
                exchange.step = _Step.REPLYING
                body = await reply.read()
        except (aiohttp.ClientError, OSError) as error:
            raise exchange.broken(error) from error
        # Not `headers`: there aiohttp spells the names it knows in its own way.
        fields = tuple(
            (name.decode(errors="surrogateescape"), text.decode(errors="surrogateescape"))
            for name, text in reply.raw_headers
        )
        return UpstreamReply(reply.status, tuple(end_to_end(fields, besides=NOT_REPLIED)), body)

    def _prepared(self, request: UpstreamRequest) -> tuple[URL, list[tuple[str, str]]]:
        """Return the address and the signed fields of a request, in the order sent."""
        credentials = self._credentials_of()
        if credentials is None:
            raise _failed(UpstreamFailure.CREDENTIALS, "no AWS credentials to sign with")
        options = self._options
        base = options.streams_url if request.streams else options.dynamodb_url
        url = URL(base.rstrip("/") + origin_form(request.target), encoded=True)
        host = url.host_port_subcomponent
        assert host is not None, "an endpoint without a host passed the settings"
        headers = [("Host", host), *end_to_end(request.headers, besides=REMADE)]
        headers.append((HOP_HEADER, options.instance_id))
        unsigned = Unsigned(request.method, url.raw_path_qs, headers, request.body)
        headers += self._signer.sign(unsigned, credentials, self._clock.wall_s())
        return url, headers


def is_loop(headers: Iterable[tuple[str, str]], instance_id: str) -> bool:
    """Tell whether a request has already passed the process named `instance_id`.

    Args:
        headers: the fields as received; names in any case.
        instance_id: the name the process gives in `UpstreamOptions`.
    """
    hop_header = HOP_HEADER.lower()
    return any(
        instance_id in (hop.strip() for hop in text.split(","))
        for name, text in headers
        if name.lower() == hop_header
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
    dropped = HOP_BY_HOP | besides
    for name, text in headers:
        if name.lower() == "connection":
            dropped |= {option.strip().lower() for option in text.split(",")}
    return [
        (name, text)
        for name, text in headers
        if (lower := name.lower()) not in dropped
        and not lower.startswith("proxy-")
        and (text.isascii() or _is_text(text))
    ]


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


def _payload(body: bytes) -> bytes | io.BytesIO | None:
    if not body:
        return None
    return body if len(body) <= WHOLE_BODY_BYTES_MAX else io.BytesIO(body)


def _failed(failure: UpstreamFailure, message: str, *, sent: bool = False) -> UpstreamFailed:
    return UpstreamFailed(failure, message, maybe_applied=sent)


async def _send_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from repeating GET, PUT, DELETE by itself: `send` decides what is repeated."""
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        # aiohttp repeats after exactly these two classes.
        raise aiohttp.ClientConnectionError(str(error)) from error


def _trace_config() -> aiohttp.TraceConfig:
    """Return the hooks that note each exchange's step; aiohttp's errors alone cannot tell it."""

    def note(step: _Step) -> Callable[..., Awaitable[None]]:
        async def noted(_session: object, context: SimpleNamespace, _params: object) -> None:
            context.trace_request_ctx.step = step

        return noted

    trace = aiohttp.TraceConfig()
    trace.on_connection_queued_start.append(note(_Step.QUEUED))
    trace.on_connection_queued_end.append(note(_Step.WAITING))
    trace.on_connection_create_start.append(note(_Step.CONNECTING))
    trace.on_connection_create_end.append(note(_Step.ON_NEW))
    trace.on_connection_reuseconn.append(note(_Step.ON_REUSED))
    return trace
