"""The targets, and whether a result meets them: ratios within one run, never a figure alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from tests.bench.speed.plan import (
    CONNECTIONS,
    FLOOR,
    HITS,
    KEYS,
    LUA,
    MISS,
    NEAR_HIT,
    OBVIOUS,
    PACED_CONNECTIONS,
    PASS,
    PROXY_CACHE,
    REDIS_HIT,
    SIZES,
    SMALL,
    USUAL_CONNECTIONS,
    USUAL_KEYS,
    WRITE,
    Path,
)

MIB: Final = 1 << 20
SDK: Final = "aiobotocore"
STORE: Final = "redis-benchmark"


class Unmeasured(Exception):
    """A result has no such figure; the message says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is wanted.

    Args:
        what: which figure.
        limit: that it should not pass.
        at_least: whether the limit is the least instead of the most.
        unit: of figure and limit; empty for a ratio.
        figure: takes it from a result.
    """

    what: str
    limit: float
    at_least: bool
    unit: str
    figure: Callable[[Figures], float]


@dataclass(frozen=True, slots=True)
class Judged:
    """A target and what a result says of it.

    Args:
        target: the target.
        figure: what was measured; None where it was not.
        why: the reason for None.
    """

    target: Target
    figure: float | None
    why: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where that is not known."""
        if self.figure is None:
            return None
        if self.target.at_least:
            return self.figure >= self.target.limit
        return self.figure <= self.target.limit

    @property
    def off_by(self) -> float:
        """How many times further than its limit a missed figure is, or nearer one that is met."""
        assert self.figure is not None, "measured"
        if self.target.at_least:
            return self.target.limit / self.figure if self.figure > 0 else float("inf")
        return self.figure / self.target.limit


class Figures:
    """Looks things up in a result.

    Args:
        result: the content of a result file.
    """

    def __init__(self, result: Mapping[str, Any]) -> None:
        self._result = result
        self._rows = {_place(row): row for row in result["cells"]}

    def cell(self, path: Path, figure: str, **place: Any) -> float:
        """Return a figure of a path's usual cell, or of that which differs as told."""
        if path.name in self._result["missing"]:
            raise Unmeasured(self._result["missing"][path.name])
        usual = {
            "path": path.name,
            "size_bytes": SMALL,
            "connections": USUAL_CONNECTIONS,
            "keys": USUAL_KEYS,
            "half_load": False,
        }
        return float(self._rows[_place(usual | place)][figure])

    def cpu(self, path: Path, **place: Any) -> float:
        """Return a path's CPU µs per request."""
        return self.cell(path, "cpu_us", **place)

    def per_sdk_call(self, path: Path) -> float:
        """Return a path's CPU as a share of what a call costs an application with aiobotocore."""
        return self.cpu(path) / float(self._result[SDK]["cpu_us"])

    def tail(self, path: Path) -> float:
        """Return how many medians the slowest hundredth takes at half of the path's peak."""
        half = {"connections": PACED_CONNECTIONS, "half_load": True}
        return self.cell(path, "p99_us", **half) / self.cell(path, "p50_us", **half)

    def growth_with_size(self, path: Path, size_bytes: int) -> float:
        """Return the ratio to the least that HTTP costs at one size, over that at the usual one."""
        at_size = self.cpu(path, size_bytes=size_bytes) / self.cpu(FLOOR, size_bytes=size_bytes)
        return at_size / (self.cpu(path) / self.cpu(FLOOR))

    def spread_over_keys(self, path: Path) -> float:
        """Return how unlike a path's CPU is with few and with many keys."""
        return spread([self.cpu(path, keys=keys) for keys in KEYS])

    def spread_over_connections(self, path: Path) -> float:
        """Return how unlike a path's CPU is with one and with many connections."""
        return spread([self.cpu(path, connections=count) for count in CONNECTIONS])

    def added_ms(self, path: Path) -> float:
        """Return how much longer a lone client waits than without a proxy, at the median."""
        direct = self.cell(FLOOR, "p50_us", connections=1)
        return (self.cell(path, "p50_us", connections=1) - direct) / 1000

    def store_trip_ms(self) -> float:
        """Return one round trip to the store, for a lone client."""
        if STORE in self._result["missing"]:
            raise Unmeasured(self._result["missing"][STORE])
        return float(self._result[STORE][0]["p50_us"]) / 1000

    def weight(self, what: str) -> float:
        """Return a figure of `memory`."""
        if what.startswith("near") and NEAR_HIT.name in self._result["missing"]:
            raise Unmeasured(self._result["missing"][NEAR_HIT.name])
        return float(self._result["memory"][what])

    def upstream_reads(self) -> float:
        """Return what DynamoDB saw of the stampede."""
        return float(self._result["stampede"]["upstream_reads"])


def spread(figures: list[float]) -> float:
    """Return how far figures lie around their middle, as a share of it: 0.2 is ± 20 %."""
    least, most = min(figures), max(figures)
    return (most - least) / (most + least)


def targets() -> Iterator[Target]:
    """Yield every target, in the order of the page."""
    yield from _hit_targets()
    yield from _call_targets()
    yield from _shape_targets()
    yield from _whole_targets()


def judge(result: Mapping[str, Any] | None) -> list[Judged]:
    """Hold a result against every target; None is a result that is not there."""
    if result is None:
        return [Judged(target, None, "no result is stored") for target in targets()]
    figures = Figures(result)
    judged = []
    for target in targets():
        try:
            judged.append(Judged(target, target.figure(figures)))
        except Unmeasured as error:
            judged.append(Judged(target, None, str(error)))
    return judged


def _at_most(what: str, limit: float, figure: Callable[[Figures], float], unit: str = "") -> Target:
    return Target(what, limit, at_least=False, unit=unit, figure=figure)


def _at_least(what: str, limit: float, figure: Callable[[Figures], float]) -> Target:
    return Target(what, limit, at_least=True, unit="", figure=figure)


def _hit_targets() -> Iterator[Target]:
    yield _at_most(
        "near hit: CPU per request / nginx `return 200`",
        1.3,
        lambda found: found.cpu(NEAR_HIT) / found.cpu(FLOOR),
    )
    yield _at_least(
        "near hit: throughput / nginx `proxy_cache`",
        1.5,
        lambda found: (
            found.cell(NEAR_HIT, "requests_per_s") / found.cell(PROXY_CACHE, "requests_per_s")
        ),
    )
    yield _at_most(
        "Redis hit: CPU per request / nginx `return 200`",
        2.2,
        lambda found: found.cpu(REDIS_HIT) / found.cpu(FLOOR),
    )
    yield _at_least(
        "Redis hit: CPU of nginx + Lua + Redis / ours",
        1.3,
        lambda found: found.cpu(LUA) / found.cpu(REDIS_HIT),
    )
    yield _at_least(
        "Redis hit: CPU of aiohttp Application + redis-py / ours",
        7.0,
        lambda found: found.cpu(OBVIOUS) / found.cpu(REDIS_HIT),
    )


def _call_targets() -> Iterator[Target]:
    for path, name in ((MISS, "miss"), (PASS, "pass-through")):
        yield _at_most(
            f"{name}: CPU per request / aiobotocore `get_item`",
            1 / 6,
            partial(Figures.per_sdk_call, path=path),
        )
        yield _at_most(
            f"{name}: latency added, p50", 0.25, partial(Figures.added_ms, path=path), "ms"
        )
    yield _at_most(
        "write (`session`): latency added, p50, beyond two round trips to the store",
        0.2,
        lambda found: found.added_ms(WRITE) - 2 * found.store_trip_ms(),
        "ms",
    )


def _shape_targets() -> Iterator[Target]:
    for path, name in zip(HITS, ("near hit", "Redis hit"), strict=True):
        yield _at_most(
            f"{name}: p99 / p50 at half of its peak", 5.0, partial(Figures.tail, path=path)
        )
        for size in SIZES[1:]:
            yield _at_most(
                f"{name}: ratio to nginx `return 200` at {size:,} B / the same at {SMALL} B",
                1.5,
                partial(Figures.growth_with_size, path=path, size_bytes=size),
            )
        yield _at_most(
            f"{name}: CPU from {KEYS[0]:,} to {KEYS[-1]:,} keys, spread (±)",
            0.2,
            partial(Figures.spread_over_keys, path=path),
        )
        yield _at_most(
            f"{name}: CPU from {CONNECTIONS[0]} to {CONNECTIONS[-1]:,} connections, spread (±)",
            0.2,
            partial(Figures.spread_over_connections, path=path),
        )


def _whole_targets() -> Iterator[Target]:
    yield _at_most("memory at start", 80.0, lambda found: found.weight("start_bytes") / MIB, "MiB")
    yield _at_most("CPU to start", 1.5, lambda found: found.weight("start_cpu_s"), "s")
    yield _at_most(
        "growth with a full near cache / its budget",
        1.15,
        lambda found: found.weight("near_grown_bytes") / found.weight("near_budget_bytes"),
    )
    yield _at_most(
        "growth with all remembered plans / their budget",
        1.15,
        lambda found: found.weight("plans_grown_bytes") / found.weight("plans_budget_bytes"),
    )
    yield _at_most(
        "entry in the store, over body and key",
        160.0,
        lambda found: found.weight("entry_overhead_bytes"),
        "B",
    )
    yield _at_most(
        "stampede: reads that DynamoDB saw",
        1.0,
        lambda found: found.upstream_reads(),
    )


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    names = ("path", "size_bytes", "connections", "keys", "half_load")
    return tuple(row[name] for name in names)
