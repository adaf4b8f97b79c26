"""Claims about `proxy.edge.upstream_head`; what is said beforehand is what would be said anew."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.core.head_layout import HeadLayout
from proxy.core.request import Headers, HeaderShape, ShapedHeaders, shaped
from proxy.core.request_head import read_head
from proxy.edge import upstream_head
from proxy.edge.sigv4 import Credentials, Signer
from proxy.edge.upstream_head import HeadMaker
from proxy.flow.ports import UpstreamRequest
from tests.support.door_requests import BODY, FIELDS, raw_request

NOW_WALL_S = 1_754_000_000.25
DAY_S = 86_400
CREDENTIALS = Credentials("AKIDEXAMPLE", "secret")
SESSION = Credentials("AKIDOTHER", "another secret", "a session token")
INVOCATIONS = ("390e1849-0f2d-4dce-86f0-19ac4276393b", "00000000-0f2d-4dce-86f0-19ac4276393b")


def maker(path: str = "") -> HeadMaker:
    """Return a maker of heads."""
    return HeadMaker("h:8000", path, instance_id="me", signer=Signer("eu-west-1"))


def fields_of(layout: HeadLayout, invocation: str, body: bytes = BODY) -> Headers:
    """Return the fields of a request of this layout, as they came through the door."""
    data = raw_request(body, amz_sdk_invocation_id=invocation, X_Amz_Date="20261123T220625Z")
    assert layout.fits(data)
    return layout.headers(data)


def layout(**changed: str | None) -> HeadLayout:
    """Return a layout of requests."""
    head = read_head(raw_request(**changed))  # type: ignore[arg-type]
    assert head is not None
    return HeadLayout(head)


def request(headers: Headers, body: bytes = BODY, **changed: Any) -> UpstreamRequest:
    """Return a request with these fields."""
    made = UpstreamRequest("GetItem", False, "POST", "/", headers, body, 20.0, True)
    return made._replace(**changed)


def anew(sent: UpstreamRequest, credentials: Credentials, now_wall_s: float, path: str) -> bytes:
    """Return the head that is made when nothing is known of the fields."""
    plain = sent._replace(headers=tuple(sent.headers))
    return maker(path).head(plain, credentials, now_wall_s)


@pytest.mark.parametrize("path", ["", "/base"])
def test_a_shape_is_sent_as_its_fields_would_be(path: str) -> None:
    """Whatever differs from request to request, and whoever signs: byte for byte."""
    heads, known = maker(path), layout()
    seen = set()
    for now_wall_s in (NOW_WALL_S, NOW_WALL_S + 1, NOW_WALL_S + DAY_S):
        for credentials in (CREDENTIALS, SESSION, CREDENTIALS):
            for invocation in INVOCATIONS:
                for body in (BODY, BODY.replace(b"a", b"b")):
                    sent = request(fields_of(known, invocation, body), body)
                    assert isinstance(sent.headers, ShapedHeaders)
                    head = heads.head(sent, credentials, now_wall_s)
                    assert head == anew(sent, credentials, now_wall_s, path)
                    assert f"amz-sdk-invocation-id: {invocation}\r\n".encode() in head
                    seen.add(head)
    assert len(seen) == 2 * 3 * 2 * 2
    assert len(heads._forms) == 1


def test_a_shape_is_learned_once() -> None:
    """Until credentials or the day change."""
    heads, headers = maker(), fields_of(layout(), INVOCATIONS[0])

    def form(credentials: Credentials, now_wall_s: float) -> object:
        heads.head(request(headers), credentials, now_wall_s)
        return next(iter(heads._forms.values()))

    assert form(CREDENTIALS, NOW_WALL_S) is None, "it may never come again"
    first = form(CREDENTIALS, NOW_WALL_S)
    assert first is not None
    assert form(CREDENTIALS, NOW_WALL_S + 1) is first
    assert form(CREDENTIALS, NOW_WALL_S + DAY_S) is not first
    assert form(SESSION, NOW_WALL_S) is not form(CREDENTIALS, NOW_WALL_S)


def test_shapes_are_told_apart() -> None:
    """By identity: each is sent as it is."""
    heads = maker()
    for agent in ("a", "b%s"):
        sent = request(layout(User_Agent=agent).headers(raw_request(User_Agent=agent)))
        for _ in range(3):
            head = heads.head(sent, CREDENTIALS, NOW_WALL_S)
            assert f"\r\nUser-Agent: {agent}\r\n".encode() in head


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one shape too many all are learned anew."""
    monkeypatch.setattr(upstream_head, "SHAPES_MAX", 2)
    heads = maker()
    for value in "abc":
        sent = (("X", value),)
        heads.head(request(shaped(sent, HeaderShape(sent))), CREDENTIALS, NOW_WALL_S)
    assert len(heads._forms) == 1


@pytest.mark.parametrize(
    "odd", [{"method": "PUT"}, {"target": "/?a=b"}, {"method": "GET", "body": b""}], ids=str
)
def test_another_first_line_is_made_anew(odd: dict[str, Any]) -> None:
    """A shape says nothing about it."""
    heads, headers = maker(), fields_of(layout(), INVOCATIONS[0])
    for _ in range(2):
        heads.head(request(headers), CREDENTIALS, NOW_WALL_S)
    sent = request(headers, **odd)
    assert heads.head(sent, CREDENTIALS, NOW_WALL_S) == anew(sent, CREDENTIALS, NOW_WALL_S, "")


def test_an_empty_body_is_announced() -> None:
    """Where a body is usual."""
    raw = raw_request(b"")
    known = read_head(raw)
    assert known is not None
    sent, heads = request(HeadLayout(known).headers(raw), b""), maker()
    for _ in range(3):
        head = heads.head(sent, CREDENTIALS, NOW_WALL_S)
        assert head == anew(sent, CREDENTIALS, NOW_WALL_S, "")
        assert b"\r\nContent-Length: 0\r\n" in head


def test_what_varies_and_is_no_word_is_never_signed() -> None:
    """It might have blanks that a signature leaves out."""
    sent = (("Date-Of-Birth", "1 May"),)
    headers, heads = shaped(sent, HeaderShape(sent, varying=[0])), maker()
    made = heads.head(request(headers), CREDENTIALS, NOW_WALL_S)
    assert made == anew(request(headers), CREDENTIALS, NOW_WALL_S, "")
    with pytest.raises(AssertionError):
        heads.head(request(headers), CREDENTIALS, NOW_WALL_S)


@pytest.mark.parametrize("sign", ["\r", "\n", "\0", "\r\nX: y"])
@pytest.mark.parametrize("known", [True, False])
def test_a_field_that_ends_its_own_line_is_never_sent(sign: str, *, known: bool) -> None:
    """No field can smuggle another one, or another request, upstream."""
    sent: Headers = (*FIELDS, ("X", f"a{sign}b"))
    headers = shaped(sent, HeaderShape(sent)) if known else sent
    heads = maker()
    for _ in range(2):
        with pytest.raises(AssertionError):
            heads.head(request(headers), CREDENTIALS, NOW_WALL_S)
