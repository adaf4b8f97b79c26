"""Claims about requests and answers as plain values."""

from __future__ import annotations

import pytest

from proxy.core.request import (
    Answer,
    ClientRequest,
    HeaderShape,
    ShapedHeaders,
    find_header,
    first_places,
    shaped,
)
from proxy.core.values import BypassReason, Outcome, TableName


def request(target: str | None, name: str = "X-Amz-Target") -> ClientRequest:
    """Return a request with this X-Amz-Target."""
    headers = (("Host", "a"),) if target is None else (("Host", "a"), (name, target))
    return ClientRequest("POST", "/", headers, b"{}")


def test_header_fields_are_found_in_any_spelling_of_the_name() -> None:
    """Names compare without case, and the first of several counts."""
    headers = (("X-A", "1"), ("x-b", "2"), ("X-B", "3"))
    assert find_header(headers, "x-a") == "1"
    assert find_header(headers, "x-b") == "2"
    assert find_header(headers, "x-c") is None
    assert ClientRequest("GET", "/", headers, b"").header("x-b") == "2"


def test_a_field_that_came_twice_is_noticed() -> None:
    """In any spelling of its name; other fields that came twice do not count."""
    sent = ClientRequest("POST", "/", (("X-A", "1"), ("x-b", "2"), ("X-B", "3")), b"")
    assert [sent.repeats(name) for name in ("x-a", "x-b", "x-c")] == [False, True, False]
    assert not ClientRequest("POST", "/", sent.headers[:2], b"").repeats("x-b")


@pytest.mark.parametrize(
    ("target", "operation", "streams"),
    [
        ("DynamoDB_20120810.GetItem", "GetItem", False),
        ("DynamoDB_20120810.", "", False),
        ("DynamoDB_20120810GetItem", "", False),
        ("dynamodb_20120810.GetItem", "", False),
        ("DynamoDB_20111205.GetItem", "GetItem", False),
        ("DynamoDB_20121111.GetItem", "", False),
        ("DynamoDBStreams_20120810.GetRecords", "GetRecords", True),
        ("DynamoDBStreams_20990101.GetRecords", "", True),
        ("Kinesis_20131202.PutRecord", "", False),
        ("", "", False),
        (None, "", False),
    ],
)
def test_the_target_names_service_and_operation(
    target: str | None, operation: str, *, streams: bool
) -> None:
    """Only the prefixes of API versions that exist count; DynamoDB Streams is told apart."""
    assert request(target).operation == operation
    assert request(target).streams is streams


@pytest.mark.parametrize(
    ("target", "legacy"),
    [
        ("DynamoDB_20111205.PutItem", True),
        ("DynamoDB_20120810.PutItem", False),
        ("DynamoDBStreams_20120810.GetRecords", False),
        (None, False),
    ],
)
def test_the_api_before_2012_is_told_apart(target: str | None, *, legacy: bool) -> None:
    """Its keys have other shapes, so its writes need wider fences."""
    assert request(target).legacy is legacy


@pytest.mark.parametrize(
    ("method", "path", "plain"),
    [
        ("POST", "/", True),
        ("PUT", "/", False),
        ("POST", "/?a", False),
        ("POST", "", False),
        ("post", "/", False),
    ],
)
def test_only_the_request_line_of_sdks_is_plain(method: str, path: str, *, plain: bool) -> None:
    """Whether DynamoDB answers any other is for DynamoDB to say."""
    assert ClientRequest(method, path, (), b"").plain is plain


def test_the_target_is_found_in_any_case() -> None:
    """HTTP/2 gateways send field names in lower case."""
    assert request("DynamoDB_20120810.PutItem", "x-amz-target").operation == "PutItem"


def test_an_explained_answer_keeps_its_bytes() -> None:
    """A bypass has its reason and table; status, headers, body and the rest stay."""
    answer = Answer(200, (("A", "b"),), b"{}", Outcome.MISS, crc32=7, stored=True)
    assert answer.explained(BypassReason.DEBT, TableName("orders")) == Answer(
        200,
        (("A", "b"),),
        b"{}",
        Outcome.BYPASS,
        reason=BypassReason.DEBT,
        table=TableName("orders"),
        crc32=7,
        stored=True,
    )


FIELDS = (("X-Amz-Target", "DynamoDB_20120810.Scan"), ("X-A", "1"), ("x-a", "2"))


def test_fields_with_a_shape_are_fields() -> None:
    """They are found and compared like any others; what is made out of them has no shape."""
    shape = HeaderShape((*FIELDS[:-1], ("x-a", "3")), varying=[2], words=[2])
    headers = shaped(FIELDS, shape)
    assert headers.shape is shape
    assert headers == FIELDS
    assert not isinstance(headers[:2], ShapedHeaders)
    assert not isinstance((*headers, ("B", "3")), ShapedHeaders)
    known, plain = (ClientRequest("POST", "/", each, b"") for each in (headers, FIELDS))
    assert known == plain
    assert (known.operation, known.header("x-a"), known.header("x-b")) == ("Scan", "1", None)
    assert known.repeats("x-a")


def test_the_first_of_several_fields_has_the_place() -> None:
    """By its name in lower case."""
    assert first_places(FIELDS) == {"x-amz-target": 0, "x-a": 1}


def test_what_follows_from_a_request_changes_with_it() -> None:
    """Another request is made of its parts; nothing is left of the former one's."""
    scan = ClientRequest("POST", "/", FIELDS, b"")
    other = scan._replace(headers=(("x-amz-target", "DynamoDBStreams_20120810.GetRecords"),))
    assert (other.operation, other.streams, other.header("x-a")) == ("GetRecords", True, None)
    assert scan._replace(body=b"{}", target="/?") == ClientRequest("POST", "/?", FIELDS, b"{}")
