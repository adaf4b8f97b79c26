"""Measures what the near cache keeps: `python -m tests.bench.near_hit_ratio --out FILE`.

Its hit ratio on traces of keys, beside W-TinyLFU of theine and LRU and LFU of cachetools with room
for as many copies; then what one step costs, and how much the process grows by a full cache.
Ratios are counted on fixed traces, after a quarter of each to warm up; times are the best of a few.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Protocol

import cachetools
import theine

from proxy.core.near_cache import NearCache
from proxy.core.near_copy import COPY_OVERHEAD_BYTES, Copy, NearTable, Told
from proxy.core.record import Entry
from proxy.core.values import CacheKey, Digest, Generation, Incarnation
from tests.bench.setting import setting

ITEMS: Final = 100_000
ROOMS: Final = (1_000, 10_000)
"""Copies that there is room for: 1 % and 10 % of the items."""

BODY_BYTES: Final = 300
COPY_BYTES: Final = COPY_OVERHEAD_BYTES + BODY_BYTES
SKEW: Final = 0.9
SCAN: Final = 10_000
BETWEEN_SCANS: Final = 20_000
GROWTH_BYTES: Final = (100, 300, 4_000, 64_000)
BUDGET_BYTES: Final = 64 * 1024 * 1024
_PAGE_BYTES: Final = 4096
_TRIES: Final = 5


class Kept(Protocol):
    """Any cache: asks for a key, and puts what was not there."""

    def asks(self, key: CacheKey) -> bool:
        """Tell whether the key was there; afterwards it may be."""
        ...


class _Connection:
    """Tells of everything at every moment."""

    proven_s = serves_until_s = float("inf")


class Near:
    """The near cache, with copies of one size."""

    def __init__(self, room: int) -> None:
        # What is remembered of copies that left is a part of the budget.
        self.cache = NearCache(bytes_max=room * COPY_BYTES, table_share_max=1.0)
        self._table = NearTable()
        self._told = (Told(_Connection()),)

    def asks(self, key: CacheKey) -> bool:
        """See `Kept`."""
        if self.cache.find(key) is not None:
            return True
        self.put(key, _body(BODY_BYTES))
        return False

    def put(self, key: CacheKey, body: bytes) -> None:
        """Put a copy."""
        self.cache.put(key, self.copy(body))

    def copy(self, body: bytes) -> Copy:
        """Return a copy of its own entry."""
        return Copy(_entry(body), self._table, self._told, 0.0)


class TinyLfu:
    """W-TinyLFU of theine."""

    def __init__(self, room: int) -> None:
        self._cache: theine.Cache[CacheKey, bool] = theine.Cache(room)

    def asks(self, key: CacheKey) -> bool:
        """See `Kept`."""
        _, there = self._cache.get(key)
        if not there:
            self._cache.set(key, True)
        return bool(there)


class Tools:
    """A cache of cachetools."""

    def __init__(self, cache: cachetools.Cache[CacheKey, bool]) -> None:
        self._cache = cache

    def asks(self, key: CacheKey) -> bool:
        """See `Kept`."""
        if self._cache.get(key) is not None:
            return True
        self._cache[key] = True
        return False


CACHES: Final[dict[str, Callable[[int], Kept]]] = {
    "near": Near,
    "theine": TinyLfu,
    "lru": lambda room: Tools(cachetools.LRUCache(room)),
    "lfu": lambda room: Tools(cachetools.LFUCache(room)),
}


@dataclass(frozen=True, slots=True)
class Ratio:
    """One cell: the hit ratio of one cache on one trace, and its share of theine's."""

    trace: str
    room: int
    cache: str
    hit_ratio: float
    of_theine: float


def zipf(items: int, length: int) -> list[int]:
    """Return keys by rank, drawn with Zipf's law."""
    weights = list(itertools.accumulate(1 / (rank + 1) ** SKEW for rank in range(items)))
    return random.Random(1).choices(range(items), cum_weights=weights, k=length)


def polluted(items: int, length: int) -> list[int]:
    """Return the same with scans in between, of items that nobody asks for a second time."""

    def mixed() -> Iterator[int]:
        asked, scanned = iter(zipf(items, length)), itertools.count(items)
        while True:
            yield from itertools.islice(asked, BETWEEN_SCANS)
            yield from itertools.islice(scanned, SCAN)

    return list(itertools.islice(mixed(), length))


def ratios(items: int, length: int, rooms: Sequence[int]) -> list[Ratio]:
    """Play every trace on every cache."""
    found = []
    for name, trace in (("zipf-0.9", zipf(items, length)), ("scans", polluted(items, length))):
        keys = [_key(number) for number in range(max(trace) + 1)]
        for room in rooms:
            counted = {each: _hit_ratio(make(room), trace, keys) for each, make in CACHES.items()}
            for cache, ratio in counted.items():
                of_theine = round(ratio / counted["theine"], 3)
                found.append(Ratio(name, room, cache, round(ratio, 4), of_theine))
    return found


def _hit_ratio(cache: Kept, trace: Sequence[int], keys: Sequence[CacheKey]) -> float:
    warm = len(trace) // 4
    for number in trace[:warm]:
        cache.asks(keys[number])
    hits = sum(cache.asks(keys[number]) for number in trace[warm:])
    return hits / (len(trace) - warm)


def steps_ns(room: int) -> dict[str, int]:
    """Return what one hit, and one put into a full cache, take in nanoseconds of CPU."""
    near, keys = Near(room), [_key(number) for number in range(4 * room)]
    for key in keys[: room // 2]:
        near.put(key, _body(BODY_BYTES))
    here, copies = keys[: room // 2], [near.copy(_body(BODY_BYTES)) for _ in keys]

    def finds() -> int:
        for key in here:
            near.cache.find(key)
        return len(here)

    def puts() -> int:
        for key, copy in zip(keys, copies, strict=True):
            near.cache.put(key, copy)
        return len(keys)

    return {"hit": _best_ns(finds), "put": _best_ns(puts)}


def _best_ns(work: Callable[[], int]) -> int:
    best = float("inf")
    for _ in range(_TRIES):
        before = time.process_time_ns()
        count = work()
        best = min(best, (time.process_time_ns() - before) / count)
    return round(best)


def growth(body_bytes: int, budget_bytes: int) -> float:
    """Return by how much this process grows with a full cache, as a share of what it accounts.

    Only in a process of its own: what was freed before would be used again.
    """
    near, turnovers = Near(budget_bytes // COPY_BYTES), 2
    before, empty = _resident_bytes(), near.cache.kept_bytes
    copies = turnovers * budget_bytes // (COPY_OVERHEAD_BYTES + body_bytes)
    for number in range(max(copies, 1)):
        near.put(_key(number), os.urandom(body_bytes))
    return (_resident_bytes() - before) / (near.cache.kept_bytes - empty)


def _resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


def _grown(body_bytes: int, budget_bytes: int) -> float:
    call = f"growth({body_bytes}, {budget_bytes})"
    code = f"from tests.bench.near_hit_ratio import growth; print({call})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return round(float(done.stdout), 3)


def _key(number: int) -> CacheKey:
    hashed = blake2b(str(number).encode(), digest_size=16).digest()
    return CacheKey(b"ds:dynaside:{%04x}:%s" % (number % 2**16, hashed))


def _body(size: int) -> bytes:
    return bytes(size)


def _entry(body: bytes) -> Entry:
    """Return an entry of which nothing is shared with another, as a decoded record is."""
    fresh = os.urandom(32)
    now_ms = 1_700_000_000_000 + fresh[0]
    return Entry(
        Incarnation(fresh[:8]),
        Generation(fresh[8:16]),
        Digest(fresh[16:]),
        filled_ms=now_ms,
        soft_ms=now_ms + 300_000,
        hard_ms=now_ms + 330_000,
        negative=False,
        item_bytes=len(body) + 257,
        crc32=int.from_bytes(fresh[:4], "big"),
        body=body,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--length", type=int, default=1_000_000)
    parser.add_argument("--rooms", type=int, nargs="+", default=ROOMS)
    parser.add_argument("--budget", type=int, default=BUDGET_BYTES)
    given = parser.parse_args(arguments)
    cells = ratios(given.items, given.length, given.rooms)
    result: dict[str, Any] = {
        **setting("cachetools", "theine"),
        "items": given.items,
        "length": given.length,
        "cells": [asdict(cell) for cell in cells],
        "steps_ns": steps_ns(max(given.rooms)),
        "growth": {str(size): _grown(size, given.budget) for size in GROWTH_BYTES},
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    lines = [
        f"{cell.trace:9} room {cell.room:6} {cell.cache:7} {cell.hit_ratio:.4f}"
        f" {cell.of_theine:.3f} of theine"
        for cell in cells
    ]
    costs = f"ns {result['steps_ns']}, growth of the process {result['growth']}"
    print("\n".join([*lines, costs]))  # noqa: T201


if __name__ == "__main__":
    main()
