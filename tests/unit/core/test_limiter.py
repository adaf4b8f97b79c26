"""Claims about `proxy.core.limiter`."""

from __future__ import annotations

import pytest

from proxy.core.errors import Overloaded
from proxy.core.limiter import Budget


def test_shares_grow_until_the_room_is_taken() -> None:
    """The last unit there is can be had; one more is refused, and nothing is taken by that."""
    budget = Budget("some.setting", 10)
    with budget.share() as one, budget.share() as other:
        one.grow(4)
        other.grow(6)
        with pytest.raises(Overloaded, match=r"some\.setting"):
            one.grow(1)
        assert (one.units, other.units, budget.used) == (4, 6, 10)


def test_a_share_is_given_back_whole() -> None:
    """However the block ends, what it took is free again."""
    budget = Budget("some.setting", 10)

    def overdraw() -> None:
        with budget.share() as share:
            share.grow(3)
            share.grow(5)
            share.grow(3)

    with pytest.raises(Overloaded):
        overdraw()
    assert budget.used == 0


def test_room_is_told_without_taking_it() -> None:
    """What could be taken can be asked for first."""
    budget = Budget("b", 3)
    budget.take(1)
    assert [budget.has_room(units) for units in (0, 2, 3)] == [True, True, False]
    assert budget.used == 1


def test_what_was_taken_is_given_back() -> None:
    """Who takes without a share gives back by itself."""
    budget = Budget("b", 3)
    budget.take(3)
    budget.give(2)
    assert (budget.used, budget.has_room(2), budget.has_room(3)) == (1, True, False)
