"""Claims about answers: the item as upstream spelled it, DynamoDB's shapes, retryable errors."""

from __future__ import annotations

import json
import sys
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import (
    NotCached,
    Overloaded,
    ProxyError,
    RequestRejected,
    StoreFailure,
    StoreUnavailable,
    UpstreamFailed,
    UpstreamFailure,
)
from proxy.core.operations import Capacity, GetItem
from proxy.core.projection import parse_projection
from proxy.core.request import ClientRequest
from proxy.core.responses import (
    EMPTY_BODY,
    FetchedBody,
    content_type,
    cors_headers,
    error_answer,
    get_body,
    internal_error,
    is_throttle,
    item_text,
    no_capacity,
    read_get_reply,
)
from proxy.core.values import Outcome, TableName

TABLE = TableName("orders")
CAPACITY = {"TableName": "orders", "CapacityUnits": 0.5}

BLANKS = st.text(" \t\r\n", max_size=2)
# A string with one meaning and many spellings.
STRINGS = st.lists(
    st.sampled_from(
        ["a", "é", "\\u0061", "\\u00E9", "\\n", "\\/", "/", "\\ud83d\\ude00", "{", "}"]
    ),
    max_size=4,
).map(lambda parts: '"' + "".join(parts) + '"')


@st.composite
def items(draw: st.DrawFn) -> str:
    """Spell an item with odd blanks and escapes, which a re-encoder would tidy away."""
    values = draw(st.lists(st.tuples(STRINGS, BLANKS, BLANKS, BLANKS), max_size=3))
    members = [
        f'{blank}"n{number}"{blank}:{tail}{{{tail}"S"{inner}:{inner}{text}{tail}}}{inner}'
        for number, (text, blank, inner, tail) in enumerate(values)
    ]
    return "{" + (",".join(members) or draw(BLANKS)) + "}"


def get(capacity: Capacity = Capacity.NONE, projection: str | None = None) -> GetItem:
    """Return a GetItem on `orders`."""
    cut = parse_projection(projection, None) if projection else None
    return GetItem(TABLE, {"pk": {"S": "a"}}, consistent=False, projection=cut, capacity=capacity)


@given(item=items(), blank=BLANKS, first=st.booleans())
def test_the_item_is_never_spelled_anew(item: str, blank: str, *, first: bool) -> None:
    """ConsumedCapacity is cut off, before or after, and not one byte of the item changes."""
    parts = [f'"Item"{blank}:{blank}{item}', f'"ConsumedCapacity":{json.dumps(CAPACITY)}']
    text = "{" + f"{blank},".join(parts if first else reversed(parts)) + "}" + blank
    assert read_get_reply(text.encode()) == FetchedBody(
        b'{"Item":' + item.encode() + b"}", json.loads(item), CAPACITY
    )


@given(item=items())
def test_the_usual_reply_is_read_as_any_other(item: str) -> None:
    """That there is no blank outside of the item makes it quicker to read, and nothing else."""
    usual, other = f'{{"Item":{item}}}'.encode(), f'{{"Item":{item} }}'.encode()
    found, same = read_get_reply(usual), read_get_reply(other)
    assert found == FetchedBody(usual, json.loads(item), None)
    assert same is not None
    assert (same.item, same.consumed, same.size_bytes) == (found.item, None, found.size_bytes)


@given(item=items(), blank=BLANKS)
def test_a_reply_with_nothing_but_the_item_stays_as_it_is(item: str, blank: str) -> None:
    """The very bytes of upstream's answer become the entry."""
    body = f'{{{blank}"Item"{blank}:{item}}}{blank}'.encode()
    assert read_get_reply(body) == FetchedBody(body, json.loads(item), None)


@pytest.mark.parametrize(
    ("body", "consumed"),
    [
        (b"{}", None),
        (b" { }\n", None),
        (json.dumps({"ConsumedCapacity": CAPACITY}).encode(), CAPACITY),
    ],
)
def test_a_reply_without_an_item_is_an_absence(body: bytes, consumed: dict[str, Any]) -> None:
    """Its body is `{}`, whatever its layout."""
    assert read_get_reply(body) == FetchedBody(EMPTY_BODY, None, consumed)


def test_a_null_capacity_is_cut_off_too() -> None:
    """The body never has a ConsumedCapacity of its own: one may be put in front of it."""
    body = b'{"ConsumedCapacity":null,"Item":{"a":{"S":"b"}}}'
    assert read_get_reply(body) == FetchedBody(b'{"Item":{"a":{"S":"b"}}}', {"a": {"S": "b"}}, None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b'{"Item":{}}x',
        b'{"Item":null}',
        b'{"Item":[]}',
        b'{"Item":"a"}',
        b'{"Item":{},"Other":1}',
        b'{"Item":{},"Item":{"a":{"S":"b"}}}',
        b'{"ConsumedCapacity":{},"ConsumedCapacity":{}}',
        b'{"Item":{},"ConsumedCapacity":5}',
        b'{"Items":[]}',
        b'{"__type":"x"}',
        b'{"Item":{"a":{"N":NaN}}}',
    ],
)
def test_what_is_not_a_get_reply_is_not_cached(body: bytes) -> None:
    """Whatever is not understood is passed on as it came."""
    assert read_get_reply(body) is None


@given(st.binary(max_size=40) | st.text('{}[]":,Item \\', max_size=24).map(str.encode))
def test_any_reply_is_read_or_left_alone(body: bytes) -> None:
    """Nothing is raised, whatever upstream sent."""
    assert isinstance(read_get_reply(body), FetchedBody | None)
    assert isinstance(item_text(body, "Item"), tuple | None)


def test_a_reply_nested_to_the_limit_of_the_stack_is_left_alone() -> None:
    """There is no depth at which one parser can and the next cannot."""
    for depth in range(sys.getrecursionlimit() - 200, sys.getrecursionlimit() + 1):
        body = b'{"Item":' + b'{"a":' * depth + b"{}" + b"}" * depth + b"}"
        assert isinstance(read_get_reply(body), FetchedBody | None)
        assert isinstance(item_text(body, "Item"), tuple | None)


@given(item=items(), blank=BLANKS)
def test_a_member_of_a_reply_is_found_as_it_was_spelled(item: str, blank: str) -> None:
    """UpdateItem's new item is taken from the answer byte for byte."""
    body = f'{{"ConsumedCapacity":{{}},{blank}"Attributes":{blank}{item}{blank}}}'.encode()
    assert item_text(body, "Attributes") == (json.loads(item), item.encode())


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b'{"Other":{}}', b'{"Attributes":null}', b'{"Attributes":[]}', b"\xff", b"{} {}"],
)
def test_a_reply_without_that_member_has_none(body: bytes) -> None:
    """Absent, not an item, or not JSON at all."""
    assert item_text(body, "Attributes") is None


WHOLE = b' {"Item": {"a":{"N":"1"},"b":{"S":"\\u0061"}}}'


@pytest.mark.parametrize("whole", [WHOLE, EMPTY_BODY])
def test_a_plain_read_gets_the_entry_itself(whole: bytes) -> None:
    """No projection and no capacity: the same object, so that its checksum still holds."""
    assert get_body(get(), whole, CAPACITY) is whole


@pytest.mark.parametrize(
    ("projection", "answer"),
    [("a", b'{"Item":{"a":{"N":"1"}}}'), ("a, b", b'{"Item":{"a":{"N":"1"},"b":{"S":"a"}}}'),
     ("zz", b'{"Item":{}}')],
)  # fmt: skip
def test_a_projection_is_cut_from_the_whole_item(projection: str, answer: bytes) -> None:
    """An item in which nothing is found is still there: `{"Item":{}}`."""
    assert get_body(get(projection=projection), WHOLE, None) == answer


def test_a_projection_of_an_absence_is_an_absence() -> None:
    """`{}` says that there is no item, whatever was asked of it."""
    assert get_body(get(projection="a"), EMPTY_BODY, None) == b"{}"


@pytest.mark.parametrize("projection", [None, "a"])
@pytest.mark.parametrize("whole", [WHOLE, EMPTY_BODY])
@pytest.mark.parametrize("consumed", [None, CAPACITY])
@pytest.mark.parametrize("capacity", [Capacity.TOTAL, Capacity.INDEXES])
def test_capacity_is_reported_when_it_was_asked_for(
    capacity: Capacity, consumed: dict[str, Any] | None, whole: bytes, projection: str | None
) -> None:
    """Upstream's own, or none at all for an answer that cost nothing; the item stays."""
    answer = json.loads(get_body(get(capacity, projection), whole, consumed))
    assert answer.pop("ConsumedCapacity") == (consumed or no_capacity(TABLE, capacity))
    assert answer == json.loads(get_body(get(Capacity.NONE, projection), whole, None))


def test_capacity_leaves_the_spelling_of_the_item_alone() -> None:
    """It is put in front of the very bytes of the entry."""
    body = get_body(get(Capacity.TOTAL), WHOLE, CAPACITY)
    assert body == (
        b'{"ConsumedCapacity":{"TableName":"orders","CapacityUnits":0.5},' + WHOLE.lstrip()[1:]
    )


@pytest.mark.parametrize(
    ("capacity", "shape"),
    [
        (Capacity.TOTAL, {"TableName": "orders", "CapacityUnits": 0.0}),
        (
            Capacity.INDEXES,
            {"TableName": "orders", "CapacityUnits": 0.0, "Table": {"CapacityUnits": 0.0}},
        ),
    ],
)
def test_a_read_that_cost_nothing_says_so(capacity: Capacity, shape: dict[str, Any]) -> None:
    """In the shape that the client asked for."""
    assert no_capacity(TABLE, capacity) == shape


@pytest.mark.parametrize(
    ("status", "error_type", "throttle"),
    [
        (400, "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException", True),
        (400, "com.amazon.coral.availability#ThrottlingException", True),
        (400, "com.amazonaws.dynamodb.v20120810#RequestLimitExceeded", True),
        (400, "com.amazon.coral.availability#ThrottledException", True),
        (400, "com.amazonaws.dynamodb.v20120810#ResourceNotFoundException", False),
        (400, "com.amazon.coral.validate#ValidationException", False),
        (200, "ThrottlingException", False),
        (500, "ThrottlingException", False),
    ],
)
def test_throttling_is_told_from_other_refusals(
    status: int, error_type: str, *, throttle: bool
) -> None:
    """DynamoDB throttles with HTTP 400 and a type of its own."""
    assert is_throttle(status, json.dumps({"__type": error_type}).encode()) is throttle


def test_item_content_is_not_searched_for_throttling() -> None:
    """The type stands at the beginning; a long message may quote anything."""
    body = json.dumps({"__type": "x", "message": "m" * 300 + "ThrottlingException"}).encode()
    assert not is_throttle(400, body)


ERRORS: list[tuple[ProxyError, int, dict[str, str], Outcome, str | None]] = [
    (
        RequestRejected("a#B", "why"),
        400,
        {"__type": "a#B", "message": "why"},
        Outcome.REJECTED,
        None,
    ),
    (RequestRejected("a#B"), 400, {"__type": "a#B"}, Outcome.REJECTED, None),
    (
        NotCached("absent", TableName("orders")),
        400,
        {
            "__type": "com.dynaside#NotCachedException",
            "message": "dynaside: no cached answer: absent",
        },
        Outcome.NOT_CACHED,
        None,
    ),
    (RequestRejected("a#B", status=413), 413, {"__type": "a#B"}, Outcome.REJECTED, None),
    *(
        (
            UpstreamFailed(failure, "silent", maybe_applied=False),
            503,
            {
                "__type": "com.amazonaws.dynamodb.v20120810#ServiceUnavailableException",
                "message": "dynaside: silent",
            },
            Outcome.FAILED,
            f"upstream-{failure}",
        )
        for failure in (UpstreamFailure.CONNECT, UpstreamFailure.OVERLOAD)
    ),
    *(
        (
            UpstreamFailed(failure, "silent", maybe_applied=True),
            500,
            {
                "__type": "com.amazonaws.dynamodb.v20120810#InternalServerError",
                "message": "dynaside: silent",
            },
            Outcome.FAILED,
            f"upstream-{failure}",
        )
        for failure in (
            UpstreamFailure.TIMEOUT,
            UpstreamFailure.RESET,
            UpstreamFailure.CREDENTIALS,
        )
    ),
    (
        Overloaded("some.setting is reached"),
        503,
        {
            "__type": "com.amazonaws.dynamodb.v20120810#ServiceUnavailableException",
            "message": "dynaside: some.setting is reached",
        },
        Outcome.FAILED,
        "overloaded",
    ),
    (
        StoreUnavailable(StoreFailure.REFUSED, "redis://10.1.2.3:6379: NOAUTH secret"),
        500,
        {
            "__type": "com.amazonaws.dynamodb.v20120810#InternalServerError",
            "message": "dynaside: the store is unavailable, and nothing was sent: the table is"
            " strict, or too many invalidations are owed to the store already",
        },
        Outcome.FAILED,
        "store-down",
    ),
    (
        StoreUnavailable(StoreFailure.UNSETTLED, "new"),
        500,
        {
            "__type": "com.amazonaws.dynamodb.v20120810#InternalServerError",
            "message": "dynaside: the store's primary is new, and nothing was sent: writes to"
            " strict tables wait until no older primary can serve",
        },
        Outcome.FAILED,
        "store-unsettled",
    ),
]


@pytest.mark.parametrize(("error", "status", "content", "outcome", "detail"), ERRORS)
def test_each_error_becomes_an_answer_that_sdks_understand(
    error: ProxyError, status: int, content: dict[str, str], outcome: Outcome, detail: str | None
) -> None:
    """4xx is not retried, 5xx is; the body has DynamoDB's shape and a right checksum."""
    answer = error_answer(error)
    assert answer.status == status
    assert json.loads(answer.body) == content
    assert answer.outcome is outcome
    assert answer.detail == detail
    assert answer.crc32 == zlib.crc32(answer.body)


def test_every_upstream_failure_has_an_answer() -> None:
    """A new member of the enum must be given its status here."""
    tried = {error.failure for error, *_ in ERRORS if isinstance(error, UpstreamFailed)}
    assert tried == set(UpstreamFailure)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "dynaside: an invariant of dynaside does not hold; see its log"),
        (("x",), "dynaside: x"),
    ],
)
def test_a_bug_is_answered_as_an_error_of_the_server(
    arguments: tuple[str, ...], message: str
) -> None:
    """SDKs retry it; nothing of the request is in it."""
    answer = internal_error(*arguments)
    assert answer.status == 500
    assert answer.outcome is Outcome.FAILED
    assert json.loads(answer.body)["message"] == message
    assert answer.crc32 == zlib.crc32(answer.body)


def request(*headers: tuple[str, str]) -> ClientRequest:
    """Return a request with these header fields."""
    return ClientRequest("POST", "/", headers, b"")


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        (None, "application/x-amz-json-1.0"),
        ("application/x-amz-json-1.0", "application/x-amz-json-1.0"),
        ("application/json", "application/json"),
        ("Application/JSON ; charset=utf-8", "application/json"),
        ("text/plain", "application/x-amz-json-1.0"),
    ],
)
def test_the_content_type_follows_the_request(asked: str | None, answered: str) -> None:
    """Plain JSON for those who asked so, DynamoDB's own type for all others."""
    assert content_type(asked) == answered


def test_browsers_get_the_fields_they_need() -> None:
    """Only a request with an Origin comes from a browser."""
    assert cors_headers(request()) == ()
    fields = dict(cors_headers(request(("Origin", "https://a.example"))))
    assert fields["Access-Control-Allow-Origin"] == "*"
    assert "x-amzn-RequestId" in fields["Access-Control-Expose-Headers"]


def test_refusal_to_ask_upstream_names_the_table() -> None:
    """Telemetry counts it for the table that was not cached."""
    assert error_answer(NotCached("absent", TableName("orders"))).table == "orders"


def test_an_item_has_a_size_and_an_absence_has_none() -> None:
    """What was read is measured by DynamoDB's rules, for the capacity that a hit saves."""
    item = FetchedBody(b'{"Item":{"pk":{"S":"a"}}}', {"pk": {"S": "a"}}, None)
    assert (item.size_bytes, item.negative) == (3, False)
    absence = FetchedBody(EMPTY_BODY, None, None)
    assert (absence.size_bytes, absence.negative) == (0, True)
