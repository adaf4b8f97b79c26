"""Measures or shows: `python -m tests.bench.speed run | smoke | profile | page`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.bench.speed.page import page, summary
from tests.bench.speed.plan import FULL, SMOKE
from tests.bench.speed.profiles import read_profiles, sample
from tests.bench.speed.run import measure
from tests.bench.speed.shape import problems

ROOT: Final = Path(__file__).parents[3]
RESULT: Final = ROOT / "tests" / "bench" / "results" / "speed.json"
PROFILES: Final = ROOT / "docs" / "benchmarks" / "profiles"
PAGE: Final = ROOT / "docs" / "benchmarks.md"
LOAD_MAX: Final = 1.0


def kept_result() -> dict[str, Any] | None:
    """Return the result that is kept, or None."""
    if not RESULT.exists():
        return None
    kept: dict[str, Any] = json.loads(RESULT.read_text())
    return kept


def rendered() -> str:
    """Return the page as it should be now."""
    return page(kept_result(), read_profiles(PROFILES))


def tell(line: str) -> None:
    """Say at once what is going on."""
    print(line, flush=True)


def refuse_when_busy() -> None:
    """End when somebody else uses this machine: what would be kept would not count."""
    busy = os.getloadavg()[0]
    if busy >= LOAD_MAX:
        sys.exit(
            f"error: this machine is busy (load average {busy:.2f}, wanted below {LOAD_MAX:g});"
            " wait, or measure for yourself: make bench OUT=FILE"
        )


def run(out: Path | None) -> None:
    """Measure everything and keep the result, or write it into a file of the caller's own."""
    if out is None:
        refuse_when_busy()
    result = measure(FULL, tell)
    tell(summary(result))
    (out or RESULT).write_text(json.dumps(result, indent=1) + "\n")
    finish(problems(result))


def smoke() -> None:
    """Run everything for a moment; end with an error unless the result is whole."""
    result = measure(SMOKE, tell)
    tell(summary(result))
    page(result, None)
    finish(problems(result))


def finish(found: Sequence[str]) -> None:
    """Say what is wrong with a result, if anything, and end accordingly."""
    if found:
        sys.exit("error: the result is not whole:\n" + "\n".join(found))


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.speed", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="measure everything, in about 20 minutes")
    running.add_argument("--out", type=Path, help="write the result there and keep none")
    commands.add_parser("smoke", help="run everything for a moment, for the shape of the result")
    profiling = commands.add_parser("profile", help="sample where the time goes")
    profiling.add_argument("--py-spy", type=Path, required=True, help="the program")
    commands.add_parser("page", help="write docs/benchmarks.md anew")
    given = parser.parse_args(arguments)
    match given.command:
        case "run":
            run(given.out)
        case "smoke":
            smoke()
        case "profile":
            refuse_when_busy()
            sample(PROFILES, given.py_spy, tell)
        case _:
            PAGE.write_text(rendered())


if __name__ == "__main__":
    main()
