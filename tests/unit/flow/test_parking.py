"""Claims about parking what cannot be applied, on the memory store."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.shard_tree import PARKED_MAX
from proxy.core.stream_records import PoisonReason
from proxy.flow.events import Event, StreamParked
from proxy.flow.parking import PARKED_BYTES_MAX, Parking
from tests.fakes.memory_stream_store import MemoryStreamStore
from tests.support.flow_world import TABLE, World

NO_KEYS = PoisonReason.NO_KEYS


class Lot:
    """A parking lot, and what it told."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.events: list[Event] = []
        self.streams = MemoryStreamStore(world.store)
        self.parking = Parking(self.streams, keys=world.keys, emit=self.events.append)

    async def parked(self) -> list[dict[str, Any]]:
        """Return what is parked of the table, newest first."""
        return [
            json.loads(raw) for raw in await self.streams.parked(self.world.keys.parked_key(TABLE))
        ]


@pytest.fixture
async def lot(world: World) -> Lot:
    """Give an empty one."""
    return Lot(world)


async def test_record_is_parked_as_it_came(lot: Lot) -> None:
    """With its table, why it is poison, and the shard where that is known."""
    record = {"eventName": "INSERT", "dynamodb": {"SequenceNumber": "7"}}
    await lot.parking.park(TABLE, record, NO_KEYS, shard_id="shardId-1")
    await lot.parking.park(TABLE, None, PoisonReason.UNREADABLE)
    assert await lot.parked() == [
        {"table": TABLE, "shard": "", "reason": "unreadable", "record": None},
        {"table": TABLE, "shard": "shardId-1", "reason": "no-keys", "record": record},
    ]
    assert lot.events == [
        StreamParked(TABLE, NO_KEYS, 0),
        StreamParked(TABLE, PoisonReason.UNREADABLE, 0),
    ]


async def test_only_the_place_of_a_large_record_is_parked(lot: Lot) -> None:
    """A record may have 800 KB; the list is bounded in bytes as well."""
    change = {"Keys": {"pk": {"S": "a"}}, "SequenceNumber": "7"}
    for size in (0, PARKED_BYTES_MAX):
        record = {"eventName": "INSERT", "dynamodb": {**change, "x": "x" * size}}
        await lot.parking.park(TABLE, record, PoisonReason.REFUSED)
    large, small = await lot.parked()
    assert large == {"table": TABLE, "shard": "", "reason": "refused", "sequence": "7"}
    assert small["record"]["dynamodb"]["Keys"] == {"pk": {"S": "a"}}


async def test_only_the_place_of_what_is_no_json_is_parked(lot: Lot) -> None:
    """NaN, which some parsers let in."""
    record = {"dynamodb": {"SequenceNumber": "7", "x": float("nan")}}
    await lot.parking.park(TABLE, record, NO_KEYS)
    assert (await lot.parked())[0]["sequence"] == "7"


async def test_full_list_pushes_out_the_oldest_and_says_so(lot: Lot) -> None:
    """So that nothing is lost silently."""
    for number in range(PARKED_MAX + 1):
        await lot.parking.park(TABLE, number, NO_KEYS)
    assert [parked["record"] for parked in await lot.parked()] == list(range(PARKED_MAX, 0, -1))
    assert lot.events[-2:] == [StreamParked(TABLE, NO_KEYS, 0), StreamParked(TABLE, NO_KEYS, 1)]


async def test_parking_that_is_not_certain_is_not_told_as_done(lot: Lot) -> None:
    """The caller tries again."""
    lot.world.store.fail_next(StoreFailure.TIMEOUT, step="park")
    with pytest.raises(StoreUnavailable):
        await lot.parking.park(TABLE, None, NO_KEYS)
    assert lot.events == []
