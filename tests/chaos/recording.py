"""Puts what clients saw and what DynamoDB did into one history, by the machine's monotonic clock.

Clients and the upstream are processes of one machine, whose monotonic clock they share: what ended
before something else began has the smaller time. Where times are equal the weaker claim is taken:
calls overlap.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import itemgetter
from typing import Final

from tests.sim.history import Call, History

PENDING: Final = 0
"""Stands for the place in the order of an ended call until `assemble` knows it."""

_BEGINS, _APPLIED, _ENDS = range(3)


@dataclass(frozen=True, slots=True)
class Applied:
    """One write as the upstream applied it; shape of the lines it hands out: [item, …, by]."""

    item: int
    value: str
    at_s: float
    by: int


@dataclass(frozen=True, slots=True)
class Stop:
    """One SIGSTOP and its SIGCONT, by the number of the process; monotonic."""

    proxy: int
    from_s: float
    to_s: float


def assemble(calls: Iterable[Call], applied: Iterable[Applied], *, quiet_s: float) -> History:
    """Return the history of these calls and effects.

    Args:
        calls: with their times; `ended` is None for those that got no answer.
        applied: in the upstream's order.
        quiet_s: calls that begin later meet a healed world.
    """
    history = History()
    history.calls = sorted(calls, key=lambda call: call.began_s)
    moments: list[tuple[float, int, Call | Applied]] = []
    for call in history.calls:
        moments.append((call.began_s, _BEGINS, call))
        if call.ended is not None:
            moments.append((call.ended_s, _ENDS, call))
    moments += [(each.at_s, _APPLIED, each) for each in applied]
    for at_s, kind, subject in sorted(moments, key=itemgetter(0, 1)):
        if at_s > quiet_s and not history.quiet:
            history.quiet = history.tick()
        if isinstance(subject, Applied):
            history.applied(subject.item, subject.value, at_s, subject.by)
        elif kind == _BEGINS:
            subject.began = history.tick()
        else:
            subject.ended = history.tick()
    history.quiet = history.quiet or history.tick()
    return history


def of_item(history: History, item: int) -> History:
    """Return the part of a history that is about one item."""
    part = History(events=history.events, quiet=history.quiet)
    part.calls = [call for call in history.calls if call.item == item]
    part.effects = {item: history.effects.get(item, [])}
    return part
