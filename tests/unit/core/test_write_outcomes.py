"""Claims about what upstream's answer to a write proves."""

from __future__ import annotations

import pytest

from proxy.core.fence import WriteOutcome
from proxy.core.plan import FENCED
from proxy.core.write_outcomes import is_denied, is_wholly_applied, outcome_of

REFUSAL = b'{"__type":"com.amazon.coral.validate#ValidationException"}'
THROTTLE = b'{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"}'
DENIAL = b'{"__type":"com.amazon.coral.service#AccessDeniedException"}'
BATCHES = {"BatchWriteItem", "BatchExecuteStatement"}


@pytest.mark.parametrize("operation", sorted(FENCED))
@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, b"{}", WriteOutcome.INVALIDATED),
        (400, THROTTLE, WriteOutcome.ABORTED),
        (408, b"", WriteOutcome.UNKNOWN),
        (500, b"{}", WriteOutcome.UNKNOWN),
    ],
)
def test_an_answer_says_the_same_of_every_operation(
    operation: str, status: int, body: bytes, outcome: WriteOutcome
) -> None:
    """Applied, refused for load, or unknown."""
    assert outcome_of(operation, status, body) is outcome


@pytest.mark.parametrize("operation", sorted(FENCED))
def test_a_refused_batch_may_be_applied_in_part(operation: str) -> None:
    """Everything else is atomic: refused, it changed nothing."""
    expected = WriteOutcome.INVALIDATED if operation in BATCHES else WriteOutcome.ABORTED
    assert outcome_of(operation, 400, REFUSAL) is expected


@pytest.mark.parametrize("operation", ["PutItem", "UpdateItem", "DeleteItem"])
def test_a_single_write_is_wholly_applied(operation: str) -> None:
    """Whatever its answer shows."""
    assert is_wholly_applied(operation, b"\xff")


@pytest.mark.parametrize(
    ("body", "whole"),
    [
        (b'{"UnprocessedItems":{}}', True),
        (b'{"UnprocessedItems":{"a":[{"DeleteRequest":{}}]}}', False),
        (b"{}", False),
        (b"[]", False),
        (b"{", False),
        (b"\xff", False),
        (b"[" * 100_000, False),
    ],
)
def test_a_batch_is_wholly_applied_if_nothing_is_unprocessed(body: bytes, *, whole: bool) -> None:
    """Only if upstream says so."""
    assert is_wholly_applied("BatchWriteItem", body) == whole


@pytest.mark.parametrize("operation", sorted(FENCED - {"PutItem", "UpdateItem", "DeleteItem"}))
def test_no_other_answer_proves_what_was_written(operation: str) -> None:
    """A repeated ClientRequestToken is answered with 200 and writes nothing."""
    body = b"{}" if operation == "BatchWriteItem" else b'{"UnprocessedItems":{}}'
    assert not is_wholly_applied(operation, body)


@pytest.mark.parametrize(
    ("status", "body", "denied"),
    [
        (400, DENIAL, True),
        (403, DENIAL, True),
        (200, DENIAL, False),
        (400, REFUSAL, False),
        (400, b'{"__type":"X","Item":{"v":{"S":"' + b"x" * 300 + DENIAL, False),
    ],
)
def test_a_denial_is_recognised(status: int, body: bytes, *, denied: bool) -> None:
    """By its type, not by what an item may contain."""
    assert is_denied(status, body) == denied
