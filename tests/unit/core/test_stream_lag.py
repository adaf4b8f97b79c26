"""Claims about the lag of streams, and what tables do about it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.core.policy import QueryPolicy, TablePolicy
from proxy.core.shard_tree import Checkpoint, ShardState, Start, StreamView
from proxy.core.stream_lag import LagPolicy, OverLag, Sighting, degraded, is_over
from proxy.core.values import Mode

TABLE = TablePolicy(queries=QueryPolicy(enabled=True))


def test_the_lag_is_that_of_the_shard_furthest_behind() -> None:
    """By the store's clock alone."""
    shards = {
        "a": ShardState(None, Checkpoint(Start.HORIZON), as_of_ms=9_000),
        "b": ShardState(None, Checkpoint(Start.HORIZON), as_of_ms=7_500),
    }
    assert Sighting(StreamView("arn", 10_000, shards), 1.0, 2.0).lag_s(1.0) == 2.5
    assert Sighting(StreamView("arn", 5_000, shards), 1.0, 2.0).lag_s(1.0) == 0.0


def test_a_shard_that_was_never_read_makes_the_lag_unknown() -> None:
    """So does a stream without shards."""
    shards = {"a": ShardState(None, Checkpoint(Start.LATEST))}
    assert Sighting(StreamView("arn", 10_000, shards), 1.0, 2.0).lag_s(1.0) is None
    assert Sighting(StreamView("", 10_000, {}), 1.0, 2.0).lag_s(1.0) is None


def test_a_look_says_no_more_than_it_can() -> None:
    """The store's clock was read between question and answer: lags are more, its time is less."""
    shards = {"a": ShardState(None, Checkpoint(Start.HORIZON), as_of_ms=9_000)}
    seen = Sighting(StreamView("arn", 10_000, shards), 1.0, 1.5)
    assert seen.lag_s(2.0) == 2.0
    assert seen.store_ms(2.0) == 10_500
    assert seen.store_ms(1.2501) == 9_750


@pytest.mark.parametrize(
    ("lag_s", "over"), [(0.0, False), (30.0, False), (30.1, True), (None, True)]
)
def test_an_unknown_lag_is_over_the_bound(lag_s: float | None, over: bool) -> None:  # noqa: FBT001
    """What nobody knows is not trusted."""
    assert is_over(lag_s, LagPolicy(lag_s_max=30.0)) is over


def test_ignoring_changes_nothing() -> None:
    """The very same policy."""
    assert degraded(TABLE, LagPolicy(over_lag=OverLag.IGNORE)) is TABLE


def test_a_bypass_passes_reads() -> None:
    """As if the table were off; writes are fenced in every mode."""
    assert degraded(TABLE, LagPolicy(over_lag=OverLag.BYPASS)) == replace(TABLE, mode=Mode.OFF)


def test_short_times_shorten_everything_that_answers_by_itself() -> None:
    """Items, absences and pages; nothing is served in grace; shorter times stay."""
    short = degraded(TABLE, LagPolicy(short_ttl_s=2.0))
    assert (short.fresh_ttl_s, short.negative_ttl_s, short.grace_s) == (2.0, 2.0, 0.0)
    assert short.queries.fresh_ttl_s == 2.0
    shorter = replace(TABLE, fresh_ttl_s=1.0, negative_ttl_s=0.5)
    short = degraded(shorter, LagPolicy(short_ttl_s=2.0))
    assert (short.fresh_ttl_s, short.negative_ttl_s) == (1.0, 0.5)
