"""Claims about `proxy.edge.upstream_fields`: what travels between clients and upstream."""

from __future__ import annotations

import pytest

from proxy.core.request import ClientRequest, HeaderShape, ShapedHeaders, shaped
from proxy.edge import upstream_fields
from proxy.edge.upstream_fields import (
    HOP_HEADER,
    NOT_REPLIED,
    REMADE,
    Travelling,
    end_to_end,
    is_loop,
    origin_form,
)


def test_order_and_spelling_survive() -> None:
    """The fields kept are the very pairs given, in their order."""
    fields = (("B", "1"), ("a", "2"), ("CONNECTION", "b"), ("a", "3"), ("Proxy-Any", "4"))
    assert end_to_end(fields, besides=frozenset()) == [("a", "2"), ("a", "3")]


TARGETS: list[tuple[str, str]] = [
    ("/", "/"),
    ("/a?b=%2f#c", "/a?b=%2f"),
    ("http://host:1/a?b", "/a?b"),
    ("http://host", "/"),
    ("*", "/"),
    ("/caf\udcc3\udca9 x", "/caf%C3%A9%20x"),
]


@pytest.mark.parametrize(("target", "expected"), TARGETS)
def test_target_becomes_origin_form(target: str, expected: str) -> None:
    """Whatever form a client sends, upstream gets path and query in ASCII."""
    assert origin_form(target) == expected


def test_what_a_connection_option_names_stays_behind() -> None:
    """In any case, and however many options there are."""
    fields = (
        ("Connection", "close, X-A"),
        ("x-a", "1"),
        ("X-B", "2"),
        ("connection", "keep-alive"),
    )
    assert end_to_end(fields, besides=frozenset()) == [("X-B", "2")]


def test_what_is_made_anew_or_cannot_be_sent_stays_behind() -> None:
    """The client's signature does, and bytes outside UTF-8; other text is kept."""
    fields = (("Authorization", "a"), ("X-Latin", "caf\udce9"), ("X-Utf", "caf\u00e9"))
    assert end_to_end(fields, besides=REMADE) == [("X-Utf", "caf\u00e9")]


@pytest.mark.parametrize(
    ("headers", "loop"),
    [
        ((), False),
        ((("X-Other", "me"),), False),
        (((HOP_HEADER, "another"),), False),
        (((HOP_HEADER.lower(), "another, me"),), True),
        (((HOP_HEADER, "another"), (HOP_HEADER, "me")), True),
    ],
)
def test_own_name_is_a_loop(headers: tuple[tuple[str, str], ...], *, loop: bool) -> None:
    """In whichever of the fields it stands, and only as a whole word of the list."""
    assert is_loop(ClientRequest("POST", "/", headers, b""), "me") is loop


REPLY = (
    ("Server", "S"),
    ("Connection", "x-hop"),
    ("X-Hop", "1"),
    ("Content-Length", "2"),
    ("Date", "today"),
    ("x-amzn-RequestId", "R"),
)


def test_fields_with_a_shape_travel_as_those_without() -> None:
    """The same fields; those with a shape keep what is left of it."""
    travelling = Travelling(NOT_REPLIED)
    shape = HeaderShape(REPLY, varying=[3, 4, 5], words=[3, 5])
    assert travelling.of(REPLY) == tuple(end_to_end(REPLY, besides=NOT_REPLIED))
    for text in ("R", "other"):
        reply = (*REPLY[:-1], ("x-amzn-RequestId", text))
        found = travelling.of(shaped(reply, shape))
        assert found == travelling.of(reply)
        assert isinstance(found, ShapedHeaders)
        kept = found.shape
        assert kept.sample == travelling.of(REPLY)
        assert (kept.varying, kept.words) == ((1, 2), frozenset({2}))
        assert travelling.of(shaped(reply, shape)).shape is kept  # type: ignore[attr-defined]


def test_shapes_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one too many all are learned anew."""
    monkeypatch.setattr(upstream_fields, "SHAPES_MAX", 2)
    travelling = Travelling(NOT_REPLIED)
    for _ in range(3):
        travelling.of(shaped(REPLY, HeaderShape(REPLY)))
    assert len(travelling._known) == 1
