"""Compares how entries may lie in the store: `python -m tests.bench.layouts --out FILE`.

Items of several sizes and numbers of attributes are stored in each way on a Valkey of our own, then
read, whole and two attributes of them, through the store's adapter up to the answer's body and
checksum: all of a hit but HTTP. Ways take turns in every round, so that whatever else the machine
does meets them alike; what is told is the median of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Final

import uvloop

from proxy.core.drafting import draft_entry
from proxy.core.json_text import compact
from proxy.core.operations import GetItem, decode_get
from proxy.core.policy import BODY_BYTES_MAX, FencePolicy, TablePolicy
from proxy.core.record import EntryDraft
from proxy.core.responses import get_body, read_get_reply
from proxy.core.values import Layout, TableName
from proxy.edge.clock import SystemClock
from proxy.edge.redis_store import RedisStore
from proxy.embedded.valkey import RunningStore, start_valkey
from proxy.flow.exchange import checksum
from tests.bench.setting import setting
from tests.support.live_lanes import KEYS, live_lanes, options
from tests.support.raw_store import RawStore

KEY: Final = {"pk": {"S": "a"}}
AT_ONCE: Final = 32  # readers that share each round trip

POLICY: Final = TablePolicy(fresh_ttl_s=86400.0, entry_bytes_max=BODY_BYTES_MAX)
WAYS: Final = {
    "blob": POLICY,
    "blob+zstd": replace(POLICY, compress_above_bytes=0),
    "hash": replace(POLICY, layout=Layout.HASH),
}
QUESTIONS: Final = {"whole": {}, "2 attributes": {"ProjectionExpression": "a000, a001"}}


@dataclass(frozen=True, slots=True)
class Shape:
    """What an item is like: bytes of its answer, about, and its attributes."""

    body_bytes: int
    attributes: int


SHAPES: Final = (
    Shape(300, 5),
    Shape(4096, 5),
    Shape(4096, 50),
    Shape(65536, 5),
    Shape(65536, 50),
    Shape(65536, 500),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One cell of the table: medians per read, and what the store holds."""

    body_bytes: int
    attributes: int
    question: str
    way: str
    proxy_cpu_us: float
    store_cpu_us: float
    store_bytes: int


def body_of(shape: Shape) -> bytes:
    """Return an answer of this shape: words of a small language, and some numbers."""
    chance = random.Random(shape.body_bytes * 1000 + shape.attributes)
    letters = "etaoinshrdlu"
    words = ["".join(chance.choices(letters, k=chance.randint(2, 9))) for _ in range(800)]
    numbers = shape.attributes // 5
    texts_bytes = shape.body_bytes - numbers * len('"a000":{"N":"123456789"},')
    room = texts_bytes // (shape.attributes - numbers) - len('"a000":{"S":""},')

    def value(index: int) -> dict[str, str]:
        if index % 5 == 3:
            return {"N": str(chance.randrange(10**9))}
        text = " ".join(chance.choice(words) for _ in range(room // 4 + 1))
        return {"S": text[:room]}

    return compact({"Item": {f"a{i:03}": value(i) for i in range(shape.attributes)}})


class Bench:
    """Every shape, stored in every way.

    Args:
        store: the adapter under test.
        raw: the same store, to ask it about itself.
    """

    def __init__(self, store: RedisStore, raw: RawStore) -> None:
        self._store = store
        self._raw = raw
        self._clock = SystemClock()

    async def fill(self, shape: Shape, way: str) -> int:
        """Store an item and return the bytes that the store needs for it."""
        found = read_get_reply(body_of(shape))
        assert found is not None, "an answer of our own"
        draft = draft_entry(found, WAYS[way], age_s=0.0, chance=0.0)
        assert isinstance(draft, EntryDraft), draft
        identity, token = KEYS.item(table_of(shape, way), KEY), self._clock.token()
        generation = (await self._store.lookup(identity)).generation
        await self._store.lease(identity, token=token, generation=generation, force=False)
        filled = await self._store.fill(identity, token=token, generation=generation, draft=draft)
        assert filled, "nobody else is here"
        return int(self._raw.run("MEMORY", "USAGE", identity.cache_key, "SAMPLES", 0))

    async def read(self, shape: Shape, way: str, question: str, reads: int) -> tuple[float, float]:
        """Read an item many times; return the proxy's and the store's CPU µs per read."""
        get = get_of(shape, way, question)
        identity = KEYS.item(get.table, get.key)

        async def once() -> None:
            entry = (await self._store.lookup(identity, get.names)).entry
            assert entry is not None, "the entry has gone"
            body = get_body(get, entry.body, None)
            if body is not entry.body:
                checksum(body)

        await at_once(once, AT_ONCE)  # connections and caches are warm
        store_s, proxy_s = self._store_cpu_s(), time.process_time()
        await at_once(once, reads)
        proxy_s = time.process_time() - proxy_s
        return 1e6 * proxy_s / reads, 1e6 * (self._store_cpu_s() - store_s) / reads

    def _store_cpu_s(self) -> float:
        about = self._raw.run("INFO", "cpu").decode().splitlines()
        used = dict(line.split(":") for line in about if ":" in line)
        return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


async def at_once(work: Callable[[], Awaitable[None]], count: int) -> None:
    """Do a piece of work that often, AT_ONCE at a time."""
    for start in range(0, count, AT_ONCE):
        await asyncio.gather(*(work() for _ in range(min(AT_ONCE, count - start))))


def table_of(shape: Shape, way: str) -> TableName:
    """Name a table by what is in it."""
    return TableName(f"{way.replace('+', '.')}-{shape.body_bytes}-{shape.attributes}")


def layout_of(table: TableName) -> Layout:
    """Tell a table's layout by its name."""
    return Layout.HASH if table.startswith("hash") else Layout.BLOB


def get_of(shape: Shape, way: str, question: str) -> GetItem:
    """Return the decoded request of a question."""
    request = {"TableName": table_of(shape, way), "Key": KEY, **QUESTIONS[question]}
    return decode_get(compact(request))


async def measure(
    running: RunningStore, shapes: Sequence[Shape], *, reads: int, rounds: int
) -> list[Measured]:
    """Measure every cell `rounds` times, in turns, and return the medians."""
    cells = [(shape, question, way) for shape in shapes for question in QUESTIONS for way in WAYS]
    once = options(running.url, heartbeat_s=3600.0, heartbeat_age_s_max=7200.0)
    async with live_lanes(once) as live:
        await live.until(lambda: live.lanes.serving)
        store = RedisStore(live.routes, fence=FencePolicy(), clock=live.clock, layout_of=layout_of)
        with RawStore(running.address) as raw:
            bench = Bench(store, raw)
            held = {(shape, way): await bench.fill(shape, way) for shape in shapes for way in WAYS}
            taken: dict[tuple[Shape, str, str], list[tuple[float, float]]]
            taken = {cell: [] for cell in cells}
            for _ in range(rounds):
                for shape, question, way in cells:
                    times = await bench.read(shape, way, question, reads)
                    taken[shape, question, way].append(times)
    return [
        Measured(
            shape.body_bytes,
            shape.attributes,
            question,
            way,
            round(median(each[0] for each in times), 1),
            round(median(each[1] for each in times), 1),
            held[shape, way],
        )
        for (shape, question, way), times in taken.items()
    ]


def lines(cells: Sequence[Measured]) -> Iterator[str]:
    """Yield the table, each way beside `blob`."""
    yield f"{'item':>16} {'question':>13} {'way':>10} {'proxy µs':>9} {'store µs':>9} {'bytes':>7}"
    for cell in cells:
        item = f"{cell.body_bytes} B / {cell.attributes}"
        yield (
            f"{item:>16} {cell.question:>13} {cell.way:>10} {cell.proxy_cpu_us:9.1f}"
            f" {cell.store_cpu_us:9.1f} {cell.store_bytes:7d}"
        )


def run(shapes: Sequence[Shape], *, reads: int, rounds: int) -> dict[str, Any]:
    """Measure on a Valkey of our own over a unix socket; return the result file's content."""
    with closing(start_valkey(unix_socket=True)) as running:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            cells = runner.run(measure(running, shapes, reads=reads, rounds=rounds))
        with RawStore(running.address) as raw:
            about = raw.run("INFO", "server").decode().splitlines()
    result = setting("redis", "hiredis", "zstandard", "uvloop")
    result["versions"] |= dict(line.split(":") for line in about if line.startswith("valkey_ver"))
    result |= {"reads": reads, "rounds": rounds, "at_once": AT_ONCE}
    return result | {"cells": [asdict(cell) for cell in cells]}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where the result goes, as JSON")
    parser.add_argument("--reads", type=int, default=1024, help="reads per cell and round")
    parser.add_argument("--rounds", type=int, default=7, help="rounds; their median is told")
    parser.add_argument("--shapes", type=int, default=len(SHAPES), help="only the first so many")
    given = parser.parse_args(arguments)
    result = run(SHAPES[: given.shapes], reads=given.reads, rounds=given.rounds)
    print("\n".join(lines([Measured(**cell) for cell in result["cells"]])))  # noqa: T201
    given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
