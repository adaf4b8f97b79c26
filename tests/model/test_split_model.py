"""With two primaries at once `strict` holds, and each rule that keeps it so is needed."""

from __future__ import annotations

import pytest

from tests.model.split_model import SplitScenario, explore_split


@pytest.mark.parametrize(
    "scenario", [SplitScenario(3, 1), SplitScenario(2, 2)], ids=["1 writer", "2 writers"]
)
def test_no_read_of_either_primary_is_older_than_a_write(scenario: SplitScenario) -> None:
    """Writes wait for the last hit of the older one, fills for the last write begun there."""
    states, failing_run = explore_split(scenario)
    assert failing_run is None, "\n".join(failing_run or [])
    assert states > 1000


@pytest.mark.parametrize("without", ["settling", "lag", "awaiting"])
def test_without_one_rule_some_order_shows_the_past(without: str) -> None:
    """Writing at once, opening the gate too soon, a primary that never stops: each breaks it."""
    _, failing_run = explore_split(SplitScenario(2, 1, without))
    assert failing_run is not None
    assert "was there" in failing_run[-1]


def test_writing_at_once_only_costs_what_the_older_primary_still_answers() -> None:
    """That is all that `store.fail_over` available may lose: the new one is as right as ever."""
    _, failing_run = explore_split(SplitScenario(2, 1, "settling", old_forgiven=True))
    assert failing_run is None, "\n".join(failing_run or [])
