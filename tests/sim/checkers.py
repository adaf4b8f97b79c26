"""One checker per guarantee, over a history: each returns the violations it found, in words.

DynamoDB's own order of writes is known, so "older" is "<" of version numbers, and a history of one
item is linearizable exactly when no read shows a version from before a *floor*: the newest version
that was acknowledged to a writer, or shown to a reader, before the read began.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.sim.history import Call, History, Kind


@dataclass(frozen=True, slots=True)
class Rule:
    """Which earlier calls count towards a read's floor.

    Args:
        same_proxy: only those through the read's own proxy.
        reads: whether what earlier reads showed counts too.
    """

    same_proxy: bool
    reads: bool


STRICT = Rule(same_proxy=False, reads=True)
"""G1: linearizable per item for the clients of all proxies."""

SESSION = Rule(same_proxy=True, reads=True)
"""G2: own writes are read, and time does not run backwards, through one proxy."""

ACKNOWLEDGED = Rule(same_proxy=False, reads=False)
"""What is left of G1 while a store forgets markers: acknowledged writes are read by everybody."""

OWN_WRITES = Rule(same_proxy=True, reads=False)
"""G2 while other proxies are cut off from the store."""


def below_floor(history: History, rule: Rule) -> list[str]:
    """Return the reads that show a version from before their floor, or a value nobody wrote."""
    ended = sorted(
        (call for call in history.calls if call.ended is not None), key=lambda call: call.ended or 0
    )
    return [
        f"read {read.number} of item {read.item} through proxy {read.proxy} ({read.how}) showed"
        f" {read.value!r}, floor {floor}"
        for read, floor in _floors(history, ended, rule)
        if not any(version >= floor for version in history.versions_of(read))
    ]


def _floors(history: History, ended: list[Call], rule: Rule) -> Iterator[tuple[Call, int]]:
    """Give each answered read with its floor, in one sweep over begins and ends."""
    floors: dict[tuple[int, int], int] = {}
    steps = [(call.began, False, call) for call in ended]
    steps += [(call.ended or 0, True, call) for call in ended]
    begun: dict[int, int] = {}
    for _, ends, call in sorted(steps, key=lambda step: step[0]):
        place = (call.item, call.proxy if rule.same_proxy else -1)
        answered = call.value is not None or call.acknowledged
        if not ends:
            begun[call.number] = floors.get(place, 0)
        elif answered:
            floor = begun[call.number]
            if call.kind is Kind.READ:
                yield call, floor
            if call.kind is Kind.READ and not rule.reads:
                continue
            # Of the versions it may have been, the oldest that is allowed: the weakest claim.
            possible = [v for v in history.versions_of(call) if v >= floor]
            floors[place] = max(floors.get(place, 0), min(possible, default=0))


def unseen_for(history: History, delta_s: float) -> list[str]:
    """Return the reads that do not show a write acknowledged `delta_s` before they began."""
    found = []
    writes = [call for call in history.calls if call.kind is Kind.WRITE and call.acknowledged]
    for read in history.calls:
        if read.kind is not Kind.READ or read.ended is None or read.value is None:
            continue
        seen_by_s = read.began_s - delta_s
        acknowledged = [w for w in writes if w.item == read.item and w.ended_s <= seen_by_s]
        floor = max((min(history.versions_of(w), default=0) for w in acknowledged), default=0)
        if not any(version >= floor for version in history.versions_of(read)):
            found.append(
                f"read {read.number} of item {read.item} through proxy {read.proxy} ({read.how})"
                f" showed {read.value!r}, version {floor} had been acknowledged {delta_s} s before"
            )
    return found


def not_settled(history: History) -> list[str]:
    """Return the reads in a quiet world that do not show the newest version."""
    return [
        f"quiet read {read.number} through proxy {read.proxy} ({read.how}) showed {read.value!r}"
        for read in history.calls
        if read.began > history.quiet and read.value is not None
        if len(history.effects.get(read.item, [])) not in history.versions_of(read)
    ]


def older_than(history: History, age_s_max: float) -> list[str]:
    """G3: return the reads that show a version which was overwritten longer ago than allowed."""
    found = []
    for read in history.calls:
        if read.kind is not Kind.READ or read.ended is None or read.value is None:
            continue
        versions = history.versions_of(read)
        if not versions:
            found.append(f"read {read.number} showed {read.value!r}, which nobody wrote")
            continue
        effects = history.effects.get(read.item, [])
        newest = versions[-1]
        if newest < len(effects) and effects[newest].at_s < read.began_s - age_s_max:
            age_s = read.began_s - effects[newest].at_s
            found.append(f"read {read.number} ({read.how}) showed what had been over {age_s:.1f} s")
    return found


Checker = Callable[[History], list[str]]
