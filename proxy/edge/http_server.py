"""Performs HTTP for the SDKs: whole requests in, whole answers out; aiohttp's server only.

What aiohttp's high-level Application would do by itself is wrong here: it inflates bodies, caps
them at 1 MiB and answers errors as text. This is its low-level server with those parts replaced.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import Any, Final

from aiohttp import web
from aiohttp.web_protocol import _ErrInfo  # the only sign of bytes that are not HTTP
from multidict import CIMultiDict

from proxy.core.cache_status import cache_status
from proxy.core.errors import ProxyError, RequestRejected
from proxy.core.limiter import Budget, Share
from proxy.core.request import Answer, ClientRequest
from proxy.core.responses import content_type, cors_headers, error_answer, internal_error
from proxy.edge.request_body import BodyLimits, read_body
from proxy.flow.events import Emit, InvariantViolated

BACKLOG: Final = 4096
"""SDKs open 30–40 connections at once, and every pod of a burst does so together."""

_BAD_REQUEST: Final = "com.amazon.coral.service#SerializationException"
_LOOP: Final = "com.amazon.coral.service#LoopDetectedException"
_ACCESS_DENIED: Final = "com.amazon.coral.service#AccessDeniedException"
_REQUEST_ID_CHARACTERS: Final = 52
_NO_REQUEST: Final = ClientRequest("", "", (), b"")

Handler = Callable[[ClientRequest], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bounds of the data listener; times in seconds, sizes in bytes."""

    body_bytes_max: int
    bodies_bytes_max: int
    header_bytes_max: int
    keepalive_s: float
    connections_max: int


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """How requests are taken and answers look.

    Args:
        limits: bounds.
        cache_status: whether every answer carries a Cache-Status field.
        server_name: the Server field of answers that do not come from upstream.
        cross_origin: whether web pages may use this listener from a browser.
    """

    limits: HttpLimits
    cache_status: bool
    server_name: str
    cross_origin: bool


class DataServer(web.Server):
    """aiohttp's low-level server, speaking DynamoDB's dialect of HTTP.

    Args:
        handler: answers a request; raises nothing but bugs.
        is_loop: tells from a request's fields whether it came from this very process.
        options: bounds and looks.
        emit: takes events.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        is_loop: Callable[[tuple[tuple[str, str], ...]], bool],
        options: HttpOptions,
        emit: Emit,
    ) -> None:
        limits = options.limits
        super().__init__(
            self._handle,
            # A client that hangs up must not cancel a write half-way; the flows shield themselves.
            handler_cancellation=False,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=limits.keepalive_s,
            max_line_size=limits.header_bytes_max,
            max_field_size=limits.header_bytes_max,
        )
        self._answer = handler
        self._is_loop = is_loop
        self._options = options
        self._emit = emit
        self._body_limits = BodyLimits(limits.body_bytes_max, limits.keepalive_s)
        self._bodies = Budget("http.bodies_bytes_max", limits.bodies_bytes_max)
        self.in_flight = 0
        self.draining = False

    def __call__(self) -> web.RequestHandler:
        """Make the protocol of one new connection."""
        return _Connection(self, loop=self._loop, **self._kwargs)

    @property
    def full(self) -> bool:
        """Whether as many connections are open as may be."""
        return len(self._connections) >= self._options.limits.connections_max

    @property
    def busy(self) -> bool:
        """Whether a request is being answered, or an answer has not left this process yet."""
        if self.in_flight:
            return True
        return any(each.get_write_buffer_size() for each in self._connections.values())

    def refusal(self, answer: Answer) -> web.Response:
        """Return an answer to what is no request, after which the connection ends."""
        response = self._response(_NO_REQUEST, answer)
        response.force_close()
        return response

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.in_flight += 1
        try:
            with self._bodies.share() as share:
                return await self._respond(request, share)
        finally:
            self.in_flight -= 1

    async def _respond(self, request: web.BaseRequest, share: Share) -> web.Response:
        received = ClientRequest(request.method, request.raw_path, _fields(request), b"")
        whole = False
        try:
            body = await read_body(request, self._body_limits, share)
            whole = True
            received = ClientRequest(received.method, received.target, received.headers, body)
            self._check_sender(received)
            answer = await self._answer(received)
        except ProxyError as error:
            answer = error_answer(error)
        except Exception as error:  # noqa: BLE001 - one request fails, the process goes on
            self._emit(InvariantViolated(f"request: {type(error).__name__}: {_place(error)}"))
            answer = internal_error()
        response = self._response(received, answer)
        if self.draining or not whole:  # what comes next on the connection may be body still
            response.force_close()
        return response

    def _check_sender(self, received: ClientRequest) -> None:
        """Refuse this very process, and browsers that act for some web page."""
        if self._is_loop(received.headers):
            message = "dynaside: upstream leads back to this proxy; check upstream.endpoint"
            raise RequestRejected(_LOOP, message, status=508)
        if not self._options.cross_origin and received.header("origin") is not None:
            # At AWS a page needs the user's own credentials; here it would be given the proxy's.
            message = (
                "dynaside: requests of web pages are refused; see the setting http.cross_origin"
            )
            raise RequestRejected(_ACCESS_DENIED, message, status=403)

    def _response(self, request: ClientRequest, answer: Answer) -> web.Response:
        fields: CIMultiDict[str] = CIMultiDict(answer.headers)
        if answer.fetched or not answer.headers:  # not upstream's answer to this very request
            fields["Content-Type"] = content_type(request)
            if self._options.cross_origin:
                fields.extend(cors_headers(request))
        if not answer.headers:
            fields["Server"] = self._options.server_name
        if "x-amzn-RequestId" not in fields:
            fields["x-amzn-RequestId"] = _request_id()
        if answer.crc32 is not None:
            fields["x-amz-crc32"] = str(answer.crc32)
        if self._options.cache_status:
            fields["Cache-Status"] = cache_status(answer)
        return web.Response(status=answer.status, body=answer.body, headers=fields)


class _Connection(web.RequestHandler):
    """One connection: refuses when there are too many, answers bad HTTP in DynamoDB's shape."""

    _server: DataServer

    def __init__(self, server: DataServer, **options: Any) -> None:
        super().__init__(server, **options)
        self._server = server

    def connection_made(self, transport: Any) -> None:
        """Take a connection, or refuse it with a readable answer."""
        if self._server.full:
            answer = replace(internal_error("too many connections"), status=503)
            transport.write(_plain(self._server.refusal(answer)))
            transport.close()
            return
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Parse what came; a body that turns out to be malformed ends with an error."""
        super().data_received(data)
        if not self._messages or not isinstance(self._messages[-1][0], _ErrInfo):
            return
        # aiohttp queues the error as a message of its own and leaves the body waiting for ever.
        unfinished = [payload for _, payload in self._messages]
        if self._current_request is not None:
            unfinished.append(self._current_request.content)
        for content in unfinished:
            if not content.is_eof():
                content.set_exception(web.RequestPayloadError("malformed"))

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,  # noqa: ARG002 - aiohttp's signature
        message: str | None = None,  # noqa: ARG002 - aiohttp's signature
    ) -> web.StreamResponse:
        """Answer what is not HTTP: no stack trace, no text of the client's in the log."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was begun already")
        error = RequestRejected(_BAD_REQUEST, "dynaside: not a valid HTTP request", status=status)
        return self._server.refusal(error_answer(error))


def _plain(response: web.Response) -> bytes:
    """Return the bytes of an answer for a connection that aiohttp knows nothing of."""
    assert isinstance(response.body, bytes), "our own answers are whole"
    fields = {
        "Date": formatdate(usegmt=True),
        "Content-Length": str(len(response.body)),
        "Connection": "close",
    }
    lines = [f"{name}: {text}\r\n" for name, text in (*response.headers.items(), *fields.items())]
    status = f"HTTP/1.1 {response.status} {response.reason}\r\n"
    return f"{status}{''.join(lines)}\r\n".encode() + response.body


def _fields(request: web.BaseRequest) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name.decode("utf-8", "surrogateescape"), content.decode("utf-8", "surrogateescape"))
        for name, content in request.raw_headers
    )


def _request_id() -> str:
    """Return an id in the shape of DynamoDB's own: 52 capital letters and digits."""
    return base64.b32hexencode(os.urandom(33)).decode()[:_REQUEST_ID_CHARACTERS]


def _place(error: BaseException) -> str:
    """Return where a bug was, without any of the values that were at hand."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "unknown"
    code = trace.tb_frame.f_code
    return f"{os.path.basename(code.co_filename)}:{code.co_name}:{trace.tb_lineno}"  # noqa: PTH119
