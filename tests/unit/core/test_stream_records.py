"""Claims about reading stream records, whoever brings them."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.stream_records import (
    PoisonReason,
    PoisonRecord,
    StreamEvent,
    StreamRecord,
    read_record,
    table_of_stream,
)

ARN = "arn:aws:dynamodb:us-east-1:123456789012:table/orders/stream/2026-11-30T00:48:05.899"
KEYS = {"pk": {"S": "a"}}
NEW = {"pk": {"S": "a"}, "v": {"N": "1"}}


def raw(event: object = "MODIFY", **change: Any) -> dict[str, Any]:
    """Return a record as GetRecords gives it."""
    told = {
        "ApproximateCreationDateTime": 1480642020.0,
        "Keys": KEYS,
        "SequenceNumber": "111",
        "SizeBytes": 26,
        "StreamViewType": "NEW_IMAGE",
        **change,
    }
    return {"eventID": "e", "eventName": event, "eventSource": "aws:dynamodb", "dynamodb": told}


def test_a_change_of_get_records_is_read() -> None:
    """Event, keys, image, time and place; the table is for the caller to know."""
    assert read_record(raw(NewImage=NEW)) == StreamRecord(
        StreamEvent.MODIFY, KEYS, NEW, 1480642020.0, "111", tells_after=True, table=None
    )


def test_a_lambda_event_names_its_table() -> None:
    """By the ARN of its stream."""
    assert read_record({**raw(), "eventSourceARN": ARN}).table == "orders"


@pytest.mark.parametrize(
    ("precision", "told"), [({}, 1636714800123), ({"p": "MICROSECOND"}, 1636714800123000)]
)
def test_a_kinesis_record_names_its_table_and_counts_finer(
    precision: dict[str, str], told: int
) -> None:
    """Its time is in milliseconds, or as it says; images are always there."""
    change = {"Keys": KEYS, "NewImage": NEW, "ApproximateCreationDateTime": told}
    if precision:
        change["ApproximateCreationDateTimePrecision"] = precision["p"]
    record = read_record({"eventName": "INSERT", "tableName": "orders", "dynamodb": change})
    assert (record.table, record.sequence, record.tells_after) == ("orders", "", True)
    assert record.created_s == pytest.approx(1636714800.123)


@pytest.mark.parametrize("view", ["KEYS_ONLY", "OLD_IMAGE", None])
def test_without_a_new_image_nobody_knows_what_the_item_is(view: str | None) -> None:
    """What a change made of it is told by the new image alone."""
    record = read_record(raw(StreamViewType=view))
    assert (record.tells_after, record.body_after()) == (False, None)


def test_a_view_with_new_images_that_brings_none_tells_nothing() -> None:
    """A change of tomorrow: the item is not taken for absent."""
    assert read_record(raw()).body_after() is None


def test_an_image_that_no_answer_can_have_tells_nothing() -> None:
    """NaN is no JSON, whatever a parser takes."""
    assert read_record(raw(NewImage={"v": {"N": float("nan")}})).body_after() is None


@pytest.mark.parametrize("view", ["KEYS_ONLY", "NEW_AND_OLD_IMAGES"])
def test_a_removal_always_tells_what_is_left(view: str) -> None:
    """No item is left, whatever the view; deletions by TTL are removals too."""
    by_ttl = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
    record = read_record({**raw("REMOVE", StreamViewType=view), "userIdentity": by_ttl})
    assert (record.event, record.body_after()) == (StreamEvent.REMOVE, b"{}")


def test_what_an_item_is_afterwards_is_what_get_item_answers() -> None:
    """The image, as the one member of an answer."""
    body = read_record(raw(NewImage=NEW, StreamViewType="NEW_AND_OLD_IMAGES")).body_after()
    assert body is not None
    assert json.loads(body) == {"Item": NEW}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (None, PoisonReason.UNREADABLE),
        ({"dynamodb": 1}, PoisonReason.UNREADABLE),
        (raw("TRUNCATE"), PoisonReason.UNKNOWN_EVENT),
        (raw(7), PoisonReason.UNKNOWN_EVENT),
        (raw(Keys=None), PoisonReason.NO_KEYS),
        (raw(Keys={}), PoisonReason.NO_KEYS),
        (raw(Keys={"a": 1, "b": 2, "c": 3}), PoisonReason.NO_KEYS),
    ],
)
def test_poison_says_why(record: object, reason: PoisonReason) -> None:
    """Each reason is told apart, with the record's place where that can be read."""
    with pytest.raises(PoisonRecord) as poison:
        read_record(record)
    assert poison.value.reason is reason
    assert poison.value.sequence == ("" if reason is PoisonReason.UNREADABLE else "111")


@pytest.mark.parametrize("told", [None, "soon", True, float("nan"), 10**400])
def test_a_time_that_cannot_be_read_is_none(told: object) -> None:
    """The change is applied all the same."""
    assert read_record(raw(ApproximateCreationDateTime=told)).created_s is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
FIELDS = ["eventName", "dynamodb", "tableName", "eventSourceARN", "Keys", "NewImage"]


@given(
    st.dictionaries(st.sampled_from(FIELDS), JSON | st.dictionaries(st.sampled_from(FIELDS), JSON))
)
def test_whatever_comes_is_a_record_or_poison(record: object) -> None:
    """Nothing else is ever raised."""
    with contextlib.suppress(PoisonRecord):
        read_record(record).body_after()


@pytest.mark.parametrize(
    ("arn", "table"),
    [(ARN, "orders"), ("", None), ("arn:aws:dynamodb:x:1:table/orders", None), ("orders", None)],
)
def test_a_streams_arn_names_its_table(arn: str, table: str | None) -> None:
    """Anything else does not."""
    assert table_of_stream(arn) == table
