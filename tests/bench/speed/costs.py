"""What processes cost: CPU time and memory, children included; and on which core they run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Cores:
    """Where servers run, and where everything else; the same where the machine has only one."""

    server: int
    load: int

    @classmethod
    def of_this_machine(cls) -> Self:
        """Take the first and the last core that we may use."""
        usable = sorted(os.sched_getaffinity(0))
        return cls(usable[0], usable[-1])


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Run what is started inside the block on one core: children inherit it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def family(pid: int) -> Iterator[int]:
    """Yield a process and all of its descendants that live."""
    yield pid
    for task in _tasks(pid):
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        for child in children:
            yield from family(int(child))


def cpu_us(pids: Iterable[int]) -> float:
    """Return the CPU time, in µs, that processes, their threads and children have used.

    Threads that have ended are not in it: servers keep theirs.
    """
    used_ns = 0
    for pid in pids:
        for each in family(pid):
            used_ns += sum(_task_ns(task) for task in _tasks(each))
    return used_ns / 1000


def resident_bytes(pid: int) -> int:
    """Return the memory that a process and its children occupy; what they share counts twice."""
    total = 0
    for each in family(pid):
        lines = (_PROC / str(each) / "status").read_text().splitlines()
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))
    return total


def _tasks(pid: int) -> list[Path]:
    try:
        return list((_PROC / str(pid) / "task").iterdir())
    except OSError:
        return []


def _task_ns(task: Path) -> int:
    """Return one thread's time on a core, which the scheduler counts in nanoseconds."""
    try:
        return int((task / "schedstat").read_text().split()[0])
    except OSError:
        return 0
