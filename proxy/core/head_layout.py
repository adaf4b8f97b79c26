"""Recognises a head that differs from an earlier one of its connection only where clients vary it.

An SDK sends the same fields with every request of a connection; only its date, its signature, its
own count and the body's length change. Comparing the rest as it stands costs an eighth of reading
it (`tests/bench/door.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Final

from proxy.core.request_head import RequestHead

_SIGNATURE: Final = b"Signature="
_SIGNATURE_DIGITS: Final = 64
_LENGTH: Final = b"content-length"
_WORDS: Final = frozenset({b"x-amz-date", b"amz-sdk-invocation-id", b"traceparent"})
"""Values of letters, digits and dashes that differ from request to request."""


class HeadLayout:
    """What the heads of one connection's plain GetItem requests have in common.

    Args:
        head: one of them; `is_plain_get`.
    """

    __slots__ = ("_fixed", "_length", "_take_fixed", "_take_words", "bytes")

    def __init__(self, head: RequestHead) -> None:
        self.bytes = len(head.raw)
        self._length = slice(*head.spans[_LENGTH])
        words = sorted(_varying(head))
        varying = sorted((head.spans[_LENGTH], *words))
        self._take_words = _taking(words, self.bytes).unpack_from
        self._take_fixed = _taking(_between(varying, self.bytes), self.bytes).unpack_from
        self._fixed = self._take_fixed(head.raw)

    def fits(self, data: bytes) -> bool:
        """Tell whether `data` is such a head with its whole body, and nothing after it.

        What varies may hold no line end, so it can neither end the head nor begin a field; what
        follows the head is as long as the head says.
        """
        body_bytes = len(data) - self.bytes
        if body_bytes < 0 or data[self._length] != b"%d" % body_bytes:
            return False
        if self._take_fixed(data) != self._fixed:
            return False
        words = self._take_words(data)
        return not words or _is_word(b"".join(words))


def _is_word(text: bytes) -> bool:
    return text.replace(b"-", b"").isalnum()


def _varying(head: RequestHead) -> Iterator[tuple[int, int]]:
    for name, span in head.spans.items():
        if name in _WORDS and _is_word(head.raw[span[0] : span[1]]):
            yield span
    start, stop = head.spans[b"authorization"]
    signature = stop - _SIGNATURE_DIGITS
    signed = head.raw.endswith(_SIGNATURE, start, max(start, signature))
    if signed and _is_word(head.raw[signature:stop]):
        yield signature, stop


def _between(spans: Iterable[tuple[int, int]], end: int) -> Iterator[tuple[int, int]]:
    at = 0
    for start, stop in spans:
        yield at, start
        at = stop
    yield at, end


def _taking(spans: Iterable[tuple[int, int]], end: int) -> Struct:
    """Return what takes these parts, in order and apart from each other, out of `end` bytes."""
    form, at = "", 0
    for start, stop in spans:
        form += f"{start - at}x{stop - start}s"
        at = stop
    return Struct(f"{form}{end - at}x")
