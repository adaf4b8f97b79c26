"""`python -m tests.chaos`: break real processes for a while, judge what clients saw, report."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from pathlib import Path

from proxy.embedded.process import EngineError
from tests.chaos.profiles import PROFILES
from tests.chaos.run import Plan, play
from tests.chaos.stores import TOPOLOGIES


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 1 when a guarantee was broken, 2 when it could not be tried."""
    chosen = _parser().parse_args(arguments)
    seed = random.randrange(2**32) if chosen.seed is None else chosen.seed
    plan = Plan(PROFILES[chosen.profile], seed, chosen.seconds, chosen.topology, chosen.server)
    try:
        report = asyncio.run(play(plan, _tell))
    except EngineError as problem:
        print(f"error: {problem} (seed {seed})", file=sys.stderr)
        return 2
    if chosen.json is not None:
        chosen.json.write_text(report.as_json() + "\n")
    print(report.text())
    if report.violations:
        return 1
    if not report.hits:
        print(f"error: not one hit, so nothing was tried (seed {seed})", file=sys.stderr)
        return 2
    if not report.near_hits and not chosen.profile.startswith("strict"):
        print(f"error: no proxy used its own copies (seed {seed})", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--profile", choices=sorted(PROFILES), default="strict-through")
    parser.add_argument("--seed", type=int, help="draws faults and clients; chosen when left out")
    parser.add_argument("--seconds", type=float, default=60.0, help="about how long in all")
    parser.add_argument("--topology", choices=tuple(TOPOLOGIES), default="single")
    parser.add_argument("--server", choices=("valkey", "redis"), default="valkey")
    parser.add_argument("--json", type=Path, help="where to write the whole report")
    return parser


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
