"""Claims about `proxy.edge.upstream_parser`."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.edge import upstream_parser
from proxy.edge.reply_layout import ReplyLayouts
from proxy.edge.upstream_parser import (
    CHUNK_LINE_BYTES_MAX,
    FIELDS_MAX,
    HEAD_BYTES_MAX,
    BadReplyError,
    RawReply,
    ReplyParser,
)

OK = b"HTTP/1.1 200 OK\r\n"
COUNTED = OK + b"A: 1\r\nContent-Length: 3\r\n\r\nabc"
CHUNKED = (
    OK + b'Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n00A ;ext="1"\r\n0123456789\r\n'
    b"0\r\nTrailer: x\r\n\r\n"
)
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + COUNTED
WHOLE = {
    "counted": (COUNTED, b"abc"),
    "chunked": (CHUNKED, b"abc0123456789"),
    "after interim replies": (INTERIM, b"abc"),
    "empty": (OK + b"Content-Length: 0\r\n\r\n", b""),
}


def parse(raw: bytes, method: str = "POST") -> RawReply | None:
    """Return what a parser makes of these bytes in one piece."""
    parser = ReplyParser()
    parser.begin(method)
    return parser.feed(raw)


@pytest.mark.parametrize("name", WHOLE)
@given(cuts=st.lists(st.integers(0, 200), max_size=12))
def test_pieces_make_the_same_reply_as_the_whole(name: str, cuts: list[int]) -> None:
    """Wherever the network cuts a reply, it is complete with its last byte and not before."""
    raw, body = WHOLE[name]
    parser = ReplyParser()
    parser.begin("POST")
    places = [0, *sorted(cut for cut in cuts if cut < len(raw)), len(raw)]
    pieces = [raw[start:end] for start, end in pairwise(places)]
    last = max(number for number, piece in enumerate(pieces) if piece)
    for piece in pieces[:last]:
        assert parser.feed(piece) is None
    reply = parser.feed(pieces[last])
    assert reply is not None
    assert (reply.status, reply.body, reply.reusable) == (200, body, True)


@pytest.mark.parametrize("name", WHOLE)
def test_a_reply_may_dribble_in(name: str) -> None:
    """A reply that comes byte by byte is the same reply; one parser takes one after the other."""
    raw, body = WHOLE[name]
    parser = ReplyParser()
    for _ in range(2):
        parser.begin("POST")
        assert not parser.began
        assert [parser.feed(bytes([byte])) for byte in raw[:-1]] == [None] * (len(raw) - 1)
        assert parser.began
        reply = parser.feed(raw[-1:])
        assert reply is not None
        assert reply.body == body


def test_fields_keep_order_spelling_and_bytes() -> None:
    """Names stay as spelled, doubled ones too; blanks around values go, odd bytes stay."""
    raw = OK + b"b: 1\r\nA:\t x  y \r\nb:\r\nU: caf\xc3\xa9 \xff\r\nContent-Length: 0\r\n\r\n"
    reply = parse(raw)
    assert reply is not None
    assert reply.fields[:4] == (("b", "1"), ("A", "x  y"), ("b", ""), ("U", "caf\u00e9 \udcff"))


@pytest.mark.parametrize("first", [b"HTTP/1.1 200", b"HTTP/1.1 200 ", b"HTTP/1.1 200 \xe9t\xe9"])
def test_a_reason_may_be_anything(first: bytes) -> None:
    """Nobody reads the words after the status."""
    reply = parse(first + b"\r\nContent-Length: 0\r\n\r\n")
    assert reply is not None
    assert reply.status == 200


@pytest.mark.parametrize(
    ("method", "head"),
    [
        ("HEAD", OK + b"Content-Length: 5\r\n"),
        ("HEAD", OK + b"Transfer-Encoding: chunked\r\n"),
        ("POST", b"HTTP/1.1 204 No Content\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n"),
    ],
)
def test_replies_without_body_end_with_their_head(method: str, head: bytes) -> None:
    """HEAD, 204 and 304 have no body, whatever their fields say."""
    reply = parse(head + b"\r\n", method)
    assert reply is not None
    assert (reply.body, reply.reusable) == (b"", True)


def test_a_tunnel_is_not_reusable() -> None:
    """After a CONNECT that was accepted the connection speaks no HTTP any more."""
    reply = parse(OK + b"\r\n", "CONNECT")
    assert reply is not None
    assert not reply.reusable
    refused = parse(b"HTTP/1.1 405 No\r\nContent-Length: 2\r\n\r\nno", "CONNECT")
    assert refused is not None
    assert refused.body == b"no"


@pytest.mark.parametrize(
    "raw",
    [
        OK + b"Connection: x, CLOSE\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        OK + b"Content-Length: 0\r\n\r\nHTTP/1.1",
    ],
    ids=["close", "1.0", "more than asked for"],
)
def test_connection_is_not_reusable_after_it(raw: bytes) -> None:
    """Upstream says so, or bytes follow that belong to no request."""
    reply = parse(raw)
    assert reply is not None
    assert not reply.reusable


def test_connection_stays_with_other_options() -> None:
    """Keep-alive says nothing new in HTTP/1.1."""
    reply = parse(OK + b"Connection: keep-alive\r\nContent-Length: 0\r\n\r\n")
    assert reply is not None
    assert reply.reusable


def test_a_body_without_length_ends_with_the_connection() -> None:
    """Then, and only then, is the end of the connection the end of the reply."""
    parser = ReplyParser()
    assert parser.feed(OK + b"\r\nab") is None
    assert parser.feed(b"c") is None
    reply = parser.end()
    assert reply is not None
    assert (reply.body, reply.reusable) == (b"abc", False)


@pytest.mark.parametrize("raw", [b"", OK, COUNTED[:-1], CHUNKED[:-1], INTERIM[:30]])
def test_a_cut_reply_is_none(raw: bytes) -> None:
    """The end of the connection completes nothing that knew its own end."""
    parser = ReplyParser()
    if raw:
        assert parser.feed(raw) is None
    assert parser.end() is None


BAD: dict[str, bytes] = {
    "no HTTP": b"SSH-2.0-x\r\n\r\n",
    "HTTP/2": b"HTTP/2 200 OK\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "switching": b"HTTP/1.1 101 Switching\r\n\r\n",
    "no colon": OK + b"field\r\n\r\n",
    "blank before the colon": OK + b"A : 1\r\n\r\n",
    "folded": OK + b"A: 1\r\n b\r\n\r\n",
    "no name": OK + b": 1\r\n\r\n",
    "NUL": OK + b"A: \x00\r\n\r\n",
    "bare line feed": OK + b"A: 1\nContent-Length: 0\r\n\r\n",
    "bare carriage return": OK + b"A: 1\rb\r\n\r\n",
    "both lengths": OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    "two lengths": OK + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\n",
    "list of lengths": OK + b"Content-Length: 3, 3\r\n\r\n",
    "signed length": OK + b"Content-Length: +3\r\n\r\n",
    "odd digits": OK + "Content-Length: \u0663\r\n\r\n".encode(),
    "empty length": OK + b"Content-Length:\r\n\r\n",
    "endless length": OK + b"Content-Length: 1234567890123\r\n\r\n",
    "large length": OK + b"Content-Length: 999999999999\r\n\r\n",
    "another coding": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "coding twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "coding in 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "no chunk size": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "signed chunk size": OK + b"Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n",
    "large chunk": OK + b"Transfer-Encoding: chunked\r\n\r\nffffffff\r\n",
    "long chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
    "endless chunk line": OK
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + b"1" * (CHUNK_LINE_BYTES_MAX + 1),
    "many fields": OK + b"A: 1\r\n" * (FIELDS_MAX + 1) + b"\r\n",
    "large head": OK + b"A: " + b"1" * HEAD_BYTES_MAX + b"\r\n\r\n",
    "endless head": b"x" * (HEAD_BYTES_MAX + 1),
    "endless interim replies": b"HTTP/1.1 100 Continue\r\n\r\n" * (HEAD_BYTES_MAX // 20),
    "large trailer": OK
    + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"
    + (b"T: " + b"1" * 2000 + b"\r\n") * (HEAD_BYTES_MAX // 2000 + 1),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_one_well_formed_reply_is_refused(name: str) -> None:
    """Nothing is guessed: the connection is of no use any more."""
    with pytest.raises(BadReplyError):
        parse(BAD[name])


@pytest.mark.parametrize("head", [OK, OK + b"Transfer-Encoding: chunked\r\n"])
def test_a_body_of_unknown_length_is_bounded(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that goes on for ever ends at the bound."""
    monkeypatch.setattr(upstream_parser, "BODY_BYTES_MAX", 100)
    parser = ReplyParser()
    assert parser.feed(head + b"\r\n") is None
    piece = b"28\r\n" + b"x" * 40 + b"\r\n"
    assert parser.feed(piece) is None
    assert parser.feed(piece) is None
    with pytest.raises(BadReplyError, match="too large"):
        parser.feed(piece)


@given(raw=st.binary(max_size=80), head=st.sampled_from([b"", OK, COUNTED[:20], CHUNKED[:46]]))
def test_arbitrary_bytes_are_a_reply_or_refused(raw: bytes, head: bytes) -> None:
    """Whatever comes, nothing but BadReplyError is raised."""
    parser = ReplyParser()
    try:
        parser.feed(head + raw)
    except BadReplyError:
        return
    parser.end()


FRAMED = b"HTTP/1.1 200 OK\r\nServer: S\r\nContent-Length: %d\r\nx-amzn-RequestId: %b\r\n\r\n%b"


def framed(number: int, body: bytes = b"{}") -> bytes:
    """Return one of several replies that differ as DynamoDB's do."""
    return FRAMED % (len(body), b"%04d" % number, body)


@given(cuts=st.lists(st.integers(0, 200), max_size=6))
def test_a_reply_like_an_earlier_one_is_the_same_reply(cuts: list[int]) -> None:
    """It makes no difference that its head needs no parsing, wherever the network cuts it."""
    parser, layouts = ReplyParser(), ReplyLayouts()
    known = ReplyParser(layouts)
    known.feed(framed(1))
    raw = framed(2, b"[]")
    assert layouts.find(raw) is not None
    places = [0, *sorted(cut for cut in cuts if cut < len(raw)), len(raw)]
    pieces = [raw[start:end] for start, end in pairwise(places)]
    for each in (parser, known):
        each.begin("POST")
    replies = [(parser.feed(piece), known.feed(piece)) for piece in pieces if piece]
    assert all(one == other for one, other in replies)
    assert replies[-1][0] is not None


def test_what_follows_a_reply_that_was_recognised_spoils_the_connection() -> None:
    """As after any other."""
    parser = ReplyParser()
    parser.feed(framed(1))
    parser.begin("POST")
    reply = parser.feed(framed(2) + b"H")
    assert reply is not None
    assert (reply.body, reply.reusable) == (b"{}", False)


def test_a_recognised_body_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As any other."""
    parser = ReplyParser()
    parser.feed(framed(1, b"x" * 1000))
    monkeypatch.setattr(upstream_parser, "BODY_BYTES_MAX", 1000)
    parser.begin("POST")
    with pytest.raises(BadReplyError, match="too large"):
        parser.feed(framed(2, b"x" * 1001)[:-1])
    with pytest.raises(BadReplyError, match="too large"):
        parser.feed(framed(2, b"x" * 1001))


def test_only_answers_to_posts_are_recognised() -> None:
    """An answer to HEAD looks the same, and has no body."""
    parser = ReplyParser()
    parser.feed(framed(1))
    parser.begin("HEAD")
    reply = parser.feed(framed(2)[:-2])
    assert reply is not None
    assert (reply.body, reply.reusable) == (b"", True)


@pytest.mark.parametrize(
    "raw",
    [
        OK + b"Content-Length: 2\r\nConnection: close\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 204 OK\r\nContent-Length: 2\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=["close", "1.0", "204", "chunked"],
)
def test_what_ends_in_another_way_is_parsed_each_time(raw: bytes) -> None:
    """A length that counts and a connection that stays are what layouts know."""
    layouts = ReplyLayouts()
    for _ in range(2):
        assert ReplyParser(layouts).feed(raw) is not None
        assert layouts.find(raw) is None
