"""How one change of an item looks in the fake upstream's streams, as GetRecords shows it.

What real DynamoDB gives: the API reference of DynamoDB Streams, `Record` and `StreamRecord`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

Json = dict[str, Any]

REGION: Final = "us-east-1"
VIEW_TYPES: Final = ("KEYS_ONLY", "NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES")
SHOWS_NEW: Final = frozenset({"NEW_IMAGE", "NEW_AND_OLD_IMAGES"})
SHOWS_OLD: Final = frozenset({"OLD_IMAGE", "NEW_AND_OLD_IMAGES"})
TIME_TO_LIVE: Final = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
"""Who deletes an item whose time to live is over: in the region of the deletion only."""

SEQUENCE_STEP: Final = 10**20
"""Sequence numbers have 21 to 40 digits. From the tenth on they have one more here, so that who
compares them as text goes wrong soon."""


@dataclass(frozen=True)
class Change:
    """One write that changed an item; None is absence.

    Args:
        keys: the primary key.
        old: the item before.
        new: the item after.
        by_time_to_live: whether DynamoDB itself deleted it.
    """

    keys: Json
    old: Json | None
    new: Json | None
    by_time_to_live: bool = False

    @property
    def event_name(self) -> str:
        """INSERT, MODIFY or REMOVE."""
        if self.new is None:
            return "REMOVE"
        return "INSERT" if self.old is None else "MODIFY"


def record_of(
    change: Change, view_type: str, *, stream_arn: str, sequence: int, at_s: float
) -> Json:
    """Return a change as a stream of this view type shows it."""
    images = {"Keys": change.keys}
    if change.new is not None and view_type in SHOWS_NEW:
        images["NewImage"] = change.new
    if change.old is not None and view_type in SHOWS_OLD:
        images["OldImage"] = change.old
    record: Json = {
        "eventID": hashlib.md5(f"{stream_arn} {sequence}".encode()).hexdigest(),
        "eventName": change.event_name,
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": REGION,
        "dynamodb": {
            "ApproximateCreationDateTime": int(at_s),  # rounded down, as real ones are
            **images,
            "SequenceNumber": str(sequence),
            "SizeBytes": sum(size_bytes(image) for image in images.values()),
            "StreamViewType": view_type,
        },
    }
    if change.by_time_to_live:
        record["userIdentity"] = dict(TIME_TO_LIVE)
    return record


def size_bytes(attributes: Json) -> int:
    """Return about what DynamoDB would count for these attributes."""
    around = len(str({"S": ""}))
    return sum(len(name) + len(str(content)) - around for name, content in attributes.items())


def without_keys(record: Json) -> None:
    """Make poison of a record: nobody can tell which item it is about."""
    del record["dynamodb"]["Keys"]


def unknown_event_name(record: Json) -> None:
    """Make poison of a record: nobody can tell what happened."""
    record["eventName"] = "ARCHIVE"
