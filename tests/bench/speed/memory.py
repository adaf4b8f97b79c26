"""What the proxy weighs: at start, with a full near cache or memo of plans; and a stored entry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from proxy.core.cache_key import KeySpace
from proxy.core.values import TableName
from tests.bench.speed.costs import cpu_us, resident_bytes
from tests.bench.speed.load import Load, answer_of, key_of
from tests.bench.speed.plan import SMALL, USUAL_CONNECTIONS, Question
from tests.bench.speed.world import World, missing_near
from tests.support.proxy_process import REGION, RunningProxy
from tests.support.raw_store import RawStore

WEIGHED: Final = "weighed"
NEAR_BUDGET_BYTES: Final = 32 << 20
PLANS_BUDGET_BYTES: Final = 16 << 20
COPY_BYTES_MAX: Final = 2_000
"""More than a copy of a small item is charged: so many times fit for sure."""


def weigh(world: World, near_items: int) -> dict[str, Any]:
    """Return bytes and CPU seconds; `near_*` only where this version has a near cache.

    Args:
        world: where entries of the small items lie in the store.
        near_items: items to read into the near cache; a full run's are more than fit.
    """
    found: dict[str, Any] = {}
    with _proxy(world, near_bytes=0) as proxy:
        found["start_cpu_s"] = round(cpu_us([proxy.child.pid]) / 1e6, 2)
        found["start_bytes"] = resident_bytes(proxy.child.pid)
    found["entry_overhead_bytes"] = entry_overhead(world)
    found |= weigh_plans(world, near_items)
    if not missing_near():
        found |= weigh_near(world, near_items)
    return found


def entry_overhead(world: World) -> int:
    """Return what a small entry takes in the store over its answer's body and its key."""
    space = KeySpace(world.namespaces[SMALL], REGION)
    name = space.item(TableName("items"), key_of(0)).cache_key
    with RawStore(world.store.address) as raw:
        used = raw.run("MEMORY", "USAGE", name, "SAMPLES", 0)
    assert used is not None, "the first key was read through a proxy"
    return int(used) - len(answer_of(SMALL)) - len(name)


def weigh_near(world: World, items: int) -> dict[str, Any]:
    """Return a near cache's budget, and how much the process grew when it was filled.

    Without the memo of plans, which has a budget of its own. Most copies have been hit: those keep
    their answer too.
    """
    with _proxy(world, near_bytes=NEAR_BUDGET_BYTES, plans_bytes=0) as proxy:
        before = _warm_bytes(world, proxy)
        for count in (items, min(items, NEAR_BUDGET_BYTES // COPY_BYTES_MAX)):
            for _ in range(3):  # what is seen once may be refused
                _read(world, count, count=count)
        grown = resident_bytes(proxy.child.pid) - before
    return {"near_budget_bytes": NEAR_BUDGET_BYTES, "near_grown_bytes": grown}


def weigh_plans(world: World, items: int) -> dict[str, Any]:
    """Return the budget of the memo of plans, and how much the process grew when it was filled."""
    with _proxy(world, near_bytes=0, plans_bytes=PLANS_BUDGET_BYTES) as proxy:
        before = _warm_bytes(world, proxy)
        _read(world, items, count=items)
        grown = resident_bytes(proxy.child.pid) - before
    return {"plans_budget_bytes": PLANS_BUDGET_BYTES, "plans_grown_bytes": grown}


def _warm_bytes(world: World, proxy: RunningProxy) -> int:
    """Return what a process takes once connections and code are there."""
    _read(world, 1, count=1000)
    return resident_bytes(proxy.child.pid)


def _read(world: World, keys: int, *, count: int) -> None:
    question = Question.NEW if keys == count else Question.READ
    world.ask(WEIGHED, Load(question, "items", SMALL, USUAL_CONNECTIONS, keys=keys, count=count))


@contextmanager
def _proxy(world: World, *, near_bytes: int, plans_bytes: int = 0) -> Iterator[RunningProxy]:
    proxy = world.proxy(SMALL, near_bytes=near_bytes, limits__plans_bytes_max=plans_bytes)
    world.add(WEIGHED, SMALL, proxy.endpoint, proxy.child)
    try:
        yield proxy
    finally:
        proxy.child.stop()
