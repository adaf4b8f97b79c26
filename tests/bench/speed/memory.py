"""What the proxy weighs: at start, with a full near cache, and an entry in the store."""

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
"""As by default, both."""
ASKED_AGAIN: Final = 5  # one in so many


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
    """Return what two bounded rooms may hold, and how much a process grew when each was filled.

    Each apart, since each has a bound of its own: first by more items than fit, then by a few that
    are asked for again and again, so that their answers stand.
    """
    near, plans = NEAR_BUDGET_BYTES, PLANS_BUDGET_BYTES
    return {
        "near_budget_bytes": near,
        "near_grown_bytes": _grown(world, items, near_bytes=near, plans_bytes=0),
        "plans_budget_bytes": plans,
        "plans_grown_bytes": _grown(world, items, near_bytes=0, plans_bytes=plans),
    }


def _grown(world: World, items: int, *, near_bytes: int, plans_bytes: int) -> int:
    with _proxy(world, near_bytes=near_bytes, plans_bytes=plans_bytes) as proxy:
        _read(world, 1, count=1000)  # connections and code are there
        before = resident_bytes(proxy.child.pid)
        for count in (items, *[items // ASKED_AGAIN] * 3):  # what is seen once may be refused
            _read(world, count, count=count)
        return resident_bytes(proxy.child.pid) - before


def _read(world: World, keys: int, *, count: int) -> None:
    question = Question.NEW if keys == count else Question.READ
    world.ask(WEIGHED, Load(question, "items", SMALL, USUAL_CONNECTIONS, keys=keys, count=count))


@contextmanager
def _proxy(
    world: World, *, near_bytes: int, plans_bytes: int = PLANS_BUDGET_BYTES
) -> Iterator[RunningProxy]:
    proxy = world.proxy(SMALL, near_bytes=near_bytes, limits__plans_bytes_max=plans_bytes)
    world.add(WEIGHED, SMALL, proxy.endpoint, proxy.child)
    try:
        yield proxy
    finally:
        proxy.child.stop()
