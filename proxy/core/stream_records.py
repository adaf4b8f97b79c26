"""Reads one record of a table's stream, whoever brings it: GetRecords, Lambda or Kinesis.

All three spell a record alike but for its frame. A record that cannot be read is *poison*: told as
such, with the reason, and never an exception that nobody expects.
Source: DynamoDB API Reference, "Record", "StreamRecord"; DynamoDB Developer Guide, "Change data
capture with Kinesis Data Streams".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Any, Final

from proxy.core.errors import ProxyError
from proxy.core.json_text import compact
from proxy.core.responses import EMPTY_BODY
from proxy.core.values import Item, TableName

_NEW_IMAGES: Final = frozenset({"NEW_IMAGE", "NEW_AND_OLD_IMAGES"})
_KEYS_MAX: Final = 2
_MICROSECONDS: Final = "MICROSECOND"


class StreamEvent(StrEnum):
    """What happened to an item."""

    INSERT = "INSERT"
    MODIFY = "MODIFY"
    REMOVE = "REMOVE"


class RecordResult(StrEnum):
    """What became of a record; a metric label."""

    INVALIDATED = "invalidated"
    SAME = "same"  # the entry shows the change already
    ABSENT = "absent"  # nothing of the item was cached
    POISON = "poison"  # cannot be applied: its table was voided
    FAILED = "failed"  # the store was out: it must be applied once more


class GapReason(StrEnum):
    """Why all that was cached of a table was voided; a metric label."""

    NEW = "new"  # nothing is known of the stream: read for the first time, another, or forgotten
    TRIMMED = "trimmed"  # DynamoDB dropped records before they were read
    LOST = "lost"  # a shard is not there any more, and was not read to its end
    UNREAD = "unread"  # nobody read for so long that records may have been dropped
    REFUSED = "refused"  # the store refused records of it again and again


class PoisonReason(StrEnum):
    """Why a record cannot be applied; a metric label."""

    UNREADABLE = "unreadable"  # not an object, or without what every record has
    UNKNOWN_EVENT = "unknown-event"
    NO_KEYS = "no-keys"
    STRANGE_KEY = "strange-key"  # a primary key that DynamoDB would not take for sure
    REFUSED = "refused"  # the store refused its item again and again, and took others


class PoisonRecord(ProxyError):
    """A record that cannot be read: its table is voided, and the operator should look at it.

    Args:
        reason: why.
        sequence: its sequence number, "" where that cannot be read either.
    """

    def __init__(self, reason: PoisonReason, sequence: str = "") -> None:
        super().__init__(f"a stream record cannot be applied: {reason}")
        self.reason = reason
        self.sequence = sequence


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """One change of one item.

    Args:
        event: what happened. A deletion by TTL is a REMOVE like any other.
        keys: the item's primary key, in DynamoDB JSON.
        new_image: the item after the change; None where there is none, or the view has none.
        created_s: DynamoDB's clock at the change, rounded as it likes; None where it is not told.
        sequence: its place in its shard; "" from Kinesis.
        tells_after: whether the record says what the item is afterwards.
        table: the table's name; None where the record does not say, as from GetRecords.
    """

    event: StreamEvent
    keys: Mapping[str, Any]
    new_image: Item | None
    created_s: float | None
    sequence: str
    tells_after: bool
    table: TableName | None

    def body_after(self) -> bytes | None:
        """Return what GetItem would answer just after the change; None where nobody knows."""
        if not self.tells_after:
            return None
        try:
            return EMPTY_BODY if self.new_image is None else compact({"Item": self.new_image})
        except ValueError:  # NaN, which some parsers let in
            return None


def read_record(raw: object) -> StreamRecord:
    """Read one record.

    Args:
        raw: as parsed from JSON: an element of `Records` of GetRecords or of a Lambda event, or
            the data of a Kinesis record.

    Raises:
        PoisonRecord: nothing else, whatever `raw` is.
    """
    change = raw.get("dynamodb") if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or not isinstance(change, dict):
        raise PoisonRecord(PoisonReason.UNREADABLE)
    sequence = _text(change.get("SequenceNumber"))
    try:
        event = StreamEvent(_text(raw.get("eventName")))
    except ValueError:
        raise PoisonRecord(PoisonReason.UNKNOWN_EVENT, sequence) from None
    keys = change.get("Keys")
    if not isinstance(keys, dict) or not 1 <= len(keys) <= _KEYS_MAX:
        raise PoisonRecord(PoisonReason.NO_KEYS, sequence)
    new_image = change.get("NewImage")
    removed = event is StreamEvent.REMOVE
    if removed or not isinstance(new_image, dict):
        new_image = None
    by_kinesis = isinstance(raw.get("tableName"), str)
    views_new = by_kinesis or _text(change.get("StreamViewType")) in _NEW_IMAGES
    return StreamRecord(
        event=event,
        keys=keys,
        new_image=new_image,
        created_s=_created_s(change, by_kinesis=by_kinesis),
        sequence=sequence,
        tells_after=removed or (views_new and new_image is not None),
        table=_table_of(raw),
    )


def table_of_stream(arn: str) -> TableName | None:
    """Return the table that a stream's ARN names, None for any other text."""
    _, table, rest = arn.partition(":table/")
    name, stream, label = rest.partition("/stream/")
    return TableName(name) if table and name and stream and label else None


def _table_of(raw: Mapping[str, Any]) -> TableName | None:
    if name := _text(raw.get("tableName")):
        return TableName(name)
    return table_of_stream(_text(raw.get("eventSourceARN")))


def _created_s(change: Mapping[str, Any], *, by_kinesis: bool) -> float | None:
    told = change.get("ApproximateCreationDateTime")
    if isinstance(told, bool) or not isinstance(told, int | float):
        return None
    in_micros = change.get("ApproximateCreationDateTimePrecision") == _MICROSECONDS
    units = (1_000_000 if in_micros else 1_000) if by_kinesis else 1
    try:
        created_s = told / units
    except OverflowError:
        return None
    return created_s if isfinite(created_s) else None


def _text(told: object) -> str:
    return told if isinstance(told, str) else ""
