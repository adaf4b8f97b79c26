"""Recognises a head that differs from an earlier one of its connection only where clients vary it.

An SDK sends the same fields with every request of a connection; only its date, its signature, its
own count and the body's length change. Comparing the rest as it stands costs an eighth of reading
it (`tests/bench/door.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
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

    __slots__ = ("_fixed", "_length", "_words", "bytes")

    def __init__(self, head: RequestHead) -> None:
        self.bytes = len(head.raw)
        self._length = head.spans[_LENGTH]
        self._words = tuple(sorted(_varying(head)))
        self._fixed = tuple(_between(head.raw, sorted((self._length, *self._words))))

    def fits(self, data: bytes) -> bool:
        """Tell whether `data` is such a head with its whole body, and nothing after it.

        What varies may hold no line end, so it can neither end the head nor begin a field; what
        follows the head is as long as the head says.
        """
        for start, fixed in self._fixed:
            if not data.startswith(fixed, start):
                return False
        for start, stop in self._words:
            if not _is_word(data[start:stop]):
                return False
        digits = data[self._length[0] : self._length[1]]
        return digits.isdigit() and int(digits) == len(data) - self.bytes


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


def _between(raw: bytes, spans: list[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    """Yield what lies around some parts of `raw`: where it starts, and what it is."""
    at = 0
    for start, stop in spans:
        yield at, raw[at:start]
        at = stop
    yield at, raw[at:]
