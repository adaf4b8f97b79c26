"""`python -m tests.sim`: run many seeds, print what failed and how to see it again."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.sim.profiles import PROFILES
from tests.sim.simulation import simulate


def main() -> int:
    """Run the command; 1 when a guarantee was broken."""
    arguments = _arguments()
    if arguments.seed is not None:
        return _one(arguments.profile or "strict-invalidate", arguments.seed, arguments.steps)
    started_s = time.monotonic()
    failed = 0
    for name in [arguments.profile] if arguments.profile else PROFILES:
        failed += _many(
            name, range(arguments.first, arguments.first + arguments.histories), arguments.steps
        )
    print(f"{time.monotonic() - started_s:.0f} s")
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--profile", choices=sorted(PROFILES))
    parser.add_argument("--seed", type=int, help="replay one history and print it")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--histories", type=int, default=1000, help="per profile")
    parser.add_argument("--steps", type=int, default=40, help="client calls per history")
    return parser.parse_args()


def _many(name: str, seeds: range, steps: int) -> int:
    bad: list[int] = []
    outcomes: Counter[str] = Counter()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for seed, violations, counted in pool.map(
            partial(_judge, name, steps), seeds, chunksize=50
        ):
            outcomes += counted
            if violations:
                bad.append(seed)
                if len(bad) <= 3:
                    print(f"{name}: seed {seed}: {violations[0]}")
                    print(f"  make sim PROFILE={name} SEED={seed} STEPS={steps}")
    shown = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common(6))
    print(f"{name}: {len(seeds)} histories, {len(bad)} with violations; {shown}")
    return len(bad)


def _judge(name: str, steps: int, seed: int) -> tuple[int, list[str], Counter[str]]:
    result = simulate(PROFILES[name], seed, steps=steps)
    return seed, result.violations, result.outcomes


def _one(name: str, seed: int, steps: int) -> int:
    result = simulate(PROFILES[name], seed, steps=steps)
    for line in result.history.lines():
        print(line)
    for violation in result.violations:
        print("VIOLATION", violation)
    return 1 if result.violations else 0


if __name__ == "__main__":
    sys.exit(main())
