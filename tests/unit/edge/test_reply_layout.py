"""Claims of proxy.edge.reply_layout: what fits would have been parsed as the same reply."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.edge.reply_layout import (
    ALIKE_MAX,
    CREDIT,
    HEAD_BYTES_MAX,
    LAYOUTS_MAX,
    ReplyLayout,
    ReplyLayouts,
)
from proxy.edge.upstream_parser import BadReplyError, RawReply, ReplyParser

ID = "4FT4VKEE5TQ7T3J6P8K9N0A1B2VV4KQNSO5AEMVJF66Q9ASUAAJG"
DATE = "Mon, 30 Nov 2026 13:00:00 GMT"
FIELDS = {
    "Server": "Server",
    "Date": DATE,
    "Content-Type": "application/x-amz-json-1.0",
    "Content-Length": "2",
    "Connection": "keep-alive",
    "x-amzn-RequestId": ID,
    "x-amz-crc32": "2745614147",
}


def raw(*, body: bytes = b"{}", first: str = "HTTP/1.1 200 OK", **changed: str | None) -> bytes:
    """Return a reply as DynamoDB sends it; `_` stands for `-` in names of fields."""
    names = {name.lower(): name for name in FIELDS}
    given_ = {names.get(k, k): v for k, v in ((k.replace("_", "-"), v) for k, v in changed.items())}
    fields = FIELDS | {"Content-Length": str(len(body))} | given_
    lines = "".join(f"{name}: {text}\r\n" for name, text in fields.items() if text is not None)
    return f"{first}\r\n{lines}\r\n".encode() + body


def parsed(data: bytes) -> RawReply | None:
    """Return what a parser that knows nothing makes of it."""
    return ReplyParser().feed(data)


def layout_of(data: bytes) -> ReplyLayout:
    """Return the layout of a reply's head."""
    reply = parsed(data)
    assert reply is not None
    return ReplyLayout(data[: data.index(b"\r\n\r\n") + 4], reply.status, reply.fields)


PLAIN = raw()


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"date": "Tue, 01 Dec 2026 00:00:59 GMT"},
        {"x_amzn_requestid": ID[::-1]},
        {"x_amzn_requestid": "-" * len(ID)},
        {"x_amz_crc32": "0000000001"},
        {"content_length": "9"},
    ],
    ids=str,
)
def test_what_upstream_varies_may_vary(changed: dict[str, str]) -> None:
    """What fits is read as the parser would have; a date that was seen is known."""
    layout = layout_of(PLAIN)
    other = raw(**changed)  # type: ignore[arg-type]
    for _ in range(2):
        assert layout.fits(other)
    reply = parsed(raw(**(changed | {"content_length": "2"})))  # type: ignore[arg-type]
    assert reply is not None
    told = dict(layout.headers(other)) | {"Content-Length": "2"}
    assert tuple(told.items()) == reply.fields
    assert (layout.status, layout.bytes) == (200, len(other) - 2)
    assert layout.length(other) == int(changed.get("content_length", "2"))


@pytest.mark.parametrize(
    "changed",
    [
        {"first": "HTTP/1.0 200 OK"},
        {"first": "HTTP/1.1 400 OK"},
        {"server": "server"},
        {"content_type": "application/x-amz-json-1.1"},
        {"connection": "close"},
        {"date": "Mon, 30 Nov 2026 13:00:00 CET"},
        {"date": "Mon, 30 Nov 2026\r\nA: 00:00 GMT"},
        {"x_amzn_requestid": ID[:-3] + "\r\nA"},
        {"x_amzn_requestid": ID[:-1] + "\x00"},
        {"x_amzn_requestid": ID[:-1] + "/"},
        {"x_amz_crc32": "274561414 "},
        {"content_length": "a"},
        {"content_length": "-"},
        {"content_length": "12"},
        {"x_amz_id_2": "x"},
    ],
    ids=str,
)
def test_everything_else_must_be_the_same(changed: dict[str, str]) -> None:
    """Another field, a value of another kind or length, another first line does not fit."""
    assert not layout_of(PLAIN).fits(raw(**changed))  # type: ignore[arg-type]


def test_a_part_of_a_head_does_not_fit() -> None:
    """A head that has not come yet is nobody's."""
    layout = layout_of(PLAIN)
    assert layout.fits(PLAIN[: layout.bytes])
    assert not layout.fits(PLAIN[: layout.bytes - 1])
    assert not layout.fits(b"")


@pytest.mark.parametrize(
    "odd",
    [
        {"date": "just now"},
        {"date": None},
        {"x_amzn_requestid": "a b"},
        {"x_amzn_requestid": None, "x_amz_crc32": None},
        {"x_amzn_requestid": ""},
        {"server": " \t two \t words \t"},
        {"server": "caf\u00e9"},
        {"DATE": DATE},
    ],
    ids=str,
)
def test_what_is_of_another_kind_is_taken_as_it_stands(odd: dict[str, str | None]) -> None:
    """It fits itself, and is read as it was."""
    data = raw(**odd)  # type: ignore[arg-type]
    layout, reply = layout_of(data), parsed(data)
    assert layout.fits(data)
    assert reply is not None
    assert layout.headers(data) == reply.fields
    assert not layout.fits(PLAIN)


def test_a_shape_tells_what_varies() -> None:
    """A date is none of the words: it has blanks in it."""
    shape = layout_of(PLAIN).headers(PLAIN).shape
    names = list(FIELDS)
    assert [names[place] for place in shape.varying] == [
        *("Date", "Content-Length", "x-amzn-RequestId", "x-amz-crc32")
    ]
    assert set(shape.varying) - shape.words == {names.index("Date")}
    assert layout_of(raw(DATE=DATE)).headers(raw(DATE=DATE)).shape.varying[0] > names.index("Date")


@given(st.data())
def test_what_fits_is_read_alike(data: st.DataObject) -> None:
    """However bytes of a reply are changed: what fits is parsed as the same reply."""
    changed = bytearray(PLAIN)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(PLAIN) - 1))] = data.draw(st.integers(0, 255))
    other, layout = bytes(changed), layout_of(PLAIN)
    if layout.fits(other):
        short = len(other) - layout.bytes < layout.length(other)
        try:
            reply = parsed(other + b"x" * layout.length(other) if short else other)
        except BadReplyError:
            raise AssertionError("not even a reply") from None
        assert reply is not None
        assert (reply.status, reply.fields) == (layout.status, layout.headers(other))


def learned(*replies: bytes) -> ReplyLayouts:
    """Return layouts that know these replies."""
    layouts = ReplyLayouts()
    for data in replies:
        learn(layouts, data)
    return layouts


def learn(layouts: ReplyLayouts, data: bytes) -> None:
    """Teach a reply's head."""
    reply = parsed(data)
    assert reply is not None
    layouts.learn(data[: data.index(b"\r\n\r\n") + 4], reply.status, reply.fields)


def test_layouts_of_one_length_are_told_apart() -> None:
    """The same length may be that of several; each finds its own."""
    kinds = [raw(first=f"HTTP/1.1 {status} OK") for status in (200, 400, 500)]
    layouts = learned(*kinds)
    found = [layouts.find(data) for data in kinds]
    assert [layout.status for layout in found if layout] == [200, 400, 500]
    assert layouts.find(raw(first="HTTP/1.1 503 OK")) is None
    assert layouts.find(raw(first="HTTP/1.1 200 Fine")) is None
    assert layouts.find(b"HTTP/1.1 200 OK\r\n") is None


def test_the_oldest_of_one_length_goes() -> None:
    """A bound on what is tried in turn."""
    kinds = [raw(first=f"HTTP/1.1 {status} OK") for status in range(200, 201 + ALIKE_MAX)]
    layouts = learned(*kinds)
    assert layouts.find(kinds[0]) is None
    assert all(layouts.find(data) for data in kinds[1:])
    assert layouts._count == ALIKE_MAX


def test_with_one_too_many_all_are_learned_anew() -> None:
    """A bound on what is kept."""
    layouts = ReplyLayouts()
    kinds = [raw(server="x" * length) for length in range(1, LAYOUTS_MAX + 2)]
    for data in kinds:
        learn(layouts, data)
        assert layouts.find(data)
    assert layouts.find(kinds[0]) is None
    assert layouts._count == 1


def test_an_upstream_that_never_repeats_itself_is_not_learned() -> None:
    """Learning costs more than parsing; a reply that fits gives credit again."""
    layouts = ReplyLayouts()
    for length in range(1, CREDIT + 2):
        learn(layouts, raw(server="x" * length))
    assert layouts.find(raw(server="x" * (CREDIT + 1))) is None
    assert layouts.find(raw(server="x" * CREDIT))
    learn(layouts, raw(server="x" * (CREDIT + 1)))
    assert layouts.find(raw(server="x" * (CREDIT + 1)))


def test_a_long_head_is_not_learned() -> None:
    """What is kept is bounded in bytes too."""
    long = raw(server="x" * HEAD_BYTES_MAX)
    assert learned(long).find(long) is None
