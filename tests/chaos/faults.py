"""Everything that can be broken, by name: each fault breaks something, lasts, and mends it.

Lengths are shorter and longer than leases and markers (`tests/chaos/profiles.py`).
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from tests.chaos.world import Slot, World

LENGTHS_S: Final = (0.1, 0.7, 2.0, 4.5)
"""Shorter than a lease, longer than one, shorter than a marker, longer than one."""

SAFE_FREEZE_S: Final = 1.0
"""What was frozen for longer on the way to the upstream is dropped: it would arrive after its
marker's end, which no proxy can help."""

RESTART_LENGTHS_S: Final = (0.0, 0.5, 2.0)
WEATHER_CHANCE: Final = 0.3

T = TypeVar("T")


@dataclass
class Trouble:
    """What a fault works with.

    Args:
        world: what it breaks.
        chances: seeded.
        tell: takes one line for the log.
        over: set when everything is to be mended now.
    """

    world: World
    chances: random.Random
    tell: Callable[[str], None]
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def last(self, for_s: float, *, whole: bool = False) -> None:
        """Wait: the one place where a fault takes its time.

        Args:
            for_s: how long.
            whole: even if the trouble is over before.
        """
        if whole:
            await asyncio.sleep(for_s)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(for_s):
                await self.over.wait()

    def length_s(self) -> float:
        """Draw how long a fault lasts."""
        return self.chances.choice(LENGTHS_S)


async def _kill_proxy(trouble: Trouble, slot: Slot) -> None:
    trouble.tell(f"proxy {slot.number}: kill -9")
    trouble.world.kill_proxy(slot)
    await trouble.last(trouble.chances.choice(RESTART_LENGTHS_S))
    await trouble.world.start_proxy(slot)
    trouble.tell(f"proxy {slot.number} started")


async def _stop_proxy(trouble: Trouble, slot: Slot) -> None:
    for_s = trouble.length_s()
    trouble.tell(f"proxy {slot.number}: SIGSTOP for {for_s} s")
    trouble.world.send(slot, signal.SIGSTOP)
    try:
        await trouble.last(for_s)
    finally:
        trouble.world.send(slot, signal.SIGCONT)


async def _stop_store(trouble: Trouble) -> None:
    for_s = trouble.length_s()
    trouble.tell(f"store: SIGSTOP for {for_s} s")
    primary = trouble.world.topology.primary
    primary.send(signal.SIGSTOP)
    try:
        await trouble.last(for_s)
    finally:
        primary.send(signal.SIGCONT)


async def _pause_store(trouble: Trouble) -> None:
    for_s = trouble.length_s()
    trouble.tell(f"store: CLIENT PAUSE for {for_s} s")
    await _ask(trouble, "CLIENT", "PAUSE", str(round(for_s * 1000)), "ALL")
    # To the end: a paused server does not take CLIENT UNPAUSE either.
    await trouble.last(for_s, whole=True)


async def _fill_store(trouble: Trouble) -> None:
    for_s = trouble.length_s()
    trouble.tell(f"store: full for {for_s} s")
    held = trouble.world.topology.primary.flags["maxmemory"]
    await _ask(trouble, "CONFIG", "SET", "maxmemory", "1")
    try:
        await trouble.last(for_s)
    finally:
        await _ask(trouble, "CONFIG", "SET", "maxmemory", held)


async def _flush_store(trouble: Trouble) -> None:
    trouble.tell("store: FLUSHALL")
    await _ask(trouble, "FLUSHALL", "SYNC")


async def _restart_store_empty(trouble: Trouble) -> None:
    trouble.tell("store: kill -9, to come back empty")
    trouble.world.topology.primary.kill(keep_data=False)
    await trouble.last(trouble.chances.choice(RESTART_LENGTHS_S))
    await trouble.world.topology.restart()
    trouble.tell("store: started empty")


async def _restart_store_old(trouble: Trouble) -> None:
    await _ask(trouble, "SAVE")
    old_s = trouble.length_s()
    await trouble.last(old_s)
    trouble.tell(f"store: kill -9, to come back as it was {old_s} s ago")
    trouble.world.topology.primary.kill(keep_data=True)
    await trouble.last(trouble.chances.choice(RESTART_LENGTHS_S))
    await trouble.world.topology.restart()
    trouble.tell("store: started with its old data")


async def _fail_over_store(trouble: Trouble) -> None:
    await trouble.world.topology.cut_replication()
    lost_s = trouble.length_s()
    await trouble.last(lost_s)
    trouble.tell(f"store: fail-over that loses the last {lost_s} s")
    await trouble.world.topology.fail_over(trouble.world.move)


async def _cut_store_link(trouble: Trouble, slot: Slot) -> None:
    trouble.tell(f"proxy {slot.number}: store connections cut")
    slot.store_link.cut()


async def _refuse_store_link(trouble: Trouble, slot: Slot) -> None:
    for_s = trouble.length_s()
    trouble.tell(f"proxy {slot.number}: store connections refused for {for_s} s")
    await slot.store_link.refuse()
    try:
        await trouble.last(for_s)
    finally:
        await trouble.world.listen_again(slot.store_link)


async def _freeze_store_link(trouble: Trouble, slot: Slot) -> None:
    for_s = trouble.length_s()
    trouble.tell(f"proxy {slot.number}: nothing passes to and from the store for {for_s} s")
    slot.store_link.freeze()
    try:
        await trouble.last(for_s)
    finally:
        slot.store_link.thaw()


async def _hold_store_replies(trouble: Trouble, slot: Slot) -> None:
    for_s = trouble.length_s()
    trouble.tell(f"proxy {slot.number}: the store's replies are held for {for_s} s")
    slot.store_link.hold_replies()
    try:
        await trouble.last(for_s)
    finally:
        slot.store_link.thaw()


async def _delay_store_link(trouble: Trouble, slot: Slot) -> None:
    for_s, delay_s = trouble.length_s(), trouble.chances.choice((0.02, 0.15, 0.4))
    trouble.tell(f"proxy {slot.number}: the store's replies take {delay_s} s for {for_s} s")
    slot.store_link.delay_s = delay_s
    try:
        await trouble.last(for_s)
    finally:
        slot.store_link.delay_s = 0.0


async def _cut_upstream_link(trouble: Trouble, slot: Slot) -> None:
    trouble.tell(f"proxy {slot.number}: upstream connections cut")
    slot.upstream_link.cut()


async def _freeze_upstream_link(trouble: Trouble, slot: Slot) -> None:
    for_s = trouble.length_s()
    trouble.tell(f"proxy {slot.number}: nothing passes to and from the upstream for {for_s} s")
    slot.upstream_link.freeze()
    try:
        await trouble.last(for_s)
    finally:
        if for_s > SAFE_FREEZE_S:
            slot.upstream_link.cut()
        slot.upstream_link.thaw()


async def _delay_upstream_link(trouble: Trouble, slot: Slot) -> None:
    for_s = trouble.length_s()
    trouble.tell(f"proxy {slot.number}: upstream's replies take 0.3 s for {for_s} s")
    slot.upstream_link.delay_s = 0.3
    try:
        await trouble.last(for_s)
    finally:
        slot.upstream_link.delay_s = 0.0


async def _change_weather(trouble: Trouble, *, kind: str) -> None:
    for_s = trouble.length_s()
    trouble.tell(f"upstream: {kind} for {for_s} s")
    upstream, session = trouble.world.upstream, trouble.world.session
    setattr(upstream.weather, kind, WEATHER_CHANCE)
    await upstream.tell_weather(session)
    await trouble.last(for_s)
    setattr(upstream.weather, kind, 0.0)
    await upstream.tell_weather(session)


async def _ask(trouble: Trouble, *words: str) -> None:
    await asyncio.to_thread(trouble.world.topology.primary.ask, *words)


OnSlot = Callable[[Trouble, Slot], Awaitable[None]]
OnStore = Callable[[Trouble], Awaitable[None]]

SLOT_FAULTS: Final[dict[str, OnSlot]] = {
    "proxy killed": _kill_proxy,
    "proxy stopped": _stop_proxy,
    "store link cut": _cut_store_link,
    "store link refused": _refuse_store_link,
    "store link frozen": _freeze_store_link,
    "store link delayed": _delay_store_link,
    "store replies held": _hold_store_replies,
    "upstream link cut": _cut_upstream_link,
    "upstream link frozen": _freeze_upstream_link,
    "upstream link delayed": _delay_upstream_link,
}
STORE_FAULTS: Final[dict[str, OnStore]] = {
    "store stopped": _stop_store,
    "store paused": _pause_store,
    "store full": _fill_store,
    "store flushed": _flush_store,
    "store restarted empty": _restart_store_empty,
    "store restarted old": _restart_store_old,
    "store failed over": _fail_over_store,
}
WEATHERS: Final[dict[str, OnStore]] = {
    f"upstream {kind}": partial(_change_weather, kind=kind)
    for kind in ("ambiguous", "late", "throttled", "silent", "broken", "slow")
}
NAMES: Final = (*SLOT_FAULTS, *STORE_FAULTS, *WEATHERS)


async def strike(name: str, trouble: Trouble) -> bool:
    """Let one fault happen, from its beginning to its end; False when its victim is taken.

    One fault at a time has to do with the store, and one with each slot.
    """
    world = trouble.world
    if name in WEATHERS:
        await WEATHERS[name](trouble)
        return True
    if name in STORE_FAULTS:
        return await _alone(world.store_busy, partial(STORE_FAULTS[name], trouble))
    slot = trouble.chances.choice(world.slots)
    return await _alone(slot.busy, partial(SLOT_FAULTS[name], trouble, slot))


async def _alone(lock: asyncio.Lock, work: Callable[[], Awaitable[None]]) -> bool:
    if lock.locked():
        return False
    async with lock:
        await work()
    return True
