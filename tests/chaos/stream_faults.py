"""Everything that happens to a table's stream, by name: what DynamoDB does and readers must bear.

One of each may come at a time; what would make no sense then the upstream leaves out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from tests.chaos.trouble import Trouble

HELD_S_MAX: Final = 0.5
"""The longest that records are on their way to their shard. No reader can tell that from silence,
so it comes on top of every bound."""

_LENGTHS_S: Final = (0.7, 2.0, 8.0)
"""Shorter than a lag may be, longer than that, longer than it takes to notice it."""

_HELD_S: Final = (0.2, HELD_S_MAX)


async def _change(trouble: Trouble, *, how: str) -> None:
    trouble.tell(f"stream: {how}")
    await trouble.world.upstream.disturb(trouble.world.session, how)


async def _expire(trouble: Trouble) -> None:
    trouble.tell("stream: all iterators expire")
    await _order(trouble, expire_iterators=True)


async def _list_late(trouble: Trouble) -> None:
    for_s = trouble.chances.choice(_LENGTHS_S)
    trouble.tell(f"stream: split, the new shards are not listed for {for_s} s")
    await _order(trouble, step="hide_new_shards")
    await trouble.world.upstream.disturb(trouble.world.session, "split")
    await _last(trouble, for_s, step="show_shards")


async def _hold(trouble: Trouble) -> None:
    for_s = trouble.chances.choice(_HELD_S)
    trouble.tell(f"stream: records are held for {for_s} s")
    await _order(trouble, step="hold")
    await _last(trouble, for_s, step="release")


async def _refuse(trouble: Trouble) -> None:
    for_s = trouble.chances.choice(_LENGTHS_S)
    trouble.tell(f"stream: nobody may read for {for_s} s")
    await trouble.world.upstream.disturb(trouble.world.session, "refuse")
    await _last(trouble, for_s, relent=True)


async def _switch(trouble: Trouble) -> None:
    for_s = trouble.chances.choice(_LENGTHS_S)
    trouble.tell(f"stream: switched off for {for_s} s")
    await _order(trouble, step="disable")
    try:
        await trouble.last(for_s)
    finally:
        await trouble.world.upstream.disturb(trouble.world.session, "turn on")
    trouble.tell("stream: switched on, another one")


async def _last(trouble: Trouble, for_s: float, **ended_by: Any) -> None:
    """Let what was begun last for a while, and end it whatever happens."""
    try:
        await trouble.last(for_s)
    finally:
        await _order(trouble, **ended_by)


async def _order(trouble: Trouble, **order: Any) -> None:
    await trouble.world.upstream.order_stream(trouble.world.session, order)


OnStream = Callable[[Trouble], Awaitable[None]]

STREAM_FAULTS: Final[dict[str, OnStream]] = {
    "stream shard split": partial(_change, how="split"),
    "stream shard rolled over": partial(_change, how="roll over"),
    "stream shards listed late": _list_late,
    "stream iterators expired": _expire,
    "stream records held": _hold,
    "stream records trimmed": partial(_change, how="trim"),
    "stream refused": _refuse,
    "stream switched off": _switch,
}
