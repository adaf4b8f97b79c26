"""Claims about `proxy.edge.redis_fitness`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.core.store_fitness import Flaw, StoreTraits
from proxy.core.values import Incarnation
from proxy.edge.clock import SystemClock
from proxy.edge.redis_fitness import FitnessWatch
from proxy.flow.events import Event, StoreFitness

FIT = StoreTraits(
    memory_bytes_max=0, eviction="noeviction", replicas=0, replicas_awaited=False, lag_s_max=10
)
REPLICATED = replace(FIT, replicas=1)
AWAITED = replace(REPLICATED, replicas_awaited=True)
HERE, THERE = Incarnation(b"here 123"), Incarnation(b"there123")
HEALED_S = 30.0


class StillClock(SystemClock):
    """A clock that moves when it is told."""

    now_s = 100.0

    def monotonic_s(self) -> float:
        """Seconds."""
        return self.now_s


class Watched:
    """A watch, and what it told."""

    def __init__(self, *, demanded: bool = True) -> None:
        self.clock = StillClock()
        self.told: list[Event] = []
        self.watch = FitnessWatch(
            self.clock, self.told.append, demanded=demanded, healed_s=HEALED_S
        )

    def sees(self, traits: StoreTraits, incarnation: Incarnation = HERE) -> bool:
        """Take a heartbeat; return whether the store is unfit now."""
        self.watch.see(incarnation, traits)
        return self.watch.unfit


def test_a_store_is_no_more_unfit_than_seen() -> None:
    """Before the first heartbeat nothing is served anyway; a fit store is told once."""
    watched = Watched()
    assert not watched.watch.unfit
    assert watched.watch.flaws == ()
    assert not watched.sees(FIT)
    assert not watched.sees(FIT)
    assert watched.told == [StoreFitness((), demanded=True)]


def test_a_flaw_counts_at_once_and_its_absence_after_a_while() -> None:
    """Markers that were lost while it was there may be missed until their writes have ended."""
    watched = Watched()
    assert watched.sees(REPLICATED)
    assert watched.sees(AWAITED)
    assert watched.watch.flaws == ()
    watched.clock.now_s += HEALED_S
    assert watched.watch.unfit
    watched.clock.now_s += 0.1
    assert not watched.watch.unfit
    assert watched.told == [
        StoreFitness((Flaw.REPLICAS,), demanded=True),
        StoreFitness((), demanded=True),
    ]


def test_a_primary_is_remembered_to_have_had_replicas() -> None:
    """When they are gone, it may be the one that was cut off; another primary is judged anew."""
    watched = Watched()
    assert not watched.sees(AWAITED)
    assert watched.sees(FIT)
    watched.sees(FIT, THERE)
    assert watched.watch.flaws == ()


def test_what_nobody_demands_is_only_told() -> None:
    """Without strict tables, or where the operator takes the risk, no flaw disqualifies."""
    watched = Watched(demanded=False)
    assert not watched.sees(REPLICATED)
    assert watched.watch.flaws == (Flaw.REPLICAS,)
    assert watched.told == [StoreFitness((Flaw.REPLICAS,), demanded=False)]


@pytest.mark.parametrize("lag_s_max", [10, None])
def test_a_flaw_that_only_matters_later_disqualifies_nothing(lag_s_max: float | None) -> None:
    """An unknown lag is assumed."""
    assert not Watched().sees(replace(AWAITED, lag_s_max=lag_s_max))
