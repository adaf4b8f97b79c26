"""Claims about the tables a request may write to: each is found, or the request is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import VALIDATION_EXCEPTION, RequestRejected
from proxy.core.operations import SERIALIZATION_EXCEPTION, WRITES
from proxy.core.table_writes import (
    ITEM_BATCHES,
    TABLE_WRITES,
    written_tables,
)

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
    (
        "BatchWriteItem",
        {"RequestItems": {"a": [], ARN: [], "b": [{"PutRequest": PUT}]}},
        {"a", "b"},
    ),
    ("BatchWriteItem", {"RequestItems": ["a"]}, set()),
    ("BatchWriteItem", {}, set()),
    (
        "TransactWriteItems",
        {
            "TransactItems": [
                {"Put": {"TableName": "a"} | PUT},
                {"Update": {"TableName": "b"}},
                {"Delete": {"TableName": ARN[:-1] + "c"}},
                {"ConditionCheck": {"TableName": "d"}},
                {"Put": {"TableName": "e"}, "Delete": {"TableName": "f"}},
                {"Put": "a"},
                {"Put": {"TableName": 5}},
                "a",
            ]
        },
        {"a", "b", "c", "d", "e", "f"},
    ),
    ("TransactWriteItems", {"TransactItems": {"Put": {"TableName": "a"}}}, set()),
    ("ExecuteStatement", {"Statement": "UPDATE a SET x=1 WHERE pk='1'"}, {"a"}),
    ("ExecuteStatement", {"Statement": None}, set()),
    ("ExecuteStatement", {}, set()),
    (
        "BatchExecuteStatement",
        {
            "Statements": [
                {"Statement": """INSERT INTO "a" VALUE {'pk': '1'}"""},
                {"Statement": 'SELECT * FROM "b"'},
                {"Statement": "DELETE FROM c.d-e_f WHERE pk = ?"},
                {"Statement": 5},
                "x",
            ]
        },
        {"a", "c.d-e_f"},
    ),
    (
        "ExecuteTransaction",
        {
            "TransactStatements": [
                {"Statement": "EXISTS(SELECT * FROM a WHERE pk='1')"},
                {"Statement": f'UPDATE "{ARN}" REMOVE x WHERE pk=?'},
            ]
        },
        {"a"},
    ),
    ("ExecuteTransaction", {"TransactStatements": 5}, set()),
    *((operation, {"TableName": "a", "Item": {}}, {"a"}) for operation in sorted(WRITES)),
]


@pytest.mark.parametrize(("operation", "request_", "tables"), EXAMPLES)
def test_the_tables_of_a_request_are_found(
    operation: str, request_: dict[str, Any], tables: set[str]
) -> None:
    """Wherever the operation names them, by name or by ARN; what DynamoDB refuses names none."""
    assert written(operation, request_) == tables


def test_every_operation_has_an_example() -> None:
    """An operation added to the list must be tried above."""
    assert {operation for operation, _, tables in EXAMPLES if tables} == TABLE_WRITES | WRITES
    assert ITEM_BATCHES < TABLE_WRITES
    assert not TABLE_WRITES & WRITES


@pytest.mark.parametrize(
    ("statement", "tables"),
    [
        ('insert\n into\t"a" value {}', {"a"}),
        ("  DELETE  FROM a", {"a"}),
        ('Update "a.b" SET x=1', {"a.b"}),
        ("SELECT*FROM a", set()),
        ("select * from a", set()),
        ("EXISTS (SELECT 1)", set()),
        ('UPDATE "a"."index" SET x=1', {"a"}),
    ],
)
def test_a_statement_is_read_as_partiql_reads_it(statement: str, tables: set[str]) -> None:
    """Keywords in any case, blanks anywhere, names quoted or bare."""
    assert written("ExecuteStatement", {"Statement": statement}) == tables


@pytest.mark.parametrize(
    "statement",
    [
        "",
        " ",
        "UPDATE",
        "UPDATE ''",
        'UPDATE ""',
        "UPDATE'a' SET x=1",
        "INSERTINTO a",
        "DELETE a",
        "SELECTED",
        "EXISTSA",
        "-- a comment\nUPDATE a SET x=1",
        "/**/ UPDATE a SET x=1",
        "REPLACE INTO a",
        "UPSERT INTO a",
        "WITH x AS (SELECT 1) DELETE FROM a",
        "é",
    ],
)
@pytest.mark.parametrize(
    ("operation", "wrap"),
    [
        ("ExecuteStatement", lambda text: {"Statement": text}),
        ("BatchExecuteStatement", lambda text: {"Statements": [{"Statement": text}]}),
        ("ExecuteTransaction", lambda text: {"TransactStatements": [{"Statement": text}]}),
    ],
)
def test_a_statement_that_is_not_understood_is_refused(
    operation: str, wrap: Any, statement: str
) -> None:
    """It might write, and no fence would cover it."""
    with pytest.raises(RequestRejected) as caught:
        written(operation, wrap(statement))
    assert caught.value.error_type == VALIDATION_EXCEPTION
    assert caught.value.status == 400


@pytest.mark.parametrize("operation", sorted(TABLE_WRITES | WRITES))
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", ""),
        (b"[]", ""),
        (b"{", ""),
        (b'{"TableName":"a","TableName":"b"}', "a member name occurs twice"),
        (b'{"RequestItems":{"a":[],"a":[]}}', "a member name occurs twice"),
    ],
)
def test_an_ambiguous_request_is_refused(operation: str, body: bytes, message: str) -> None:
    """A more lenient parser upstream could write to a table that is not fenced."""
    with pytest.raises(RequestRejected) as caught:
        written_tables(operation, body)
    assert caught.value.error_type == SERIALIZATION_EXCEPTION
    assert caught.value.message == message


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=4) | st.just("UPDATE a SET x=1"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["TableName", "Statement", "Put", "x"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
MEMBERS = st.sampled_from(
    [
        "TableName",
        "GlobalTableName",
        "TargetTableName",
        "TableCreationParameters",
        "RequestItems",
        "TransactItems",
        "Statement",
        "Statements",
        "TransactStatements",
    ]
)


@given(
    st.sampled_from(sorted(TABLE_WRITES | WRITES)),
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
