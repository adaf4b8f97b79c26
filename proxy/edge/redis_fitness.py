"""Watches whether the store is fit for level `strict`, from what each heartbeat brings.

Owned by `RedisLanes`. A flaw counts at once. That it has gone counts only after `healed_s`: until
then writes may be in flight whose markers were lost while it was there.
"""

from __future__ import annotations

from proxy.core.store_fitness import Flaw, StoreTraits, find_flaws
from proxy.core.values import Incarnation
from proxy.flow.events import Emit, StoreFitness
from proxy.flow.ports import Clock


class FitnessWatch:
    """What is known of the store's flaws.

    Args:
        clock: monotonic time.
        emit: takes `StoreFitness` whenever the flaws change, and once at first.
        demanded: whether any table needs a fit store; otherwise flaws are only told.
        healed_s: how long all must have been well before it counts.
    """

    def __init__(self, clock: Clock, emit: Emit, *, demanded: bool, healed_s: float) -> None:
        self._clock = clock
        self._emit = emit
        self._demanded = demanded
        self._healed_s = healed_s
        self._replicated: Incarnation | None = None
        self._flawed_s: float | None = None
        self._told: tuple[Flaw, ...] | None = None

    @property
    def flaws(self) -> tuple[Flaw, ...]:
        """What the store lacked when it was last looked at."""
        return self._told or ()

    @property
    def unfit(self) -> bool:
        """Whether `strict` may not stand on the store now."""
        if not self._demanded or self._flawed_s is None:
            return False
        if any(flaw.disqualifies for flaw in self.flaws):
            return True
        return self._clock.monotonic_s() - self._flawed_s <= self._healed_s

    def see(self, incarnation: Incarnation, traits: StoreTraits) -> None:
        """Take what a heartbeat brought."""
        if traits.replicas:
            self._replicated = incarnation
        flaws = find_flaws(traits, replicated=self._replicated == incarnation)
        if any(flaw.disqualifies for flaw in flaws):
            self._flawed_s = self._clock.monotonic_s()
        if flaws != self._told:
            self._told = flaws
            self._emit(StoreFitness(flaws, self._demanded))
