"""Performs how answers look on the wire, the same by either way out: fields, their order, ids."""

from __future__ import annotations

import base64
import itertools
import math
import os
import time
from http import HTTPStatus
from typing import Final, NamedTuple

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time  # the text that its own answers carry
from multidict import CIMultiDict

from proxy.core.cache_status import cache_status
from proxy.core.hits import Hit, HitKind, hit_answer
from proxy.core.request import Answer, ClientRequest, HeaderShape, ShapedHeaders
from proxy.core.responses import content_type, cors_headers
from proxy.edge.blanks import Blanks, mark, marked

_PREFIX_CHARACTERS: Final = 39
_COUNT_DIGITS: Final = 13

_SOME_TTL_S: Final = 987_654_321

_BODILESS: Final = frozenset({*range(100, 200), 204, 304})
_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus
}
ALIKE_MAX: Final = 512
"""How many kinds of answers are remembered; with one more all are forgotten, and learned anew."""

_Alike = tuple[HeaderShape, int, str | None, bool, bool]
"""What heads of answers have in common: shape, status, Content-Type where it is ours to set,
whether upstream's checksum stays, and whether there is no body.
"""

_LENGTH, _STATUS, _ID, _CHECKSUM, _DATE = "length", "status", "id", "checksum", "date"  # blanks


class _Given(NamedTuple):
    """Values that differ from answer to answer, beside those of upstream's fields."""

    status: str
    id: str
    checksum: str


_MARKS: Final = _Given(mark(_STATUS), mark(_ID), mark(_CHECKSUM))


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
        self._blanks: dict[_Alike, Blanks] = {}

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
        headers = answer.headers
        if isinstance(headers, ShapedHeaders) and answer.status not in _BODILESS:
            head = self._alike(request, answer, headers)
            if head is not None:
                ends = b"Connection: close\r\n\r\n" if closes else b"\r\n"
                head += (ends, answer.body)
                return b"".join(head)
        return self._spelled(request, answer, closes=closes)

    def _spelled(self, request: ClientRequest, answer: Answer, *, closes: bool) -> bytes:
        """Return the bytes of an answer of which nothing is known beforehand."""
        bodiless = answer.status in _BODILESS
        body = b"" if bodiless else answer.body
        fields = self._whole_fields(request, answer, body)
        lines = [f"{name}: {text}\r\n" for name, text in fields.items()]
        dated = b"" if "Date" in fields else b"Date: %b\r\n" % _date_now()
        head = f"{_status_line(answer.status)}{''.join(lines)}".encode()
        assert head.count(b"\n") == head.count(b"\r") == len(lines) + 1, "a field of two lines"
        length = b"" if bodiless else b"Content-Length: %d\r\n" % len(body)
        ends = b"Connection: close\r\n" if closes else b""
        return b"".join((head, length, dated, ends, b"\r\n", body))

    def _alike(
        self, request: ClientRequest, answer: Answer, headers: ShapedHeaders
    ) -> list[bytes] | None:
        """Return the pieces of a head like earlier ones; None where it must be spelled out."""
        kind = None
        if answer.fetched:
            if self._cross_origin and request.header("origin") is not None:
                return None
            kind = content_type(request.header("content-type"))
        alike = headers.shape, answer.status, kind, answer.crc32 is None, not answer.body
        blanks = self._blanks.get(alike) or self._learned(alike, request, answer)
        pieces, blank = blanks.pieces(headers), blanks.named
        pieces[blank[_LENGTH]] = b"%d" % len(answer.body)
        if _STATUS in blank:
            pieces[blank[_STATUS]] = cache_status(answer).encode()
        if _ID in blank:
            pieces[blank[_ID]] = self._request_id()
        if _CHECKSUM in blank:
            pieces[blank[_CHECKSUM]] = str(answer.crc32).encode()
        if _DATE in blank:
            pieces[blank[_DATE]] = _date_now()
        return pieces

    def _learned(self, alike: _Alike, request: ClientRequest, answer: Answer) -> Blanks:
        """Spell the head of such answers out, with blanks for what differs."""
        if len(self._blanks) >= ALIKE_MAX:
            self._blanks.clear()
        shape = alike[0]
        shown = answer._replace(headers=marked(shape.sample, shape.varying))
        fields = self._whole_fields(request, shown, answer.body, given=_MARKS)
        fields["Content-Length"] = mark(_LENGTH)
        if "Date" not in fields:
            fields["Date"] = mark(_DATE)
        lines = [f"{name}: {text}\r\n" for name, text in fields.items()]
        text = f"{_status_line(answer.status)}{''.join(lines)}"
        assert text.count("\n") == text.count("\r") == len(lines) + 1, "a field of two lines"
        blanks = self._blanks[alike] = Blanks(text)
        return blanks

    def _whole_fields(
        self, request: ClientRequest, answer: Answer, body: bytes, given: _Given | None = None
    ) -> CIMultiDict[str]:
        """Return the fields of an answer, and those that aiohttp would add but the last ones."""
        fields = self._fields(request, answer, given)
        if body and "Content-Type" not in fields:
            fields["Content-Type"] = "application/octet-stream"
        if "Server" not in fields:
            fields["Server"] = self._server_name
        return fields

    def _fields(
        self, request: ClientRequest, answer: Answer, given: _Given | None = None
    ) -> CIMultiDict[str]:
        """Return an answer's fields; `given` stands for what is another in each of them."""
        fields: CIMultiDict[str] = CIMultiDict(answer.headers)
        if answer.fetched or not answer.headers:  # not upstream's answer to this very request
            fields["Content-Type"] = content_type(request.header("content-type"))
            if self._cross_origin:
                fields.extend(cors_headers(request))
        if not answer.headers:
            fields["Server"] = self._server_name
        if "x-amzn-RequestId" not in fields:
            fields["x-amzn-RequestId"] = given.id if given else self._request_id().decode()
        if answer.crc32 is not None:
            fields["x-amz-crc32"] = given.checksum if given else str(answer.crc32)
        if self._shows_status:
            fields["Cache-Status"] = given.status if given else cache_status(answer)
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
        self._date = _date_now()
        return self._date


def _date_now() -> bytes:
    return rfc822_formatted_time().encode()


def _status_line(status: int) -> str:
    return _STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n"
