"""Readers of one table's stream without sockets: the real flows, a memory store, a fake stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Final, TypeVar

from proxy.core.shard_tree import Checkpoint, Lease, ShardState, StreamView
from proxy.core.stream_lag import LagPolicy
from proxy.core.stream_records import RecordResult
from proxy.core.values import Token
from proxy.flow.events import Event, StreamRecordsApplied
from proxy.flow.shard_reader import Pace, ShardPorts, ShardReader
from proxy.flow.stream_client import StreamClient
from proxy.flow.stream_effects import StreamEffects
from proxy.flow.stream_policies import StreamPolicies
from proxy.flow.stream_reader import StreamReader
from proxy.flow.tasks import TaskOwner
from tests.fakes.fake_stream import FakeStream
from tests.fakes.memory_store import MemoryStore
from tests.fakes.memory_stream_store import MemoryStreams, MemoryStreamStore
from tests.support.flow_world import TABLE, World
from tests.support.virtual_time import quiesce

E = TypeVar("E")

PACE: Final = Pace()
TIMEOUT_S: Final = 5.0
WAIT_S: Final = 120.0


@dataclass
class Reading:
    """One process that reads."""

    rig: StreamRig
    token: Token
    store: MemoryStore
    streams: MemoryStreamStore
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        world = self.rig.world
        emit = self.events.append
        self.tasks = TaskOwner(emit)
        self.client = StreamClient(
            world.upstream, clock=world.clock, emit=emit, timeout_s=TIMEOUT_S
        )
        self.effects = StreamEffects(
            self.store,
            self.streams,
            keys=world.keys,
            clock=world.clock,
            policy_of=world.policy_of,
        )
        self.policies = StreamPolicies(world.policy_of, lag=self.rig.lag, emit=emit)
        self.ports = ShardPorts(
            self.client, self.streams, self.effects, world.keys, world.clock, emit, self.rig.pace
        )
        self.reader = self.of_table()

    def of_table(self, *, reads: bool = True, arn: str | None = None) -> StreamReader:
        """Return a reader of the table's stream."""
        return StreamReader(
            self.ports,
            TABLE,
            reader=self.token if reads else None,
            tasks=self.tasks,
            policies=self.policies,
            arn=arn,
        )

    async def claim(self, shard_id: str) -> ShardReader:
        """Claim a shard of the stream, and return its reader."""
        state = await self.streams.claim_shard(
            self.rig.stream_key, shard_id, self.token, lease_s=self.rig.pace.lease_s
        )
        assert state is not None
        return self.shard(shard_id, state)

    def shard(self, shard_id: str, state: ShardState) -> ShardReader:
        """Return the reader of a claimed shard."""
        lease = Lease(shard_id, self.token, state.fence)
        arn = self.rig.stream.arn
        return ShardReader(
            self.ports, TABLE, arn=arn, lease=lease, state=state, store_ms=self.store_ms
        )

    def store_ms(self, at_s: float) -> int:
        """Return the store's time at a moment."""
        return self.store.now_ms() - ceil((self.ports.clock.monotonic_s() - at_s) * 1000)

    def told(self, kind: type[E]) -> list[E]:
        """Return the events of one kind, oldest first."""
        return [event for event in self.events if isinstance(event, kind)]

    def results(self) -> dict[str, int]:
        """Return how many records took effect in each way."""
        counts: dict[str, int] = {}
        for event in self.told(StreamRecordsApplied):
            counts[event.result] = counts.get(event.result, 0) + event.records
        return counts

    def done(self) -> int:
        """Return how many records took effect."""
        failed = self.results().get(RecordResult.FAILED, 0)
        return sum(self.results().values()) - failed

    async def die(self) -> None:
        """End as by SIGKILL: nothing is given back."""
        await self.tasks.settle(0, self.rig.world.clock.sleep)


class StreamRig:
    """A world whose one table has a stream, and processes that read it.

    Args:
        world: the table, the store, proxies.
        view: what the stream's records show.
    """

    def __init__(self, world: World, view: str = "NEW_AND_OLD_IMAGES") -> None:
        self.world = world
        self.pace = PACE
        self.lag = LagPolicy()
        self.streams = MemoryStreams()
        world.store.scripts.records.watchers.append(self.streams.forget)
        world.upstream.tables.enable_stream(TABLE, view)
        self.stream_key = world.keys.stream_key(TABLE)
        self.parked_key = world.keys.parked_key(TABLE)
        self._readings: list[Reading] = []

    @property
    def stream(self) -> FakeStream:
        """The table's latest stream."""
        return self.world.upstream.tables.stream(TABLE)

    def reading(self) -> Reading:
        """Return one more process."""
        store = self.world.link()
        streams = MemoryStreamStore(store, self.streams)
        made = Reading(self, self.world.clock.token(), store, streams)
        self._readings.append(made)
        return made

    def shards(self) -> dict[str, ShardState]:
        """Return what the store knows of the stream's shards."""
        return self.streams.hashes[self.stream_key].shards

    def know(self, shard_id: str, checkpoint: Checkpoint, parent: str | None = None) -> None:
        """Let the store know a shard of the stream."""
        hashed = self.streams.hashes[self.stream_key]
        hashed.arn = self.stream.arn
        now_ms = self.world.store.now_ms()
        hashed.shards[shard_id] = ShardState(parent, checkpoint, as_of_ms=now_ms)

    def take_over(self, shard_id: str) -> None:
        """Let another process have a shard."""
        state = self.shards()[shard_id]
        other = Token(b"another process!")
        self.shards()[shard_id] = replace(state, holder=other, fence=state.fence + 1)

    async def view(self) -> StreamView:
        """Look at the stream's record."""
        streams = MemoryStreamStore(self.world.store, self.streams)
        return await streams.look_at_stream(self.stream_key, None, present_s=1.0, discover_s=1.0)

    async def until(self, holds: Callable[[], bool], step_s: float = 0.05) -> None:
        """Let time pass until something holds."""
        give_up_s = self.world.clock.monotonic_s() + WAIT_S
        while not holds():
            assert self.world.clock.monotonic_s() < give_up_s, "it never holds"
            await self.world.clock.sleep(step_s)

    async def close(self) -> None:
        """End all processes."""
        for reading in self._readings:
            await reading.die()
        await quiesce()
