"""Reads a compressed request body, to find what it writes; what is forwarded stays compressed."""

from __future__ import annotations

import zlib
from typing import Final

_GZIP: Final = 16 + zlib.MAX_WBITS


def inflated(body: bytes, coding: str, *, bytes_max: int) -> bytes | None:
    """Return the content of a gzip or deflate body.

    Args:
        body: as the client sent it.
        coding: the Content-Encoding field's value; empty and `identity` return the body itself.
        bytes_max: how much content is read at most.

    Returns:
        None for another coding, damaged bytes, or more content than `bytes_max`.
    """
    coding = coding.strip().lower()
    if coding in ("", "identity"):
        return body
    if coding not in ("gzip", "deflate"):
        return None
    for window_bits in (_GZIP,) if coding == "gzip" else (zlib.MAX_WBITS, -zlib.MAX_WBITS):
        decompressor = zlib.decompressobj(window_bits)
        try:
            content = decompressor.decompress(body, bytes_max + 1)
        except zlib.error:
            continue
        if decompressor.eof and not decompressor.unused_data and len(content) <= bytes_max:
            return content
    return None
