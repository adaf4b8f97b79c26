"""Claims of proxy.core.lifecycle."""

from __future__ import annotations

import itertools

import pytest

from proxy.core.lifecycle import TRANSITIONS, Probes, ProcessEvent, ProcessState

WAYS: dict[ProcessState, list[ProcessEvent]] = {
    ProcessState.STARTING: [],
    ProcessState.READY: [ProcessEvent.ACCEPTING],
    ProcessState.DRAINING: [ProcessEvent.ACCEPTING, ProcessEvent.STOP_ASKED],
    ProcessState.STOPPED: [
        ProcessEvent.ACCEPTING,
        ProcessEvent.STOP_ASKED,
        ProcessEvent.DRAINED,
    ],
}


def probes_in(state: ProcessState) -> Probes:
    """Return probes that went the shortest way to `state`."""
    probes = Probes()
    for event in WAYS[state]:
        probes.move(event)
    return probes


@pytest.mark.parametrize(("state", "event"), [*itertools.product(ProcessState, ProcessEvent)])
def test_every_pair_moves_as_the_table_says_or_is_refused(
    state: ProcessState, event: ProcessEvent
) -> None:
    """A pair of the table leads to its state; any other pair fails and leaves the state alone."""
    probes = probes_in(state)
    if (state, event) in TRANSITIONS:
        assert probes.move(event) is TRANSITIONS[state, event]
        assert probes.state is TRANSITIONS[state, event]
    else:
        with pytest.raises(AssertionError, match=event):
            probes.move(event)
        assert probes.state is state


@pytest.mark.parametrize(
    ("state", "started", "ready"),
    [
        (ProcessState.STARTING, False, False),
        (ProcessState.READY, True, True),
        (ProcessState.DRAINING, True, False),
        (ProcessState.STOPPED, True, False),
    ],
)
def test_each_state_has_its_probe_answers(
    state: ProcessState, *, started: bool, ready: bool
) -> None:
    """Liveness always holds; start-up holds from ready on; readiness holds while ready only."""
    probes = probes_in(state)
    assert probes.live().ok
    assert probes.started().ok is started
    assert probes.ready().ok is ready
    assert probes.ready().reason == state


def test_a_second_stop_signal_ends_the_drain() -> None:
    """Asked to stop twice, the process is stopped without waiting for the drain."""
    probes = probes_in(ProcessState.DRAINING)
    assert probes.move(ProcessEvent.STOP_ASKED) is ProcessState.STOPPED
