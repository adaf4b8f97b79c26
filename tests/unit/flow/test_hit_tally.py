"""Claims of proxy.flow.hit_tally: every hit is told, once, with those like it."""

from __future__ import annotations

from proxy.core.near_copy import NearHit
from proxy.core.policy import TablePolicy
from proxy.core.request import Answer
from proxy.core.values import Outcome, TableName
from proxy.flow.events import Event, HitsAnswered
from proxy.flow.hit_tally import HitTally

ORDERS, CARTS = TableName("orders"), TableName("carts")


def hit_of(outcome: Outcome, units: float) -> NearHit:
    """Return a hit of this outcome that saved so many units."""
    return NearHit(Answer(200, (), b"{}", outcome), TablePolicy(), units, until_s=0)


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
        tally.add(table, hit_of(outcome, units), elapsed_s)
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
