"""Reads the head of an ordinary HTTP/1.1 request, and follows where requests begin on a connection.

The fast door (`proxy.edge.fast_door`) answers a request that the HTTP library never sees. That is
right only where both would agree on every byte of it, so this reads less than HTTP allows: one
request line, one way to end a line, printable ASCII, a length in plain digits. What it does not
read is no error: the library judges it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from proxy.core.request import DATA_TARGET_PREFIX, TARGET_HEADER

HEAD_END: Final = b"\r\n\r\n"
_LINE_END: Final = b"\r\n"
_REQUEST_LINE: Final = b"POST / HTTP/1.1"
_PRINTABLE: Final = b"\t" + bytes(range(0x20, 0x7F))
_TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789" + bytes(
    letter for small in range(0x61, 0x7B) for letter in (small, small - 0x20)
)
_BLANKS: Final = b" \t"
_LENGTH_DIGITS_MAX: Final = 10
_LINES_MAX: Final = 64  # half of what the HTTP library takes
HEAD_BYTES_MAX: Final = 16 * 1024
"""DynamoDB refuses longer heads."""

_GET_ITEM: Final = f"{DATA_TARGET_PREFIX}GetItem".encode()
_TARGET: Final = TARGET_HEADER.encode()
_LENGTH: Final = b"content-length"
_CONNECTION: Final = b"connection"
_CHANGES_FRAMING: Final = frozenset({b"transfer-encoding", b"upgrade"})
_CHANGES_ANSWER: Final = frozenset({b"expect", b"proxy-connection", b"sec-websocket-key1"})
"""Fields by which the HTTP library itself gives an interim answer, closes, or refuses."""
_NEEDED: Final = frozenset({b"host", b"authorization", _TARGET, _LENGTH})
_KNOWN: Final = _NEEDED | {
    *(b"content-type", b"user-agent", b"x-amz-user-agent", b"x-amz-date", b"x-amz-security-token"),
    *(b"x-amz-content-sha256", b"x-amz-api-version", b"amz-sdk-invocation-id", b"amz-sdk-request"),
    *(b"amz-sdk-retry", b"accept", b"accept-encoding", b"accept-language", b"cache-control"),
    *(b"pragma", b"traceparent", b"tracestate", b"baggage", b"x-amzn-trace-id", _CONNECTION),
}
"""Fields that SDKs send and that say nothing to the proxy but what is read here."""


@dataclass(frozen=True, slots=True)
class RequestHead:
    """The head of a request whose framing is beyond doubt.

    Args:
        raw: its bytes, the empty line included.
        body_bytes: how many bytes of body follow.
        spans: where each field's value lies in `raw`, without blanks around it; names in lower
            case.
    """

    raw: bytes
    body_bytes: int
    spans: Mapping[bytes, tuple[int, int]]

    def value(self, name: bytes) -> bytes | None:
        """Return a field's value; `name` in lower case."""
        span = self.spans.get(name)
        return None if span is None else self.raw[span[0] : span[1]]

    @property
    def is_signed(self) -> bool:
        """Whether it is a signed request with a body and an operation, as SDKs send them.

        None of its fields asks anything of the HTTP library; the dispatcher will heed the others.
        """
        names = self.spans.keys()
        return names >= _NEEDED and _CHANGES_ANSWER.isdisjoint(names)

    @property
    def fields(self) -> tuple[tuple[str, int, int], ...]:
        """Each field's name as it was spelled, and where its value lies in `raw`."""
        lines = self.raw[: -len(HEAD_END)].split(_LINE_END)[1:]
        names = (line.partition(b":")[0].decode() for line in lines)
        return tuple((name, *span) for name, span in zip(names, self.spans.values(), strict=True))

    @property
    def is_plain_get(self) -> bool:
        """Whether it is a signed GetItem of which no field asks for anything out of the ordinary.

        A field that is not known counts as such: it may ask something of the proxy
        (`X-Dynaside-Cache`, `Origin`), or of a proxy of tomorrow.
        """
        names = self.spans.keys()
        return _NEEDED <= names <= _KNOWN and self.value(_TARGET) == _GET_ITEM


def read_head(data: bytes, start: int = 0) -> RequestHead | None:
    """Read the head that begins at `start`.

    Returns:
        None where it is not complete, or where a library might frame it in another way.

    Source: RFC 9112 §2 to §6; what it leaves to the reader is refused here.
    """
    stop = data.find(HEAD_END, start, start + HEAD_BYTES_MAX) + len(HEAD_END)
    if stop < len(HEAD_END):
        return None
    raw = data[start:stop]
    lines = raw[: -len(HEAD_END)].split(_LINE_END)
    # No other line end, and no control character, anywhere.
    if raw.translate(None, _PRINTABLE) != _LINE_END * (len(lines) + 1) or len(lines) > _LINES_MAX:
        return None
    if lines[0] != _REQUEST_LINE:
        return None
    spans: dict[bytes, tuple[int, int]] = {}
    at = len(_REQUEST_LINE) + len(_LINE_END)
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or not name or name.translate(None, _TOKEN):
            return None
        first = at + len(line) - len(value.lstrip(_BLANKS))
        spans[name.lower()] = first, first + len(value.strip(_BLANKS))
        at += len(line) + len(_LINE_END)
    if len(spans) != len(lines) - 1:  # which of two fields counts is the reader's choice
        return None
    return _framed(raw, spans)


def _framed(raw: bytes, spans: dict[bytes, tuple[int, int]]) -> RequestHead | None:
    if not _CHANGES_FRAMING.isdisjoint(spans):
        return None
    head = RequestHead(raw, 0, spans)
    if (head.value(_CONNECTION) or b"keep-alive").lower() != b"keep-alive":
        return None
    length = head.value(_LENGTH)
    if length is None:
        return head
    if not length.isdigit() or len(length) > _LENGTH_DIGITS_MAX:
        return None
    return RequestHead(raw, int(length), spans)


class RequestBounds:
    """Follows the bytes of one connection, to know whether the next byte begins a request.

    Once it has lost track it never says so again: such a connection is the library's alone.
    """

    def __init__(self) -> None:
        self.at_start = True
        """Whether everything that came so far were whole requests."""
        self._body_bytes = 0  # still to come
        self._head = b""  # begun, and not complete
        self._lost = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the connection."""
        while data and not self._lost:
            if self._body_bytes:
                taken = min(self._body_bytes, len(data))
                self._body_bytes -= taken
                data = data[taken:]
                continue
            data, self._head = self._head + data, b""
            head = read_head(data)
            if head is not None:
                self._body_bytes = head.body_bytes
                data = data[len(head.raw) :]
            elif HEAD_END in data or len(data) >= HEAD_BYTES_MAX:
                self._lost = True
            else:
                self._head, data = data, b""
        self.at_start = not (self._body_bytes or self._head or self._lost)
