"""Everything that can be broken in the store itself, by name; a topology says which it can suffer.

Where there are several primaries, one of them is hit, as drawn.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Final

from tests.chaos.replicated import Cluster, Sentinel
from tests.chaos.trouble import Trouble
from tests.support.redis_server import RedisServer

RESTART_LENGTHS_S: Final = (0.0, 0.5, 2.0)
"""Sooner than servers miss each other, and later."""


async def _stop(trouble: Trouble) -> None:
    await _freeze(trouble, await _primary(trouble), "store")


async def _stop_replica(trouble: Trouble) -> None:
    """For long the primary refuses writes, where it has no other replica."""
    replica = await trouble.world.topology.replica_of(await _primary(trouble))
    await _freeze(trouble, replica, "store's replica")


async def _freeze(trouble: Trouble, server: RedisServer, called: str) -> None:
    for_s = trouble.length_s()
    trouble.tell(f"{called}{_at(server)}: SIGSTOP for {for_s} s")
    server.send(signal.SIGSTOP)
    try:
        await trouble.last(for_s)
    finally:
        server.send(signal.SIGCONT)


async def _pause(trouble: Trouble) -> None:
    primary, for_s = await _primary(trouble), trouble.length_s()
    trouble.tell(f"store{_at(primary)}: CLIENT PAUSE for {for_s} s")
    await _ask(primary, "CLIENT", "PAUSE", str(round(for_s * 1000)), "ALL")
    # To the end: a paused server does not take CLIENT UNPAUSE either.
    await trouble.last(for_s, whole=True)


async def _fill(trouble: Trouble) -> None:
    primary, for_s = await _primary(trouble), trouble.length_s()
    trouble.tell(f"store{_at(primary)}: full for {for_s} s")
    await _ask(primary, "CONFIG", "SET", "maxmemory", "1")
    try:
        await trouble.last(for_s)
    finally:
        await _ask(primary, "CONFIG", "SET", "maxmemory", primary.flags["maxmemory"])


async def _flush(trouble: Trouble) -> None:
    primary = await _primary(trouble)
    trouble.tell(f"store{_at(primary)}: FLUSHALL")
    await _ask(primary, "FLUSHALL", "SYNC")


async def _restart_empty(trouble: Trouble) -> None:
    primary = await _primary(trouble)
    trouble.tell(f"store{_at(primary)}: kill -9, to come back empty")
    primary.kill(keep_data=False)
    await trouble.last(trouble.chances.choice(RESTART_LENGTHS_S))
    await trouble.world.topology.restart(primary)
    trouble.tell("store: started empty")


async def _restart_old(trouble: Trouble) -> None:
    primary, old_s = await _primary(trouble), trouble.length_s()
    await _ask(primary, "SAVE")
    await trouble.last(old_s)
    trouble.tell(f"store{_at(primary)}: kill -9, to come back as it was {old_s} s ago")
    primary.kill(keep_data=True)
    await trouble.last(trouble.chances.choice(RESTART_LENGTHS_S))
    await trouble.world.topology.restart(primary)
    trouble.tell("store: started with its old data")


async def _fail_over(trouble: Trouble) -> None:
    """What the old primary takes from its isolation on, nobody else will have."""
    topology, primary, for_s = trouble.world.topology, await _primary(trouble), trouble.length_s()
    trouble.tell(f"store{_at(primary)}: its peers do not see it any more")
    await topology.isolate(primary)
    try:
        await trouble.last(for_s)
        await topology.replaced(primary)
        trouble.tell(f"store{_at(primary)}: failed over, last writes lost")
        await trouble.last(trouble.length_s())
    finally:
        await topology.rejoin(primary)
    trouble.tell("store: its peers see the old primary again")


async def _kill(trouble: Trouble) -> None:
    topology, primary = trouble.world.topology, await _primary(trouble)
    trouble.tell(f"store{_at(primary)}: kill -9")
    primary.kill(keep_data=False)
    try:
        await topology.replaced(primary)
        trouble.tell("store: another primary")
        await trouble.last(trouble.length_s())
    finally:
        await topology.restart(primary)
    trouble.tell(f"store{_at(primary)}: started again")


async def _hand_over(trouble: Trouble) -> None:
    topology, primary = trouble.world.topology, await _primary(trouble)
    assert isinstance(topology, Sentinel | Cluster), "somebody can be told"
    trouble.tell(f"store{_at(primary)}: told to hand over")
    await topology.hand_over(primary)
    trouble.tell("store: another primary")


async def _move_slot(trouble: Trouble) -> None:
    topology = trouble.world.topology
    assert isinstance(topology, Cluster), "only clusters have slots"
    cache_key = trouble.chances.choice(trouble.world.records())
    home = await asyncio.to_thread(topology.owner, cache_key)
    away = trouble.chances.choice(await asyncio.to_thread(topology.others, home))
    trouble.tell(f"store: a slot in use moves{_at(home)}")
    await topology.move(cache_key, away)
    try:
        trouble.tell(f"store: the slot is{_at(away)}")
        await trouble.last(trouble.length_s())
    finally:
        await topology.move(cache_key, home)
    trouble.tell(f"store: the slot is back{_at(home)}")


async def _primary(trouble: Trouble) -> RedisServer:
    return await trouble.world.topology.primary(trouble.chances)


async def _ask(server: RedisServer, *words: str) -> None:
    await asyncio.to_thread(server.ask, *words)


def _at(server: RedisServer) -> str:
    return f" at {server.port}"


OnStore = Callable[[Trouble], Awaitable[None]]

STORE_FAULTS: Final[dict[str, OnStore]] = {
    "store stopped": _stop,
    "store replica stopped": _stop_replica,
    "store paused": _pause,
    "store full": _fill,
    "store flushed": _flush,
    "store restarted empty": _restart_empty,
    "store restarted old": _restart_old,
    "store failed over": _fail_over,
    "store killed": _kill,
    "store handed over": _hand_over,
    "store slot moved": _move_slot,
}
