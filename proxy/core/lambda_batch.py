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
        table: the table's name; None where even that cannot be read.
        content: the record as it came, for Kinesis its payload.
        record: the record, None where it cannot be read.
        ordered: whether the records of an item come in the order of its changes, each once. From
            Kinesis they may not.
    """

    identifier: str
    table: TableName | None
    content: object
    record: StreamRecord | None
    ordered: bool


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
    if isinstance(raw, Mapping) and raw.get("eventSource") == _KINESIS:
        frame = raw.get("kinesis")
        payload = _payload(_text(frame, "data"))
        table = _text(payload, "tableName")
        return _handed(_text(frame, "sequenceNumber"), table, payload, ordered=False)
    change = raw.get("dynamodb") if isinstance(raw, Mapping) else None
    table = table_of_stream(_text(raw, "eventSourceARN")) or ""
    return _handed(_text(change, "SequenceNumber"), table, raw, ordered=True)


def _handed(identifier: str, table: str, content: object, *, ordered: bool) -> HandedRecord:
    try:
        record = read_record(content)
    except PoisonRecord:  # whoever applies it finds the same, and says why
        record = None
    return HandedRecord(identifier, TableName(table) if table else None, content, record, ordered)


def _payload(data: str) -> object:
    """Return the content of a Kinesis record, None where it is no JSON."""
    try:
        return json.loads(binascii.a2b_base64(data, strict_mode=True))
    except (ValueError, RecursionError):  # binascii's own error is a ValueError
        return None


def _text(told: object, name: str) -> str:
    text = told.get(name) if isinstance(told, Mapping) else None
    return text if isinstance(text, str) else ""
