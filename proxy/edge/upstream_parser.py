"""Takes HTTP/1.1 replies apart, strictly; `proxy.edge.upstream_connection` feeds it.

No I/O. Whoever guesses where one answer ends takes a part of it for the next one, and gives a
caller what another asked for. So what is not one well-formed answer is an error, after which the
connection is of no use any more. Bodies stay as they are, compressed or not.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple, Protocol, assert_never

from proxy.edge.reply_layout import ReplyLayout, ReplyLayouts

HEAD_BYTES_MAX: Final = 64 * 1024
"""A reply's head, interim replies before it included; DynamoDB's has a few hundred bytes."""

FIELDS_MAX: Final = 128

BODY_BYTES_MAX: Final = 160 * 1024 * 1024
"""BatchGetItem brings 16 MiB of items at most; JSON takes 9 bytes for the 1 of an empty string."""

CHUNK_LINE_BYTES_MAX: Final = 4096

_CONTROLS: Final = bytes(set(range(0x20)) - set(b"\t\r\n")) + b"\x7f"
_STATUS_LINE: Final = re.compile(r"HTTP/1\.([01]) ([1-9][0-9]{2})(?: .*)?")
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;.*)?")
_DIGITS_MAX: Final = 12
_SWITCHING, _FIRST_FINAL, _NO_CONTENT, _NOT_MODIFIED = 101, 200, 204, 304


class BadReplyError(Exception):
    """What came is no HTTP reply, or not all of one."""


class RawReply(NamedTuple):
    """One whole reply.

    Args:
        status: of the final reply; interim ones are left out.
        fields: names and values in order; bytes outside UTF-8 as lone surrogates.
        body: as sent, only its chunks joined.
        reusable: whether another request may follow on the connection.
    """

    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes
    reusable: bool


class ReplyParser:
    """Parse one reply after the other; `begin` each one when its request is sent.

    Args:
        layouts: of heads that came of late, on any connection; None for those that come here.
    """

    def __init__(self, layouts: ReplyLayouts | None = None) -> None:
        self._layouts = layouts or ReplyLayouts()
        self.begin("POST")

    def begin(self, method: str) -> None:
        """Expect the reply to a request.

        Args:
            method: in capitals; HEAD has replies without body.
        """
        self._method = method
        self._pending = b""
        self._head_bytes = 0
        self._head: _Head | None = None
        self._body: _Body = _WITHOUT_BODY
        self.began = False

    def feed(self, piece: bytes) -> RawReply | None:
        """Take what arrived; return the reply once it is whole.

        Raises:
            BadReplyError: it will never be one.
        """
        self.began = True
        if self._head is not None:
            return self._finished(self._head, self._body.take(piece))
        usual = self._method == "POST" and not (self._pending or self._head_bytes)
        if usual and (layout := self._layouts.find(piece)) is not None:
            return self._recognised(layout, piece)
        # A head that dribbles in is looked at anew with each piece: HEAD_BYTES_MAX bounds that.
        raw = self._pending + piece if self._pending else piece
        while (length := raw.find(b"\r\n\r\n")) >= 0:
            self._count_head(length)
            spelled, raw = raw[: length + 4], raw[length + 4 :]
            head = _parse_head(spelled[:length])
            if head.status >= _FIRST_FINAL:
                self._head, self._body = head, self._body_after(head)
                if usual and isinstance(self._body, _Counted) and head.persistent:
                    self._layouts.learn(spelled, head.status, head.fields)
                return self._finished(head, self._body.take(raw))
            if head.status == _SWITCHING:
                raise BadReplyError("switches to another protocol")
        self._pending = raw
        if self._head_bytes + len(raw) > HEAD_BYTES_MAX:
            raise BadReplyError("the head is too large")
        return None

    def end(self) -> RawReply | None:
        """Take note that nothing more will arrive; return the reply if that is how it ends."""
        if self._head is not None and isinstance(self._body, _UntilClose):
            head = self._head
            return RawReply(head.status, head.fields, self._body.content(), reusable=False)
        return None

    def _recognised(self, layout: ReplyLayout, piece: bytes) -> RawReply | None:
        """Take a reply whose head needs no parsing."""
        length, fields, rest = layout.length(piece), layout.headers(piece), piece[layout.bytes :]
        if len(rest) == length <= BODY_BYTES_MAX:
            return RawReply(layout.status, fields, rest, reusable=True)
        head = _Head(layout.status, fields, length, chunked=False, persistent=True)
        self._head, self._body = head, _Counted(length)
        return self._finished(head, self._body.take(rest))

    def _count_head(self, length: int) -> None:
        self._head_bytes += length
        if self._head_bytes > HEAD_BYTES_MAX:
            raise BadReplyError("the head is too large")

    def _finished(self, head: _Head, rest: bytes | None) -> RawReply | None:
        if rest is None:
            return None
        reusable = head.persistent and not rest and self._method != "CONNECT"
        return RawReply(head.status, head.fields, self._body.content(), reusable)

    def _body_after(self, head: _Head) -> _Body:
        """Choose where the body ends.

        Source: RFC 9112 §6.3, without its leniences: both a length and a coding is no reply.
        """
        if head.chunked and head.length is not None:
            raise BadReplyError("both a length and a coding")
        bodiless = self._method == "HEAD" or head.status in (_NO_CONTENT, _NOT_MODIFIED)
        if bodiless or (self._method == "CONNECT" and head.status < 300):  # noqa: PLR2004
            return _WITHOUT_BODY
        if head.chunked:
            return _Chunked()
        return _UntilClose() if head.length is None else _Counted(head.length)


class _Meaning(Enum):
    """What a field says about the message it stands in."""

    NOTHING = 0
    LENGTH = 1
    CODING = 2
    CONNECTION = 3


_MEANINGS: Final = {
    "content-length": _Meaning.LENGTH,
    "transfer-encoding": _Meaning.CODING,
    "connection": _Meaning.CONNECTION,
}


class _Head(NamedTuple):
    status: int
    fields: tuple[tuple[str, str], ...]
    length: int | None
    chunked: bool
    persistent: bool


def _parse_head(raw: bytes) -> _Head:
    if len(raw.translate(None, _CONTROLS)) != len(raw):
        raise BadReplyError("a control character in the head")
    first, *lines = raw.decode(errors="surrogateescape").split("\r\n")
    if not raw.count(b"\r") == raw.count(b"\n") == len(lines) <= FIELDS_MAX:
        raise BadReplyError("too many fields, or line ends of another kind")
    status_line = _STATUS_LINE.fullmatch(first)
    if status_line is None:
        raise BadReplyError("no status line")
    fields: list[tuple[str, str]] = []
    telling: list[tuple[_Meaning, str]] = []
    for line in lines:
        name, colon, text = line.partition(":")
        meaning = _meaning_of(name) if colon else None
        if meaning is None:
            raise BadReplyError("a line that is no field")
        text = text.strip(" \t")
        fields.append((name, text))
        if meaning is not _Meaning.NOTHING:
            telling.append((meaning, text))
    modern = status_line[1] == "1"
    return _Head(int(status_line[2]), tuple(fields), *_framing(telling, modern=modern))


@lru_cache(maxsize=512)
def _meaning_of(name: str) -> _Meaning | None:
    """Return what a field of this name tells; None where no field may have it."""
    if _TOKEN.fullmatch(name) is None:
        return None
    return _MEANINGS.get(name.lower(), _Meaning.NOTHING)


def _framing(telling: list[tuple[_Meaning, str]], *, modern: bool) -> tuple[int | None, bool, bool]:
    """Return length, whether chunked, and whether the connection stays, of a reply.

    Args:
        telling: the fields with a meaning.
        modern: whether it is HTTP/1.1.
    """
    length, chunked, persistent = None, False, modern
    for meaning, text in telling:
        if meaning is _Meaning.LENGTH:
            if length is not None or len(text) > _DIGITS_MAX or not _is_number(text):
                raise BadReplyError("no single length")
            length = int(text)
        elif meaning is _Meaning.CODING:
            if chunked or text.lower() != "chunked" or not modern:
                raise BadReplyError("a coding other than chunked, once, in HTTP/1.1")
            chunked = True
        elif "close" in [option.strip(" \t").lower() for option in text.split(",")]:
            persistent = False
    return length, chunked, persistent


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


class _Body(Protocol):
    """Finds the end of one body."""

    def take(self, piece: bytes) -> bytes | None:
        """Take what arrived; return what is left over after the end, None before the end."""
        ...

    def content(self) -> bytes:
        """Return the whole body."""
        ...


class _NoBody:
    def take(self, piece: bytes) -> bytes | None:
        return piece

    def content(self) -> bytes:
        return b""


_WITHOUT_BODY: Final = _NoBody()


class _Pieces:
    """Collects a body, within its bound."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._bytes = 0

    def add(self, piece: bytes) -> None:
        self._bytes += len(piece)
        if self._bytes > BODY_BYTES_MAX:
            raise BadReplyError("the body is too large")
        self._pieces.append(piece)

    def content(self) -> bytes:
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)


class _Counted(_Pieces):
    """A body of known length."""

    def __init__(self, length: int) -> None:
        if length > BODY_BYTES_MAX:
            raise BadReplyError("the body is too large")
        super().__init__()
        self._missing = length

    def take(self, piece: bytes) -> bytes | None:
        mine = piece if len(piece) <= self._missing else piece[: self._missing]
        self._missing -= len(mine)
        self.add(mine)
        return None if self._missing else piece[len(mine) :]


class _UntilClose(_Pieces):
    """A body that ends with the connection, as HTTP/1.0 has it."""

    def take(self, piece: bytes) -> bytes | None:
        self.add(piece)
        return None


class _Expects(Enum):
    """What stands next in a chunked body, its data left out."""

    SIZE = 1
    END_OF_DATA = 2
    TRAILER = 3


class _Chunked(_Pieces):
    """A body in chunks; what trails it is dropped."""

    def __init__(self) -> None:
        super().__init__()
        self._pending = b""
        self._missing = 0
        self._expects = _Expects.SIZE
        self._trailer_bytes = 0

    def take(self, piece: bytes) -> bytes | None:
        raw = self._pending + piece if self._pending else piece
        at = 0
        while True:
            if self._missing:
                data = raw[at : at + self._missing]
                self._missing -= len(data)
                self.add(data)
                at += len(data)
            line_end = raw.find(b"\r\n", at)
            if self._missing or line_end < 0:
                break
            if self._take_line(raw[at:line_end]):
                return raw[line_end + 2 :]
            at = line_end + 2
        self._pending = raw[at:]
        if len(self._pending) > CHUNK_LINE_BYTES_MAX:
            raise BadReplyError("a line between chunks is too long")
        return None

    def _take_line(self, line: bytes) -> bool:
        """Take a line that is no data; tell whether the body ends with it."""
        match self._expects:
            case _Expects.SIZE:
                self._missing = _chunk_size(line)
                self._expects = _Expects.END_OF_DATA if self._missing else _Expects.TRAILER
            case _Expects.END_OF_DATA:
                if line:
                    raise BadReplyError("a chunk is longer than it said")
                self._expects = _Expects.SIZE
            case _Expects.TRAILER:
                self._trailer_bytes += len(line)
                if self._trailer_bytes > HEAD_BYTES_MAX:
                    raise BadReplyError("too much trails the body")
                return not line
            case _:
                assert_never(self._expects)
        return False


def _chunk_size(line: bytes) -> int:
    size = _CHUNK_SIZE.fullmatch(line)
    if size is None:
        raise BadReplyError("no size of a chunk")
    length = int(size[1], 16)
    if length > BODY_BYTES_MAX:
        raise BadReplyError("the body is too large")
    return length
