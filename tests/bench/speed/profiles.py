"""Where the time goes on each path of the proxy: py-spy's samples, folded into lines of text.

A line is a stack, outermost function first, and how often it was seen; speedscope and flamegraph.pl
read it. Stacks seen in less than 0.2 % of the samples are left out: files stay small.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, Final

from tests.bench.setting import setting
from tests.bench.speed.filling import fill
from tests.bench.speed.load import Load
from tests.bench.speed.plan import (
    MISS,
    NEAR_HIT,
    PASS,
    REDIS_HIT,
    SMALL,
    USUAL_CONNECTIONS,
    USUAL_KEYS,
    WRITE,
    Path,
)
from tests.bench.speed.world import World, running_world

PROFILED: Final = (NEAR_HIT, REDIS_HIT, MISS, PASS, WRITE)
ABOUT: Final = "about.json"
SECONDS: Final = 10.0
SAMPLES_PER_S: Final = 500
LONGER_S: Final = 1.0
"""The load outlasts the samples, so that none is taken from an idle proxy."""

ENDS_WITHIN_S: Final = 30.0
_LINE_NUMBER: Final = re.compile(r":\d+\)")
SHARE_MIN: Final = 0.002


@dataclass(frozen=True, slots=True)
class Frame:
    """A function, and in which share of the samples it was the innermost one."""

    name: str
    share: float


@dataclass(frozen=True, slots=True)
class Profiles:
    """What was kept: when and where it was sampled, and each path's samples by stack."""

    about: Mapping[str, Any]
    stacks: Mapping[str, Mapping[str, int]]


def own_time(stacks: Mapping[str, int]) -> list[Frame]:
    """Return functions by how much of the time is their own, largest first."""
    own: Counter[str] = Counter()
    for stack, seen in stacks.items():
        own[stack.rpartition(";")[2]] += seen
    total = own.total()
    ranked = sorted(own.items(), key=lambda each: (-each[1], each[0]))
    return [Frame(name, seen / total) for name, seen in ranked]


def by_library(stacks: Mapping[str, int]) -> list[Frame]:
    """Return packages by how much of the time is their functions' own, largest first."""
    seen: Counter[str] = Counter()
    for stack, count in stacks.items():
        place = stack.rpartition("(")[2].removesuffix(")")
        seen[place.partition("/")[0] if "/" in place else "other"] += count
    ranked = sorted(seen.items(), key=lambda each: (-each[1], each[0]))
    return [Frame(name, count / seen.total()) for name, count in ranked]


def read_folded(text: str) -> dict[str, int]:
    """Read stacks and counts, one stack a line; the lines that functions begin in are left out."""
    stacks: Counter[str] = Counter()
    for line in text.splitlines():
        stack, _, seen = line.rpartition(" ")
        if stack:
            stacks[_LINE_NUMBER.sub(")", stack)] += int(seen)
    return dict(stacks)


def spell_folded(stacks: Mapping[str, int]) -> str:
    """Return the lines of a file, without what was hardly ever seen."""
    least = SHARE_MIN * sum(stacks.values())
    kept = sorted((stack, seen) for stack, seen in stacks.items() if seen >= least)
    return "".join(f"{stack} {seen}\n" for stack, seen in kept)


def read_profiles(folder: FilePath) -> Profiles | None:
    """Read what `sample` has kept in a folder; None where there is nothing."""
    about = folder / ABOUT
    if not about.exists():
        return None
    files = sorted(folder.glob("*.folded"))
    return Profiles(
        json.loads(about.read_text()),
        {path.stem: read_folded(path.read_text()) for path in files},
    )


def sample(
    folder: FilePath, py_spy: FilePath, tell: Callable[[str], None], *, seconds: float = SECONDS
) -> None:
    """Sample every path of the proxy that there is, and keep the profiles in a folder.

    Args:
        folder: what is there is replaced.
        py_spy: the program.
        tell: takes a line about what is going on.
        seconds: how long each path is sampled.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.folded"):
        old.unlink()
    load_before = os.getloadavg()[0]
    with running_world() as world:
        fill(world, USUAL_KEYS)
        found = [path for path in PROFILED if path.server not in world.missing]
        for number, path in enumerate(found, 1):
            tell(f"sampling {path.name}")
            stacks = _sampled(world, path, py_spy, seconds=seconds, number=number)
            (folder / f"{path.name}.folded").write_text(spell_folded(stacks))
    about = setting() | {"seconds": seconds, "samples_per_s": SAMPLES_PER_S}
    about |= {"load_average": load_before, "missing": dict(world.missing)}
    (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n")


def _sampled(
    world: World, path: Path, py_spy: FilePath, *, seconds: float, number: int
) -> dict[str, int]:
    raw = world.folder / "samples"
    command = [str(py_spy), "record", "--pid", str(world.pids[path.server, SMALL])]
    command += ["--rate", str(SAMPLES_PER_S), "--duration", f"{seconds:g}"]
    command += ["--format", "raw", "--function", "--output", str(raw)]
    load = Load(
        path.question,
        path.table,
        SMALL,
        USUAL_CONNECTIONS,
        keys=USUAL_KEYS,
        first_key=number * 10_000_000,
        seconds=seconds + LONGER_S,
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as spy:
        world.ask(path.server, load)
        try:
            said = spy.communicate(timeout=ENDS_WITHIN_S)[0].decode()
        except subprocess.TimeoutExpired:
            spy.kill()
            said = "it does not end"
    if spy.returncode:
        raise RuntimeError(f"py-spy failed: {said}")
    return read_folded(raw.read_text())
