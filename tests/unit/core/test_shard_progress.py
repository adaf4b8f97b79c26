"""Claims about how far a shard was read: what each answer proves, and to whom."""

from __future__ import annotations

import pytest

from proxy.core.shard_progress import (
    EMPTY_ANSWERS,
    NEAR_S,
    READ_WITHIN_S,
    ShardProgress,
    may_have_missed,
)

IDLE_S = 1.0


@pytest.fixture
def progress() -> ShardProgress:
    """Give a reader's progress that has an iterator, and no answer."""
    made = ShardProgress(IDLE_S)
    made.moved()
    return made


def empty(progress: ShardProgress, asked_s: float) -> float | None:
    """Take an answer without records."""
    return progress.answered(asked_s, None, closed=False)


def test_records_say_how_far_a_shard_was_read(progress: ShardProgress) -> None:
    """To the creation of the last one."""
    assert progress.answered(100.0, 30.0, closed=False) == 70.0
    assert progress.answered(100.0, 30.0, closed=True) == 70.0


def test_near_the_end_an_answer_without_records_is_the_end(progress: ShardProgress) -> None:
    """Of its moment, each of them."""
    progress.answered(100.0, NEAR_S, closed=False)
    assert empty(progress, 101.0) == 101.0
    assert empty(progress, 101.0 + NEAR_S + IDLE_S) == 101.0 + NEAR_S + IDLE_S
    assert not progress.is_far


def test_far_from_the_end_it_takes_many(progress: ShardProgress) -> None:
    """In one row: a record begins it anew."""
    for round_ in range(2):
        for number in range(EMPTY_ANSWERS - 1):
            assert empty(progress, 1000.0 * round_ + number) is None
            assert progress.is_far
        if round_ == 0:
            progress.answered(500.0, 100.0, closed=False)
            assert not progress.is_far
    assert empty(progress, 1100.0) == 1100.0


def test_a_long_pause_takes_a_reader_from_the_end(progress: ShardProgress) -> None:
    """It was stopped, or DynamoDB was out: records may have come since, and a way to them."""
    progress.moved(100.0)
    assert empty(progress, 101.0) == 101.0
    assert empty(progress, 101.0 + NEAR_S + IDLE_S + 0.1) is None


def test_an_iterator_at_the_latest_end_is_near(progress: ShardProgress) -> None:
    """Any other one is not."""
    progress.moved(100.0)
    assert empty(progress, 100.5) == 100.5
    progress.moved()
    assert empty(progress, 101.0) is None


def test_the_end_of_a_closed_shard_has_no_time(progress: ShardProgress) -> None:
    """Its child may have changes from before the question."""
    progress.moved(100.0)
    assert progress.answered(100.5, None, closed=True) is None


@pytest.mark.parametrize(
    ("unread_s", "missed"), [(0.0, False), (READ_WITHIN_S, False), (READ_WITHIN_S + 1, True)]
)
def test_who_was_away_for_long_may_have_missed_records(unread_s: float, *, missed: bool) -> None:
    """Some hours before DynamoDB drops them."""
    now_ms = 1_700_000_000_000
    assert may_have_missed(now_ms - round(unread_s * 1000), now_ms) is missed
    assert may_have_missed(0, now_ms)
