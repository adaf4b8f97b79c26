"""Decides whether one more audit may run now: rates, concurrency, and upstream's own troubles."""

from __future__ import annotations

from typing import Final

from proxy.core.policy import AuditPolicy

BACK_OFF_S: Final = 10.0
"""How long no audit starts after upstream throttled, broke or was silent, whoever asked it."""


class TokenBucket:
    """So much per second, and at most one second's worth at once.

    Args:
        per_s: what is filled in per second, > 0. The bucket holds as much, but never less than one.
    """

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._most = max(1.0, per_s)
        self._level = self._most
        self._filled_s: float | None = None

    def has(self, now_s: float) -> bool:
        """Tell whether anything is in it; `now_s` never goes back."""
        if self._filled_s is not None:
            gained = (now_s - self._filled_s) * self._per_s
            self._level = min(self._most, self._level + gained)
        self._filled_s = now_s
        return self._level > 0

    def spend(self, amount: float) -> None:
        """Take something out, also more than there is: then it stays empty until that is repaid."""
        self._level -= amount


class AuditGate:
    """Lets audits through. All times are seconds on one monotonic clock.

    Args:
        policy: the bounds.
    """

    def __init__(self, policy: AuditPolicy) -> None:
        self._policy = policy
        self._reads = TokenBucket(policy.reads_per_s_max)
        self._units = TokenBucket(policy.read_units_per_s_max)
        self._closed_until_s = 0.0
        self._running = 0

    def enter(self, now_s: float, units: float) -> bool:
        """Let an audit of so many expected read capacity units begin, or refuse it.

        Whoever is let in calls `leave` once.
        """
        if self._running >= self._policy.concurrency_max or now_s < self._closed_until_s:
            return False
        # Both are filled before either decides.
        free = (self._reads.has(now_s), self._units.has(now_s))
        if not all(free):
            return False
        self._running += 1
        self._reads.spend(1)
        self._units.spend(units)
        return True

    def leave(self, more_units: float) -> None:
        """End an audit that took so many units more than was expected, negative for fewer."""
        self._running -= 1
        self._units.spend(more_units)

    def back_off(self, now_s: float) -> None:
        """Let none in for a while: upstream is in trouble, and audits are the first to yield."""
        self._closed_until_s = now_s + BACK_OFF_S
