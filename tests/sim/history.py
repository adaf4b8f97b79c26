"""What clients saw, and in which order DynamoDB really applied the writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

ABSENT = ""
"""How "no such item" reads; written values are never empty."""


class Kind(StrEnum):
    """What a client did."""

    READ = "read"
    WRITE = "write"


@dataclass(slots=True)
class Call:
    """One operation of a client on one item.

    Args:
        number: names it, also at upstream.
        kind: read or write.
        proxy: which proxy it went through.
        item: which item.
        began, ended: places in the one order of all events; `ended` is None while unanswered.
        began_s, ended_s: the same on the virtual clock.
        value: what a read showed; None when it failed.
        acknowledged: whether a write was answered 200.
        how: what Cache-Status would say, for the report.
    """

    number: int
    kind: Kind
    proxy: int
    item: int
    began: int
    began_s: float
    ended: int | None = None
    ended_s: float = 0.0
    value: str | None = None
    acknowledged: bool = False
    how: str = ""


@dataclass(frozen=True, slots=True)
class Effect:
    """One write as DynamoDB applied it: its value (ABSENT for a delete), when, by which call."""

    value: str
    at: int
    at_s: float
    by: int


@dataclass
class History:
    """Everything a checker needs; `effects` per item in the order they were applied.

    Every item starts as ABSENT: version 0. Version n is `effects[item][n - 1]`.
    """

    calls: list[Call] = field(default_factory=list)
    effects: dict[int, list[Effect]] = field(default_factory=dict)
    events: int = 0
    quiet: int = 0
    """Reads that begin after this event meet a healed world in which nothing is in flight."""

    def tick(self) -> int:
        """Return the next place in the order of events."""
        self.events += 1
        return self.events

    def applied(self, item: int, value: str, now_s: float, by: int) -> None:
        """Record that DynamoDB applied a write."""
        effect = Effect(value, self.tick(), now_s, by)
        self.effects.setdefault(item, []).append(effect)

    def versions_of(self, call: Call) -> list[int]:
        """Return the versions that a call may have seen or made, oldest first.

        A read shows a value, and ABSENT may be several versions; a write made what carries its
        number, or nothing (a delete of what was not there).
        """
        effects = self.effects.get(call.item, [])
        if call.kind is Kind.WRITE:
            return [n for n, effect in enumerate(effects, 1) if effect.by == call.number]
        assert call.ended is not None, "only ended reads have seen something"
        seen = [n for n, e in enumerate(effects, 1) if e.value == call.value and e.at < call.ended]
        return [0, *seen] if call.value == ABSENT else seen

    def lines(self) -> list[str]:
        """Return the whole history, one event a line, for somebody who looks for the reason."""
        told = []
        for call in self.calls:
            head = f"call {call.number} {call.kind} item {call.item} proxy {call.proxy}"
            told.append((call.began, f"{call.began_s:10.4f} {head} begins"))
            if call.ended is not None:
                what = repr(call.value) if call.kind is Kind.READ else call.acknowledged
                told.append((call.ended, f"{call.ended_s:10.4f} {head} → {what} ({call.how})"))
        for item, effects in self.effects.items():
            for version, each in enumerate(effects, 1):
                line = f"applied: item {item} version {version} = {each.value!r} by {each.by}"
                told.append((each.at, f"{each.at_s:10.4f}   {line}"))
        return [line for _, line in sorted(told)]
