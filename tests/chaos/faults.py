"""Everything that can be broken, by name: each fault breaks something, lasts, and mends it.

What breaks the store itself is in `tests/chaos/store_faults.py`, what happens to the stream in
`tests/chaos/stream_faults.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from proxy.embedded.process import EngineError
from tests.chaos.links import StoreLink, listen_again
from tests.chaos.store_faults import RESTART_LENGTHS_S, STORE_FAULTS, OnStore
from tests.chaos.stream_faults import STREAM_FAULTS
from tests.chaos.trouble import Trouble
from tests.chaos.world import Slot

SAFE_FREEZE_S: Final = 1.0
"""What was frozen for longer on the way to the upstream is dropped: it would arrive after its
marker's end, which no proxy can help."""

WEATHER_CHANCE: Final = 0.3


async def _kill_proxy(trouble: Trouble, slot: Slot) -> None:
    trouble.tell(f"proxy {slot.number}: kill -9")
    trouble.world.kill_proxy(slot)
    await trouble.last(trouble.chances.choice(RESTART_LENGTHS_S))
    await trouble.world.start_proxy(slot)
    trouble.tell(f"proxy {slot.number} started")


async def _stop_proxy(trouble: Trouble, slot: Slot) -> None:
    for_s = trouble.length_s()
    trouble.tell(f"proxy {slot.number}: SIGSTOP for {for_s} s")
    with trouble.world.stopped(slot):
        await trouble.last(for_s)


def _some_way(trouble: Trouble, slot: Slot) -> tuple[list[StoreLink], str]:
    """Draw which links to the store break, and how the log calls them."""
    ways = slot.store_links.ways()
    way = trouble.chances.choice(ways)
    called = "store" if len(ways) == 1 else f"store ({len(way)} of {len(ways[0])} ways)"
    return way, called


async def _cut_store_link(trouble: Trouble, slot: Slot) -> None:
    way, called = _some_way(trouble, slot)
    trouble.tell(f"proxy {slot.number}: {called} connections cut")
    for link in way:
        link.cut()


async def _refuse_store_link(trouble: Trouble, slot: Slot) -> None:
    for_s = trouble.length_s()
    way, called = _some_way(trouble, slot)
    trouble.tell(f"proxy {slot.number}: {called} connections refused for {for_s} s")
    for link in way:
        await link.refuse()
    try:
        await trouble.last(for_s)
    finally:
        for link in way:
            await listen_again(link)


async def _freeze_store_link(trouble: Trouble, slot: Slot) -> None:
    for_s = trouble.length_s()
    way, called = _some_way(trouble, slot)
    trouble.tell(f"proxy {slot.number}: nothing passes to and from the {called} for {for_s} s")
    for link in way:
        link.freeze()
    try:
        await trouble.last(for_s)
    finally:
        for link in way:
            link.thaw()


async def _hold_store_replies(trouble: Trouble, slot: Slot) -> None:
    for_s = trouble.length_s()
    way, called = _some_way(trouble, slot)
    trouble.tell(f"proxy {slot.number}: replies of the {called} are held for {for_s} s")
    for link in way:
        link.hold_replies()
    try:
        await trouble.last(for_s)
    finally:
        for link in way:
            link.thaw()


async def _delay_store_link(trouble: Trouble, slot: Slot) -> None:
    for_s, delay_s = trouble.length_s(), trouble.chances.choice((0.02, 0.15, 0.4))
    way, called = _some_way(trouble, slot)
    trouble.tell(f"proxy {slot.number}: replies of the {called} take {delay_s} s for {for_s} s")
    for link in way:
        link.delay_s = delay_s
    try:
        await trouble.last(for_s)
    finally:
        for link in way:
            link.delay_s = 0.0


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


OnSlot = Callable[[Trouble, Slot], Awaitable[None]]

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
WEATHERS: Final[dict[str, OnStore]] = {
    f"upstream {kind}": partial(_change_weather, kind=kind)
    for kind in ("ambiguous", "late", "throttled", "silent", "broken", "slow")
}
NAMES: Final = (*SLOT_FAULTS, *STORE_FAULTS, *STREAM_FAULTS, *WEATHERS)


async def strike(name: str, trouble: Trouble) -> bool:
    """Let one fault happen, from its beginning to its end; False when it could not.

    One fault at a time has to do with the store, which is whole again before the next, one of each
    name with the stream, and one with each slot. Its victim may be taken, or not be what it was a
    moment ago.
    """
    world = trouble.world
    if name in WEATHERS:
        await WEATHERS[name](trouble)
        return True
    if name in STREAM_FAULTS:
        return await _alone(world.stream_busy[name], partial(_strike_stream, name, trouble))
    if name in STORE_FAULTS:
        return await _alone(world.store_busy, partial(_strike_store, name, trouble))
    slot = trouble.chances.choice(world.everybody)
    return await _alone(slot.busy, partial(_strike_slot, name, trouble, slot))


async def _strike_store(name: str, trouble: Trouble) -> bool:
    try:
        await STORE_FAULTS[name](trouble)
    except (EngineError, OSError) as problem:
        trouble.tell(f"{name}: not to its end: {problem}")
        return False
    finally:
        await trouble.world.topology.settled()
    return True


async def _strike_stream(name: str, trouble: Trouble) -> bool:
    await STREAM_FAULTS[name](trouble)
    return True


async def _strike_slot(name: str, trouble: Trouble, slot: Slot) -> bool:
    await SLOT_FAULTS[name](trouble, slot)
    return True


async def _alone(lock: asyncio.Lock, work: Callable[[], Awaitable[bool]]) -> bool:
    if lock.locked():
        return False
    async with lock:
        return await work()
