"""Claims about policies: what each level implies, and defaults that keep the promises."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from hashlib import blake2b

import pytest

from proxy.core.policy import ITEM_BYTES_MAX, FencePolicy, NearPolicy, TablePolicy
from proxy.core.values import Digest, Level, Mode, WriteMode


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
    assert (policy.mode, policy.mode_percent) == (Mode.ON, 100)
    assert policy.level is Level.SESSION
    assert policy.write_mode is WriteMode.INVALIDATE
    assert policy.fill_consistent
    assert policy.stale_if_error_s == 0
    assert policy.entry_bytes_max == ITEM_BYTES_MAX == 409_600


def digests(count: int) -> list[Digest]:
    """Return digests as random as those of items."""
    return [
        Digest(blake2b(bytes([n // 256, n % 256]), digest_size=16).digest()) for n in range(count)
    ]


@pytest.mark.parametrize("mode", Mode)
def test_all_keys_are_in_the_mode_of_their_table(mode: Mode) -> None:
    """At 100 %, the default, no key is left out; at 0 % all are off."""
    for digest in (*digests(100), Digest(b"\xff" * 16), Digest(bytes(16))):
        assert TablePolicy(mode=mode).mode_of(digest) is mode
        assert TablePolicy(mode=mode, mode_percent=0).mode_of(digest) is Mode.OFF


def test_percentage_chooses_keys_once_and_for_all() -> None:
    """About so many keys are in the mode, and those of a lower percentage are among them."""
    before: set[Digest] = set()
    for percent in (1.0, 10.0, 50.0, 90.0):
        policy = TablePolicy(mode=Mode.SHADOW, mode_percent=percent)
        chosen = {each for each in digests(4000) if policy.mode_of(each) is Mode.SHADOW}
        assert before <= chosen
        assert abs(len(chosen) / 40 - percent) < 3
        before = chosen


def test_the_marker_outlives_a_write() -> None:
    """A write of unknown outcome stays hidden longer than it can take to have its effect."""
    fence = FencePolicy()
    assert fence.marker_s > fence.write_timeout_s
    assert fence.lease_wait_s < fence.lease_s


def test_policies_are_frozen() -> None:
    """No layer can change what the operator decided."""
    with pytest.raises(FrozenInstanceError):
        TablePolicy().mode = Mode.OFF  # type: ignore[misc]


def test_level_decides_how_long_a_copy_stands() -> None:
    """Never at strict, and nowhere without a budget."""
    near = NearPolicy(delta_s=0.1, eventual_delta_s=0.7)
    assert [near.delta_of(level) for level in Level] == [0.0, 0.1, 0.7]
    assert {NearPolicy(bytes_max=0).delta_of(level) for level in Level} == {0.0}
