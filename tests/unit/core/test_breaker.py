"""Claims about the breaker: its table, counted failures, one probe at a time."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.breaker import TRANSITIONS, Breaker, BreakerEvent, BreakerState

OPEN_S = 5.0


def breaker_in(state: BreakerState) -> Breaker:
    """Return a breaker of two failures that came to `state` by time 0; open and probing until 5."""
    breaker = Breaker(failures_to_open=2, open_s=OPEN_S)
    if state is BreakerState.CLOSED:
        return breaker
    opened_s = 0.0 if state is BreakerState.OPEN else -OPEN_S
    breaker.failed(opened_s)
    breaker.failed(opened_s)
    if state is BreakerState.PROBING:
        assert breaker.admit(0.0)
    assert breaker.state is state
    return breaker


@pytest.mark.parametrize(("state", "event"), [*product(BreakerState, BreakerEvent)])
def test_every_pair_moves_as_the_table_says(state: BreakerState, event: BreakerEvent) -> None:
    """A pair of the table leads to its state; any other event leaves the breaker where it is."""
    breaker = breaker_in(state)
    breaker._move(event)
    assert breaker.state is TRANSITIONS.get((state, event), state)


def test_the_table_is_the_whole_life_of_a_breaker() -> None:
    """Closed opens, open probes, a probe decides: nothing else moves it."""
    assert {
        (state.value, event.value): end.value for (state, event), end in TRANSITIONS.items()
    } == {
        ("closed", "too_many_failures"): "open",
        ("open", "cooled_down"): "probing",
        ("probing", "probe_succeeded"): "closed",
        ("probing", "probe_failed"): "open",
    }


def test_only_failures_in_a_row_open_it() -> None:
    """One success in between starts the count again."""
    breaker = Breaker(failures_to_open=2, open_s=OPEN_S)
    breaker.failed(0.0)
    breaker.succeeded()
    breaker.failed(0.0)
    assert breaker.admit(0.0)
    breaker.failed(0.0)
    assert breaker.state is BreakerState.OPEN


def test_open_refuses_until_it_has_cooled_down() -> None:
    """The first call after the cool-down is the probe; until it reports nobody else passes."""
    breaker = breaker_in(BreakerState.OPEN)
    assert not breaker.admit(4.9)
    assert breaker.admit(5.0)
    assert breaker.state is BreakerState.PROBING
    assert not breaker.admit(5.0)


def test_a_probe_that_succeeds_closes_it() -> None:
    """Everything passes again, and it takes as many failures as ever to open."""
    breaker = breaker_in(BreakerState.PROBING)
    breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED
    breaker.failed(0.0)
    assert breaker.state is BreakerState.CLOSED


def test_a_probe_that_fails_opens_it_for_another_while() -> None:
    """The cool-down counts from the probe's failure."""
    breaker = breaker_in(BreakerState.PROBING)
    breaker.failed(3.0)
    assert breaker.state is BreakerState.OPEN
    assert not breaker.admit(7.9)
    assert breaker.admit(8.0)


def test_a_probe_that_never_reports_is_followed_by_another() -> None:
    """A cancelled probe must not keep the store out for ever."""
    breaker = breaker_in(BreakerState.PROBING)
    assert not breaker.admit(4.9)
    assert breaker.admit(5.0)
    assert not breaker.admit(9.9)
    assert breaker.admit(10.0)


def test_late_reports_do_not_move_an_open_breaker() -> None:
    """Calls sent before it opened say nothing about the store now, and do not prolong the wait."""
    breaker = breaker_in(BreakerState.OPEN)
    breaker.failed(4.0)
    breaker.succeeded()
    assert breaker.state is BreakerState.OPEN
    assert breaker.admit(5.0)


CALLS = st.lists(st.tuples(st.sampled_from(["admit", "succeeded", "failed"]), st.integers(0, 4)))


@given(CALLS)
def test_at_most_one_call_passes_per_cool_down_unless_closed(calls: list[tuple[str, int]]) -> None:
    """Whatever is reported, a store that is out is asked once per cool-down."""
    breaker = Breaker(failures_to_open=2, open_s=OPEN_S)
    now_s, last_s = 0.0, -OPEN_S
    for call, pause_s in calls:
        now_s += pause_s
        if call == "succeeded":
            breaker.succeeded()
        elif call == "failed":
            breaker.failed(now_s)
        elif breaker.admit(now_s) and breaker.state is not BreakerState.CLOSED:
            assert now_s >= last_s + OPEN_S
            last_s = now_s
