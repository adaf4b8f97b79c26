"""The judge: what it puts in order, what it finds, and what it excuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.chaos.judge import (
    ACKNOWLEDGED_ONLY,
    ALIVE,
    LINEARIZABLE,
    NOT_REFUSED_YET_APPLIED,
    SEEN_IN_TIME,
    Bounds,
    judge,
)
from tests.chaos.recording import PENDING, Applied, Stop, assemble
from tests.sim.history import ABSENT, Call, Kind

BOUNDS = Bounds(marker_s=3.0, hard_s=60.0)
LATER_S = 1e6


def write(number: int, began_s: float, ended_s: float, *, how: str = "") -> Call:
    call = Call(number, Kind.WRITE, 1, 0, PENDING, began_s, PENDING, ended_s, how=how)
    call.acknowledged = not how
    return call


def read(number: int, began_s: float, ended_s: float, shown: str | None) -> Call:
    return Call(number, Kind.READ, 2, 0, PENDING, began_s, PENDING, ended_s, shown)


def test_a_read_after_an_acknowledged_write_must_show_it() -> None:
    """By the clock the write ended first, so an older item is a violation, told with its lines."""
    calls = [write(1, 1.0, 2.0), read(2, 2.1, 2.2, ABSENT)]
    history = assemble(calls, [Applied(0, "a", 1.5, 1)], quiet_s=LATER_S)
    (found,) = judge(history, (LINEARIZABLE,), BOUNDS)
    assert found.guarantee == "G1"
    assert not found.excused
    assert any("call 2 read" in line and "→ ''" in line for line in found.lines)


def test_calls_that_meet_at_one_moment_overlap() -> None:
    """Where the clock cannot tell, the weaker claim is made."""
    calls = [write(1, 1.0, 2.0), read(2, 2.0, 2.2, ABSENT)]
    history = assemble(calls, [Applied(0, "a", 1.5, 1)], quiet_s=LATER_S)
    assert judge(history, (LINEARIZABLE,), BOUNDS) == []


def test_an_unanswered_write_is_no_floor_until_somebody_has_read_it() -> None:
    """Its effect may be unseen for ever, but readers must not go back behind it."""
    lost = write(1, 1.0, 0.0)
    lost.ended, lost.acknowledged = None, False
    calls = [lost, read(2, 2.0, 2.1, "a"), read(3, 3.0, 3.1, ABSENT)]
    history = assemble(calls, [Applied(0, "a", 1.5, 1)], quiet_s=LATER_S)
    (found,) = judge(history, (LINEARIZABLE,), BOUNDS)
    assert "read 3" in found.text
    assert judge(history, (ACKNOWLEDGED_ONLY,), BOUNDS) == []


def test_a_write_that_outlived_its_marker_excuses_reads_while_entries_live() -> None:
    """The row "takes effect later than `marker_s`": what it explains is counted apart, no more."""
    calls = [
        write(1, 1.0, 9.0),
        read(2, 9.1, 9.2, ABSENT),
        read(3, 80.0, 80.1, ABSENT),
    ]
    history = assemble(calls, [Applied(0, "a", 8.0, 1)], quiet_s=LATER_S)
    soon, late = judge(history, (LINEARIZABLE,), BOUNDS)
    assert soon.excused == "write 1 took effect 7.0 s after it was begun"
    assert not late.excused


def test_a_write_in_time_excuses_nothing() -> None:
    """Within its marker's time no excuse is taken."""
    calls = [write(1, 1.0, 3.9), read(2, 4.0, 4.1, ABSENT)]
    history = assemble(calls, [Applied(0, "a", 3.8, 1)], quiet_s=LATER_S)
    (found,) = judge(history, (LINEARIZABLE,), BOUNDS)
    assert not found.excused


def test_a_late_write_does_not_excuse_what_its_record_tells() -> None:
    """G10 asks whether the stream was heeded; it tells of every write, late or not."""
    calls = [write(1, 1.0, 9.0), read(2, 80.0, 80.1, ABSENT)]
    history = assemble(calls, [Applied(0, "a", 8.0, 1)], quiet_s=LATER_S)
    (found,) = judge(history, (SEEN_IN_TIME,), BOUNDS)
    assert found.guarantee == "G10"
    assert not found.excused


@pytest.mark.parametrize(
    ("began_s", "excused"), [(80.0, "proxy 2 was stopped for 4.5 s"), (81.0, "")]
)
def test_a_stop_excuses_until_the_lag_was_looked_at(began_s: float, excused: str) -> None:
    """The row "and this proxy was stopped": reads of that proxy, and of a moment after it."""
    calls = [write(1, 1.0, 2.0), read(2, began_s, began_s + 0.1, ABSENT)]
    history = assemble(calls, [Applied(0, "a", 1.5, 1)], quiet_s=LATER_S)
    stops = (Stop(2, 75.5, 80.0), Stop(1, 75.5, 99.0))
    (found,) = judge(history, (SEEN_IN_TIME,), replace(BOUNDS, stops=stops))
    assert found.excused == excused


@pytest.mark.parametrize("reason", ["store-down", "store-unsettled"])
def test_a_write_that_was_refused_for_the_store_must_not_take_effect(reason: str) -> None:
    """G4's other side: "nothing was sent" is true."""
    refused = write(1, 1.0, 2.0, how=f"dynaside; detail={reason}")
    failed = write(2, 1.0, 2.0, how="dynaside; fwd=miss; detail=upstream-reset")
    applied = [Applied(0, "a", 1.5, 1), Applied(0, "b", 1.6, 2)]
    history = assemble([refused, failed], applied, quiet_s=LATER_S)
    (found,) = judge(history, (NOT_REFUSED_YET_APPLIED,), BOUNDS)
    assert "write 1 of item 0" in found.text


def test_only_reads_of_the_healed_world_must_be_answered() -> None:
    """A failure during the trouble is no violation; one after it is."""
    calls = [read(1, 1.0, 2.0, None), read(2, 11.0, 12.0, None)]
    history = assemble(calls, [], quiet_s=10.0)
    (found,) = judge(history, (ALIVE,), BOUNDS)
    assert "quiet read 2" in found.text
