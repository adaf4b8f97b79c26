"""How far a shard was read, by what DynamoDB answers.

It does not say whether a reader is at an open shard's end, and the way through a part without
records may take several answers without any. So such an answer tells the end only to a reader that
was near it before; who comes from far away needs many of them, one after the other.
Source: DynamoDB Streams API Reference, GetRecords.
"""

from __future__ import annotations

from math import inf
from typing import Final

NEAR_S: Final = 5.0
"""A reader is near a shard's end if what it read last was no older, beside its usual pause."""

EMPTY_ANSWERS: Final = 10
"""So many answers without records are taken for the end by a reader that was far from it."""

READ_WITHIN_S: Final = 20 * 3600.0
"""Who goes on after a longer time may have missed records: DynamoDB drops them after 24 hours, and
says nothing of it to a reader that begins at the oldest one there is."""


class ShardProgress:
    """Times are of the reader's own clock.

    Args:
        idle_poll_s: the longest pause between two questions.
    """

    def __init__(self, idle_poll_s: float) -> None:
        self._near_s = NEAR_S + idle_poll_s
        self._as_of_s = -inf
        self._empty = 0

    @property
    def is_far(self) -> bool:
        """Whether the last answers told nothing."""
        return self._empty > 0

    def moved(self, at_end_s: float = -inf) -> None:
        """Take note of a new iterator, and when it was asked for at the shard's end."""
        self._as_of_s, self._empty = at_end_s, 0

    def answered(self, asked_s: float, age_s: float | None, *, closed: bool) -> float | None:
        """Return the time before which all of the shard's changes have been told.

        Args:
            asked_s: when the question was sent.
            age_s: of the last record that came; None where none did, or where it does not say.
            closed: whether nothing more will come.

        Returns:
            None where it is not known now. Of a closed shard nobody knows when it was closed, so
            its child's changes may be older than the question.
        """
        if age_s is not None:
            self._as_of_s, self._empty = asked_s - age_s, 0
            return self._as_of_s
        self._empty += 1
        near = asked_s - self._as_of_s <= self._near_s or self._empty >= EMPTY_ANSWERS
        if closed or not near:
            return None
        self._as_of_s, self._empty = asked_s, 0
        return asked_s


def may_have_missed(as_of_ms: int, now_ms: int) -> bool:
    """Tell whether a shard that was read to a time, 0 for never, may have lost records since."""
    return now_ms - as_of_ms > READ_WITHIN_S * 1000
