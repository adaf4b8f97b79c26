"""One whole run: starts the servers, takes all turns, and returns the content of the result."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from tests.bench.setting import setting
from tests.bench.speed.filling import fill
from tests.bench.speed.measuring import (
    SDK_BENCH,
    STORE_BENCH,
    Turns,
    disagreements,
    medians,
    sdk_turn,
    store_turn,
)
from tests.bench.speed.memory import weigh
from tests.bench.speed.plan import FULL, PATHS, USUAL_CONNECTIONS, Effort, cells
from tests.bench.speed.stampede import allow_files, stampede
from tests.bench.speed.world import World, running_world
from tests.support.raw_store import RawStore

PACKAGES: Final = ("aiohttp", "aiobotocore", "hiredis", "redis", "uvloop")
STORE_REQUESTS_PER_S: Final = 10_000
"""What redis-benchmark surely manages; says how many it gets for a turn."""


def measure(effort: Effort, tell: Callable[[str], None]) -> dict[str, Any]:
    """Run everything once and return the result.

    Args:
        effort: how much.
        tell: takes a line about what is going on.
    """
    allow_files()
    load_before = os.getloadavg()[0]
    began = datetime.now(UTC)
    with running_world() as world:
        tell("filling the caches")
        fill(world, effort.keys_max)
        found = _rounds(world, effort, tell)
        tell("weighing")
        found["memory"] = weigh(world, effort.near_items)
        tell("stampede")
        found["stampede"] = stampede(world.store, effort.stampede_readers)
        versions = _versions(world)
        missing = {
            path.name: world.missing[path.server] for path in PATHS if path.server in world.missing
        }
    missing |= _missing_tools()
    result = setting(*PACKAGES)
    result["versions"] |= versions
    result["load_average"] = {"before": load_before, "after": os.getloadavg()[0]}
    result |= {
        "began": began.isoformat(timespec="seconds"),
        "took_s": round((datetime.now(UTC) - began).total_seconds()),
        "effort": asdict(effort),
        "full": effort == FULL,
        "cores": asdict(world.cores),
        "missing": missing,
    }
    return result | found


def _rounds(world: World, effort: Effort, tell: Callable[[str], None]) -> dict[str, Any]:
    """Take all turns; return cells, what the two tools found, and what is odd about the cells."""
    turns = Turns(effort, world)
    asked: dict[int, list[dict[str, float]]] = {1: [], USUAL_CONNECTIONS: []}
    called: list[dict[str, float]] = []
    wanted = [cell for cell in cells() if cell.path.server not in world.missing]
    for number in range(1, effort.rounds + 1):
        tell(f"round {number} of {effort.rounds}: {len(wanted)} cells of {effort.seconds:g} s")
        for cell in wanted:
            turns.take(cell)
        called.append(sdk_turn(world, effort.seconds))
        if shutil.which(STORE_BENCH):
            for connections, taken in asked.items():
                count = round(STORE_REQUESTS_PER_S * effort.seconds)
                taken.append(store_turn(world, connections, count))
    rows = turns.rows()
    return {
        "cells": rows,
        "disagreements": disagreements(rows),
        SDK_BENCH: medians(called),
        STORE_BENCH: [medians(taken) for taken in asked.values() if taken],
    }


def _missing_tools() -> dict[str, str]:
    if shutil.which(STORE_BENCH):
        return {}
    return {STORE_BENCH: "redis-benchmark is not installed (apt-get install redis-tools)"}


def _versions(world: World) -> dict[str, str]:
    """Return the versions of the programs that took part."""
    with RawStore(world.store.address) as raw:
        about = raw.run("INFO", "server").decode().splitlines()
    found = dict(line.split(":") for line in about if line.startswith("valkey_ver"))
    nginx = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr
    found["nginx"] = nginx.partition("/")[2].split()[0]
    wrk = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)
    told = re.search(r"\b\d+\.\d[\w.+\-]*", wrk.stdout + wrk.stderr)
    found["wrk"] = told.group() if told else "unknown"
    return found
