"""What is asked of whom: paths, and the cells of the table that the rounds fill.

A path is one way an answer comes about, with how often the store and DynamoDB's stand-in are asked
on it: a cell whose counts say otherwise has measured something else, and that is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

SMALL: Final = 300
SIZES: Final = (SMALL, 4096, 65536)
CONNECTIONS: Final = (1, 32, 1000)
USUAL_CONNECTIONS: Final = 32
PACED_CONNECTIONS: Final = 64
KEYS: Final = (1_000, 10_000, 100_000, 1_000_000)
USUAL_KEYS: Final = KEYS[0]


class Question(StrEnum):
    """What one request asks for."""

    READ = "read"  # GetItem of one of the cell's keys, at random
    NEW = "new"  # GetItem of a key that nobody asked for before
    WRITE = "write"  # PutItem of one of the cell's keys, at random


@dataclass(frozen=True, slots=True)
class Path:
    """One way that answers come about.

    Args:
        name: in results and on the page.
        title: what it is, in a few words.
        server: who answers (`proxy_server` of `world`, or a peer).
        table: what is asked about; the proxies have rules for each.
        question: what its requests ask for.
        write_share: the share of requests that are writes instead, 0 to 1.
        store_commands: least and most commands to the store per request.
        upstream_requests: least and most requests to DynamoDB's stand-in per request.
    """

    name: str
    title: str
    server: str
    table: str = "items"
    question: Question = Question.READ
    write_share: float = 0.0
    store_commands: tuple[float, float] = (0.0, 0.05)
    upstream_requests: tuple[float, float] = (0.0, 0.01)


FLOOR: Final = Path("floor", "nginx `return 200`", "nginx-floor")
PROXY_CACHE: Final = Path("proxy-cache", "nginx `proxy_cache` of POST bodies, hit", "nginx-cache")
OPEN_FILES: Final = Path(
    "proxy-cache-open", "nginx `proxy_cache` and `open_file_cache`, hit", "nginx-cache-open"
)
LUA: Final = Path("lua-redis", "nginx + Lua + Redis, hit", "nginx-lua", store_commands=(0.95, 1.05))
OBVIOUS: Final = Path(
    "aiohttp-redis-py",
    "aiohttp Application + redis-py, hit",
    "obvious",
    store_commands=(0.95, 1.05),
)
NEAR_HIT: Final = Path("near-hit", "dynaside, near hit", "dynaside-near")
REDIS_HIT: Final = Path("redis-hit", "dynaside, Redis hit", "dynaside", store_commands=(0.95, 2.05))
MISS: Final = Path(
    "miss",
    "dynaside, miss (fetch and fill)",
    "dynaside",
    table="misses",
    question=Question.NEW,
    store_commands=(1.95, 20.0),
    upstream_requests=(0.95, 1.05),
)
PASS: Final = Path(
    "pass-through",
    "dynaside, table off",
    "dynaside",
    table="passed",
    upstream_requests=(0.95, 1.05),
)
WRITE: Final = Path(
    "write",
    "dynaside, PutItem at `session`",
    "dynaside",
    table="written",
    question=Question.WRITE,
    store_commands=(1.95, 20.0),
    upstream_requests=(0.95, 1.05),
)
READS_95: Final = Path(
    "reads-95",
    "dynaside, 95 % reads, 5 % writes",
    "dynaside",
    table="mixed",
    write_share=0.05,
    store_commands=(0.95, 20.0),
    upstream_requests=(0.001, 0.3),
)
READS_50: Final = replace(
    READS_95,
    name="reads-50",
    title="dynaside, half reads, half writes",
    write_share=0.5,
    upstream_requests=(0.2, 1.05),
)
PATHS: Final = (
    FLOOR,
    PROXY_CACHE,
    OPEN_FILES,
    LUA,
    OBVIOUS,
    NEAR_HIT,
    REDIS_HIT,
    MISS,
    PASS,
    WRITE,
    READS_95,
    READS_50,
)
HITS: Final = (NEAR_HIT, REDIS_HIT)
MIXES: Final = (READS_95, READS_50)


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure to measure.

    Args:
        path: which way.
        size_bytes: of an answer, about.
        connections: keep-alive connections of the load.
        keys: distinct keys that are asked for.
        half_load: whether requests come at half the pace that the path can take.
    """

    path: Path
    size_bytes: int = SMALL
    connections: int = USUAL_CONNECTIONS
    keys: int = USUAL_KEYS
    half_load: bool = False


def cells() -> Iterator[Cell]:
    """Yield every cell; a path's usual one comes before those that build on it."""
    for path in PATHS:
        yield Cell(path)
        if path in MIXES:
            continue
        yield from (Cell(path, size_bytes=size) for size in SIZES if size != SMALL)
        yield from (
            Cell(path, connections=count) for count in CONNECTIONS if count != USUAL_CONNECTIONS
        )
        if path in HITS:
            yield from (Cell(path, keys=keys) for keys in KEYS if keys != USUAL_KEYS)
            yield Cell(path, connections=PACED_CONNECTIONS, half_load=True)


@dataclass(frozen=True, slots=True)
class Effort:
    """How much a run does.

    Args:
        seconds: of each turn that is measured by time.
        answers: after so many a turn ends, however long it took; 0 for turns by time.
        rounds: turns of each cell.
        keys_max: cells with more keys ask for so many.
        connections_max: the same for connections.
        stampede_readers: misses at once on one item.
        near_items: items read into the near cache to see what it weighs.
    """

    seconds: float
    answers: int
    rounds: int
    keys_max: int
    connections_max: int
    stampede_readers: int
    near_items: int


FULL: Final = Effort(2.0, 0, 5, KEYS[-1], CONNECTIONS[-1], 10_000, 100_000)
SMOKE: Final = Effort(0.2, 100, 1, 2_000, 64, 400, 500)
"""For the shape of a result, never for its numbers."""
