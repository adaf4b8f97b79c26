"""Reads a batch of records as AWS Lambda hands it over, from a table's stream or from Kinesis.

A batch is of one shard, in its order. Each record has an identifier by which a failure is told:
Lambda then hands over that record again, and all that come after it.
Source: AWS Lambda Developer Guide, "Using AWS Lambda with Amazon DynamoDB", "Configuring partial
batch response with DynamoDB and Lambda"; the same for Kinesis Data Streams.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from proxy.core.errors import ProxyError
from proxy.core.stream_records import (
    PoisonReason,
    PoisonRecord,
    StreamRecord,
    read_record,
    table_of_stream,
)
from proxy.core.values import TableName

_KINESIS: Final = "aws:kinesis"


class StrangeEvent(ProxyError):
    """An invocation that holds no batch: whoever invoked the function must change it."""


@dataclass(frozen=True, slots=True)
class HandedRecord:
    """One record of a batch.

    Args:
        identifier: what Lambda knows it by; "" where that cannot be read, which tells Lambda that
            the whole batch failed.
        table: the table's name; None only where the record is poison.
        record: the record, or why it cannot be read: also because it names no table.
    """

    identifier: str
    table: TableName | None
    record: StreamRecord | PoisonRecord


def read_batch(event: object) -> list[HandedRecord]:
    """Read all records of an invocation, in order.

    Args:
        event: as Lambda gives it to a handler.

    Raises:
        StrangeEvent: it is no batch of records. Nothing else, whatever the event is.
    """
    records = event.get("Records") if isinstance(event, Mapping) else None
    if not isinstance(records, list):
        raise StrangeEvent("the event holds no Records: is the function mapped to a stream?")
    return [_read(raw) for raw in records]


def failure(identifier: str | None) -> dict[str, Any]:
    """Return what to answer Lambda: the first record that was not applied, None if all were."""
    failures = [] if identifier is None else [{"itemIdentifier": identifier}]
    return {"batchItemFailures": failures}


def _read(raw: object) -> HandedRecord:
    if not isinstance(raw, Mapping):
        return HandedRecord("", None, PoisonRecord(PoisonReason.UNREADABLE))
    if raw.get("eventSource") == _KINESIS:
        identifier, content = _from_kinesis(raw.get("kinesis"))
        table = _text(content, "tableName")
    else:
        content, table = raw, table_of_stream(_text(raw, "eventSourceARN")) or ""
        identifier = _text(raw.get("dynamodb"), "SequenceNumber")
    if not table:
        return HandedRecord(identifier, None, PoisonRecord(PoisonReason.UNREADABLE))
    try:
        return HandedRecord(identifier, TableName(table), read_record(content))
    except PoisonRecord as poison:
        return HandedRecord(identifier, TableName(table), poison)


def _from_kinesis(frame: object) -> tuple[str, object]:
    """Return a Kinesis record's sequence number, and its data parsed; None if it is no JSON."""
    try:
        return _text(frame, "sequenceNumber"), json.loads(
            binascii.a2b_base64(_text(frame, "data"), strict_mode=True)
        )
    except (ValueError, RecursionError):  # binascii's own error is a ValueError
        return _text(frame, "sequenceNumber"), None


def _text(told: object, name: str) -> str:
    text = told.get(name) if isinstance(told, Mapping) else None
    return text if isinstance(text, str) else ""
