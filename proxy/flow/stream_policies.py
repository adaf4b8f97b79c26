"""Gives every table its policy, degraded while its stream's lag is over the bound."""

from __future__ import annotations

from collections.abc import Callable

from proxy.core.policy import TablePolicy
from proxy.core.stream_lag import LagPolicy, degraded, is_over
from proxy.core.values import TableName
from proxy.flow.events import Emit, StreamLagMoved


class StreamPolicies:
    """The policies of all tables; a table degrades, and recovers, with each of its judgements.

    Args:
        policy_of: gives a table's policy as it would be without streams; the same object while it
            does not change.
        lag: the bound, and what to do beyond.
        emit: takes events.

    Attributes:
        switching: called before another policy counts; whoever keeps what follows from a policy
            forgets it.
    """

    def __init__(
        self, policy_of: Callable[[str], TablePolicy], *, lag: LagPolicy, emit: Emit
    ) -> None:
        self.switching: Callable[[], None] = lambda: None
        self._policy_of = policy_of
        self._lag = lag
        self._emit = emit
        self._over: dict[str, tuple[TablePolicy, TablePolicy]] = {}

    def policy_of(self, table: str) -> TablePolicy:
        """Return a table's policy as it is now; called for every request."""
        policy = self._policy_of(table)
        over = self._over.get(table)
        if over is None:
            return policy
        if over[0] is not policy:  # its mode was switched meanwhile
            over = self._over[table] = policy, degraded(policy, self._lag)
        return over[1]

    def distrust(self, table: TableName) -> None:
        """Let a table be over the bound until it is judged: nobody knows its lag yet."""
        policy = self._policy_of(table)
        self.switching()
        self._over[table] = policy, degraded(policy, self._lag)

    def judge(self, table: TableName, lag_s: float | None) -> None:
        """Take note of a table's lag now, None for an unknown one."""
        over = is_over(lag_s, self._lag)
        if over is (table in self._over):
            return
        if over:
            self.distrust(table)
        else:
            self.switching()
            del self._over[table]
        self._emit(StreamLagMoved(table, over))

    @property
    def over(self) -> tuple[TableName, ...]:
        """The tables that are over the bound now."""
        return tuple(map(TableName, self._over))
