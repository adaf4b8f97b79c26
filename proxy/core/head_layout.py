"""Recognises a head that differs from an earlier one only where clients vary it.

An SDK sends the same fields with every request for one operation; only its date, its signature, its
own count and the body's length change. Comparing the rest as it stands costs an eighth of reading
it (`tests/bench/door.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from proxy.core.request import Headers, HeaderShape, shaped
from proxy.core.request_head import HEAD_END, RequestHead, read_head
from proxy.core.spans import between, taking

_SIGNATURE: Final = b"Signature="
_SIGNATURE_DIGITS: Final = 64
_LENGTH: Final = b"content-length"
_WORDS: Final = frozenset(
    {b"x-amz-date", b"amz-sdk-invocation-id", b"traceparent", b"x-amzn-trace-id"}
)
"""Values of letters, digits and marks that differ from request to request."""

_DASH: Final = b"-"
_OTHER_MARKS: Final = b"=;"


class HeadLayout:
    """What the heads of a client's requests for one operation have in common.

    Args:
        head: one of them; `is_signed`.

    Attributes:
        bytes: of the head.
        is_plain_get: as `RequestHead` says; it is the same for all of them.
        content_type: the field, which is the same for all of them too; None where there is none.
    """

    __slots__ = (
        *("_body_bytes", "_fixed", "_length", "_length_text", "_sample", "_shape"),
        *("_take_fixed", "_take_words", "_varying"),
        *("bytes", "content_type", "is_plain_get"),
    )

    def __init__(self, head: RequestHead) -> None:
        self.bytes = len(head.raw)
        self.is_plain_get = head.is_plain_get
        self.content_type = head.value(b"content-type")
        self._length = slice(*head.spans[_LENGTH])
        self._body_bytes, self._length_text = -1, b""
        words = sorted(_varying(head))
        varying = sorted((head.spans[_LENGTH], *words))
        self._take_words = taking(words, self.bytes).unpack_from
        self._take_fixed = taking(between(varying, self.bytes), self.bytes).unpack_from
        self._fixed = self._take_fixed(head.raw)
        self._sample = [(name, head.raw[at:end].decode()) for name, at, end in head.fields]
        self._varying = [
            (place, name, slice(at, end))
            for place, (name, at, end) in enumerate(head.fields)
            if any(at <= first < end for first, _ in varying)
        ]
        self._shape = HeaderShape(
            tuple(self._sample),
            varying=[place for place, _, _ in self._varying],
            words=[place for place, _, span in self._varying if (span.start, span.stop) in varying],
        )

    def fits(self, data: bytes) -> bool:
        """Tell whether `data` is such a head with its whole body, and nothing after it.

        What varies may hold no line end, so it can neither end the head nor begin a field; what
        follows the head is as long as the head says.
        """
        body_bytes = len(data) - self.bytes
        if body_bytes != self._body_bytes:  # mostly as long as the one before
            if body_bytes < 0:
                return False
            self._body_bytes, self._length_text = body_bytes, b"%d" % body_bytes
        if data[self._length] != self._length_text or self._take_fixed(data) != self._fixed:
            return False
        words = self._take_words(data)
        return not words or _is_word(b"".join(words))

    def headers(self, data: bytes) -> Headers:
        """Return the fields of a request that fits."""
        fields = self._sample.copy()
        for place, name, span in self._varying:
            fields[place] = name, data[span].decode()
        return shaped(fields, self._shape)


class HeadLayouts:
    """The layouts that were seen of late, by all connections: a fleet of pods speaks in one way.

    Args:
        head_bytes_max: longer heads have none.
        layouts_max: how many are kept; with one more all are dropped, and seen anew.
        alike_max: how many of one length are kept, which are tried in turn; the oldest goes.
    """

    def __init__(self, *, head_bytes_max: int, layouts_max: int = 256, alike_max: int = 8) -> None:
        self._head_bytes_max = head_bytes_max
        self._layouts_max = layouts_max
        self._alike_max = alike_max
        self._by_bytes: dict[int, list[HeadLayout]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def find(self, data: bytes) -> HeadLayout | None:
        """Return the layout of one whole ordinary request; None where `data` is anything else."""
        head_bytes = data.find(HEAD_END) + len(HEAD_END)
        for layout in self._by_bytes.get(head_bytes, ()):
            if layout.fits(data):
                return layout
        if head_bytes > self._head_bytes_max:
            return None
        head = read_head(data)
        if head is None or not head.is_signed or len(head.raw) + head.body_bytes != len(data):
            return None
        return self._learn(head)

    def _learn(self, head: RequestHead) -> HeadLayout:
        layout = HeadLayout(head)
        alike = self._by_bytes.get(layout.bytes, [])
        if len(alike) == self._alike_max:
            del alike[0]
        elif self._count == self._layouts_max:
            self._by_bytes.clear()
            self._count = 1
            alike = []
        else:
            self._count += 1
        self._by_bytes[layout.bytes] = alike
        alike.append(layout)
        return layout


def _is_word(text: bytes) -> bool:
    text = text.replace(_DASH, b"")
    return text.isalnum() or text.translate(None, _OTHER_MARKS).isalnum()  # the latter is slow


def _varying(head: RequestHead) -> Iterator[tuple[int, int]]:
    for name, span in head.spans.items():
        if name in _WORDS and _is_word(head.raw[span[0] : span[1]]):
            yield span
    start, stop = head.spans[b"authorization"]
    signature = stop - _SIGNATURE_DIGITS
    signed = head.raw.endswith(_SIGNATURE, start, max(start, signature))
    if signed and _is_word(head.raw[signature:stop]):
        yield signature, stop
