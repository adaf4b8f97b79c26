"""No seed breaks a guarantee, and a protocol without one of its rules does not get away with it."""

from __future__ import annotations

from typing import Final

import pytest

from tests.sim.mutants import MUTANTS, Mutant
from tests.sim.profiles import PROFILES
from tests.sim.simulation import simulate

HISTORIES: Final = 30
"""Per profile; `make sim` runs as many as one wants."""

SEEDS_MAX: Final = 5000
"""A mutant that survives so many is not seen; most die within a hundred."""


@pytest.mark.parametrize("name", PROFILES)
def test_guarantees_hold(name: str) -> None:
    """Whatever goes wrong, what clients saw is what the level promises."""
    found = [
        f"make sim PROFILE={name} SEED={seed}: {each}"
        for seed in range(HISTORIES)
        for each in simulate(PROFILES[name], seed).violations
    ]
    assert found == []


def test_seed_decides_everything() -> None:
    """The same seed gives the same history, so that a violation can be looked at again."""
    first, second = (simulate(PROFILES["strict-through"], 7) for _ in range(2))
    assert first.history.lines() == second.history.lines()
    assert len(first.history.calls) > 20


def test_simulation_comes_to_hits_at_the_door() -> None:
    """Some stand since an earlier read, some take one lookup."""
    outcomes = simulate(PROFILES["near-invalidate"], 0).outcomes
    for seed in range(1, 20):
        outcomes += simulate(PROFILES["near-invalidate"], seed).outcomes
    assert outcomes["at once"] > outcomes["stood"] > 0
    assert outcomes["by one lookup"] > 0


def test_simulation_comes_to_hits_and_faults() -> None:
    """Enough is answered from the cache, and enough goes wrong, for silence to mean something."""
    outcomes = simulate(PROFILES["connected-through"], 0).outcomes
    for seed in range(1, 40):
        outcomes += simulate(PROFILES["strict-through"], seed).outcomes
    for outcome in (
        "hit",
        "negative_hit",
        "miss",
        "coalesced",
        "write",
        "failed",
        "bypass store-down",
    ):
        assert outcomes[outcome] > 0, outcome


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_rule_left_out_is_noticed(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the rule some seed shows a reader what it must not see."""
    mutant.leave_out(monkeypatch)
    stage = mutant.stage()
    for seed in range(mutant.first_seed, mutant.first_seed + SEEDS_MAX):
        if simulate(stage, seed).violations:
            return
    pytest.fail("not noticed")
