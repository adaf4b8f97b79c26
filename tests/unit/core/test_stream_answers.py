"""Claims about the words of DynamoDB Streams."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.shard_tree import Checkpoint, Shard, Start
from proxy.core.stream_answers import (
    Batch,
    StreamPage,
    StreamRefused,
    StreamTrouble,
    describe_body,
    iterator_body,
    read_batch,
    read_date,
    read_description,
    read_iterator,
    read_stream_arn,
    records_body,
    table_body,
)
from proxy.core.values import TableName

READS: list[Callable[[int, bytes], object]] = [
    read_stream_arn,
    read_description,
    read_iterator,
    read_batch,
]


def spelled(**members: Any) -> bytes:
    """Return an answer."""
    return json.dumps(members).encode()


def test_requests_name_stream_shard_and_place() -> None:
    """As the API reference has them."""
    assert json.loads(describe_body("arn", None)) == {"StreamArn": "arn"}
    assert json.loads(describe_body("arn", "s9")) == {
        "StreamArn": "arn",
        "ExclusiveStartShardId": "s9",
    }
    assert json.loads(records_body("it")) == {"ShardIterator": "it", "Limit": 1000}
    assert json.loads(table_body(TableName("orders"))) == {"TableName": "orders"}


@pytest.mark.parametrize(
    ("checkpoint", "words"),
    [
        (Checkpoint(Start.LATEST), {"ShardIteratorType": "LATEST"}),
        (Checkpoint(Start.HORIZON), {"ShardIteratorType": "TRIM_HORIZON"}),
        (
            Checkpoint(Start.AFTER, "17"),
            {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": "17"},
        ),
    ],
)
def test_an_iterator_goes_on_at_the_checkpoint(
    checkpoint: Checkpoint, words: dict[str, str]
) -> None:
    """Each start has its type."""
    told = json.loads(iterator_body("arn", "s1", checkpoint))
    assert told == {"StreamArn": "arn", "ShardId": "s1", **words}


@pytest.mark.parametrize(("told", "arn"), [("arn", "arn"), (None, None), ("", None)])
def test_a_table_tells_its_latest_stream(told: str | None, arn: str | None) -> None:
    """Or that it never had one."""
    assert read_stream_arn(200, spelled(Table={"LatestStreamArn": told})) == arn


def test_a_description_tells_shards_and_whether_there_is_more() -> None:
    """A shard that has an end is closed."""
    shards = [
        {"ShardId": "a", "SequenceNumberRange": {"EndingSequenceNumber": "9"}},
        {"ShardId": "b", "ParentShardId": "a", "SequenceNumberRange": {}},
        {"ShardId": "c"},
    ]
    told = {"StreamStatus": "ENABLED", "Shards": shards, "LastEvaluatedShardId": "c"}
    assert read_description(200, spelled(StreamDescription=told)) == StreamPage(
        enabled=True, shards=(Shard("a", closed=True), Shard("b", "a"), Shard("c")), last="c"
    )
    ended = {"StreamStatus": "DISABLED"}
    page = read_description(200, spelled(StreamDescription=ended))
    assert page == StreamPage(enabled=False, shards=(), last=None)


def test_an_iterator_and_records_are_read() -> None:
    """A shard's end has no further iterator."""
    assert read_iterator(200, spelled(ShardIterator="it")) == "it"
    assert read_batch(200, spelled(Records=[1], NextShardIterator="n")) == Batch([1], "n")
    assert read_batch(200, spelled()) == Batch([], None)


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize(
    ("status", "kind", "trouble"),
    [
        (400, "ExpiredIteratorException", StreamTrouble.EXPIRED),
        (400, "TrimmedDataAccessException", StreamTrouble.TRIMMED),
        (400, "LimitExceededException", StreamTrouble.THROTTLED),
        (400, "ProvisionedThroughputExceededException", StreamTrouble.THROTTLED),
        (400, "ResourceNotFoundException", StreamTrouble.GONE),
        (400, "AccessDeniedException", StreamTrouble.DENIED),
        (500, "InternalServerError", StreamTrouble.FAILED),
    ],
)
def test_refusals_are_told_apart(
    read: Callable[[int, bytes], object], status: int, kind: str, trouble: StreamTrouble
) -> None:
    """By their type, with the prefix DynamoDB gives it, or another engine's without."""
    for prefix in ("com.amazonaws.dynamodb.v20120810#", ""):
        with pytest.raises(StreamRefused) as refused:
            read(status, spelled(__type=prefix + kind))
        assert refused.value.trouble is trouble


@pytest.mark.parametrize(
    ("read", "body"),
    [
        *((read, b"<html>") for read in READS),
        (read_stream_arn, b"{}"),
        (read_description, b"{}"),
        (read_description, b'{"StreamDescription":{"Shards":[{}]}}'),
        (read_description, b'{"StreamDescription":{"Shards":[1]}}'),
        (read_iterator, b"{}"),
        (read_batch, b'{"Records":1}'),
    ],
)
def test_a_shape_of_tomorrow_is_a_failure(
    read: Callable[[int, bytes], object], body: bytes
) -> None:
    """Not an answer, and not a crash."""
    with pytest.raises(StreamRefused) as refused:
        read(200, body)
    assert refused.value.trouble is StreamTrouble.FAILED


@given(st.datetimes(datetime(1970, 1, 1), datetime(2999, 12, 31), timezones=st.just(UTC)))  # noqa: DTZ001
def test_dates_of_answers_are_read(then: datetime) -> None:
    """As Python's own library writes them."""
    written = format_datetime(then, usegmt=True)
    assert read_date(written) == then.replace(microsecond=0).timestamp()


@pytest.mark.parametrize("text", ["", "soon", "Mon, 30 Now 2026 12:00:00 GMT", "2026-11-30"])
def test_other_texts_are_no_date(text: str) -> None:
    """Nor are HTTP's two older forms, which nobody may send."""
    assert read_date(text) is None
