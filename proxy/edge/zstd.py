"""Compresses and decompresses bodies with zstd; a process that meets no frame never loads it.

Level 3 is the library's own default: on answers of DynamoDB higher levels take several times as
long for a few percent.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final

from proxy.core.policy import BODY_BYTES_MAX

_LEVEL: Final = 3
_WINDOW_BYTES_MAX: Final = 1 << 20  # the next power of two over BODY_BYTES_MAX


def compress(body: bytes) -> bytes | None:
    """Return a body as one frame that tells its size, or None when that is not smaller."""
    frame = _compressor()(body)
    return frame if len(frame) < len(body) else None


def decompress(frame: bytes) -> bytes | None:
    """Return the content of one frame, or None when it is damaged, or larger than a body may be."""
    return _decompressor()(frame)


@cache
def _compressor() -> Callable[[bytes], bytes]:
    import zstandard  # noqa: PLC0415 - start-up does not pay for it

    return zstandard.ZstdCompressor(level=_LEVEL).compress


@cache
def _decompressor() -> Callable[[bytes], bytes | None]:
    import zstandard  # noqa: PLC0415 - start-up does not pay for it

    library = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES_MAX)

    def decompress_bounded(frame: bytes) -> bytes | None:
        try:
            # Asked before anything is decompressed: a few bytes can claim gigabytes. -1 when the
            # frame does not tell: not one of ours.
            if not 0 <= zstandard.frame_content_size(frame) <= BODY_BYTES_MAX:
                return None
            return library.decompress(frame, allow_extra_data=False)
        except zstandard.ZstdError:
            return None

    return decompress_bounded
