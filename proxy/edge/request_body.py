"""Performs the reading of request bodies, within bounds of size, time and shared memory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from aiohttp import StreamReader, web
from aiohttp.http import HttpVersion11
from aiohttp.http_exceptions import HttpProcessingError

from proxy.core.errors import RequestRejected
from proxy.core.limiter import Share

_TOO_LARGE: Final = "com.amazon.coral.service#RequestEntityTooLargeException"
_BAD_REQUEST: Final = "com.amazon.coral.service#SerializationException"


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Bounds of one body.

    Args:
        bytes_max: its size.
        patience_s: seconds until it must be complete.
    """

    bytes_max: int
    patience_s: float


async def read_body(request: web.BaseRequest, limits: BodyLimits, share: Share) -> bytes:
    """Return a request's whole body, as it was sent.

    Args:
        request: its head has been read.
        limits: bounds of this body.
        share: grows with every piece that arrives.

    Raises:
        RequestRejected: too large (413), too slow (408), or broken off (400).
        Overloaded: all bodies together have no more room.
    """
    if (request.content_length or 0) > limits.bytes_max:
        raise _too_large(limits)
    expect = request.headers.get("Expect", "").lower()
    if expect == "100-continue" and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # nothing of the answer itself was sent
    content = request.content
    try:
        if content.is_eof():
            return _checked(content.read_nowait(), limits, share)
        # A client that stalls half-way must not hold its connection and our drain for ever.
        async with asyncio.timeout(limits.patience_s):
            return await _collect(content, limits, share)
    except TimeoutError:
        content.feed_eof()  # else aiohttp would wait for the rest some more
        raise RequestRejected(_BAD_REQUEST, "the body came too slowly", status=408) from None
    except (ConnectionError, HttpProcessingError, web.RequestPayloadError):
        # The client left, or its chunks are none: no bug of ours, and nobody may be there.
        content.feed_eof()  # else aiohttp would read on, and log a stack trace
        raise RequestRejected(_BAD_REQUEST, "incomplete or malformed body") from None


async def _collect(content: StreamReader, limits: BodyLimits, share: Share) -> bytes:
    pieces = [_checked(piece, limits, share) async for piece in content.iter_any()]
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _checked(piece: bytes, limits: BodyLimits, share: Share) -> bytes:
    share.grow(len(piece))
    if share.units > limits.bytes_max:
        raise _too_large(limits)
    return piece


def _too_large(limits: BodyLimits) -> RequestRejected:
    reason = f"request body larger than {limits.bytes_max} bytes"
    return RequestRejected(_TOO_LARGE, reason, status=413)
