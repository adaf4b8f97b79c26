"""Decides when to stop asking a store that does not answer, and when to try it again."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class BreakerState(StrEnum):
    """CLOSED lets all pass, OPEN none, PROBING one."""

    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


class BreakerEvent(StrEnum):
    """What may move the breaker."""

    TOO_MANY_FAILURES = "too_many_failures"
    COOLED_DOWN = "cooled_down"
    PROBE_SUCCEEDED = "probe_succeeded"
    PROBE_FAILED = "probe_failed"


TRANSITIONS: Final = {
    (BreakerState.CLOSED, BreakerEvent.TOO_MANY_FAILURES): BreakerState.OPEN,
    (BreakerState.OPEN, BreakerEvent.COOLED_DOWN): BreakerState.PROBING,
    (BreakerState.PROBING, BreakerEvent.PROBE_SUCCEEDED): BreakerState.CLOSED,
    (BreakerState.PROBING, BreakerEvent.PROBE_FAILED): BreakerState.OPEN,
}


class Breaker:
    """Count failures in a row; after too many refuse calls for a while, then let one probe pass.

    Args:
        failures_to_open: failures in a row that open it.
        open_s: how long it refuses before the next probe.

    Times are monotonic seconds, given by the caller.
    """

    def __init__(self, *, failures_to_open: int, open_s: float) -> None:
        self._failures_to_open = failures_to_open
        self._open_s = open_s
        self._failures = 0
        self._until_s = 0.0
        self.state = BreakerState.CLOSED

    def admit(self, now_s: float) -> bool:
        """Tell whether a call may go out now; the first after the cool-down is the probe."""
        if self.state is BreakerState.CLOSED:
            return True
        if self.state is BreakerState.OPEN and now_s >= self._until_s:
            self._move(BreakerEvent.COOLED_DOWN)
            self._until_s = now_s + self._open_s
            return True
        if self.state is BreakerState.PROBING and now_s >= self._until_s:
            # The probe's caller was cancelled and never reported: let another one try.
            self._until_s = now_s + self._open_s
            return True
        return False

    def succeeded(self) -> None:
        """Record a call that was answered."""
        self._failures = 0
        if self.state is not BreakerState.CLOSED:
            self._move(BreakerEvent.PROBE_SUCCEEDED)

    def failed(self, now_s: float) -> None:
        """Record a call that was not answered. A cancelled call is neither: report nothing."""
        self._failures += 1
        if self.state is BreakerState.PROBING:
            self._move(BreakerEvent.PROBE_FAILED)
            self._until_s = now_s + self._open_s
        elif self.state is BreakerState.CLOSED and self._failures >= self._failures_to_open:
            self._move(BreakerEvent.TOO_MANY_FAILURES)
            self._until_s = now_s + self._open_s

    def _move(self, event: BreakerEvent) -> None:
        self.state = TRANSITIONS.get((self.state, event), self.state)
