"""Judges a round's history by the simulation's checkers, and says what ARCHITECTURE.md excuses.

Two things that real processes do are not guaranteed against. "A write takes effect upstream later
than `marker_s` after it was begun", as when a proxy is stopped just before it sends; where a stream
is read, it tells of such a write too, and nothing is excused by it. And "this proxy was stopped":
until it looks at the lag again it knows nothing of it. Violations that these explain are counted
apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from tests.chaos.recording import Stop, of_item
from tests.chaos.upstream import LAG_S
from tests.sim.checkers import (
    ACKNOWLEDGED,
    OWN_WRITES,
    STRICT,
    Rule,
    below_floor,
    not_settled,
    older_than,
)
from tests.sim.history import Call, History, Kind

LINES_AROUND: Final = 30
"""Of an item's history, on each side of a read that is shown."""

REFUSALS: Final = ("detail=store-down", "detail=store-unsettled")
_SLACK_S: Final = 0.5
"""Between the proxy's clock reading and the client's, on a busy machine."""

GOES_ON_S: Final = 0.5
"""Within this a proxy that goes on has looked at the lag, a store's time-out included."""

_READ: Final = re.compile(r"\bread (\d+)\b")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the checkers must know.

    Args:
        marker_s: how long a writer's marker lasts.
        hard_s: how long an entry may be served after a write that nobody fenced: its whole life,
            or what its table's stream may take to tell.
        stops: when which proxy was stopped, and when it went on.
    """

    marker_s: float
    hard_s: float
    stops: tuple[Stop, ...] = ()


Excuse = Callable[[History, Call, Bounds], str]


def outlived_marker(history: History, read: Call, bounds: Bounds) -> str:
    """Name a write that took effect after its marker had gone and may explain this read."""
    calls = {call.number: call for call in history.calls}
    for effect in history.effects.get(read.item, []):
        if effect.by not in calls:
            continue
        late_s = effect.at_s - calls[effect.by].began_s
        lasts = effect.at_s <= read.ended_s and read.began_s < effect.at_s + bounds.hard_s
        if late_s > bounds.marker_s and lasts:
            return f"write {effect.by} took effect {late_s:.1f} s after it was begun"
    return ""


def was_stopped(_history: History, read: Call, bounds: Bounds) -> str:
    """Name the stop of the read's proxy before its next look at the lag, if there was one."""
    for stop in bounds.stops:
        after = stop.from_s <= read.ended_s
        if stop.proxy == read.proxy and after and read.began_s <= stop.to_s + GOES_ON_S:
            return f"proxy {stop.proxy} was stopped for {stop.to_s - stop.from_s:.1f} s"
    return ""


@dataclass(frozen=True, slots=True)
class Claim:
    """One guarantee in one wording.

    Args:
        guarantee: as ARCHITECTURE.md numbers it, or a word for what is no numbered one.
        words: what is claimed.
        check: returns violations in words; a read is named as `read N`.
        excuse: names what explains that a read of an item violates it, "" where nothing does.
    """

    guarantee: str
    words: str
    check: Callable[[History, Bounds], list[str]]
    excuse: Excuse = outlived_marker


@dataclass(frozen=True, slots=True)
class Violation:
    """What broke a guarantee, the item's history around it, and what excuses it, if anything."""

    guarantee: str
    text: str
    lines: tuple[str, ...] = ()
    excused: str = ""


def judge(history: History, claims: tuple[Claim, ...], bounds: Bounds) -> list[Violation]:
    """Return every violation of the claims."""
    calls = {call.number: call for call in history.calls}
    found = []
    for claim in claims:
        for text in claim.check(history, bounds):
            named = _READ.search(text)
            call = calls[int(named[1])] if named else None
            lines = tuple(_around(history, call)) if call else ()
            excused = claim.excuse(history, call, bounds) if call else ""
            found.append(Violation(claim.guarantee, text, lines, excused))
    return found


def _around(history: History, call: Call) -> list[str]:
    lines = of_item(history, call.item).lines()
    head = f" call {call.number} "
    places = [place for place, line in enumerate(lines) if head in line]
    first, last = max(0, places[0] - LINES_AROUND), places[-1] + LINES_AROUND
    return lines[first:last]


def refused_yet_applied(history: History, _bounds: Bounds) -> list[str]:
    """G4: return the writes that were refused for the store's sake and yet took effect."""
    applied = {effect.by for effects in history.effects.values() for effect in effects}
    return [
        f"write {call.number} of item {call.item} was answered {call.how!r} and took effect"
        for call in history.calls
        if call.kind is Kind.WRITE
        and any(each in call.how for each in REFUSALS)
        and call.number in applied
    ]


def unanswered_when_quiet(history: History, _bounds: Bounds) -> list[str]:
    """Return the reads of the healed world that showed nothing."""
    return [
        f"quiet read {call.number} through proxy {call.proxy} failed: {call.how or 'no answer'}"
        for call in history.calls
        if call.began > history.quiet and call.value is None
    ]


def _floor(history: History, _bounds: Bounds, *, rule: Rule) -> list[str]:
    return below_floor(history, rule)


def _settled(history: History, _bounds: Bounds) -> list[str]:
    return not_settled(history)


def _aged(history: History, bounds: Bounds) -> list[str]:
    return older_than(history, bounds.hard_s + LAG_S + _SLACK_S)


LINEARIZABLE: Final = Claim(
    "G1", "no read is older than what was acknowledged or read before", partial(_floor, rule=STRICT)
)
ACKNOWLEDGED_ONLY: Final = Claim(
    "G1", "no read is older than what was acknowledged before", partial(_floor, rule=ACKNOWLEDGED)
)
OWN_WRITES_READ: Final = Claim(
    "G2",
    "no read is older than what its own process acknowledged",
    partial(_floor, rule=OWN_WRITES),
)
BOUNDED_AGE: Final = Claim("G3", "no entry is served past its hard time", _aged)
SEEN_IN_TIME: Final = Claim(
    "G10",
    "no entry is served for longer than the lag's bound after a write past every proxy",
    _aged,
    was_stopped,
)
NOT_REFUSED_YET_APPLIED: Final = Claim(
    "G4", "what is refused for the store's sake is not applied", refused_yet_applied
)
SETTLED: Final = Claim("settled", "once all is quiet every proxy shows the newest", _settled)
ALIVE: Final = Claim("alive", "once all is healed every proxy answers", unanswered_when_quiet)

GUARANTEES: Final = ("G1", "G2", "G3", "G4", "G10", "settled", "alive")
