"""Claims about the streams of one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from proxy.flow.stream_reader import StreamStatus
from proxy.flow.streams import Streams
from tests.support.flow_world import TABLE, World
from tests.support.stream_world import StreamRig


@pytest.fixture
async def rig(world: World) -> AsyncIterator[StreamRig]:
    """Give a table with a stream."""
    made = StreamRig(world)
    yield made
    await made.close()


async def test_tables_are_watched_until_the_process_ends(world: World, rig: StreamRig) -> None:
    """Then their shards are given back, so that others go on at once."""
    reading = rig.reading()
    policies = reading.policies
    streams = Streams(reading.ports, {TABLE: None}, reader=reading.token, policies=policies)
    assert policies.over == (TABLE,)
    assert streams.status() == {TABLE: StreamStatus("unknown", None, True, 0, 0, 0)}
    watching = asyncio.get_running_loop().create_task(streams.watch())
    await rig.until(lambda: policies.over == ())
    assert streams.status()[TABLE].held == 1
    await streams.close()
    assert all(shard.holder is None for shard in rig.shards().values())
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert reading.events
