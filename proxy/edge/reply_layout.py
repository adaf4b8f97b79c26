"""Recognises the head of a reply that differs from an earlier one only where upstream varies it.

DynamoDB answers with the same fields each time; its date, its request's id, checksum and length
change. Comparing the rest as it stands costs a fifth of parsing it. What is recognised would have
been parsed as the same reply: what varies can hold no line end, and nothing that frames a reply but
its length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from proxy.core.request import Headers, HeaderShape, ShapedHeaders, shaped
from proxy.core.spans import Span, between, taking

LAYOUTS_MAX: Final = 256
"""How many are kept; with one more all are dropped, and learned anew."""
ALIKE_MAX: Final = 8
"""How many of one length are kept, which are tried in turn; the oldest goes."""
CREDIT: Final = 64
"""How many are learned that no reply fits: what an upstream varies besides is parsed each time."""
HEAD_BYTES_MAX: Final = 4096

_END: Final = b"\r\n\r\n"
_LENGTH: Final = "content-length"
_WORDS: Final = frozenset({_LENGTH, "x-amzn-requestid", "x-amz-crc32"})
"""Values of letters, digits and dashes that differ from reply to reply."""
_DATE: Final = "date"
_DATE_FORM: Final = re.compile(rb"[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT")


class ReplyLayout:
    """What the heads of some replies have in common.

    Args:
        raw: the head of one of them, its empty line included; it was parsed, has one length, and
            leaves the connection open.
        status: its status.
        fields: its fields.

    Attributes:
        bytes: of the head.
        status: of all of them.
    """

    __slots__ = (
        *("_date", "_date_span", "_fixed", "_length", "_sample", "_shape"),
        *("_take_fixed", "_take_words", "_varying", "bytes", "status"),
    )

    def __init__(self, raw: bytes, status: int, fields: Headers) -> None:
        self.bytes = len(raw)
        self.status = status
        spans = dict(enumerate(_spans(raw)))
        names = [name.lower() for name, _ in fields]
        words = {
            place: spans[place]
            for place, name in enumerate(names)
            if name in _WORDS and _is_word(raw[slice(*spans[place])])
        }
        dates = {
            place: spans[place]
            for place, name in enumerate(names)
            if name == _DATE and _DATE_FORM.fullmatch(raw, *spans[place])
        }
        if len(dates) > 1:
            dates = {}  # whoever sends two of them is too odd to be learned in full
        varying = words | dates
        self._date_span = slice(*next(iter(dates.values()), (0, 0)))
        self._date = raw[self._date_span]
        self._length = slice(*spans[names.index(_LENGTH)])
        self._take_words = taking(words.values(), self.bytes).unpack_from
        apart = between(sorted(varying.values()), self.bytes)
        self._take_fixed = taking(apart, self.bytes).unpack_from
        self._fixed = self._take_fixed(raw)
        self._sample = list(fields)
        self._varying = [(at, fields[at][0], slice(*varying[at])) for at in sorted(varying)]
        self._shape = HeaderShape(fields, varying=sorted(varying), words=words)

    def fits(self, data: bytes) -> bool:
        """Tell whether `data` begins with such a head."""
        if len(data) < self.bytes or self._take_fixed(data) != self._fixed:
            return False
        if not (_is_word(b"".join(self._take_words(data))) and data[self._length].isdigit()):
            return False
        date = data[self._date_span]
        if date == self._date:
            return True
        if _DATE_FORM.fullmatch(date) is None:
            return False
        self._date = date  # the same for a second
        return True

    def length(self, data: bytes) -> int:
        """Return how many bytes of body follow the head of a reply that fits."""
        return int(data[self._length])

    def headers(self, data: bytes) -> ShapedHeaders:
        """Return the fields of a reply that fits."""
        fields = self._sample.copy()
        for place, name, span in self._varying:
            fields[place] = name, data[span].decode()
        return shaped(fields, self._shape)


class ReplyLayouts:
    """The layouts that were seen of late, by all connections."""

    def __init__(self) -> None:
        self._by_bytes: dict[int, list[ReplyLayout]] = {}
        self._count = 0
        self._credit = CREDIT

    def find(self, data: bytes) -> ReplyLayout | None:
        """Return the layout of the reply that begins here, None where there is none."""
        for layout in self._by_bytes.get(data.find(_END) + len(_END), ()):
            if layout.fits(data):
                self._credit = CREDIT
                return layout
        return None

    def learn(self, raw: bytes, status: int, fields: Headers) -> None:
        """Remember the layout of a reply's head; see `ReplyLayout`."""
        if len(raw) > HEAD_BYTES_MAX or not self._credit:
            return
        self._credit -= 1
        alike = self._by_bytes.get(len(raw), [])
        if len(alike) == ALIKE_MAX:
            del alike[0]
        elif self._count == LAYOUTS_MAX:
            self._by_bytes.clear()
            self._count = 1
            alike = []
        else:
            self._count += 1
        self._by_bytes[len(raw)] = alike
        alike.append(ReplyLayout(raw, status, fields))


def _spans(raw: bytes) -> Iterator[Span]:
    """Yield where the values of the fields are, without blanks around them."""
    first, *lines = raw[: -len(_END)].split(b"\r\n")
    at = len(first) + 2
    for line in lines:
        value = line.partition(b":")[2]
        start = at + len(line) - len(value.lstrip(b" \t"))
        yield start, max(start, at + len(line.rstrip(b" \t")))
        at += len(line) + 2


def _is_word(text: bytes) -> bool:
    return text.replace(b"-", b"").isalnum()
