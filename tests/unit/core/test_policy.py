"""Claims about policies: what each level implies, and defaults that keep the promises."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from proxy.core.policy import ITEM_BYTES_MAX, FencePolicy, TablePolicy
from proxy.core.values import Level, WriteMode


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("grace_s", [0.0, 0.1])
def test_grace_is_served_where_it_is_given_and_never_at_strict(
    level: Level, grace_s: float
) -> None:
    """Strict reads are never older than the last write; no grace is no grace."""
    policy = TablePolicy(level=level, grace_s=grace_s)
    assert policy.serves_grace is (level is not Level.STRICT and grace_s > 0)


@pytest.mark.parametrize("level", Level)
def test_only_eventual_joins_a_fetch_older_than_the_read(level: Level) -> None:
    """Everywhere else a read must see the writes acknowledged before it."""
    assert TablePolicy(level=level).joins_started_flights is (level is Level.EVENTUAL)


def test_defaults_keep_the_promise_of_session() -> None:
    """Without a word from the operator: cached, read your writes, invalidated by writes."""
    policy = TablePolicy()
    assert policy.enabled
    assert policy.level is Level.SESSION
    assert policy.write_mode is WriteMode.INVALIDATE
    assert policy.fill_consistent
    assert policy.stale_if_error_s == 0
    assert policy.entry_bytes_max == ITEM_BYTES_MAX == 409_600


def test_the_marker_outlives_a_write() -> None:
    """A write of unknown outcome stays hidden longer than it can take to have its effect."""
    fence = FencePolicy()
    assert fence.marker_s > fence.write_timeout_s
    assert fence.lease_wait_s < fence.lease_s


def test_policies_are_frozen() -> None:
    """No layer can change what the operator decided."""
    with pytest.raises(FrozenInstanceError):
        TablePolicy().enabled = False  # type: ignore[misc]
