"""Claims about the catalogue: complete by the SDK's models, and true to what plans do."""

from __future__ import annotations

import itertools

import botocore.session
import pytest

from proxy.core.catalogue import OPERATIONS, Treatment, named, operations_document
from proxy.core.plan import FENCED
from proxy.core.read_plan import READ_OPERATIONS
from proxy.core.table_writes import TABLE_WRITES
from proxy.core.written_items import ITEM_WRITES


def test_every_operation_of_the_sdk_has_a_row() -> None:
    """A new operation fails here until somebody has decided what to do about it."""
    session = botocore.session.get_session()
    names = itertools.chain.from_iterable(
        session.get_service_model(service).operation_names
        for service in ("dynamodb", "dynamodbstreams")
    )
    assert sorted(names) == sorted(OPERATIONS)


def test_what_is_read_through_the_cache_is_listed_as_cached() -> None:
    """No operation is answered from the store that the catalogue says passes through."""
    assert named(Treatment.CACHED) == READ_OPERATIONS


def test_what_is_fenced_is_listed_as_such() -> None:
    """Writes of items and changes of tables are exactly those that plans fence."""
    assert named(Treatment.WRITE) == ITEM_WRITES
    assert named(Treatment.TABLE_CHANGE) == TABLE_WRITES
    assert named(Treatment.WRITE, Treatment.TABLE_CHANGE) == FENCED


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_stands_in_the_document(name: str) -> None:
    """One row each, with its treatment and a reason."""
    operation = OPERATIONS[name]
    row = f"| {name} | {operation.treatment} | {operation.words} |\n"
    assert operations_document().count(row) == 1
    assert operation.words
