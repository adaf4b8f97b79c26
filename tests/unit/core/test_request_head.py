"""Claims of proxy.core.request_head: what is read is beyond doubt, all else is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.request_head import HEAD_BYTES_MAX, RequestBounds, read_head
from tests.support.door_requests import BODY, FIELDS, raw_request

PLAIN = raw_request()


def test_a_request_of_an_sdk_is_plain() -> None:
    """Its fields are found by name in lower case, whatever is before and after it."""
    head = read_head(b"xyz" + PLAIN + PLAIN, 3)
    assert head is not None
    assert head.raw + BODY == PLAIN
    assert head.body_bytes == len(BODY)
    assert head.is_plain_get
    assert head.value(b"x-amz-target") == b"DynamoDB_20120810.GetItem"
    assert head.value(b"x-other") is None


@pytest.mark.parametrize("before", [b":", b": ", b":\t  "], ids=["none", "one", "many"])
@pytest.mark.parametrize("after", [b"", b" \t"], ids=["bare", "blanks"])
@pytest.mark.parametrize("name", [b"X-Amz-Date", b"x-amz-date", b"X-AMZ-DATE"])
def test_blanks_and_case_do_not_matter(before: bytes, after: bytes, name: bytes) -> None:
    """A value is found without the blanks around it."""
    old = b"X-Amz-Date: 20261123T220624Z\r\n"
    head = read_head(PLAIN.replace(old, name + before + b"20261123T220624Z" + after + b"\r\n"))
    assert head is not None
    assert head.is_plain_get
    assert head.value(b"x-amz-date") == b"20261123T220624Z"


def test_an_empty_value_is_one() -> None:
    """A field may say nothing."""
    head = read_head(raw_request(accept=""))
    assert head is not None
    assert head.value(b"accept") == b""


@pytest.mark.parametrize(
    "changed",
    [
        {"X_Dynaside_Cache": "bypass"},
        {"Origin": "https://a.example"},
        {"Content_Encoding": "gzip"},
        {"Expect": "100-continue"},
        {"X_Of_Tomorrow": "1"},
        {"X_Amz_Target": "DynamoDB_20120810.Query"},
        {"X_Amz_Target": "DynamoDB_20111205.GetItem"},
        {"X_Amz_Target": None},
        {"Host": None},
        {"Authorization": None},
    ],
    ids=str,
)
def test_what_asks_for_more_is_no_plain_get(changed: dict[str, str | None]) -> None:
    """Its framing is known all the same."""
    head = read_head(raw_request(**changed))  # type: ignore[arg-type]
    assert head is not None
    assert not head.is_plain_get


@pytest.mark.parametrize("name", ["X-Amz-Target", "x-amz-target", "Host", "content-length"])
def test_a_field_that_comes_twice_is_not_read(name: str) -> None:
    """Readers differ in which one counts, even if both say the same."""
    told = dict(FIELDS).get(name, str(len(BODY)))
    assert read_head(raw_request(BODY, (*FIELDS, (name, told)))) is None


def test_without_a_length_there_is_no_body() -> None:
    """Nothing follows such a head, and it is no plain GetItem."""
    head = read_head(raw_request(b"", length=None))
    assert head is not None
    assert (head.body_bytes, head.is_plain_get) == (0, False)


@pytest.mark.parametrize("length", ["+5", "5, 5", "0x5", "5;", "-1", "1" * 11, "5 5"])
def test_odd_lengths_are_not_read(length: str) -> None:
    """What is no row of digits may mean something else to another reader."""
    assert read_head(raw_request(b"12345", length=length)) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"POST / HTTP/1.1", b"POST / HTTP/1.0"),
        (b"POST / HTTP/1.1", b"GET / HTTP/1.1"),
        (b"POST / HTTP/1.1", b"POST  / HTTP/1.1"),
        (b"POST / HTTP/1.1", b"POST /? HTTP/1.1"),
        (b"POST /", b"\r\nPOST /"),
        (b"User-Agent: ", b"User-Agent : "),
        (b"User-Agent: ", b" User-Agent: "),
        (b"User-Agent: ", b"User-Agent\r\n"),
        (b"User-Agent: ", b": "),
        (b"User-Agent: ", b"User-Agent: \n"),
        (b"User-Agent: ", b"User-Agent: \r"),
        (b"User-Agent: ", b"User-Agent: \n\r"),
        (b"User-Agent: ", b"User-Agent: \x00"),
        (b"User-Agent: ", b"User-Agent: \x7f"),
        (b"User-Agent: ", b"User-Agent: \xe9"),
        (b"User-Agent: ", b"User\xe9: "),
        (b"User-Agent: ", b"Connection: close\r\nUser-Agent: "),
        (b"User-Agent: ", b"Connection: Upgrade\r\nUser-Agent: "),
        (b"User-Agent: ", b"Transfer-Encoding: chunked\r\nUser-Agent: "),
        (b"User-Agent: ", b"Upgrade: h2c\r\nUser-Agent: "),
        (b"User-Agent: ", b"X: y\r\n" * 64 + b"User-Agent: "),
        (b"User-Agent: ", b"User-Agent: " + b"x" * HEAD_BYTES_MAX),
        (b"\r\n\r\n", b"\r\n"),
    ],
)
def test_what_readers_may_differ_about_is_not_read(old: bytes, new: bytes) -> None:
    """Another request line, line end, character, framing or size is left to the library."""
    assert old in PLAIN
    assert read_head(PLAIN.replace(old, new, 1)) is None


@pytest.mark.parametrize("kept", ["keep-alive", "Keep-Alive"])
def test_a_connection_that_is_kept_is_plain(kept: str) -> None:
    """Some SDKs say what is so anyway."""
    head = read_head(raw_request(Connection=kept))
    assert head is not None
    assert head.is_plain_get


@given(st.data())
def test_bounds_are_found_however_the_bytes_come(data: st.DataObject) -> None:
    """After each piece the bounds say rightly whether a request begins."""
    requests = data.draw(
        st.lists(
            st.sampled_from(
                [
                    PLAIN,
                    raw_request(b""),
                    raw_request(b"x", X_Own="1"),
                    raw_request(b"", length=None),
                ]
            ),
            max_size=4,
        )
    )
    whole = b"".join(requests)
    starts, at = {0}, 0
    for request in requests:
        at += len(request)
        starts.add(at)
    cuts = data.draw(st.sets(st.integers(0, len(whole)), max_size=8))
    bounds, before = RequestBounds(), 0
    for cut in sorted({*cuts, len(whole)}):
        bounds.feed(whole[before:cut])
        before = cut
        assert bounds.at_start is (cut in starts)


@pytest.mark.parametrize(
    "odd", [b"GET / HTTP/1.1\r\n\r\n", b"x" * HEAD_BYTES_MAX], ids=["another", "endless"]
)
def test_bounds_that_are_lost_stay_lost(odd: bytes) -> None:
    """After what is not read, nobody knows what begins where."""
    bounds = RequestBounds()
    bounds.feed(PLAIN)
    assert bounds.at_start
    for data in (odd, PLAIN, b""):
        bounds.feed(data)
        assert not bounds.at_start


PUT = "DynamoDB_20120810.PutItem"


@pytest.mark.parametrize(
    "changed", [{}, {"X_Amz_Target": PUT}, {"X_Dynaside_Cache": "bypass"}, {"Origin": "a"}], ids=str
)
def test_any_signed_operation_is_one(changed: dict[str, str]) -> None:
    """Whatever its fields ask of the proxy: they ask nothing of the HTTP library."""
    head = read_head(raw_request(**changed))  # type: ignore[arg-type]
    assert head is not None
    assert head.is_signed


@pytest.mark.parametrize(
    "changed",
    [
        {"Authorization": None},
        {"X_Amz_Target": None},
        {"Host": None},
        {"Expect": "100-continue"},
        {"Proxy_Connection": "close"},
        {"Sec_WebSocket_Key1": "x"},
    ],
    ids=str,
)
def test_what_asks_something_of_the_library_is_not(changed: dict[str, str]) -> None:
    """Nor is what no SDK sends."""
    head = read_head(raw_request(**changed))  # type: ignore[arg-type]
    assert head is not None
    assert not head.is_signed


def test_fields_are_named_as_they_were_spelled() -> None:
    """In their order, with the place of each value."""
    head = read_head(raw_request(fields=(("Host", " a"), ("x-Y", ""), ("B", "b ")), length=None))
    assert head is not None
    fields = [(name, head.raw[start:stop]) for name, start, stop in head.fields]
    assert fields == [("Host", b"a"), ("x-Y", b""), ("B", b"b")]
