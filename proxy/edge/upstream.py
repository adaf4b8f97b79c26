"""Sends requests to DynamoDB over HTTP, signed with the process's own credentials.

The way of one request: fields, signature, connection, reply, and what a failure means. Bodies pass
untouched in both directions, compressed or not.
Invariants: nothing that may write is ever sent twice; `maybe_applied` is False only where no byte
of the request can have left this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple, Self
from urllib.parse import urlsplit

from proxy.core.errors import UpstreamFailed, UpstreamFailure
from proxy.edge.sigv4 import Credentials, Signer
from proxy.edge.upstream_bound import Bound, LateError
from proxy.edge.upstream_connection import UnansweredError, UpstreamConnection
from proxy.edge.upstream_dialer import Dialer, Origin
from proxy.edge.upstream_fields import NOT_REPLIED, Travelling
from proxy.edge.upstream_head import HeadMaker
from proxy.edge.upstream_parser import BadReplyError, RawReply
from proxy.edge.upstream_pool import UpstreamPool
from proxy.flow.ports import Clock, UpstreamReply, UpstreamRequest

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
                return _late()

    def broken(self, error: Exception) -> UpstreamFailed:
        if self.step.value < _Step.ON_NEW.value:
            return _failed(UpstreamFailure.CONNECT, f"no connection: {type(error).__name__}")
        return _broken(error)


class _Endpoint(NamedTuple):
    """One of the addresses that requests go to, and what makes heads for it."""

    origin: Origin
    heads: HeadMaker


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
        self._signer = signer
        self._credentials_of = credentials_of
        self._clock = clock
        self._data = self._endpoint(options.dynamodb_url)
        self._streams = self._endpoint(options.streams_url)
        self._travelling = Travelling(NOT_REPLIED)
        self._bounds: dict[float, Bound] = {}
        self._in_flight = 0
        self._in_flight_max = options.connections_max + options.waiting_max

    async def __aenter__(self) -> Self:
        """Open the connection pool; connects to nothing yet."""
        options = self._options
        self._loop = asyncio.get_running_loop()
        dialer = Dialer(connect_timeout_s=options.connect_timeout_s, ca_bundle=options.ca_bundle)
        self._pool = UpstreamPool(
            dialer, connections_max=options.connections_max, idle_s=options.idle_s
        )
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close every connection; exchanges still running fail as RESET."""
        await self._pool.close()
        for bound in self._bounds.values():
            bound.close()

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
        try:
            endpoint = self._streams if request.streams else self._data
            head = self._head(endpoint, request)
            connection = self._pool.take(endpoint.origin)
            if connection is None:
                until_s = self._loop.time() + request.timeout_s
                return await self._sent_slowly(request, endpoint, until_s)
            bound = self._bounds.get(request.timeout_s) or self._bound(request.timeout_s)
            until_s = bound.watch(connection)
            try:
                reply = await connection.exchange(request.method, head, request.body)
            except LateError:
                raise _late() from None
            except (OSError, BadReplyError) as error:
                if not (request.repeatable and isinstance(error, UnansweredError)):
                    raise _broken(error) from error
            else:
                self._pool.give_back(connection)
                return self._replied(reply)
            finally:
                bound.forget(connection)
            once_more = request._replace(repeatable=False)
            return await self._sent_slowly(once_more, endpoint, until_s)
        finally:
            self._in_flight -= 1

    async def _sent_slowly(
        self, request: UpstreamRequest, endpoint: _Endpoint, until_s: float
    ) -> UpstreamReply:
        """Send a request that has no connection yet; the loop's clock tells when to give up."""
        exchange = _Exchange()
        try:
            async with asyncio.timeout_at(until_s):
                return await self._tried(request, endpoint, exchange)
        except TimeoutError:
            raise exchange.timed_out() from None

    async def _tried(
        self, request: UpstreamRequest, endpoint: _Endpoint, exchange: _Exchange
    ) -> UpstreamReply:
        """Send a request, perhaps twice."""
        repeatable = request.repeatable
        while True:
            # Made anew for each try: credentials and time may have changed.
            head = self._head(endpoint, request)
            try:
                connection = await self._connection(endpoint.origin, exchange)
                reply = await connection.exchange(request.method, head, request.body)
            except (OSError, BadReplyError) as error:
                unanswered = isinstance(error, UnansweredError)
                if not (repeatable and unanswered and exchange.step is _Step.ON_REUSED):
                    raise exchange.broken(error) from error
                repeatable = False
                exchange.step = _Step.CONNECTING
            else:
                self._pool.give_back(connection)
                return self._replied(reply)

    async def _connection(self, origin: Origin, exchange: _Exchange) -> UpstreamConnection:
        connection = self._pool.take(origin)
        if connection is None:
            connection = await self._pool.open(origin, queued=exchange.queued)
        exchange.step = _Step.ON_REUSED if connection.exchanges else _Step.ON_NEW
        return connection

    def _replied(self, reply: RawReply) -> UpstreamReply:
        return UpstreamReply(reply.status, self._travelling.of(reply.fields), reply.body)

    def _head(self, endpoint: _Endpoint, request: UpstreamRequest) -> bytes:
        """Return a request's head as it will be sent now: with its signature."""
        credentials = self._credentials_of()
        if credentials is None:
            raise _failed(UpstreamFailure.CREDENTIALS, "no AWS credentials to sign with")
        return endpoint.heads.head(request, credentials, self._clock.wall_s())

    def _endpoint(self, url: str) -> _Endpoint:
        parts = urlsplit(url)
        assert parts.hostname is not None, "an endpoint without a host passed the settings"
        port = parts.port or _PORTS[parts.scheme]
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        if port != _PORTS[parts.scheme]:
            host = f"{host}:{port}"
        path, instance_id = parts.path.rstrip("/"), self._options.instance_id
        heads = HeadMaker(host, path, instance_id=instance_id, signer=self._signer)
        return _Endpoint(Origin(parts.scheme == "https", parts.hostname, port), heads)

    def _bound(self, timeout_s: float) -> Bound:
        """Return what ends exchanges of this time-out; settings know two of them."""
        bound = self._bounds[timeout_s] = Bound(timeout_s)
        return bound


def _late() -> UpstreamFailed:
    return _failed(UpstreamFailure.TIMEOUT, "upstream did not answer in time", sent=True)


def _broken(error: Exception) -> UpstreamFailed:
    return _failed(UpstreamFailure.RESET, f"broken off: {type(error).__name__}", sent=True)


def _failed(failure: UpstreamFailure, message: str, *, sent: bool = False) -> UpstreamFailed:
    return UpstreamFailed(failure, message, maybe_applied=sent)
