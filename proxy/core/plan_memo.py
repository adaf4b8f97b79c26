"""Remembers what was decided about the bodies of GetItem requests, so each is parsed once.

A plan follows from the body's bytes and its table's policy, and from nothing else that changes
while a process lives: not from key schemas, nor from any header field, which is why only requests
without fields of meaning may come here. The policy is compared at each use, so a mode that is
switched needs nobody to remember this memo.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from proxy.core.cache_key import KeySpace
from proxy.core.policy import TablePolicy
from proxy.core.read_plan import PassPlan, ReadPlan, plan_get
from proxy.core.values import TableName

PLAN_BYTES: Final = 1500
"""What one plan holds beside its body; measured for a key of one attribute (`make bench`)."""
BODY_BYTES_MAX: Final = 8 * 1024
"""Longer bodies are planned each time: keys are 3 KB at most, and most are far shorter."""

_Known = tuple[PassPlan | ReadPlan, TableName | None, TablePolicy | None]
"""A plan, its table, and the policy that the table had; None where no table could be read."""


class PlanMemo:
    """Plans by raw body; holds `bytes_max` at most.

    Two generations: what is asked for moves to the younger one, and when that is full the older
    one is dropped. So a plan stays while it is asked for once in every turnover of half the room,
    at the price of one dictionary access.

    Args:
        keys: names records.
        policy_of: gives a table's policy as it is now, the same object while it does not change.
        bytes_max: room, in bytes; 0 remembers nothing.
    """

    def __init__(
        self, keys: KeySpace, policy_of: Callable[[str], TablePolicy], *, bytes_max: int
    ) -> None:
        self._keys = keys
        self._policy_of = policy_of
        self._half_bytes = bytes_max // 2
        self._young: dict[bytes, _Known] = {}
        self._old: dict[bytes, _Known] = {}
        self._young_bytes = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def plan_of(self, body: bytes) -> PassPlan | ReadPlan:
        """Decide what to do with a GetItem that carries no field of meaning; see `plan_get`."""
        known = self._young.get(body)
        if known is not None:
            plan, table, policy = known
            if table is None or self._policy_of(table) is policy:
                return plan
        known = self._old.pop(body, None)
        if known is None or not self._holds(known):
            plan = plan_get(body, self._keys, self._policy_of)
            table = plan.table
            known = plan, table, None if table is None else self._policy_of(table)
        self._keep(body, known)
        return known[0]

    def _holds(self, known: _Known) -> bool:
        _, table, policy = known
        return table is None or self._policy_of(table) is policy

    def _keep(self, body: bytes, known: _Known) -> None:
        room = PLAN_BYTES + len(body)
        if len(body) > BODY_BYTES_MAX or room > self._half_bytes:
            return
        if body not in self._young:
            if self._young_bytes + room > self._half_bytes:
                self._old, self._young, self._young_bytes = self._young, {}, 0
            self._young_bytes += room
        self._young[body] = known
