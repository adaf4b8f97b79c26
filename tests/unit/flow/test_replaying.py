"""Claims about applying parked records once more."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.stream_records import PoisonReason
from proxy.core.values import Outcome
from proxy.flow.parking import Parking
from proxy.flow.replaying import Replayed, Replaying
from tests.support.flow_world import TABLE, World, key_of
from tests.support.stream_world import Reading, StreamRig

GOOD: dict[str, Any] = {"eventName": "MODIFY", "dynamodb": {"Keys": key_of("a")}}


@pytest.fixture
async def rig(world: World) -> AsyncIterator[StreamRig]:
    """Give a table with a stream."""
    made = StreamRig(world)
    yield made
    await made.close()


async def replaying(rig: StreamRig, *records: object) -> tuple[Reading, Replaying]:
    """Park records."""
    reading = rig.reading()
    parking = Parking(reading.streams, keys=rig.world.keys, emit=reading.events.append)
    for record in records:
        await parking.park(TABLE, record, PoisonReason.REFUSED)
    return reading, Replaying(reading.streams, reading.effects, keys=rig.world.keys)


async def test_a_record_that_takes_effect_is_parked_no_longer(world: World, rig: StreamRig) -> None:
    """Its item is invalidated; what is poison still stays."""
    proxy = world.proxy()
    world.put_elsewhere("a", "0")
    await proxy.get("a")
    _, replays = await replaying(rig, GOOD, {"eventName": "NEW"})
    assert await replays.replay(TABLE) == Replayed(applied=1, left=1)
    (left,) = await replays.parked(TABLE)
    assert json.loads(left)["record"] == {"eventName": "NEW"}
    assert (await proxy.get("a")).outcome is Outcome.MISS


async def test_of_a_place_alone_the_table_is_voided(world: World, rig: StreamRig) -> None:
    """Nobody knows which item it was."""
    proxy = world.proxy()
    await proxy.get("b")
    _, replays = await replaying(rig, {"dynamodb": {}, "large": "x" * 20_000})
    assert await replays.replay(TABLE) == Replayed(applied=1, left=0)
    assert (await proxy.get("b")).outcome is Outcome.MISS


async def test_what_is_not_ours_stays(rig: StreamRig) -> None:
    """Whoever put it there."""
    reading, replays = await replaying(rig)
    await reading.streams.park(rig.parked_key, b"not json")
    assert await replays.replay(TABLE) == Replayed(applied=0, left=1)


async def test_without_the_store_nothing_is_taken_off(rig: StreamRig) -> None:
    """A record that failed stays, and an outage is told."""
    reading, replays = await replaying(rig, GOOD)
    reading.store.stop_serving()
    reading.store.fail_next(StoreFailure.TIMEOUT, step="invalidate")
    assert await replays.replay(TABLE) == Replayed(applied=0, left=1)
    reading.store.down = StoreFailure.TIMEOUT
    with pytest.raises(StoreUnavailable):
        await replays.replay(TABLE)
