"""Claims of proxy.edge.http_answer: one form of answers, by whichever way they leave."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from proxy.core.cache_status import cache_status
from proxy.core.request import Answer, ClientRequest, Headers, HeaderShape, shaped
from proxy.core.values import BypassReason, Outcome
from proxy.edge import http_answer
from proxy.edge.http_answer import AnswerForm, RequestIds
from tests.support.data_server import server
from tests.support.hits import hit_of
from tests.support.memory_peer import MemoryPeer, without_varying
from tests.support.serving import post

HIT = hit_of().answer


def form(*, shown: bool = True, cross_origin: bool = True) -> AnswerForm:
    """Return the form of some server's answers."""
    return AnswerForm(cache_status=shown, server_name="S", cross_origin=cross_origin)


def request(*fields: tuple[str, str]) -> ClientRequest:
    """Return a request of which only fields matter."""
    return ClientRequest("POST", "/", fields, b"")


def test_request_ids_look_like_dynamodbs() -> None:
    """52 capital letters and digits, no two alike, not even of two processes."""
    ids = [kind() for kind in (RequestIds(), RequestIds()) for _ in (1, 2)]
    made = RequestIds()
    ids += [made() for _ in range(1000)]
    assert all(re.fullmatch(rb"[0-9A-Z]{52}", each) for each in ids)
    assert len(set(ids)) == len(ids)


def test_upstreams_fields_stay() -> None:
    """What upstream said of its answer is not said anew; only Cache-Status is added."""
    fields = (("Server", "AWS"), ("x-amzn-RequestId", "R"), ("Content-Type", "text/x"))
    answer = Answer(201, fields, b"{}", Outcome.BYPASS)
    shown = form().response(request(("Origin", "https://a.example")), answer)
    assert list(shown.headers.items()) == [*fields, ("Cache-Status", cache_status(answer))]
    assert (shown.status, shown.body) == (201, b"{}")


def test_an_answer_to_a_fetch_of_ours_follows_the_client() -> None:
    """Content-Type and CORS fields are about the client's request, all else is upstream's."""
    fields = (("Server", "AWS"), ("Content-Type", "application/x-amz-json-1.0"))
    answer = Answer(200, fields, b"{}", Outcome.MISS, fetched=True)
    asked = request(("Content-Type", "application/json"), ("Origin", "https://a.example"))
    shown = form().response(asked, answer).headers
    assert shown["Content-Type"] == "application/json"
    assert shown["Access-Control-Allow-Origin"] == "*"
    assert shown["Server"] == "AWS"
    assert len(shown["x-amzn-RequestId"]) == 52
    closed = form(cross_origin=False).response(asked, answer).headers
    assert "Access-Control-Allow-Origin" not in closed


def test_an_answer_of_our_own_has_all_fields() -> None:
    """In their order: type, server, id, checksum; Cache-Status where it is wanted."""
    shown = form(shown=False).response(request(), HIT).headers
    assert list(shown)[:4] == ["Content-Type", "Server", "x-amzn-RequestId", "x-amz-crc32"]
    assert "Cache-Status" not in shown
    assert (shown["Server"], shown["x-amz-crc32"]) == ("S", "7")


@pytest.mark.parametrize("shown", [True, False])
def test_a_hit_says_how_it_came_about_where_wanted(*, shown: bool) -> None:
    """Cache-Status is one field of a hit's bytes, in its place, or is not there."""
    made = form(shown=shown)
    raw = made.hit(made.opening(None), hit_of(), 0.0)
    status = b"Cache-Status: dynaside; hit; ttl=9; detail=near\r\n" if shown else b""
    assert (
        without_varying(raw)
        == (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nServer: S\r\n"
            b"x-amzn-RequestId: \r\nx-amz-crc32: 7\r\n%bContent-Length: 11\r\nDate: \r\n\r\n"
            b'{"Item":{}}'
        )
        % status
    )


@pytest.mark.parametrize("near", [True, False])
@pytest.mark.parametrize("negative", [True, False])
def test_each_hit_is_shown_as_it_is(*, near: bool, negative: bool) -> None:
    """In the words of the answer that any path gives; its time may be over by a moment."""
    made = form()
    for ttl_s in (9, 8, 0, -1):
        hit = hit_of(near=near, negative=negative, ttl_s=ttl_s)
        shown = made.hit(made.opening(None), hit, 0.0)
        assert b"Cache-Status: %b\r\n" % cache_status(hit.answer).encode() in shown
        assert without_varying(shown) == without_varying(made.whole(request(), hit.answer))


def test_an_opening_follows_the_requests_content_type() -> None:
    """As the long way's Content-Type does."""
    assert b"Content-Type: application/json\r\n" in form().opening(b"application/json; x=y")
    assert b"Content-Type: application/x-amz-json-1.0\r\n" in form().opening(b"text/plain")


PASSED = Answer(
    400, (("Server", "AWS"), ("x-amzn-RequestId", "R"), ("Date", "D")), b"{}", Outcome.BYPASS
)


def test_a_whole_answer_has_upstreams_fields_as_they_came() -> None:
    """In their order and spelling, dates included; what it lacks is there as aiohttp adds it."""
    assert form(shown=False).whole(request(), PASSED) == (
        b"HTTP/1.1 400 Bad Request\r\nServer: AWS\r\nx-amzn-RequestId: R\r\nDate: D\r\n"
        b"Content-Type: application/octet-stream\r\nContent-Length: 2\r\n\r\n{}"
    )


def test_a_whole_answer_names_nobodys_software() -> None:
    """Where upstream does not say what it is, aiohttp's own name is not told in its place."""
    answer = Answer(599, (("x-amzn-RequestId", "R"),), b"", Outcome.BYPASS)
    assert without_varying(form(shown=False).whole(request(), answer)) == (
        b"HTTP/1.1 599 \r\nx-amzn-RequestId: R\r\nServer: S\r\nContent-Length: 0\r\nDate: \r\n\r\n"
    )


def test_a_last_answer_says_that_it_is_the_last() -> None:
    """As aiohttp does: after all other fields."""
    answer = form(shown=False).whole(request(), PASSED, closes=True)
    assert answer.endswith(b"Content-Length: 2\r\nConnection: close\r\n\r\n{}")


def test_an_answer_that_may_have_no_body_has_none() -> None:
    """Nor a length: RFC 9110 §8.6; a client would take the body for the next answer."""
    answer = form(shown=False).whole(request(), PASSED._replace(status=204))
    assert answer == (
        b"HTTP/1.1 204 No Content\r\nServer: AWS\r\nx-amzn-RequestId: R\r\nDate: D\r\n\r\n"
    )


def test_a_hit_looks_the_same_by_either_way() -> None:
    """A whole answer of our own is, byte for byte, what the fast door writes."""
    made = form()
    ways = [made.whole(request(), HIT), made.hit(made.opening(None), hit_of(), 0.0)]
    assert without_varying(ways[0]) == without_varying(ways[1])


def test_a_field_of_two_lines_is_a_bug() -> None:
    """Nothing is sent whose fields would be read as others."""
    answer = PASSED._replace(headers=(("Server", "a\r\nX: b"),))
    with pytest.raises(AssertionError):
        form().whole(request(), answer)


async def test_a_whole_answer_leaves_in_one_piece() -> None:
    """Nothing is added to it or changed, and its connection stays open for the next one."""

    async def handle(_: ClientRequest) -> Answer:
        return PASSED

    async with server(handle, cache_status=False) as running:
        peer = MemoryPeer(running.data_server)
        for _ in range(2):
            assert await peer.ask(post("PutItem", b"{}")) == form(shown=False).whole(
                request(), PASSED
            )
        assert (peer.transport.pieces, peer.transport.closing) == (2, False)
        await peer.hang_up()


def test_a_hits_date_is_renewed_with_its_second() -> None:
    """Not before: spelling it costs as much as the rest of the head."""
    made = form()
    raw = made.hit(made.opening(None), hit_of(), 100.0)
    ends_s = made._date_ends_s
    assert 100.0 < ends_s <= 101.0
    made._date = b"kept"
    assert b"Date: kept\r\n" in made.hit(made.opening(None), hit_of(), ends_s - 1e-6)
    again = made.hit(made.opening(None), hit_of(), ends_s)
    assert b"Date: kept\r\n" not in again
    assert without_varying(again) == without_varying(raw)


REPLY: Headers = (
    ("Server", "AWS"),
    ("Date", "Mon, 30 Nov 2026 13:00:00 GMT"),
    ("Content-Type", "application/x-amz-json-1.0"),
    ("x-amzn-RequestId", "R1"),
    ("x-amz-crc32", "123"),
)
PASSED_ON = Answer(200, REPLY, b"{}", Outcome.BYPASS, reason=BypassReason.TABLE_OFF)
ASKED = (
    request(("Content-Type", "application/x-amz-json-1.0")),
    request(("Content-Type", "application/json"), ("Origin", "https://a.example")),
)


def shaped_answers(answer: Answer) -> Iterator[Answer]:
    """Yield an answer whose fields have a shape, and one that differs where its kind varies."""
    headers = answer.headers
    names = [name.lower() for name, _ in headers]
    places = [place for place, name in enumerate(names) if name.startswith(("date", "x-am"))]
    shape = HeaderShape(headers, varying=places, words=[place for place in places if place > 1])
    yield answer._replace(headers=shaped(headers, shape))
    other = [
        (name, text[::-1] if place in places else text)
        for place, (name, text) in enumerate(headers)
    ]
    yield answer._replace(headers=shaped(other, shape))


@pytest.mark.parametrize("closes", [False, True])
@pytest.mark.parametrize("shown", [False, True])
@pytest.mark.parametrize("cross_origin", [False, True])
@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"status": 400},
        {"status": 599},
        {"status": 204},
        {"body": b""},
        {"headers": REPLY[1:]},
        {"headers": REPLY[:1] + REPLY[2:]},
        {"headers": REPLY[:3]},
        {"headers": REPLY[:2]},
        {
            "headers": (
                *REPLY,
                ("Cache-Status", "another"),
                ("Set-Cookie", "a"),
                ("Set-Cookie", "b"),
            )
        },
        {"crc32": 7},
        {"crc32": 7, "headers": REPLY[:4]},
        {"fetched": True, "outcome": Outcome.MISS},
        {"fetched": True, "outcome": Outcome.MISS, "stored": True, "crc32": 7},
        {"fetched": True, "outcome": Outcome.MISS, "headers": REPLY[3:]},
        {"outcome": Outcome.WRITE, "detail": "write-invalidated"},
    ],
    ids=lambda changed: ",".join(changed) or "plain",
)
def test_an_answer_like_earlier_ones_looks_as_if_it_were_the_first(
    changed: dict[str, Any], *, cross_origin: bool, shown: bool, closes: bool
) -> None:
    """What is known beforehand of fields with a shape is what would be found out anew."""
    made = form(shown=shown, cross_origin=cross_origin)
    for _ in range(2):
        for answer in shaped_answers(PASSED_ON._replace(**changed)):
            plain = answer._replace(headers=tuple(answer.headers))
            for asked in ASKED:
                whole = made.whole(asked, answer, closes=closes)
                anew = form(shown=shown, cross_origin=cross_origin).whole(
                    asked, plain, closes=closes
                )
                assert without_varying(whole) == without_varying(anew)


def test_ids_and_dates_of_our_own_are_new_in_each_answer() -> None:
    """Where upstream gave none."""
    made, (answer, _) = form(), shaped_answers(PASSED_ON._replace(headers=REPLY[2:3]))
    first, second = (made.whole(request(), answer) for _ in range(2))
    assert first != second
    assert without_varying(first) == without_varying(second)
    assert re.search(rb"\r\nDate: [^\r]{29}\r\n\r\n", second)


def test_kinds_of_answers_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one too many all are learned anew."""
    monkeypatch.setattr(http_answer, "ALIKE_MAX", 2)
    made = form()
    for _ in range(3):
        made.whole(request(), next(shaped_answers(PASSED_ON)))
    assert len(made._blanks) == 1


def test_a_field_of_two_lines_is_a_bug_in_a_shape_too() -> None:
    """Nothing is sent whose fields would be read as others."""
    answer = next(shaped_answers(PASSED_ON._replace(headers=(("Server", "a\r\nX: b"),))))
    with pytest.raises(AssertionError):
        form().whole(request(), answer)


def test_kinds_of_answers_are_told_apart() -> None:
    """Fields of one shape come with any status, body, checksum, and to any request."""
    made = form()
    asked = [
        *ASKED,
        request(("Content-Type", "application/x-amz-json-1.0"), ("Origin", "https://a.example")),
        request(("Content-Type", "application/json")),
    ]
    first = next(shaped_answers(PASSED_ON))
    bare = next(shaped_answers(PASSED_ON._replace(headers=REPLY[:2] + REPLY[3:])))
    kinds = [
        first,
        first._replace(status=400),
        first._replace(crc32=7),
        first._replace(fetched=True, outcome=Outcome.MISS),
        first._replace(fetched=True, outcome=Outcome.MISS, crc32=8),
        bare,
        bare._replace(body=b""),
    ]
    for _ in range(2):
        for answer in kinds:
            for each in asked:
                plain = answer._replace(headers=tuple(answer.headers))
                assert made.whole(each, answer) == form().whole(each, plain)
