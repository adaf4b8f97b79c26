"""Performs how answers look on the wire, the same by either way out: fields, their order, ids."""

from __future__ import annotations

import base64
import itertools
import math
import os
import time
from http import HTTPStatus
from typing import Final

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time  # the text that its own answers carry
from multidict import CIMultiDict

from proxy.core.cache_status import cache_status
from proxy.core.hits import Hit, HitKind, hit_answer
from proxy.core.request import Answer, ClientRequest
from proxy.core.responses import content_type, cors_headers

_PREFIX_CHARACTERS: Final = 39
_COUNT_DIGITS: Final = 13

_SOME_TTL_S: Final = 987_654_321

_BODILESS: Final = frozenset({*range(100, 200), 204, 304})
_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus
}


class RequestIds:
    """Ids in the shape of DynamoDB's own, 52 capital letters and digits; no two are alike.

    One random beginning per process and a count: a random id for each answer would cost as much
    as all other fields together.
    """

    def __init__(self) -> None:
        self.prefix = base64.b32hexencode(os.urandom(25))[:_PREFIX_CHARACTERS]
        """What all of them begin with."""
        self.numbers = itertools.count()
        """What they end with, in so many digits as `_COUNT_DIGITS` says."""

    def __call__(self) -> bytes:
        """Return the next one."""
        return b"%b%0*d" % (self.prefix, _COUNT_DIGITS, next(self.numbers))


class WholeAnswer(web.StreamResponse):
    """An answer whose every byte is known; leaves in one piece, on a connection that stays.

    Args:
        raw: head and body.
    """

    def __init__(self, raw: bytes) -> None:
        super().__init__()
        self._raw = raw
        self._keep_alive = True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Write it; called by aiohttp.

        Raises:
            ConnectionError: the client has gone.
        """
        self._req = request
        await request.writer.write(self._raw)
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Wait until the client takes it, if it is slow; called by aiohttp, once `prepare` did."""
        assert not data, "nothing follows the whole"
        assert self._req is not None, "written before it is ended"
        await self._req.writer.drain()


class AnswerForm:
    """Gives answers their form.

    Args:
        cache_status: whether every answer carries a Cache-Status field.
        server_name: the Server field of answers that do not come from upstream.
        cross_origin: whether answers let web pages of other origins read them.
    """

    def __init__(self, *, cache_status: bool, server_name: str, cross_origin: bool) -> None:
        self._shows_status = cache_status
        self._server_name = server_name
        self._cross_origin = cross_origin
        self._request_id = RequestIds()
        self._numbers = self._request_id.numbers
        self._date = b""
        self._date_ends_s = -math.inf  # monotonic
        self._hits = [self._hit_form(kind) for kind in HitKind]

    def response(self, request: ClientRequest, answer: Answer) -> web.Response:
        """Return any answer for aiohttp to send; it adds Content-Length, Date and Connection."""
        fields = self._fields(request, answer)
        return web.Response(status=answer.status, body=answer.body, headers=fields)

    def whole(self, request: ClientRequest, answer: Answer, *, closes: bool = False) -> bytes:
        """Return the bytes that aiohttp would send of `response`.

        Args:
            request: a POST of HTTP/1.1.
            answer: any.
            closes: whether the connection ends with it.
        """
        fields = self._fields(request, answer)
        bodiless = answer.status in _BODILESS
        body = b"" if bodiless else answer.body
        if body and "Content-Type" not in fields:
            fields["Content-Type"] = "application/octet-stream"
        if "Server" not in fields:
            fields["Server"] = self._server_name
        lines = [f"{name}: {text}\r\n" for name, text in fields.items()]
        line = _STATUS_LINES.get(answer.status) or f"HTTP/1.1 {answer.status} \r\n"
        dated = b"" if "Date" in fields else b"Date: %b\r\n" % rfc822_formatted_time().encode()
        head = f"{line}{''.join(lines)}".encode()
        assert head.count(b"\n") == head.count(b"\r") == len(lines) + 1, "a field of two lines"
        length = b"" if bodiless else b"Content-Length: %d\r\n" % len(body)
        ends = b"Connection: close\r\n" if closes else b""
        return b"".join((head, length, dated, ends, b"\r\n", body))

    def _fields(self, request: ClientRequest, answer: Answer) -> CIMultiDict[str]:
        fields: CIMultiDict[str] = CIMultiDict(answer.headers)
        if answer.fetched or not answer.headers:  # not upstream's answer to this very request
            fields["Content-Type"] = content_type(request.header("content-type"))
            if self._cross_origin:
                fields.extend(cors_headers(request))
        if not answer.headers:
            fields["Server"] = self._server_name
        if "x-amzn-RequestId" not in fields:
            fields["x-amzn-RequestId"] = self._request_id().decode()
        if answer.crc32 is not None:
            fields["x-amz-crc32"] = str(answer.crc32)
        if self._shows_status:
            fields["Cache-Status"] = cache_status(answer)
        return fields

    def opening(self, asked_type: bytes | None) -> bytes:
        """Return how `hit` begins for requests of one Content-Type, None for none."""
        asked = None if asked_type is None else asked_type.decode()
        kind = content_type(asked)
        text = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nServer: {self._server_name}\r\n"
        return f"{text}x-amzn-RequestId: ".encode() + self._request_id.prefix

    def hit(self, opening: bytes, hit: Hit, now_s: float) -> bytes:
        """Return the bytes that aiohttp would send of `response`, for a hit on a kept connection.

        Args:
            opening: of `opening`.
            hit: to a request without an Origin.
            now_s: monotonic time.
        """
        date = self._date if now_s < self._date_ends_s else self._renewed_date(now_s)
        form, number, body = self._hits[hit.kind], next(self._numbers), hit.body
        if self._shows_status:
            return form % (opening, number, hit.crc32, hit.ttl_s, len(body), date, body)
        return form % (opening, number, hit.crc32, len(body), date, body)

    def _hit_form(self, kind: HitKind) -> bytes:
        """Return the form of such hits; what it takes is told by `hit`."""
        status = ""
        if self._shows_status:
            words = cache_status(hit_answer(kind, b"", _SOME_TTL_S))
            status = f"Cache-Status: {words.replace(str(_SOME_TTL_S), '%d')}\r\n"
        fields = f"x-amz-crc32: %d\r\n{status}Content-Length: %d\r\nDate: %b"
        return f"%b%0{_COUNT_DIGITS}d\r\n{fields}\r\n\r\n%b".encode()

    def _renewed_date(self, now_s: float) -> bytes:
        """Return the date, and keep it until its second is over."""
        wall_s = time.time()
        self._date_ends_s = now_s + 1 - wall_s % 1
        self._date = rfc822_formatted_time().encode()
        return self._date
