"""Takes turns: every cell in every round, and the medians of the rounds."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Final

from tests.bench.speed.costs import cpu_us, on_core
from tests.bench.speed.load import Load, answer_of
from tests.bench.speed.plan import PATHS, SMALL, USUAL_CONNECTIONS, Cell, Effort, Question
from tests.bench.speed.world import World
from tests.support.proxy_process import ENVIRON, ROOT
from tests.support.raw_store import RawStore

_KEYS_PER_TURN: Final = 10_000_000
LOOK_S: Final = 0.05
LOOKS_MAX: Final = 100
RESTING_SHARE: Final = 0.1
"""A server that uses less of its core has ended what the last turn left under way."""

BACKGROUND_COMMANDS: Final = 200
"""More than all proxies' heartbeats, and our own looks, are in one turn."""

STORE_BENCH: Final = "redis-benchmark"
SDK_BENCH: Final = "aiobotocore"


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn of a cell found; per request, but for the first and the latencies."""

    requests: float
    answer_bytes: float
    cpu_us: float
    requests_per_s: float
    p50_us: float
    p99_us: float
    p999_us: float
    errors: float
    store_commands: float
    upstream_requests: float


def settle(pids: Collection[int]) -> None:
    """Wait until processes rest: answers that nobody waits for any more are no part of a turn."""
    used_us = cpu_us(pids)
    for _ in range(LOOKS_MAX):
        time.sleep(LOOK_S)
        before_us, used_us = used_us, cpu_us(pids)
        if used_us - before_us < RESTING_SHARE * LOOK_S * 1e6:
            return


@dataclass(slots=True)
class Turns:
    """All turns so far.

    Args:
        effort: how much to do.
        world: the servers.
    """

    effort: Effort
    world: World
    taken: dict[Cell, list[Turn]] = field(default_factory=dict)
    _numbers: Callable[[], int] = field(default_factory=lambda: itertools.count(1).__next__)

    def take(self, cell: Cell) -> None:
        """Let a cell have one turn."""
        world, path = self.world, cell.path
        pids = [world.pids[path.server, cell.size_bytes]]
        load = self._load(cell)
        settle(set(world.pids.values()))
        asked, commanded, used_us = world.upstream_requests(), world.store_commands(), cpu_us(pids)
        found = world.ask(path.server, load)
        used_us = cpu_us(pids) - used_us
        commanded, asked = world.store_commands() - commanded, world.upstream_requests() - asked
        if not found.requests:
            raise RuntimeError(f"{path.name} answered nothing within {load.seconds:g} s: {cell}")
        turn = Turn(
            requests=found.requests,
            answer_bytes=found.bytes / found.requests,
            cpu_us=used_us / found.requests,
            requests_per_s=found.per_s,
            p50_us=found.p50_us,
            p99_us=found.p99_us,
            p999_us=found.p999_us,
            errors=found.errors / found.requests,
            store_commands=commanded / found.requests,
            upstream_requests=asked / found.requests,
        )
        self.taken.setdefault(cell, []).append(turn)

    def _load(self, cell: Cell) -> Load:
        path, effort = cell.path, self.effort
        new = path.question is Question.NEW
        connections = min(cell.connections, effort.connections_max)
        return Load(
            path.question,
            path.table,
            cell.size_bytes,
            connections,
            keys=min(cell.keys, effort.keys_max),
            first_key=self._numbers() * (_KEYS_PER_TURN if new else 1),
            write_share=path.write_share,
            paced_ms=self._pause_ms(cell, connections) if cell.half_load else 0,
            count=effort.answers,
            seconds=effort.seconds,
        )

    def _pause_ms(self, cell: Cell, connections: int) -> int:
        """Return the pause that makes the load half of what the path's usual turn took."""
        peak = self.taken[Cell(cell.path)][-1].requests_per_s
        return max(1, round(1000 * connections / (peak / 2)))

    def rows(self) -> list[dict[str, Any]]:
        """Return the medians, one row per cell, as they stand in the result."""
        return [
            {
                "path": cell.path.name,
                "size_bytes": cell.size_bytes,
                "connections": cell.connections,
                "keys": cell.keys,
                "half_load": cell.half_load,
                **medians([asdict(turn) for turn in turns]),
                "cpu_us_of_rounds": [round(turn.cpu_us, 2) for turn in turns],
            }
            for cell, turns in self.taken.items()
        ]


def disagreements(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Say which cells have not measured what they are named after, and why."""
    found = []
    for cell, row in ((cell_of(row), row) for row in rows):
        name = f"{row['path']}, {row['size_bytes']} B, {row['connections']} connections"
        name += f", {row['keys']} keys"
        if row["errors"]:
            found.append(f"{name}: {row['errors']:.2%} of the requests failed")
        writes = cell.path.question is Question.WRITE or cell.path.write_share > 0
        if row["answer_bytes"] < row["size_bytes"] and not writes:
            found.append(f"{name}: answers of {row['answer_bytes']:.0f} B")
        limits = {
            "store_commands": (cell.path.store_commands, BACKGROUND_COMMANDS),
            "upstream_requests": (cell.path.upstream_requests, 0),
        }
        for what, ((least, most), background) in limits.items():
            # What was under way when the turn ended is not among its answers.
            slack = (max(most, 1.0) * row["connections"] + background) / row["requests"]
            if not least <= row[what] <= most + slack:
                found.append(f"{name}: {row[what]:.3g} {what.replace('_', ' ')} per request")
    return found


def cell_of(row: dict[str, Any]) -> Cell:
    """Return the cell of a row."""
    path = next(path for path in PATHS if path.name == row["path"])
    return Cell(path, row["size_bytes"], row["connections"], row["keys"], row["half_load"])


def store_turn(world: World, connections: int, count: int) -> dict[str, float]:
    """Ask the store itself with redis-benchmark: how long one round trip takes."""
    command = ["redis-benchmark", "-s", str(world.store.address), "-c", str(connections)]
    command += ["-n", str(count), "--csv", "GET", STORE_BENCH]
    with RawStore(world.store.address) as raw:
        raw.run("SET", STORE_BENCH, answer_of(SMALL))
    with on_core(world.cores.server):
        used_us = cpu_us([world.store.child.pid])
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        used_us = cpu_us([world.store.child.pid]) - used_us
    names, found = (line.replace('"', "").split(",") for line in done.stdout.splitlines()[-2:])
    shown = dict(zip(names, found, strict=True))
    return {
        "connections": connections,
        "requests_per_s": float(shown["rps"]),
        "p50_us": 1000 * float(shown["p50_latency_ms"]),
        "p99_us": 1000 * float(shown["p99_latency_ms"]),
        "store_cpu_us": used_us / count,
    }


def sdk_turn(world: World, seconds: float) -> dict[str, float]:
    """Ask DynamoDB's stand-in with aiobotocore: what a call costs its caller."""
    command = [sys.executable, "-m", "tests.bench.speed.sdk_calls"]
    command += [world.upstream.endpoint(SMALL), str(seconds)]
    environ = {**os.environ, **ENVIRON, "PYTHONPATH": str(ROOT)}
    with on_core(world.cores.server):
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
    found: dict[str, float] = json.loads(done.stdout)
    return {"connections": USUAL_CONNECTIONS, **found}


def medians(turns: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure."""
    return {name: round(median(turn[name] for turn in turns), 4) for name in turns[0]}
