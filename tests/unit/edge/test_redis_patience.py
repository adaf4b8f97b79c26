"""How long a connection that awaits replies may be silent, and how long a batch may take."""

from __future__ import annotations

import pytest

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.edge.redis_patience import ROUNDS_MAX, Patience

TIMEOUT_S = 0.2


def given_up(gap_s: float, *, until_s: float) -> tuple[float, str]:
    """Ask whenever told to, while something comes every `gap_s` until `until_s`; tell the end."""
    patience, now_s, again_s = Patience(TIMEOUT_S), 0.0, TIMEOUT_S
    while now_s < 100.0:
        now_s += again_s
        patience.heard_s = gap_s * int(min(now_s, until_s) / gap_s)
        try:
            again_s = patience.judge(now_s, oldest_round=0)
        except StoreUnavailable as unavailable:
            return now_s, str(unavailable)
    raise AssertionError("never given up")


def test_silence_is_given_up_after_a_time_out_and_a_turn_of_the_loop() -> None:
    """Counted from whatever came last, however the rounds lie."""
    now_s, why = given_up(0.01, until_s=0.0)
    assert why == "the store is silent"
    assert TIMEOUT_S < now_s < 1.5 * TIMEOUT_S
    now_s, why = given_up(0.01, until_s=0.55)
    assert why == "the store is silent"
    assert 0.55 + TIMEOUT_S < now_s < 0.55 + 1.5 * TIMEOUT_S


def test_a_store_that_dribbles_is_given_up() -> None:
    """Replies that each come just in time must not hold the callers of a batch for ever."""
    for gap_s in (0.9 * TIMEOUT_S, 0.5 * TIMEOUT_S, 0.01 * TIMEOUT_S):
        now_s, why = given_up(gap_s, until_s=100.0)
        assert why == "the store is too slow"
        assert (ROUNDS_MAX - 2) * TIMEOUT_S < now_s < (ROUNDS_MAX + 2) * TIMEOUT_S


def test_what_was_sent_later_has_rounds_of_its_own() -> None:
    """A connection that is always busy is never too slow for what it was just given."""
    patience, now_s = Patience(TIMEOUT_S), 0.0
    for _ in range(5 * ROUNDS_MAX):
        patience.heard_s = now_s
        now_s += patience.judge(now_s, oldest_round=patience.round - 1)


def test_a_stall_of_this_process_is_one_round_and_no_silence() -> None:
    """What lies in the socket comes in during the turn that is waited, and then all is well."""
    patience = Patience(TIMEOUT_S)
    patience.heard_s = 0.0
    again_s = patience.judge(50 * TIMEOUT_S, oldest_round=0)
    assert 0 < again_s < TIMEOUT_S
    patience.heard_s = 50 * TIMEOUT_S + 0.5 * again_s
    assert patience.judge(50 * TIMEOUT_S + again_s, oldest_round=0) > 0
    assert patience.round == 1
    assert patience.judge(60 * TIMEOUT_S, oldest_round=0) > 0  # silent again: one more turn
    with pytest.raises(StoreUnavailable) as silent:
        patience.judge(61 * TIMEOUT_S, oldest_round=0)
    assert silent.value.failure is StoreFailure.TIMEOUT
