"""Claims about which table a name stands for."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.table_identity import NO_TABLE, is_no_table, read_table_id

ARN = "arn:aws:dynamodb:us-east-1:1:table/orders"


def described(**table: Any) -> bytes:
    """Return a DescribeTable reply."""
    return json.dumps({"Table": {"TableName": "orders", **table}}).encode()


@given(st.uuids())
def test_a_table_id_is_its_sixteen_bytes(table_id: uuid.UUID) -> None:
    """As DynamoDB spells it, and whatever else is told."""
    assert read_table_id(described(TableId=str(table_id), CreationDateTime=1.5)) == table_id.bytes


@pytest.mark.parametrize("table_id", ["37ba92ab-e031-4d47-6e48-cee5e437", "a name", ""])
def test_an_id_of_another_spelling_is_hashed(table_id: str) -> None:
    """Whatever it is, another one is another table."""
    identity = read_table_id(described(TableId=table_id))
    assert identity is not None
    assert len(identity) == 16
    assert read_table_id(described(TableId=table_id)) == identity
    assert read_table_id(described(TableId=table_id + "1")) != identity


def test_an_engine_without_table_ids_is_taken_by_its_time_of_creation() -> None:
    """The same table has the same identity; one made at another time, or elsewhere, has not."""
    first = described(TableArn=ARN, CreationDateTime=1.25)
    again = described(TableArn=ARN, CreationDateTime=1.25, ItemCount=7)
    later = described(TableArn=ARN, CreationDateTime=2.25)
    other = described(TableArn=ARN + "s", CreationDateTime=1.25)
    identities = {read_table_id(first), read_table_id(later), read_table_id(other)}
    assert read_table_id(again) == read_table_id(first)
    assert len(identities) == 3
    assert {len(each or b"") for each in identities} == {16}
    assert not identities & {NO_TABLE, bytes(16)}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"Table": []}',
        described(),
        described(TableArn=ARN),
        described(TableId=7),
    ],
)
def test_a_reply_that_does_not_tell_is_none(body: bytes) -> None:
    """Nothing is guessed."""
    assert read_table_id(body) is None


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, b'{"__type":"com.amazonaws.dynamodb.v20120810#ResourceNotFoundException"}', True),
        (500, b'{"__type":"ResourceNotFoundException"}', False),
        (400, b'{"__type":"ValidationException"}', False),
        (200, b'{"Item":{"pk":{"S":"ResourceNotFoundException"}}}', False),
    ],
)
def test_a_table_is_gone_only_where_upstream_says_so(
    status: int, body: bytes, *, expected: bool
) -> None:
    """By the name of the error, on a refusal."""
    assert is_no_table(status, body) is expected
