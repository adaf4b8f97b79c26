"""What came of a run: rows of faults, columns of guarantees; as text and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from tests.chaos.judge import GUARANTEES, Violation

SHOWN_MAX: Final = 3
"""Violations printed with their lines; all of them are in the JSON."""


@dataclass
class Round:
    """One history and its judgement.

    Args:
        setting: name of what was allowed to break and claimed.
        claims: guarantee to the words that were judged.
        struck: how often each fault came.
        log: what was broken when, one line each.
        reads, writes: answered calls.
        outcomes: how they were answered.
        violations: excused ones too.
    """

    setting: str
    claims: dict[str, str] = field(default_factory=dict)
    struck: Counter[str] = field(default_factory=Counter)
    log: list[str] = field(default_factory=list)
    reads: int = 0
    writes: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)

    def broken(self, guarantee: str) -> int:
        """Count what nothing excuses."""
        return sum(
            violation.guarantee == guarantee and not violation.excused
            for violation in self.violations
        )


@dataclass
class Report:
    """A whole run; `about` has seed, profile, topology, commit, settings and the like."""

    about: dict[str, Any]
    rounds: list[Round] = field(default_factory=list)

    @property
    def violations(self) -> list[Violation]:
        """What nothing excuses."""
        return [each for one in self.rounds for each in one.violations if not each.excused]

    @property
    def hits(self) -> int:
        """Count the reads that the cache answered: a run without any proves nothing."""
        return self._reads("read hit")

    @property
    def near_hits(self) -> int:
        """Count those that a proxy's own copies answered."""
        return self._reads("read hit", "detail=near")

    def _reads(self, *words: str) -> int:
        answered = sum((one.outcomes for one in self.rounds), Counter[str]())
        return sum(answered[each] for each in answered if all(word in each for word in words))

    def as_json(self) -> str:
        """Return everything; `table` has the rows of the text."""
        table = [dict(zip(_HEAD, row, strict=True)) for row in self._rows()]
        # Not `asdict` of the whole: Python 3.11 copies a Counter wrongly.
        rounds = [
            vars(one) | {"violations": [asdict(each) for each in one.violations]}
            for one in self.rounds
        ]
        content = {"about": self.about, "table": table, "rounds": rounds}
        return json.dumps(content, indent=2, ensure_ascii=False)

    def text(self) -> str:
        """Return the table, the outcomes, and the first violations with their history."""
        lines = [", ".join(f"{name} {value}" for name, value in _short(self.about).items()), ""]
        lines += _columns([_HEAD, *self._rows()])
        outcomes = sum((one.outcomes for one in self.rounds), Counter[str]())
        lines += ["", *(f"{number:8} {outcome}" for outcome, number in outcomes.most_common(12))]
        excused = sum(bool(each.excused) for one in self.rounds for each in one.violations)
        lines += ["", f"violations: {len(self.violations)}, excused: {excused}"]
        for one in self.rounds:
            lines += self._told(one)
        return "\n".join(lines)

    def _told(self, one: Round) -> Iterator[str]:
        found = [violation for violation in one.violations if not violation.excused]
        if not found:
            return
        yield f"\nround {self.rounds.index(one)} ({one.setting}), {len(found)} violations; faults:"
        yield from one.log
        for violation in found[:SHOWN_MAX]:
            yield f"\n{violation.guarantee} VIOLATION: {violation.text}"
            yield from violation.lines
        yield f"seed {self.about['seed']}: the same faults in the same order; times differ"

    def _rows(self) -> Iterator[tuple[str, ...]]:
        names = sorted({name for one in self.rounds for name in one.struck})
        for name in names:
            yield self._row(name, [one for one in self.rounds if one.struck[name]])
        yield self._row("all", self.rounds)

    def _row(self, name: str, rounds: list[Round]) -> tuple[str, ...]:
        struck = sum(one.struck.total() if name == "all" else one.struck[name] for one in rounds)
        reads = sum(one.reads for one in rounds)
        cells = []
        for guarantee in GUARANTEES:
            judged = [one for one in rounds if guarantee in one.claims]
            broken = sum(one.broken(guarantee) for one in judged)
            cells.append(f"{broken}/{len(judged)}" if judged else "–")
        return (self.about["topology"], name, str(struck), str(len(rounds)), str(reads), *cells)


_HEAD: Final = ("topology", "fault", "times", "histories", "reads", *GUARANTEES)

_NAMES: Final = 2
"""Columns that are no numbers."""


def _short(about: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in about.items() if not isinstance(value, dict)}


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if column >= _NAMES else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
