"""Lists every operation of DynamoDB and DynamoDB Streams with what the proxy does about it.

Metrics take their labels from here, and `docs/operations.md` is made from it by
`python -m proxy.configuration operations`. Tests hold it to the SDK's own models, to what
`proxy.core.plan` does and to the writes that are tried against real engines.

Source: DynamoDB API Reference, "Actions".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Treatment(StrEnum):
    """What the proxy does about an operation."""

    CACHED = "cached"
    WRITE = "coherent write"
    TABLE_CHANGE = "table change"
    PASSED = "passed through"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: its treatment, and a few words on how or why."""

    treatment: Treatment
    words: str


_ITEM: Final = "its item is fenced: uncached until the write's outcome is known"
_TABLES: Final = "the items it may write are fenced"
_WHOLE: Final = "the table is fenced: none of its older entries counts afterwards"
_RESTORED: Final = "makes a table with items of its own: the table's name is fenced"
_ABOUT: Final = "neither items nor what a table's name means change by it"
_SHOWS: Final = "shows no items"
_STREAM: Final = "DynamoDB Streams holds changes, not items to look up"

_CACHED: Final = {
    "GetItem": "any projection, from one entry of the whole item",
    "BatchGetItem": "item by item, as GetItem",
    "Query": "where the table asks for it",
    "Scan": "where the table asks for it",
}
_WRITES: Final = {
    "PutItem": _ITEM,
    "UpdateItem": _ITEM,
    "DeleteItem": _ITEM,
    "BatchWriteItem": _TABLES,
    "TransactWriteItems": _TABLES,
    "ExecuteStatement": f"{_TABLES}; SELECT passes through",
    "BatchExecuteStatement": f"{_TABLES}; SELECT passes through",
    "ExecuteTransaction": f"{_TABLES}; SELECT passes through",
}
_TABLE_CHANGES: Final = {
    "CreateTable": _WHOLE,
    "DeleteTable": _WHOLE,
    "UpdateTable": _WHOLE,
    "UpdateTimeToLive": _WHOLE,
    "CreateGlobalTable": _WHOLE,
    "UpdateGlobalTable": _WHOLE,
    "ImportTable": _RESTORED,
    "RestoreTableFromBackup": _RESTORED,
    "RestoreTableToPointInTime": _RESTORED,
}
_PASSED: Final = {
    "TransactGetItems": "promises one moment for all its items, which no set of entries can show",
    "SearchVectors": "searches an index",
    "DescribeBackup": _SHOWS,
    "DescribeContinuousBackups": _SHOWS,
    "DescribeContributorInsights": _SHOWS,
    "DescribeEndpoints": "shows the addresses that DynamoDB would have clients use instead",
    "DescribeExport": _SHOWS,
    "DescribeGlobalTable": _SHOWS,
    "DescribeGlobalTableSettings": _SHOWS,
    "DescribeImport": _SHOWS,
    "DescribeKinesisStreamingDestination": _SHOWS,
    "DescribeLimits": _SHOWS,
    "DescribeTable": _SHOWS,
    "DescribeTableReplicaAutoScaling": _SHOWS,
    "DescribeTimeToLive": _SHOWS,
    "GetResourcePolicy": _SHOWS,
    "ListBackups": _SHOWS,
    "ListContributorInsights": _SHOWS,
    "ListExports": _SHOWS,
    "ListGlobalTables": _SHOWS,
    "ListImports": _SHOWS,
    "ListTables": _SHOWS,
    "ListTagsOfResource": _SHOWS,
    "CreateBackup": _ABOUT,
    "DeleteBackup": _ABOUT,
    "DeleteResourcePolicy": _ABOUT,
    "DisableKinesisStreamingDestination": _ABOUT,
    "EnableKinesisStreamingDestination": _ABOUT,
    "ExportTableToPointInTime": _ABOUT,
    "PutResourcePolicy": _ABOUT,
    "TagResource": _ABOUT,
    "UntagResource": _ABOUT,
    "UpdateContinuousBackups": _ABOUT,
    "UpdateContributorInsights": _ABOUT,
    "UpdateGlobalTableSettings": _ABOUT,
    "UpdateKinesisStreamingDestination": _ABOUT,
    "UpdateTableReplicaAutoScaling": _ABOUT,
    "DescribeStream": _STREAM,
    "GetRecords": _STREAM,
    "GetShardIterator": _STREAM,
    "ListStreams": _STREAM,
}

OPERATIONS: Final[Mapping[str, Operation]] = {
    name: Operation(treatment, words)
    for treatment, rows in (
        (Treatment.CACHED, _CACHED),
        (Treatment.WRITE, _WRITES),
        (Treatment.TABLE_CHANGE, _TABLE_CHANGES),
        (Treatment.PASSED, _PASSED),
    )
    for name, words in rows.items()
}
"""Every operation by name; those of one treatment stand together."""

_HEAD: Final = """\
# Operations

What the proxy does about each operation of DynamoDB and DynamoDB Streams. This file is made by
`python -m proxy.configuration operations`. An operation that is not listed passes through.

- **cached**: answered from the store where that is right.
- **coherent write**: sent to DynamoDB between the two steps of a fence, so that no older entry
  survives its acknowledgement.
- **table change**: the same, around everything that is cached of the table.
- **passed through**: sent to DynamoDB as it came, signed anew; its answer comes back as it is.

"""


def named(*treatments: Treatment) -> frozenset[str]:
    """Return the names of all operations that are treated in one of these ways."""
    return frozenset(name for name, each in OPERATIONS.items() if each.treatment in treatments)


def operations_document() -> str:
    """Return docs/operations.md: a table of all operations, in Markdown."""
    rows = [f"| {name} | {each.treatment} | {each.words} |\n" for name, each in OPERATIONS.items()]
    return _HEAD + "| Operation | Treatment | |\n| --- | --- | --- |\n" + "".join(rows)
