"""Remembers what this process owes the store: writes whose invalidation has not arrived there.

While a debt is open, this process's reads of the item bypass the store, so that its callers read
their own writes. When the store is back the debt is paid by ending the fence: where the marker is
missing that leaves a tombstone, so paying twice, late or out of order is harmless.

Other proxies cannot know of the debt: until it is paid they may serve the older entry. That is the
price of going on without the store at level `session` and `eventual`; `strict` refuses the write.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Final

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.fence import ItemIdentity, WriteOutcome
from proxy.core.pages import PageIdentity
from proxy.core.values import CacheKey
from proxy.flow.events import DebtsChanged, Emit, FenceEnded
from proxy.flow.fences import Fence
from proxy.flow.ports import Clock

_PAY_EVERY_S: Final = 0.2


@dataclass(slots=True, eq=False)
class Debt:
    """One fence that is still to be ended; not before `ripe_s` on the monotonic clock.

    `keys` are the fence's when the debt was opened: a fence that begins after all may need fewer.
    """

    fence: Fence
    keys: tuple[CacheKey, ...]
    ripe_s: float = math.inf


class Debts:
    """All open debts of this process.

    Args:
        clock: time and sleep.
        emit: takes events.
        debts_max: open debts at one time; then writes are refused until some are paid.

    Attributes:
        keys: the records that debts are open for, and how many; read only.
    """

    def __init__(self, *, clock: Clock, emit: Emit, debts_max: int) -> None:
        self._clock = clock
        self._emit = emit
        self._debts_max = debts_max
        self._debts: set[Debt] = set()
        self.keys: Counter[CacheKey] = Counter()

    def __len__(self) -> int:
        return len(self._debts)

    @property
    def payable(self) -> int:
        """Debts that need nothing more than the store."""
        now_s = self._clock.monotonic_s()
        return sum(debt.ripe_s <= now_s for debt in self._debts)

    def owes(self, identity: ItemIdentity) -> bool:
        """Tell whether the store may not know of a write of ours on this item."""
        if not self._debts:
            return False
        return identity.cache_key in self.keys or identity.table_key in self.keys

    def owes_page(self, page: PageIdentity) -> bool:
        """Tell whether the store may not know of a write of ours that may change a page."""
        return page.record.table_key in self.keys or page.scope_key in self.keys

    def open(self, fence: Fence) -> Debt:
        """Open a debt for a write that is about to be sent; it stays until it is ripe and paid.

        Raises:
            StoreUnavailable: too many are open; the write must not be sent.
        """
        if len(self._debts) >= self._debts_max:
            raise StoreUnavailable(
                StoreFailure.FULL, "too many invalidations are owed to the store"
            )
        debt = Debt(fence, fence.keys)
        self._debts.add(debt)
        self.keys.update(debt.keys)
        self._emit(DebtsChanged(len(self._debts)))
        return debt

    def ripen(self, debt: Debt, *, in_s: float) -> None:
        """Let a debt be paid from `in_s` seconds from now on: the write has had its effect then."""
        debt.ripe_s = self._clock.monotonic_s() + in_s

    async def pay(self) -> None:
        """Pay ripe debts whenever the store is there, for ever; cancel to stop."""
        while True:
            await self._clock.sleep(_PAY_EVERY_S)
            await self.pay_ripe()

    async def pay_ripe(self) -> None:
        """Pay what can be paid now; stop at the first sign that the store is still out."""
        now_s = self._clock.monotonic_s()
        for debt in [debt for debt in self._debts if debt.ripe_s <= now_s]:
            try:
                result = await debt.fence.end(WriteOutcome.INVALIDATED, None)
            except StoreUnavailable as unavailable:
                if unavailable.failure is StoreFailure.REFUSED:
                    continue  # the store is there: other records may well be paid
                return
            self._debts.discard(debt)
            for cache_key in debt.keys:
                self.keys[cache_key] -= 1
                if not self.keys[cache_key]:
                    del self.keys[cache_key]
            self._emit(FenceEnded(debt.fence.table, result))
            self._emit(DebtsChanged(len(self._debts)))
