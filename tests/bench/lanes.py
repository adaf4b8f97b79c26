"""Compares a lane with what it was before: `python -m tests.bench.lanes --out FILE`.

A small entry lies on a Valkey of our own. Readers, 32 at a time, ask for it and its table's record
as a hit does, over either lane: bare, and as the adapter's whole lookup. The ways take turns in
every round, in one process; what is told is the median of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from statistics import median
from typing import Any, Final, cast

import uvloop

from proxy.core.drafting import draft_entry
from proxy.core.fence import ItemIdentity
from proxy.core.policy import FencePolicy
from proxy.core.record import EntryDraft
from proxy.core.responses import read_get_reply
from proxy.core.values import Layout, TableName
from proxy.edge.clock import SystemClock
from proxy.edge.redis_command import Command, Replies
from proxy.edge.redis_connection import Access, url_connect
from proxy.edge.redis_courier import Routes
from proxy.edge.redis_lane import Lane
from proxy.edge.redis_primary import PrimaryView
from proxy.edge.redis_store import RedisStore
from proxy.embedded.valkey import RunningStore, start_valkey
from tests.bench.former_lane import FormerLane
from tests.bench.layouts import POLICY, Shape, body_of
from tests.bench.setting import setting
from tests.support.live_lanes import KEYS, LIMITS, live_lanes, options

AT_ONCE: Final = 32
ITEM: Final = KEYS.item(TableName("small"), {"pk": {"S": "a"}})
LANES: Final[dict[str, Callable[..., Any]]] = {"former": FormerLane, "lane": Lane}


class OneLane:
    """Routes that lead to one lane, whatever is asked.

    Args:
        lane: of either kind.
        view: of its connection.
    """

    def __init__(self, lane: Any, view: PrimaryView) -> None:
        self.picked = (lane, view)

    def lanes_for(self, _: object) -> OneLane:
        """Return the lanes to every record."""
        return self

    def pick_serving(self) -> tuple[Any, PrimaryView]:
        """Return the lane."""
        return self.picked


@asynccontextmanager
async def lane_up(kind: Callable[..., Any], url: str) -> Any:
    """Keep a lane connected while the block runs."""
    up = asyncio.Event()

    async def greet(_: object) -> None:
        """Ask nothing."""

    connect = url_connect(url, Access())
    lane = kind(connect=connect, greet=greet, changed=up.set, clock=SystemClock(), limits=LIMITS)
    serving = asyncio.create_task(lane.serve())
    try:
        await up.wait()
        yield lane
    finally:
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


async def fill(store: RedisStore, identity: ItemIdentity) -> None:
    """Store an entry of 300 bytes."""
    found = read_get_reply(body_of(Shape(300, 5)))
    assert found is not None, "an answer of our own"
    draft = draft_entry(found, POLICY, age_s=0.0, chance=0.0)
    assert isinstance(draft, EntryDraft), draft
    token = SystemClock().token()
    generation = (await store.lookup(identity)).generation
    await store.lease(identity, token=token, generation=generation, force=False)
    assert await store.fill(identity, token=token, generation=generation, draft=draft)


async def cpu_us(once: Callable[[], Awaitable[None]], count: int) -> float:
    """Do a piece of work that often, AT_ONCE at a time; return the CPU µs of each."""

    async def reader() -> None:
        for _ in range(count // AT_ONCE):
            await once()

    await asyncio.gather(*(once() for _ in range(AT_ONCE)))  # connections and caches are warm
    started_s = time.process_time()
    await asyncio.gather(*(reader() for _ in range(AT_ONCE)))
    return 1e6 * (time.process_time() - started_s) / count


def bare(lane: Any) -> Callable[[], Awaitable[None]]:
    """Return what asks a lane for an item's and its table's record."""
    asked: tuple[Command, Command] = (("GET", ITEM.cache_key), ("GET", ITEM.table_key))

    async def once() -> None:
        replies: Replies = await lane.submit(*asked)
        assert replies[0], "the entry has gone"

    return once


def whole(store: RedisStore) -> Callable[[], Awaitable[None]]:
    """Return what looks the item up."""

    async def once() -> None:
        assert (await store.lookup(ITEM)).entry is not None, "the entry has gone"

    return once


async def measure(running: RunningStore, *, reads: int, rounds: int) -> dict[str, float]:
    """Measure every way `rounds` times, in turns, and return the medians."""
    clock = SystemClock()
    once = options(running.url, heartbeat_s=3600.0, heartbeat_age_s_max=7200.0)
    async with (
        live_lanes(once) as live,
        lane_up(FormerLane, running.url) as former,
        lane_up(Lane, running.url) as lane,
    ):
        await live.until(lambda: live.lanes.serving)
        await fill(live.store(FencePolicy()), ITEM)
        view = live.lanes.pick_any()[1]
        ways: dict[str, Callable[[], Awaitable[None]]] = {}
        for name, each in zip(LANES, (former, lane), strict=True):
            routes = cast("Routes", OneLane(each, view))
            store = RedisStore(
                routes, fence=FencePolicy(), clock=clock, layout_of=lambda _: Layout.BLOB
            )
            ways |= {f"{name}: bare": bare(each), f"{name}: lookup": whole(store)}
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, work in ways.items():
                taken[name].append(await cpu_us(work, reads))
    return {name: round(median(times), 1) for name, times in taken.items()}


def lines(cpu: dict[str, float]) -> Iterator[str]:
    """Yield the table, and how many times as much the former lane takes."""
    for name, each in cpu.items():
        yield f"{name:>16} {each:7.1f} µs"
    for what in ("bare", "lookup"):
        yield f"{what:>16} {cpu[f'former: {what}'] / cpu[f'lane: {what}']:7.2f} × before"


def run(*, reads: int, rounds: int) -> dict[str, Any]:
    """Measure on a Valkey of our own over a unix socket; return the result file's content."""
    with (
        closing(start_valkey(unix_socket=True)) as running,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        cpu = runner.run(measure(running, reads=reads, rounds=rounds))
    result = setting("redis", "hiredis", "uvloop")
    return result | {"reads": reads, "rounds": rounds, "at_once": AT_ONCE, "cpu_us": cpu}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where the result goes, as JSON")
    parser.add_argument("--reads", type=int, default=6400, help="reads per way and round")
    parser.add_argument("--rounds", type=int, default=9, help="rounds; their median is told")
    given = parser.parse_args(arguments)
    result = run(reads=given.reads, rounds=given.rounds)
    print("\n".join(lines(result["cpu_us"])))  # noqa: T201
    given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
