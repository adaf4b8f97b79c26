"""Whether a result is whole: every cell, every figure, and a reason for all that is missing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tests.bench.speed.plan import PATHS, cells
from tests.bench.speed.targets import judge

HEAD: Final = frozenset(
    {
        "commit",
        "machine",
        "versions",
        "load_average",
        "began",
        "took_s",
        "effort",
        "full",
        "cores",
        "missing",
        "cells",
        "disagreements",
        "aiobotocore",
        "redis-benchmark",
        "memory",
        "stampede",
    }
)
PLACE: Final = ("path", "size_bytes", "connections", "keys", "half_load")
FIGURES: Final = (
    "requests",
    "answer_bytes",
    "cpu_us",
    "requests_per_s",
    "p50_us",
    "p99_us",
    "p999_us",
    "errors",
    "store_commands",
    "upstream_requests",
)
MAY_BE_MISSING: Final = frozenset(path.name for path in PATHS) | {"redis-benchmark"}


def problems(result: Mapping[str, Any]) -> list[str]:
    """Say everything that a result lacks or has too much of; nothing where it is whole."""
    if result.keys() != HEAD:
        return [f"the result has other parts: {sorted(result.keys() ^ HEAD)}"]
    return [
        *_missing_problems(result["missing"]),
        *_cell_problems(result),
        *(f"not as named: {each}" for each in result["disagreements"]),
        *_target_problems(result),
    ]


def _missing_problems(missing: Mapping[str, str]) -> Iterator[str]:
    for name, reason in missing.items():
        if name not in MAY_BE_MISSING:
            yield f"{name} is missing, and nobody knows it"
        if not reason:
            yield f"{name} is missing without a reason"


def _cell_problems(result: Mapping[str, Any]) -> Iterator[str]:
    wanted = {
        (cell.path.name, cell.size_bytes, cell.connections, cell.keys, cell.half_load)
        for cell in cells()
        if cell.path.name not in result["missing"]
    }
    rows = {tuple(row[name] for name in PLACE): row for row in result["cells"]}
    if len(rows) != len(result["cells"]):
        yield "a cell is there twice"
    for place in sorted(wanted ^ rows.keys()):
        yield f"a cell {'is missing' if place in wanted else 'was not asked for'}: {place}"
    for place, row in rows.items():
        if row.keys() != {*PLACE, *FIGURES, "cpu_us_of_rounds"}:
            yield f"a cell has other figures: {place}"
        elif not all(_is_figure(row[name]) for name in FIGURES):
            yield f"a figure is none: {place}"
        elif len(row["cpu_us_of_rounds"]) != result["effort"]["rounds"]:
            yield f"a cell missed a round: {place}"


def _target_problems(result: Mapping[str, Any]) -> Iterator[str]:
    try:
        judged = judge(result)
    except (KeyError, IndexError, ZeroDivisionError) as error:
        yield f"a target cannot be judged: {error!r}"
        return
    for each in judged:
        if each.figure is None and not each.why:
            yield f"not judged, and nobody says why: {each.target.what}"
        if each.figure is not None and not math.isfinite(each.figure):
            yield f"not a number: {each.target.what}"


def _is_figure(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value >= 0
