"""Claims about the batches that Lambda hands over."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.lambda_batch import HandedRecord, StrangeEvent, failure, read_batch
from proxy.core.stream_records import StreamEvent, StreamRecord
from tests.support.lambda_function import lambda_event

KEYS = {"pk": {"S": "order#101"}, "sk": {"N": "1"}}


def kinesis(data: object) -> dict[str, Any]:
    """Return an invocation with one Kinesis record."""
    frame = {"sequenceNumber": "7", "data": data}
    return {"Records": [{"eventSource": "aws:kinesis", "kinesis": frame}]}


def read(handed: HandedRecord) -> StreamRecord:
    """Return a record that can be read."""
    assert handed.record is not None
    return handed.record


def test_batch_of_a_tables_stream_is_read() -> None:
    """In order; each record is known by its sequence number, and its table by the stream."""
    batch = read_batch(lambda_event("dynamodb"))
    assert [handed.identifier[-2:] for handed in batch] == ["91", "92", "93"]
    assert {handed.table for handed in batch} == {"orders"}
    records = [read(handed) for handed in batch]
    assert [record.event for record in records] == list(StreamEvent)
    assert [record.keys for record in records] == [KEYS] * 3
    assert [(record.new_image or {}).get("v") for record in records] == [
        {"S": "new"},
        {"S": "changed"},
        None,
    ]
    assert {record.created_s for record in records} == {1796021285.0}
    assert all(handed.ordered for handed in batch)


def test_deletion_by_time_to_live_is_a_removal() -> None:
    """Whoever did it."""
    (handed,) = read_batch(lambda_event("time_to_live"))
    assert (read(handed).event, read(handed).tells_after) == (StreamEvent.REMOVE, True)


def test_batch_of_kinesis_is_read() -> None:
    """Known by Kinesis' own numbers, whatever precision its times have; in any order."""
    batch = read_batch(lambda_event("kinesis"))
    assert [handed.identifier[:4] for handed in batch] == ["4959"] * 2
    assert len({handed.identifier for handed in batch}) == 2
    assert {handed.table for handed in batch} == {"orders"}
    assert not any(handed.ordered for handed in batch)
    created = [read(handed).created_s for handed in batch]
    assert created == [pytest.approx(1796021285.12), pytest.approx(1796021286.120456)]


@pytest.mark.parametrize(
    "data",
    [
        None,
        "%%%",
        "%" + base64.b64encode(b'{"tableName": "orders"}').decode(),
        base64.b64encode(b"{").decode(),
        base64.b64encode(b"\xff").decode(),
        base64.b64encode(b"[" * 100_000).decode(),
        base64.b64encode(b"17").decode(),
    ],
)
def test_kinesis_record_of_somebody_else_is_poison(data: object) -> None:
    """It is still known by its number, and of no table."""
    (handed,) = read_batch(kinesis(data))
    assert (handed.identifier, handed.table) == ("7", None)
    assert handed.record is None


def test_poison_names_its_table_where_it_can() -> None:
    """The stream tells it, or Kinesis' payload."""
    spoiled = lambda_event("dynamodb")
    del spoiled["Records"][0]["dynamodb"]["Keys"]
    handed, *others = read_batch(spoiled)
    assert (handed.table, handed.record) == ("orders", None)
    assert handed.content == spoiled["Records"][0]
    assert all(other.record is not None for other in others)
    payload = base64.b64encode(b'{"tableName": "orders"}').decode()
    (handed,) = read_batch(kinesis(payload))
    assert (handed.table, handed.record) == ("orders", None)
    assert handed.content == {"tableName": "orders"}


def test_record_may_be_of_an_unknown_table() -> None:
    """Where nothing that a table's stream is called by stands with it."""
    strange = lambda_event("dynamodb")
    strange["Records"][0]["eventSourceARN"] = "arn:aws:sqs:eu-central-1:123456789012:queue"
    handed = read_batch(strange)[0]
    assert (handed.identifier[-2:], handed.table) == ("91", None)


def test_record_that_is_nothing_fails_the_whole_batch() -> None:
    """An identifier that is empty tells Lambda so."""
    assert read_batch({"Records": [17]}) == [HandedRecord("", None, 17, None, ordered=True)]


@pytest.mark.parametrize("strange", [None, {}, [], {"Records": {}}, {"key1": "value1"}])
def test_invocation_without_a_batch_is_refused(strange: object) -> None:
    """As by the console's test button."""
    with pytest.raises(StrangeEvent, match="mapped to a stream"):
        read_batch(strange)


def test_failure_names_the_first_record_that_was_not_applied() -> None:
    """Lambda hands over that one again, and what comes after it."""
    assert failure("91") == {"batchItemFailures": [{"itemIdentifier": "91"}]}
    assert failure(None) == {"batchItemFailures": []}


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8) | st.just("aws:kinesis"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["Records", "eventSource", "eventSourceARN", "kinesis", "dynamodb", "data", "Keys"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=4))
def test_whatever_comes_is_a_record_of_the_batch(records: list[object]) -> None:
    """Nothing of a batch is left out."""
    batch = read_batch({"Records": records})
    assert len(batch) == len(records)
