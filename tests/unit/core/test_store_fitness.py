"""Claims about `proxy.core.store_fitness`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.core.store_fitness import ADVICE, FIT_EVICTION, Flaw, StoreTraits, find_flaws

FIT = StoreTraits(
    memory_bytes_max=1024, eviction="allkeys-lru", replicas=0, replicas_awaited=False, lag_s_max=10
)
UNFIT_EVICTION = (
    "allkeys-lfu",
    "volatile-lfu",
    "allkeys-random",
    "volatile-random",
    "volatile-ttl",
    "of tomorrow",
)


@pytest.mark.parametrize("eviction", sorted(FIT_EVICTION))
def test_policies_that_keep_young_markers_are_fit(eviction: str) -> None:
    """The least recently used go first, or none."""
    assert find_flaws(replace(FIT, eviction=eviction), replicated=False) == ()


@pytest.mark.parametrize("eviction", UNFIT_EVICTION)
def test_policies_that_may_evict_young_markers_are_not(eviction: str) -> None:
    """Unless memory has no bound: then nothing is evicted."""
    traits = replace(FIT, eviction=eviction)
    assert find_flaws(traits, replicated=False) == (Flaw.EVICTION,)
    assert find_flaws(replace(traits, memory_bytes_max=0), replicated=False) == ()


@pytest.mark.parametrize(
    "traits", [replace(FIT, memory_bytes_max=None), replace(FIT, eviction=None)]
)
def test_eviction_that_is_not_told_is_a_flaw(traits: StoreTraits) -> None:
    """What is not known is not taken to be well."""
    assert find_flaws(traits, replicated=False) == (Flaw.EVICTION_UNKNOWN,)


def test_replicas_must_be_awaited() -> None:
    """Without min-replicas-to-write a primary that is cut off acknowledges what will be lost."""
    lone, awaited = replace(FIT, replicas=1), replace(FIT, replicas=1, replicas_awaited=True)
    assert find_flaws(lone, replicated=True) == (Flaw.REPLICAS,)
    assert find_flaws(awaited, replicated=True) == ()


def test_a_primary_that_lost_its_replicas_is_not_taken_for_one_without() -> None:
    """Cut off from them it shows none, which is just when it must not be trusted."""
    assert find_flaws(FIT, replicated=True) == (Flaw.REPLICAS,)


def test_replicas_that_are_not_told_are_a_flaw() -> None:
    """Nor can then be said whether there are any."""
    traits = replace(FIT, replicas=None)
    assert find_flaws(traits, replicated=False) == (Flaw.REPLICAS_UNKNOWN,)


def test_a_lag_that_is_not_told_is_assumed_and_disqualifies_nothing() -> None:
    """It only matters where an older primary is possible."""
    traits = replace(FIT, replicas=1, replicas_awaited=True, lag_s_max=None)
    assert find_flaws(traits, replicated=True) == (Flaw.LAG_UNKNOWN,)
    assert find_flaws(replace(FIT, lag_s_max=None), replicated=False) == ()
    assert [flaw for flaw in Flaw if not flaw.disqualifies] == [Flaw.LAG_UNKNOWN]
    assert traits.old_primary_s == 12.0


def test_only_a_server_of_several_can_have_an_older_primary_beside_it() -> None:
    """That one takes writes for as long as its replicas count as keeping up, rounding included."""
    assert FIT.old_primary_s == 0.0
    for traits in (
        replace(FIT, promoted=True),
        replace(FIT, replicas=2),
        replace(FIT, replicas_awaited=True),
    ):
        assert traits.old_primary_s == 12.0
    assert replace(FIT, promoted=True, lag_s_max=3).old_primary_s == 5.0


def test_each_flaw_says_who_must_act() -> None:
    """The log has something to say about all of them."""
    assert ADVICE.keys() == set(Flaw)
    assert all(text.startswith("its operator ") for text in ADVICE.values())
