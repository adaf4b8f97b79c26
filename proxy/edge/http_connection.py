"""Performs one connection of the data listener, as far as aiohttp's own ways are wrong here.

It refuses when there are too many connections, and answers bad HTTP in DynamoDB's shape.
"""

from __future__ import annotations

from email.utils import formatdate
from typing import Any, Final, Protocol

from aiohttp import web
from aiohttp.web_protocol import _ErrInfo  # the only sign of bytes that are not HTTP

from proxy.core.errors import RequestRejected
from proxy.core.request import Answer
from proxy.core.responses import error_answer, internal_error

_BAD_REQUEST: Final = "com.amazon.coral.service#SerializationException"


class Host(Protocol):
    """What a connection asks of its server, which is aiohttp's `Server` beside this."""

    @property
    def full(self) -> bool:
        """Whether as many connections are open as may be."""
        ...

    def refusal(self, answer: Answer) -> web.Response:
        """Return an answer to what is no request, after which the connection ends."""
        ...


class Connection(web.RequestHandler):
    """One connection.

    Args:
        host: its server.
        options: aiohttp's own.
    """

    def __init__(self, host: Host, **options: Any) -> None:
        super().__init__(host, **options)  # type: ignore[arg-type] # a web.Server, which is no protocol
        self._host = host

    def connection_made(self, transport: Any) -> None:
        """Take a connection, or refuse it with a readable answer."""
        if self._host.full:
            answer = internal_error("too many connections")._replace(status=503)
            transport.write(_plain(self._host.refusal(answer)))
            transport.close()
            return
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Take the end; what could not be parsed refers to itself by way of its traceback."""
        super().connection_lost(exc)
        self._messages.clear()

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
        return self._host.refusal(error_answer(error))


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
