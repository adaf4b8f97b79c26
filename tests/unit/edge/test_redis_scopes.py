"""Claims of proxy.edge.redis_scopes: a scope's record counts under its own connection only."""

from __future__ import annotations

from dataclasses import replace

import pytest
from redis.exceptions import ResponseError

from proxy.core.errors import StoreUnavailable
from proxy.core.record import ScopeRecord
from proxy.core.values import Generation, Incarnation
from proxy.edge.redis_courier import Told
from proxy.edge.redis_primary import PrimaryView
from proxy.edge.redis_scopes import Known, known, sources_of, standing
from tests.fakes.record_bytes import ScopeBytes

HERE = Incarnation(b"i" * 8)
NOW = Generation(b"g" * 8)
VIEW = PrimaryView(HERE, 10.0, 10.0, 5_000, gate_in_s=0.0)
RAW = ScopeBytes(HERE, NOW, (), 4_000).pack()


class Source:
    """A connection."""

    proven_s = 0.0
    serves_until_s = float("inf")


def test_a_scope_is_dated_by_the_clock_of_the_page() -> None:
    """Two servers' clocks differ: what is between two times of a record stays the same."""
    here, there = (
        PrimaryView(HERE, 10.0, 10.0, at_ms, gate_in_s=0.0) for at_ms in (5_000, 105_000)
    )
    scope = ScopeRecord(here.incarnation, NOW, (), raised_ms=4_000, pages_from_ms=6_000)
    known = Known(scope, here)
    assert known.by_clock_of(here, 20.0) is scope
    moved = known.by_clock_of(there, 20.0)
    assert (moved.raised_ms, moved.pages_from_ms) == (104_000, 106_000)
    never = Known(replace(scope, pages_from_ms=0), here)
    assert never.by_clock_of(there, 20.0).pages_from_ms == 0
    old = Known(replace(scope, pages_from_ms=1), there)
    assert old.by_clock_of(here, 20.0).pages_from_ms > 0  # announced, however long ago


def test_a_record_stands_under_its_incarnation() -> None:
    """Another one's, none, or one of another release must be learned first."""
    scope = standing(Told(RAW, VIEW), 11.0)
    assert scope is not None
    assert (scope.generation, scope.raised_ms) == (NOW, 4_000)
    assert known(Told(RAW, VIEW), 11.0) == Known(scope, VIEW)
    other = replace(VIEW, incarnation=Incarnation(b"o" * 8))
    for told in (Told(RAW, other), Told(None, VIEW), Told(b"G\x02", VIEW)):
        assert standing(told, 11.0) is None
        assert known(told, 11.0) is None


def test_a_refusal_is_no_record() -> None:
    """The store said no."""
    with pytest.raises(StoreUnavailable):
        standing(Told(ResponseError("no"), VIEW), 11.0)


def test_who_tells_of_both_records() -> None:
    """One connection once; nobody, where either of them is not tracked."""
    one, two = Source(), Source()
    item, table = Told(b"", VIEW, one), Told(b"", VIEW, two)
    assert sources_of(item, item) == (one,)
    assert sources_of(item, table) == (one, two)
    assert sources_of(Told(b"", VIEW), table) == sources_of(item, Told(b"", VIEW)) == ()
