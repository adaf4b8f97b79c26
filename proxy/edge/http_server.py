"""Performs HTTP for the SDKs: whole requests in, whole answers out; aiohttp's server only.

What aiohttp's high-level Application would do by itself is wrong here: it inflates bodies, caps
them at 1 MiB and answers errors as text. This is its low-level server with those parts replaced.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from aiohttp.http import HttpVersion11

from proxy.core.errors import ProxyError, RequestRejected
from proxy.core.head_layout import HeadLayouts
from proxy.core.limiter import Budget, Share
from proxy.core.request import Answer, ClientRequest
from proxy.core.responses import error_answer, internal_error
from proxy.edge.fast_door import DoorConnection, FastDoor
from proxy.edge.http_answer import AnswerForm, WholeAnswer
from proxy.edge.http_connection import Connection
from proxy.edge.request_body import BodyLimits, read_body
from proxy.flow.at_once import AnswerNow
from proxy.flow.events import Emit, InvariantViolated
from proxy.flow.store_hits import Answers, LookUp

BACKLOG: Final = 4096
"""SDKs open 30–40 connections at once, and every pod of a burst does so together."""

_LOOP: Final = "com.amazon.coral.service#LoopDetectedException"
_ACCESS_DENIED: Final = "com.amazon.coral.service#AccessDeniedException"
_NO_REQUEST: Final = ClientRequest("", "", (), b"")


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
        is_loop: tells whether a request came from this very process.
        options: bounds and looks.
        emit: takes events.
        answer_now: answers hits at once, where there is a fast door.
        look_up: looks up for the fast door what it cannot answer at once.
    """

    def __init__(
        self,
        handler: Answers,
        *,
        is_loop: Callable[[ClientRequest], bool],
        options: HttpOptions,
        emit: Emit,
        answer_now: AnswerNow | None = None,
        look_up: LookUp | None = None,
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
        self._handler = handler
        self._is_loop = is_loop
        self._options = options
        self._emit = emit
        self._form = AnswerForm(
            cache_status=options.cache_status,
            server_name=options.server_name,
            cross_origin=options.cross_origin,
        )
        self._door = self._made_door(answer_now, look_up) if answer_now is not None else None
        self._body_limits = BodyLimits(limits.body_bytes_max, limits.keepalive_s)
        self.bodies = Budget("http.bodies_bytes_max", limits.bodies_bytes_max)
        self.in_flight = 0
        self.draining = False

    def __call__(self) -> web.RequestHandler:
        """Make the protocol of one new connection."""
        if self._door is not None:
            return DoorConnection(self, self._door, loop=self._loop, **self._kwargs)
        return Connection(self, loop=self._loop, **self._kwargs)

    def _made_door(self, answer_now: AnswerNow, look_up: LookUp | None) -> FastDoor:
        limits = self._options.limits
        return FastDoor(
            answer_now=answer_now,
            form=self._form,
            layouts=HeadLayouts(head_bytes_max=limits.header_bytes_max),
            body_bytes_max=limits.body_bytes_max,
            failed=self._tell_bug,
            looks_up=look_up,
        )

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
        response = self._form.response(_NO_REQUEST, answer)
        response.force_close()
        return response

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.in_flight += 1
        try:
            with self.bodies.share() as share:
                return await self._respond(request, share)
        finally:
            self.in_flight -= 1

    async def _respond(self, request: web.BaseRequest, share: Share) -> web.StreamResponse:
        head = request.method, request.raw_path, _fields(request)
        received = None
        try:
            received = ClientRequest(*head, await read_body(request, self._body_limits, share))
        except ProxyError as error:
            answer = error_answer(error)
        except Exception as error:  # noqa: BLE001 - one request fails, the process goes on
            self._tell_bug(error)
            answer = internal_error()
        else:
            answer = await self.answer(received)
        # What comes next on the connection may be body still, where it was not read to its end.
        closes = self.draining or received is None
        received = received or ClientRequest(*head, b"")
        if not closes and _is_usual(request):
            return WholeAnswer(self._form.whole(received, answer))
        response = self._form.response(received, answer)
        if closes:
            response.force_close()
        return response

    async def answer(self, received: ClientRequest, answers: Answers | None = None) -> Answer:
        """Answer a request that was read; whatever is wrong becomes an answer too.

        Args:
            received: the request.
            answers: answers it; None for the handler of all.
        """
        try:
            self._check_sender(received)
            return await (answers or self._handler)(received)
        except ProxyError as error:
            return error_answer(error)
        except Exception as error:  # noqa: BLE001 - one request fails, the process goes on
            self._tell_bug(error)
            return internal_error()

    def _tell_bug(self, error: Exception) -> None:
        self._emit(InvariantViolated(f"request: {type(error).__name__}: {_place(error)}"))

    def _check_sender(self, received: ClientRequest) -> None:
        """Refuse this very process, and browsers that act for some web page."""
        if self._is_loop(received):
            message = "dynaside: upstream leads back to this proxy; check upstream.endpoint"
            raise RequestRejected(_LOOP, message, status=508)
        if not self._options.cross_origin and received.header("origin") is not None:
            # At AWS a page needs the user's own credentials; here it would be given the proxy's.
            message = (
                "dynaside: requests of web pages are refused; see the setting http.cross_origin"
            )
            raise RequestRejected(_ACCESS_DENIED, message, status=403)


def _is_usual(request: web.BaseRequest) -> bool:
    """Tell whether the answer may leave in one piece, on a connection that stays."""
    return request.method == "POST" and request.version == HttpVersion11 and request.keep_alive


def _fields(request: web.BaseRequest) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name.decode("utf-8", "surrogateescape"), content.decode("utf-8", "surrogateescape"))
        for name, content in request.raw_headers
    )


def _place(error: BaseException) -> str:
    """Return where a bug was, without any of the values that were at hand."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "unknown"
    code = trace.tb_frame.f_code
    return f"{os.path.basename(code.co_filename)}:{code.co_name}:{trace.tb_lineno}"  # noqa: PTH119
