"""Claims about operations on tables: each table is found, or the request is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import RequestRejected
from proxy.core.operations import SERIALIZATION_EXCEPTION
from proxy.core.table_writes import TABLE_WRITES, written_tables

ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/a"
PUT: dict[str, Any] = {"Item": {"pk": {"S": "x"}}}


def written(operation: str, request: object) -> set[str]:
    """Return the plain names of the tables that a request may write to."""
    return set(written_tables(operation, json.dumps(request).encode()))


EXAMPLES: list[tuple[str, dict[str, Any], set[str]]] = [
    ("CreateTable", {"TableName": "a"}, {"a"}),
    ("DeleteTable", {"TableName": ARN}, {"a"}),
    ("UpdateTable", {"TableName": "a"}, {"a"}),
    ("UpdateTimeToLive", {"TableName": "a"}, {"a"}),
    ("UpdateGlobalTable", {"GlobalTableName": "a"}, {"a"}),
    ("CreateGlobalTable", {"GlobalTableName": "a"}, {"a"}),
    ("RestoreTableFromBackup", {"TargetTableName": "a", "BackupArn": "x"}, {"a"}),
    ("RestoreTableToPointInTime", {"TargetTableName": "a", "SourceTableName": "b"}, {"a"}),
    ("ImportTable", {"TableCreationParameters": {"TableName": "a"}}, {"a"}),
    ("ImportTable", {"TableCreationParameters": "a"}, set()),
    ("ImportTable", {}, set()),
    ("DeleteTable", {"TableName": 5}, set()),
    ("RestoreTableFromBackup", {"TableName": "a"}, set()),
]


@pytest.mark.parametrize(("operation", "request_", "tables"), EXAMPLES)
def test_the_tables_of_a_request_are_found(
    operation: str, request_: dict[str, Any], tables: set[str]
) -> None:
    """Wherever the operation names them, by name or by ARN; what DynamoDB refuses names none."""
    assert written(operation, request_) == tables


def test_every_operation_has_an_example() -> None:
    """An operation added to the list must be tried above."""
    assert {operation for operation, _, tables in EXAMPLES if tables} == TABLE_WRITES


@pytest.mark.parametrize("operation", sorted(TABLE_WRITES))
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", ""),
        (b"[]", ""),
        (b"{", ""),
        (b'{"TableName":"a","TableName":"b"}', "a member name occurs twice"),
    ],
)
def test_an_ambiguous_request_is_refused(operation: str, body: bytes, message: str) -> None:
    """A more lenient parser upstream could write to a table that is not fenced."""
    with pytest.raises(RequestRejected) as caught:
        written_tables(operation, body)
    assert caught.value.error_type == SERIALIZATION_EXCEPTION
    assert caught.value.message == message


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["TableName", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)
MEMBERS = st.sampled_from(
    [
        "TableName",
        "GlobalTableName",
        "TargetTableName",
        "TableCreationParameters",
    ]
)


@given(
    st.sampled_from(sorted(TABLE_WRITES)),
    st.binary(max_size=20)
    | st.dictionaries(MEMBERS, JSON, max_size=4).map(lambda loaded: json.dumps(loaded).encode()),
)
def test_any_bytes_name_tables_or_are_rejected(operation: str, body: bytes) -> None:
    """No body makes the proxy fail, and every name found is one that a table can have."""
    try:
        tables = written_tables(operation, body)
    except RequestRejected:
        return
    assert all(table and table.isascii() for table in tables)
