"""Words requests of DynamoDB Streams, and reads the answers.

Source: Amazon DynamoDB Streams API Reference: DescribeStream, GetShardIterator, GetRecords; its
DescribeTable: "LatestStreamArn", "StreamSpecification".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

from proxy.core.errors import ProxyError
from proxy.core.json_text import NotJson, compact, load_object
from proxy.core.shard_tree import Checkpoint, Shard, Start
from proxy.core.values import TableName

STREAMS_TARGET_PREFIX: Final = "DynamoDBStreams_20120810."
RECORDS_MAX: Final = 1000
"""Records of one answer, DynamoDB's own limit; it also ends one at 1 MB."""

_OK: Final = 200
_MONTHS: Final = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_MARCH: Final = 3
_DAYS_TO_1970: Final = 719468  # from 1 March of the year 0
_DATE: Final = re.compile(
    rf"[A-Z][a-z]{{2}}, (\d\d) ({_MONTHS}) (\d{{4}}) (\d\d):(\d\d):(\d\d) GMT"
)
_ITERATOR_TYPES: Final = {
    Start.LATEST: "LATEST",
    Start.HORIZON: "TRIM_HORIZON",
    Start.AFTER: "AFTER_SEQUENCE_NUMBER",
}


class StreamTrouble(StrEnum):
    """Why a request about a stream brought nothing; a metric label."""

    EXPIRED = "expired"  # the iterator is older than 15 minutes: ask for another
    TRIMMED = "trimmed"  # records are lost for good: a gap
    THROTTLED = "throttled"
    GONE = "gone"  # no such stream, shard or table
    DENIED = "denied"  # the process's own credentials may not
    TOO_MANY = "too-many"  # more shards than a stream of ours may have
    FAILED = "failed"  # upstream broke, was silent, or answered in a shape of tomorrow


_BY_TYPE: Final = {
    "ExpiredIteratorException": StreamTrouble.EXPIRED,
    "TrimmedDataAccessException": StreamTrouble.TRIMMED,
    "LimitExceededException": StreamTrouble.THROTTLED,
    "ProvisionedThroughputExceededException": StreamTrouble.THROTTLED,
    "ThrottlingException": StreamTrouble.THROTTLED,
    "RequestLimitExceeded": StreamTrouble.THROTTLED,
    "ResourceNotFoundException": StreamTrouble.GONE,
    "AccessDeniedException": StreamTrouble.DENIED,
    "UnrecognizedClientException": StreamTrouble.DENIED,
}


class StreamRefused(ProxyError):
    """A request about a stream brought nothing: time, or the operator, must act."""

    def __init__(self, trouble: StreamTrouble) -> None:
        super().__init__(f"stream: {trouble}")
        self.trouble = trouble


@dataclass(frozen=True, slots=True)
class StreamPage:
    """A part of a stream's description; `last` where to go on, None at its end."""

    enabled: bool
    shards: tuple[Shard, ...]
    last: str | None


class Batch(NamedTuple):
    """What GetRecords brought: records as parsed, and the next iterator, None at a shard's end."""

    records: list[Any]
    iterator: str | None


def describe_body(arn: str, after: str | None) -> bytes:
    """Ask for a stream's shards, those after one of them."""
    more = {"ExclusiveStartShardId": after} if after is not None else {}
    return compact({"StreamArn": arn, **more})


def iterator_body(arn: str, shard_id: str, checkpoint: Checkpoint) -> bytes:
    """Ask for an iterator that goes on at a checkpoint, which is not DONE."""
    at = {"SequenceNumber": checkpoint.sequence} if checkpoint.start is Start.AFTER else {}
    kind = _ITERATOR_TYPES[checkpoint.start]
    return compact({"StreamArn": arn, "ShardId": shard_id, "ShardIteratorType": kind, **at})


def records_body(iterator: str) -> bytes:
    """Ask for the next records."""
    return compact({"ShardIterator": iterator, "Limit": RECORDS_MAX})


def table_body(table: TableName) -> bytes:
    """Ask for a table's description."""
    return compact({"TableName": table})


def read_stream_arn(status: int, body: bytes) -> str | None:
    """Return the ARN of a table's latest stream from DescribeTable; None where it never had one.

    Raises:
        StreamRefused: upstream refused.
    """
    described = _answer(status, body).get("Table")
    if not isinstance(described, dict):
        raise StreamRefused(StreamTrouble.FAILED)
    arn = described.get("LatestStreamArn")
    return arn if isinstance(arn, str) and arn else None


def read_description(status: int, body: bytes) -> StreamPage:
    """Read DescribeStream's answer.

    Raises:
        StreamRefused: upstream refused.
    """
    told = _answer(status, body).get("StreamDescription")
    if not isinstance(told, dict):
        raise StreamRefused(StreamTrouble.FAILED)
    last = told.get("LastEvaluatedShardId")
    try:
        return StreamPage(
            enabled=told.get("StreamStatus") in ("ENABLED", "ENABLING"),
            shards=tuple(map(_shard, told.get("Shards", []))),
            last=last if isinstance(last, str) and last else None,
        )
    except (LookupError, TypeError, AttributeError):
        raise StreamRefused(StreamTrouble.FAILED) from None


def read_iterator(status: int, body: bytes) -> str:
    """Read GetShardIterator's answer.

    Raises:
        StreamRefused: upstream refused.
    """
    iterator = _answer(status, body).get("ShardIterator")
    if not isinstance(iterator, str):
        raise StreamRefused(StreamTrouble.FAILED)
    return iterator


def read_batch(status: int, body: bytes) -> Batch:
    """Read GetRecords' answer.

    Raises:
        StreamRefused: upstream refused.
    """
    answer = _answer(status, body)
    records, iterator = answer.get("Records", []), answer.get("NextShardIterator")
    if not isinstance(records, list):
        raise StreamRefused(StreamTrouble.FAILED)
    return Batch(records, iterator if isinstance(iterator, str) and iterator else None)


def read_date(text: str) -> float | None:
    """Return the seconds since the epoch that an HTTP date names, None for anything else.

    Source: RFC 9110 §5.6.7, IMF-fixdate. The days are counted as in the proleptic Gregorian
    calendar, from March on, so that a leap day is a year's last.
    """
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    day, month_name, year, hour, minute, second = match.groups()
    month = _MONTHS.index(month_name) // 4 + 1
    years = int(year) - (month < _MARCH)
    days = years * 365 + years // 4 - years // 100 + years // 400
    days += (153 * ((month + 9) % 12) + 2) // 5 + int(day) - 1 - _DAYS_TO_1970
    return float(days * 86400 + int(hour) * 3600 + int(minute) * 60 + int(second))


def _answer(status: int, body: bytes) -> dict[str, Any]:
    try:
        answer, _ = load_object(body)
    except NotJson:
        raise StreamRefused(StreamTrouble.FAILED) from None
    if status == _OK:
        return answer
    kind = str(answer.get("__type", "")).rpartition("#")[2]
    raise StreamRefused(_BY_TYPE.get(kind, StreamTrouble.FAILED))


def _shard(told: dict[str, Any]) -> Shard:
    numbers = told.get("SequenceNumberRange") or {}
    return Shard(
        shard_id=str(told["ShardId"]),
        parent=told.get("ParentShardId") or None,
        closed=bool(numbers.get("EndingSequenceNumber")),
    )
