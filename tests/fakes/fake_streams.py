"""DynamoDB Streams of the fake upstream: its four operations over the streams of all tables.

Pure and synchronous. What real DynamoDB does here, as far as an emulator does it too, is checked by
`tests/contracts/test_streams_contract.py`; the rest is from the API reference of DynamoDB Streams.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from tests.fakes.fake_stream import FakeStream, Shard, StreamRecord
from tests.fakes.fake_stream_records import VIEW_TYPES, Json
from tests.fakes.fake_upstream_tables import CORAL, SERVICE, VALIDATION, DynamoError

TARGET_PREFIX = "DynamoDBStreams_20120810."
ITERATOR_TTL_S = 15 * 60.0
PAGE_RECORDS_MAX = 1000
PAGE_BYTES_MAX = 1024 * 1024
PAGE_SHARDS_MAX = 100
PAGE_STREAMS_MAX = 100

CALLS_PER_S_MAX = 5
BYTES_PER_S_MAX = 2 * 1024 * 1024
"""What each shard gives to all its readers together."""

TYPES = ("TRIM_HORIZON", "LATEST", "AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER")
OUTLIVED = "The operation attempted to read past the oldest stream record in a shard."
EXPIRED = "The shard iterator has expired and can no longer be used to retrieve stream records."


@dataclass(frozen=True)
class Call:
    """One GetRecords that was not refused, and the bytes it gave."""

    at_s: float
    shard_id: str
    given_bytes: int


@dataclass(frozen=True)
class _Iterator:
    """What a token stands for.

    Args:
        sequence: the next record's least sequence number.
        given_s: when it was given.
        series: of how many that expired together.
        way: how many answers it takes until records are found.
        begun: whether records came before it.
    """

    arn: str
    shard_id: str
    sequence: int
    given_s: float
    series: int
    way: int
    begun: bool

    @property
    def token(self) -> str:
        """Return what clients get: opaque to them, and of no use at another fake."""
        content = [*(self.shard_id, self.sequence, self.given_s, self.series, self.way, self.begun)]
        return f"{self.arn}|1|{base64.b64encode(json.dumps(content).encode()).decode()}"

    @classmethod
    def read(cls, token: object) -> _Iterator:
        """Return what a token stands for, or refuse it."""
        try:
            arn, _, coded = str(token).split("|")
            shard_id, sequence, given_s, series, way, begun = json.loads(base64.b64decode(coded))
        except ValueError:
            raise DynamoError(VALIDATION, "Invalid ShardIterator") from None
        return cls(arn, shard_id, sequence, given_s, series, way, begun)


class FakeStreams:
    """All streams of one fake.

    Args:
        wall_s: dates records and iterators.

    `shards_at_first` and `lag_s` are what new streams begin with. With `limited` a shard refuses
    more than it gives each second. `calls` lists every GetRecords that was served.
    """

    def __init__(self, wall_s: Callable[[], float] = time.time) -> None:
        self.shards_at_first = 1
        self.lag_s = 0.0
        self.limited = False
        self.calls: list[Call] = []
        self._wall_s = wall_s
        self._streams: dict[str, FakeStream] = {}
        self._tables: dict[str, tuple[str, list[Json]]] = {}
        self._series = 0
        self._refusals: list[tuple[str, DynamoError]] = []
        self._operations = {
            "ListStreams": self._list_streams,
            "DescribeStream": self._describe_stream,
            "GetShardIterator": self._get_shard_iterator,
            "GetRecords": self._get_records,
        }

    def open(
        self, table: str, table_arn: str, key_schema: list[Json], view_type: str
    ) -> FakeStream:
        """Begin a new stream of a table; its ARN was never there before."""
        assert view_type in VIEW_TYPES
        at_ms = int(self._wall_s() * 1000)
        while (arn := f"{table_arn}/stream/{_label(at_ms)}") in self._streams:
            at_ms += 1
        stream = FakeStream(arn, view_type, self._wall_s, shards=self.shards_at_first)
        stream.lag_s = self.lag_s
        self._streams[arn] = stream
        self._tables[arn] = (table, key_schema)
        return stream

    def call(self, operation: str, body: Json) -> Json:
        """Run one operation; raises DynamoError as DynamoDB would answer."""
        if operation not in self._operations:
            raise DynamoError(CORAL + "UnknownOperationException", "")
        for place, (refused, error) in enumerate(self._refusals):
            if refused == operation:
                del self._refusals[place]
                raise error
        return self._operations[operation](body)

    # What a test does

    def refuse(
        self, operation: str, error: str = "LimitExceededException", *, times: int = 1
    ) -> None:
        """Answer the next calls of an operation with an error of the service."""
        status = 500 if error == "InternalServerError" else 400
        refusal = DynamoError(SERVICE + error, "as the script says", status=status)
        self._refusals += [(operation, refusal)] * times

    def relent(self) -> None:
        """Refuse nothing any more."""
        self._refusals.clear()

    def expire_iterators(self) -> None:
        """Let every iterator that was given so far be too old."""
        self._series += 1

    # The operations

    def _list_streams(self, body: Json) -> Json:
        wanted = body.get("TableName")
        arns = [arn for arn in self._alive() if wanted in {None, self._tables[arn][0]}]
        limit = _limit(body, PAGE_STREAMS_MAX)
        page, more = _page(arns, body.get("ExclusiveStartStreamArn"), limit)
        reply: Json = {
            "Streams": [
                {
                    "StreamArn": arn,
                    "StreamLabel": self._streams[arn].label,
                    "TableName": self._tables[arn][0],
                }
                for arn in page
            ]
        }
        if more:
            reply["LastEvaluatedStreamArn"] = page[-1]
        return reply

    def _describe_stream(self, body: Json) -> Json:
        stream = self._stream(body.get("StreamArn"))
        table, key_schema = self._tables[stream.arn]
        shards = {shard.shard_id: shard for shard in stream.shards.values() if shard.listed}
        limit = _limit(body, PAGE_SHARDS_MAX)
        page, more = _page(shards, body.get("ExclusiveStartShardId"), limit)
        description = {
            "StreamArn": stream.arn,
            "StreamLabel": stream.label,
            "StreamStatus": stream.status,
            "StreamViewType": stream.view_type,
            "CreationRequestDateTime": stream.created_s,
            "TableName": table,
            "KeySchema": key_schema,
            "Shards": [shards[shard_id].description() for shard_id in page],
        }
        if more:
            description["LastEvaluatedShardId"] = page[-1]
        return {"StreamDescription": description}

    def _get_shard_iterator(self, body: Json) -> Json:
        stream = self._stream(body.get("StreamArn"))
        shard = _shard(stream, body.get("ShardId"))
        kind = body.get("ShardIteratorType")
        if kind not in TYPES:
            raise DynamoError(VALIDATION, "Invalid ShardIteratorType.")
        if kind == "TRIM_HORIZON":
            sequence = max(shard.first, shard.kept_from)
        elif kind == "LATEST":
            sequence = max(shard.first, shard.kept_from, shard.seen_to + 1)
        else:
            sequence = _asked_number(shard, body.get("SequenceNumber"))
            sequence += kind == "AFTER_SEQUENCE_NUMBER"
        way, shard.begun = 0 if kind == "LATEST" else stream.way, kind == "AFTER_SEQUENCE_NUMBER"
        iterator = self._iterator(stream, shard, sequence, way=way, begun=shard.begun)
        return {"ShardIterator": iterator}

    def _get_records(self, body: Json) -> Json:
        limit = _limit(body, PAGE_RECORDS_MAX)
        given = _Iterator.read(body.get("ShardIterator"))
        if self._wall_s() - given.given_s >= ITERATOR_TTL_S or given.series < self._series:
            raise DynamoError(SERVICE + "ExpiredIteratorException", EXPIRED)
        stream = self._stream(given.arn)
        shard = _shard(stream, given.shard_id)
        _check_trimmed(shard, given.sequence)
        self._check_rate(shard)
        shard.begun = given.begun
        found = shard.visible_from(given.sequence)[:limit]
        if given.way:
            found = []
        page, size = _within_size(found)
        self.calls.append(Call(self._wall_s(), shard.shard_id, size))
        after = page[-1].sequence + 1 if page else given.sequence
        reply: Json = {"Records": [record.shown for record in page]}
        if shard.is_open or shard.has_from(after):
            way, begun = max(0, given.way - 1), given.begun or bool(page)
            iterator = self._iterator(stream, shard, after, way=way, begun=begun)
            reply["NextShardIterator"] = iterator
        return reply

    def _alive(self) -> list[str]:
        """Return the ARNs of the streams that are not forgotten, oldest first."""
        return [arn for arn, stream in self._streams.items() if not stream.is_gone]

    def _stream(self, arn: object) -> FakeStream:
        stream = self._streams.get(str(arn))
        if stream is None or stream.is_gone:
            text = f"Requested resource not found: Stream: {arn} not found"
            raise DynamoError(SERVICE + "ResourceNotFoundException", text)
        return stream

    def _iterator(
        self, stream: FakeStream, shard: Shard, sequence: int, *, way: int, begun: bool
    ) -> str:
        now_s, series = self._wall_s(), self._series
        return _Iterator(stream.arn, shard.shard_id, sequence, now_s, series, way, begun).token

    def _check_rate(self, shard: Shard) -> None:
        if not self.limited:
            return
        since_s = self._wall_s() - 1.0
        recent = []
        for call in reversed(self.calls):
            if call.at_s <= since_s:
                break
            if call.shard_id == shard.shard_id:
                recent.append(call.given_bytes)
        if len(recent) >= CALLS_PER_S_MAX or sum(recent) >= BYTES_PER_S_MAX:
            text = f"Rate exceeded for shard {shard.shard_id}"
            raise DynamoError(SERVICE + "LimitExceededException", text)


def _label(at_ms: int) -> str:
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at_ms % 1000:03d}"


def _limit(body: Json, most: int) -> int:
    limit = int(body.get("Limit", most))
    if not 1 <= limit <= most:
        text = f"Limit should be greater than or equal to 1 and less than or equal to {most}"
        raise DynamoError(VALIDATION, f"One or more parameter values were invalid: {text}")
    return limit


def _page(names: Iterable[str], after: str | None, limit: int) -> tuple[list[str], bool]:
    """Return the names that follow one, and whether there are more; none after an unknown one."""
    rest = list(names)
    if after is not None:
        rest = rest[rest.index(after) + 1 :] if after in rest else []
    return rest[:limit], len(rest) > limit


def _shard(stream: FakeStream, shard_id: object) -> Shard:
    shard = stream.shards.get(str(shard_id))
    if shard is None:
        text = "Requested resource not found: Shard does not exist"
        raise DynamoError(SERVICE + "ResourceNotFoundException", text)
    return shard


def _asked_number(shard: Shard, asked: object) -> int:
    text = str(asked)
    if not text.isdecimal():
        raise DynamoError(VALIDATION, "Invalid SequenceNumber")
    sequence = int(text)
    if sequence < shard.first or (shard.last is not None and sequence > shard.last):
        raise DynamoError(VALIDATION, "Invalid SequenceNumber for the shard")
    _check_trimmed(shard, sequence)
    return sequence


def _check_trimmed(shard: Shard, sequence: int) -> None:
    if sequence < shard.kept_from:
        shard.begun = False  # who is told that goes on at the horizon
        raise DynamoError(SERVICE + "TrimmedDataAccessException", OUTLIVED)


def _within_size(records: list[StreamRecord]) -> tuple[list[StreamRecord], int]:
    """Return as many records as one page holds, one at least, and their size."""
    total = 0
    for place, record in enumerate(records):
        size = len(json.dumps(record.shown))
        if place and total + size > PAGE_BYTES_MAX:
            return records[:place], total
        total += size
    return records, total
