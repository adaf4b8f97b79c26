"""Claims of proxy.core.head_layout: what fits would have been read as the same request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.head_layout import HeadLayout, HeadLayouts
from proxy.core.request import ShapedHeaders
from proxy.core.request_head import read_head
from tests.support.door_requests import BODY, FIELDS, raw_request

PLAIN = raw_request()
SIGNED = dict(FIELDS)["Authorization"]


def layout_of(raw: bytes) -> HeadLayout:
    """Return the layout of a request's head."""
    head = read_head(raw)
    assert head is not None
    assert head.is_plain_get
    return HeadLayout(head)


def test_the_same_head_fits() -> None:
    """A layout knows where the body begins."""
    layout = layout_of(PLAIN)
    assert layout.fits(PLAIN)
    assert PLAIN[layout.bytes :] == BODY


@pytest.mark.parametrize(
    "changed",
    [
        {"X_Amz_Date": "20270101T000000Z"},
        {"Authorization": SIGNED[:-64] + "0123abcd" * 8},
        {"amz_sdk_invocation_id": "00000000-0000-0000-0000-000000000000"},
        {"amz_sdk_invocation_id": "-" * 36},
        {"body": BODY.replace(b"a", b"b")},
        {"body": BODY + b" "},
    ],
    ids=str,
)
def test_what_clients_vary_may_vary(changed: dict[str, str]) -> None:
    """Date, signature, invocation and the body's length differ from request to request."""
    assert layout_of(PLAIN).fits(raw_request(**changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changed",
    [
        {"Host": "127.0.0.2:8111"},
        {"X_Amz_Target": "DynamoDB_20120810.PutItem"},
        {"Content_Type": "application/x-amz-json-1.1"},
        {"amz_sdk_request": "attempt=2"},
        {"X_Amz_Date": "20270101T000000\r"},
        {"X_Amz_Date": "20270101T\r\n0000"},
        {"X_Amz_Date": "20270101T00000\x00Z"},
        {"X_Amz_Date": "20270101T00000 Z"},
        {"Authorization": SIGNED[:-1] + ":"},
        {"length": "51"},
        {"length": "49"},
        {"length": "5x"},
        {"length": " 5"},
        {"body": BODY * 2},
    ],
    ids=str,
)
def test_everything_else_must_be_the_same(changed: dict[str, str]) -> None:
    """Another field, a value of another kind, or another length than told does not fit."""
    assert not layout_of(PLAIN).fits(raw_request(**changed))  # type: ignore[arg-type]


def test_a_trace_that_differs_from_request_to_request_fits() -> None:
    """What runs in Lambda, or under X-Ray, sends one."""
    root = "Root=1-67891233-abcdef012345678912345678"
    first, later, broken = (
        raw_request(X_Amzn_Trace_Id=f"{root};Parent={parent};Sampled=1")
        for parent in ("53995c3f42cd8ad8", "0123456789abcdef", "0123456789abcd\r\n")
    )
    assert layout_of(first).fits(later)
    assert not layout_of(first).fits(broken)


def test_bytes_after_the_body_do_not_fit() -> None:
    """Nor does a body that is not there yet: it is one request, and all of it."""
    layout = layout_of(PLAIN)
    assert not layout.fits(PLAIN + PLAIN)
    assert not layout.fits(PLAIN[:-1])
    assert not layout.fits(b"")


@pytest.mark.parametrize(
    "odd",
    [
        {"Authorization": "x"},
        {"Authorization": SIGNED + "0"},
        {"Authorization": "Signature=" + ":" * 64},
        {"amz_sdk_invocation_id": "a b"},
        {"X_Amz_Date": None},
    ],
    ids=str,
)
def test_a_field_of_another_shape_is_taken_as_it_stands(odd: dict[str, str]) -> None:
    """It fits itself, and nothing that is signed in another way."""
    layout = layout_of(raw_request(**odd))  # type: ignore[arg-type]
    assert layout.fits(raw_request(**odd))  # type: ignore[arg-type]
    assert not layout.fits(PLAIN)


@given(st.data())
def test_what_fits_is_read_alike(data: st.DataObject) -> None:
    """However bytes of a request are changed, one that fits is a plain GetItem of this length."""
    changed = bytearray(PLAIN)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(PLAIN) - 1))] = data.draw(st.integers(0, 255))
    raw, layout = bytes(changed), layout_of(PLAIN)
    if layout.fits(raw):
        head = read_head(raw)
        assert head is not None
        assert head.is_plain_get
        assert len(head.raw) == layout.bytes
        assert len(head.raw) + head.body_bytes == len(raw)


def test_a_layout_knows_what_all_its_requests_are() -> None:
    """Kind and Content-Type are among what does not vary."""
    get, put = layout_of(PLAIN), found(PUT)
    assert (get.is_plain_get, get.content_type) == (True, b"application/x-amz-json-1.0")
    assert (put.is_plain_get, put.content_type) == (False, None)


def test_fields_are_those_of_the_request_at_hand() -> None:
    """Not those of the request that was seen first."""
    other = raw_request(BODY + b" ", X_Amz_Date="20270101T000000Z")
    headers = dict(layout_of(PLAIN).headers(other))
    told = {**dict(FIELDS), "X-Amz-Date": "20270101T000000Z", "Content-Length": str(len(BODY) + 1)}
    assert headers == told


PUT = raw_request(X_Amz_Target="DynamoDB_20120810.PutItem", Content_Type=None)


def found(raw: bytes, layouts: HeadLayouts | None = None) -> HeadLayout:
    """Return what is found for a request."""
    known = HeadLayouts(head_bytes_max=8190) if layouts is None else layouts
    layout = known.find(raw)
    assert layout is not None
    assert layout.fits(raw)
    return layout


def test_a_request_seen_before_is_found_again() -> None:
    """Each operation has a layout of its own, whoever sends it."""
    layouts = HeadLayouts(head_bytes_max=8190)
    get, put = found(PLAIN, layouts), found(PUT, layouts)
    assert get is not put
    assert found(raw_request(X_Amz_Date="20270101T000000Z"), layouts) is get
    assert found(PUT, layouts) is put
    assert len(layouts) == 2


@pytest.mark.parametrize(
    "other",
    [
        b"",
        PLAIN[:-1],
        PLAIN[:20],
        PLAIN + PLAIN,
        raw_request(Authorization=None),
        raw_request(Expect="100-continue"),
        PLAIN.replace(b"POST", b"PUT"),
    ],
    ids=["nothing", "part", "part of head", "two", "unsigned", "expects", "method"],
)
def test_what_is_not_one_ordinary_request_has_none(other: bytes) -> None:
    """It is not kept either."""
    layouts = HeadLayouts(head_bytes_max=8190)
    assert layouts.find(other) is None
    assert len(layouts) == 0


def test_longer_heads_have_none() -> None:
    """The bound is inclusive."""
    head_bytes = len(PLAIN) - len(BODY)
    assert HeadLayouts(head_bytes_max=head_bytes).find(PLAIN) is not None
    assert HeadLayouts(head_bytes_max=head_bytes - 1).find(PLAIN) is None


def test_no_more_layouts_are_kept_than_may_be() -> None:
    """With one more all are forgotten: clients that come now are seen anew."""
    layouts = HeadLayouts(head_bytes_max=8190, layouts_max=3)
    hosts = [raw_request(Host="h" * length) for length in range(1, 5)]
    kept = [found(raw, layouts) for raw in hosts[:3]]
    assert [found(raw, layouts) for raw in hosts[:3]] == kept
    found(hosts[3], layouts)
    assert len(layouts) == 1
    assert found(hosts[0], layouts) is not kept[0]


def test_of_one_length_only_the_latest_are_tried() -> None:
    """A field that is another one in each request must not make all of them slow."""
    layouts = HeadLayouts(head_bytes_max=8190, alike_max=2)
    first, *others = [raw_request(X_Odd=letter) for letter in "abc"]
    kept = found(first, layouts)
    latest = [found(raw, layouts) for raw in others]
    assert len(layouts) == 2
    assert [found(raw, layouts) for raw in others] == latest
    assert found(first, layouts) is not kept


def test_fields_tell_which_of_them_are_words() -> None:
    """A signature is none: there is more in its field."""
    raw = raw_request(amz_sdk_invocation_id="00000000-0000-0000-0000-000000000000")
    layout = layout_of(PLAIN)
    headers, plain = layout.headers(raw), layout.headers(PLAIN)
    assert isinstance(headers, ShapedHeaders)
    assert isinstance(plain, ShapedHeaders)
    shape = headers.shape
    assert plain.shape is shape
    assert dict(headers)["amz-sdk-invocation-id"] == "00000000-0000-0000-0000-000000000000"
    names = [name for name, _ in headers]
    assert {names[place] for place in shape.words} == {
        *("X-Amz-Date", "amz-sdk-invocation-id", "Content-Length")
    }
    assert {names[place] for place in {*shape.varying} - shape.words} == {"Authorization"}
