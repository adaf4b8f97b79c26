"""Claims about `proxy.edge.garbage`."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy.edge import garbage as module
from proxy.edge.garbage import COPIES_SHARE, GROWN_BYTES, LOOK_S, Garbage, resident_bytes
from proxy.edge.log import configure


class Process:
    """A process of some size, with some copies."""

    def __init__(self) -> None:
        self.resident: int | None = 100 << 20
        self.copies = 0
        self.garbage = Garbage(lambda: self.copies, lambda: self.resident)

    def grow(self, by: int) -> None:
        """Take more memory."""
        assert self.resident is not None
        self.resident += by


class Ring:
    """An object that only the collector can free."""

    def __init__(self) -> None:
        self.itself = self


def old_garbage() -> weakref.ref[Ring]:
    """Leave a cycle behind that has survived a look at the young ones."""
    ring = Ring()
    gc.collect(0)
    return weakref.ref(ring)


@pytest.fixture
def process() -> Process:
    """Give a process whose size the test decides."""
    configure("info", "json")
    return Process()


@contextmanager
def sought(process: Process) -> Iterator[None]:
    """Check that everything is as before once the search is Python's again."""
    before = gc.get_threshold()
    with process.garbage.sought_rarely():
        yield
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


def test_only_the_young_are_looked_at_unasked(process: Process) -> None:
    """What is there at the start is left out, and no count makes Python look at all the rest."""
    with sought(process):
        young, *older = gc.get_threshold()
        assert young == module.YOUNG_MAX
        assert older == [module.NEVER, module.NEVER]
        assert gc.get_freeze_count() > 0


def test_garbage_is_found_once_the_process_has_grown(process: Process) -> None:
    """Not before it is worth it, and each time that it has grown by as much."""
    with sought(process):
        for _ in range(2):
            ring = old_garbage()
            process.grow(GROWN_BYTES - 1)
            assert not process.garbage.look()
            assert ring() is not None
            process.grow(1)
            assert process.garbage.look()
            assert ring() is None
        assert not process.garbage.look()


def test_copies_explain_growth(process: Process) -> None:
    """A near cache that fills is no reason to look for garbage."""
    with sought(process):
        process.copies = 1 << 30
        process.grow(int(COPIES_SHARE * process.copies) + GROWN_BYTES - 1)
        assert not process.garbage.look()
        process.grow(1)
        assert process.garbage.look()


def test_search_is_pythons_where_the_system_does_not_tell_sizes(process: Process) -> None:
    """Then nobody would ever look."""
    process.resident = None
    before = gc.get_threshold()
    with process.garbage.sought_rarely():
        assert gc.get_threshold() == before
        assert not process.garbage.look()


def test_nothing_is_looked_at_before_the_start(process: Process) -> None:
    """Nor after the end."""
    process.grow(10 * GROWN_BYTES)
    assert not process.garbage.look()


async def test_size_is_looked_at_now_and_then(process: Process) -> None:
    """Every few seconds, for ever."""
    slept: list[float] = []
    rings = []
    enough = asyncio.Event()

    async def sleep(delay_s: float) -> None:
        slept.append(delay_s)
        process.grow(GROWN_BYTES)
        rings.append(old_garbage())
        if len(slept) > 2:
            enough.set()
            await asyncio.Event().wait()

    with sought(process):
        watching = asyncio.ensure_future(process.garbage.watch(sleep))
        await enough.wait()
        watching.cancel()
        assert slept == [LOOK_S] * 3
        assert [ring() is None for ring in rings] == [True, True, False]


def test_size_of_this_process() -> None:
    """In bytes, as the system says it."""
    size = resident_bytes()
    assert size is not None
    assert 10 << 20 < size < 100 << 30


def test_no_size_where_there_is_no_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS."""
    monkeypatch.setattr(module, "_STATM", tmp_path / "statm")
    assert resident_bytes() is None
