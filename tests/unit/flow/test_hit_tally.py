"""Claims of proxy.flow.hit_tally: every hit is told, once, with those like it."""

from __future__ import annotations

from proxy.core.values import Outcome, TableName
from proxy.flow.events import Event, HitsAnswered
from proxy.flow.hit_tally import HitTally

ORDERS, CARTS = TableName("orders"), TableName("carts")


def test_hits_of_a_kind_are_told_together_and_once() -> None:
    """By table and outcome, with their units and how long they took."""
    told: list[Event] = []
    tally = HitTally(told.append)
    for table, outcome, units, elapsed_s in (
        (ORDERS, Outcome.HIT, 0.5, 0.25),
        (ORDERS, Outcome.HIT, 1.5, 0.5),
        (CARTS, Outcome.HIT, 0.5, 0.125),
        (ORDERS, Outcome.NEGATIVE_HIT, 0.5, 1.0),
    ):
        tally.of(outcome, table).add(units, elapsed_s)
    assert told == []
    tally.tell()
    hits = [each for each in told if isinstance(each, HitsAnswered)]
    assert [
        (each.table, each.outcome, each.units, each.latencies.count, each.latencies.sum_s)
        for each in hits
    ] == [
        (ORDERS, Outcome.HIT, 2.0, 2, 0.75),
        (CARTS, Outcome.HIT, 0.5, 1, 0.125),
        (ORDERS, Outcome.NEGATIVE_HIT, 0.5, 1, 1.0),
    ]
    tally.tell()
    assert len(told) == len(hits) == 3


def test_whoever_keeps_a_sum_goes_on_adding_to_it() -> None:
    """What was told is not told again, and nothing after it is lost."""
    told: list[HitsAnswered] = []
    tally = HitTally(told.append)  # type: ignore[arg-type]
    kept = tally.of(Outcome.HIT, ORDERS)
    for units in (0.5, 1.0):
        kept.add(units, 0.0)
        tally.tell()
    assert [(each.units, each.latencies.count) for each in told] == [(0.5, 1), (1.0, 1)]
