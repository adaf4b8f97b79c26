"""Gives every table its policy, in the mode that settings say or an operator switched it to.

A switch needs no care for entries: writes are fenced in every mode, so whatever the store holds
when a table is switched on has been kept right while it was off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from proxy.core.policy import TablePolicy
from proxy.core.values import Mode, TableName
from proxy.flow.events import Emit, ModeSwitched

TABLES_MAX: Final = 10_000
"""AWS's own limit of tables per region."""


class ModeSwitch:
    """The policies of all tables; a switch is for requests from then on, until the process ends.

    Args:
        policy_of: gives a table's policy as settings have it.
        emit: takes events.

    Attributes:
        switching: called before a switch counts; whoever keeps what follows from a policy
            forgets it.
    """

    def __init__(self, policy_of: Callable[[str], TablePolicy], *, emit: Emit) -> None:
        self.switching: Callable[[], None] = lambda: None
        self._policy_of = policy_of
        self._emit = emit
        self._switched: dict[str, TablePolicy] = {}

    def policy_of(self, table: str) -> TablePolicy:
        """Return a table's policy as it is now; called for every request."""
        return self._switched.get(table) or self._policy_of(table)

    def switch(self, table: TableName, mode: Mode, percent: float) -> bool:
        """Switch a table's mode, for so many percent of its keys; False when too many are."""
        if table not in self._switched and len(self._switched) >= TABLES_MAX:
            return False
        policy = replace(self._policy_of(table), mode=mode, mode_percent=percent)
        self.switching()
        self._switched[table] = policy
        self._emit(ModeSwitched(table, mode, percent))
        return True

    @property
    def switched(self) -> dict[TableName, TablePolicy]:
        """The policies of the tables that were switched."""
        return {TableName(table): policy for table, policy in self._switched.items()}
