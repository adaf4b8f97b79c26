"""Decides what the three health probes answer, from the state the process is in.

`proxy.app` moves the state; `proxy.edge.ops_server` only reads it. Nothing here knows Redis or
DynamoDB: a cache outage must not take every pod out of service, so no probe depends on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class ProcessState(StrEnum):
    """How far the process has come."""

    STARTING = "starting"  # the listeners do not accept yet
    READY = "ready"
    DRAINING = "draining"  # told to stop; requests in flight still get their answers
    STOPPED = "stopped"


class ProcessEvent(StrEnum):
    """What moves the process on."""

    ACCEPTING = "accepting"  # both listeners accept connections
    STOP_ASKED = "stop-asked"  # SIGTERM or SIGINT
    DRAINED = "drained"  # nothing is in flight, or the drain ran out of time


TRANSITIONS: Final = {
    (ProcessState.STARTING, ProcessEvent.ACCEPTING): ProcessState.READY,
    (ProcessState.STARTING, ProcessEvent.STOP_ASKED): ProcessState.DRAINING,
    (ProcessState.READY, ProcessEvent.STOP_ASKED): ProcessState.DRAINING,
    (ProcessState.DRAINING, ProcessEvent.STOP_ASKED): ProcessState.STOPPED,  # the second signal
    (ProcessState.DRAINING, ProcessEvent.DRAINED): ProcessState.STOPPED,
}
"""Every allowed move; a missing pair is a bug of the caller."""


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """One probe's verdict: `ok` becomes 200 or 503, `reason` the text sent with it."""

    ok: bool
    reason: str


class Probes:
    """Hold the process's state and answer the health probes from it alone."""

    def __init__(self) -> None:
        self._state = ProcessState.STARTING

    @property
    def state(self) -> ProcessState:
        """The state now."""
        return self._state

    def move(self, event: ProcessEvent) -> ProcessState:
        """Follow one event and return the new state.

        Raises:
            AssertionError: the event has no meaning in this state; `TRANSITIONS` lists all that do.
        """
        pair = (self._state, event)
        assert pair in TRANSITIONS, f"{event} while {self._state}"
        self._state = TRANSITIONS[pair]
        return self._state

    def live(self) -> ProbeAnswer:
        """Answer the liveness probe: always yes, for only a running event loop can ask."""
        return ProbeAnswer(ok=True, reason=self._state)

    def started(self) -> ProbeAnswer:
        """Answer the start-up probe: yes once the listeners have accepted, for ever after."""
        return ProbeAnswer(ok=self._state is not ProcessState.STARTING, reason=self._state)

    def ready(self) -> ProbeAnswer:
        """Answer the readiness probe: yes while new requests are welcome."""
        return ProbeAnswer(ok=self._state is ProcessState.READY, reason=self._state)
