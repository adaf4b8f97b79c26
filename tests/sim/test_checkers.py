"""The checkers themselves: each finds the history it exists for, and lets the lawful one pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from tests.sim.checkers import (
    ACKNOWLEDGED,
    OWN_WRITES,
    SESSION,
    STRICT,
    Checker,
    below_floor,
    not_settled,
    older_than,
    unseen_for,
)
from tests.sim.history import ABSENT, Call, History, Kind


class Story:
    """A history told step by step; every step is a second."""

    def __init__(self) -> None:
        self.history = History()

    def begin(self, kind: Kind, proxy: int = 1) -> Call:
        """Begin a call."""
        number, at = len(self.history.calls), self.history.tick()
        call = Call(number, kind, proxy, item=0, began=at, began_s=float(at))
        self.history.calls.append(call)
        return call

    def apply(self, call: Call, value: str) -> None:
        """Let a write take effect."""
        self.history.applied(0, value, float(self.history.events), call.number)

    def end(self, call: Call, value: str | None = None) -> None:
        """Answer a read with a value, or acknowledge a write."""
        call.value, call.acknowledged = value, call.kind is Kind.WRITE
        call.ended = self.history.tick()
        call.ended_s = float(call.ended)

    def write(self, value: str, proxy: int = 1) -> None:
        """Write and acknowledge."""
        call = self.begin(Kind.WRITE, proxy)
        self.apply(call, value)
        self.end(call)

    def read(self, value: str, proxy: int = 1) -> None:
        """Read."""
        self.end(self.begin(Kind.READ, proxy), value)


def stale_read() -> History:
    """A read through another proxy shows what an acknowledged write replaced."""
    story = Story()
    story.write("a")
    story.write("b")
    story.read("a", proxy=2)
    return story.history


def own_stale_read() -> History:
    """The same through the writer's own proxy."""
    story = Story()
    story.write("a")
    story.write("b")
    story.read("a")
    return story.history


def time_runs_backwards() -> History:
    """A read shows the old value after another one showed the new; the write is in flight."""
    story = Story()
    story.write("a")
    write = story.begin(Kind.WRITE)
    story.apply(write, "b")
    story.read("b")
    story.read("a")
    story.end(write)
    return story.history


def resurrected() -> History:
    """A deleted item is shown."""
    story = Story()
    story.write("a")
    story.write(ABSENT)
    story.read("a")
    return story.history


def from_nowhere() -> History:
    """A read shows a value before it was written."""
    story = Story()
    story.read("b")
    story.write("b")
    return story.history


def overlapping() -> History:
    """A read that overlaps a write may show either; a second delete leaves one absence."""
    story = Story()
    story.write("a")
    write = story.begin(Kind.WRITE)
    first, second = story.begin(Kind.READ), story.begin(Kind.READ)
    story.end(first, "a")
    story.apply(write, ABSENT)
    story.end(second, ABSENT)
    story.end(write)
    story.write(ABSENT)
    story.read(ABSENT)
    return story.history


def unanswered() -> History:
    """A write whose caller never hears of it may be seen, or not."""
    story = Story()
    story.write("a")
    lost = story.begin(Kind.WRITE)
    story.read("a")
    story.apply(lost, "b")
    story.read("a")
    story.read("b")
    return story.history


strict = partial(below_floor, rule=STRICT)
session = partial(below_floor, rule=SESSION)
own_writes = partial(below_floor, rule=OWN_WRITES)
acknowledged = partial(below_floor, rule=ACKNOWLEDGED)
aged = partial(older_than, age_s_max=3.5)


@pytest.mark.parametrize(
    ("story", "guilty", "innocent"),
    [
        (stale_read, [strict, acknowledged], [session, own_writes]),
        (own_stale_read, [strict, session, own_writes, acknowledged], []),
        (time_runs_backwards, [strict, session], [own_writes, acknowledged]),
        (resurrected, [strict, session, own_writes, acknowledged], []),
        (from_nowhere, [strict, session, own_writes, acknowledged, aged], []),
        (overlapping, [], [strict, session, own_writes, acknowledged, aged]),
        (unanswered, [], [strict, session, own_writes, acknowledged]),
    ],
)
def test_checker_tells_right_from_wrong(
    story: Callable[[], History], guilty: list[Checker], innocent: list[Checker]
) -> None:
    """Each history is condemned by exactly the guarantees that it breaks."""
    history = story()
    assert all(check(history) for check in guilty)
    assert not any(check(history) for check in innocent)


def test_age_counts_from_the_overwriting() -> None:
    """A version may be shown for so long after the next one took effect, and no longer."""
    story = Story()
    story.write("a")
    story.write("b")
    story.read("a")
    assert aged(story.history) == []
    story.read("a")
    assert len(aged(story.history)) == 1


def test_quiet_world_shows_the_newest() -> None:
    """Only reads of the quiet world are judged, and only the newest version will do."""
    story = Story()
    story.write("a")
    story.write("b")
    story.read("a")
    story.history.quiet = story.history.tick()
    story.read("b")
    assert not_settled(story.history) == []
    story.read("a")
    assert len(not_settled(story.history)) == 1


def test_an_acknowledged_write_may_be_unseen_for_a_while() -> None:
    """Delta counts from the acknowledgement to the read's begin; who wrote where is all one."""
    story = Story()
    story.write("a")
    story.write("b", proxy=2)  # acknowledged at 6 s
    story.read("a")  # begins at 7 s
    assert unseen_for(story.history, delta_s=1.5) == []
    assert len(unseen_for(story.history, delta_s=1.0)) == 1
    story.read("b")
    story.end(story.begin(Kind.READ))
    assert len(unseen_for(story.history, delta_s=1.0)) == 1
    story.read(ABSENT)
    assert len(unseen_for(story.history, delta_s=1.0)) == 2
