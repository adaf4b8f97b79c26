"""A `ports.StreamStore` in memory, beside a `MemoryStore` whose faults and clock it shares.

It passes the same contract suite as `RedisStreamStore`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace

from proxy.core.fence import ItemIdentity, begun_under
from proxy.core.packing import unpacked
from proxy.core.record import Entry, decode_record
from proxy.core.shard_tree import (
    PARKED_MAX,
    Checkpoint,
    Growth,
    Kept,
    Lease,
    ShardState,
    Start,
    StreamView,
)
from proxy.core.values import CacheKey, Token
from proxy.flow.ports import Peeked
from tests.fakes.memory_store import MemoryStore, beside, not_compressed


@dataclass
class StreamHash:
    """One stream's record."""

    arn: str = ""
    due_ms: int = 0
    readers: dict[Token, int] = field(default_factory=dict)
    shards: dict[str, ShardState] = field(default_factory=dict)


class MemoryStreams:
    """All streams' records; links to one store share it."""

    def __init__(self) -> None:
        self.hashes: defaultdict[bytes, StreamHash] = defaultdict(StreamHash)
        self.lists: defaultdict[bytes, list[bytes]] = defaultdict(list)

    def forget(self, key: bytes | None) -> None:
        """Lose everything when the store does: told by its records."""
        if key is None:
            self.hashes.clear()
            self.lists.clear()


class MemoryStreamStore:
    """Streams' records.

    Args:
        memory: the store beside it.
        streams: the records.
    """

    def __init__(self, memory: MemoryStore, streams: MemoryStreams | None = None) -> None:
        self._memory = memory
        self.streams = MemoryStreams() if streams is None else streams
        if streams is None:
            memory.scripts.records.watchers.append(self.streams.forget)

    async def peek(self, identity: ItemIdentity) -> Peeked:
        """See `ports.StreamStore`."""

        def run() -> Peeked:
            stored = self._memory.scripts.stored(identity.cache_key)
            if stored is None:
                return Peeked(there=False, entry=None)
            record = decode_record(stored.raw)
            if not isinstance(record, Entry) or record.digest != identity.digest:
                return Peeked(there=True, entry=None)
            entry = unpacked(record, beside(stored.fields, None), not_compressed)
            return Peeked(there=True, entry=entry)

        return await self._memory.step("peek", identity.cache_key, run, serving=True)

    async def pages_cached(self, table_key: CacheKey) -> bool:
        """See `ports.StreamStore`."""

        def run() -> bool:
            scope, raw = self._memory.scope(table_key), self._memory.raw(table_key)
            return begun_under(scope, self._memory.incarnation, there=raw is not None).pages

        return await self._memory.step("pages_cached", table_key, run)

    async def look_at_stream(
        self, stream_key: CacheKey, reader: Token | None, *, present_s: float, discover_s: float
    ) -> StreamView:
        """See `ports.StreamStore`."""

        def run() -> StreamView:
            stream, now_ms, due = self.streams.hashes[stream_key], self._memory.now_ms(), False
            if reader is not None:
                stream.readers[reader] = now_ms + round(present_s * 1000)
                if due := stream.due_ms <= now_ms:
                    stream.due_ms = now_ms + round(discover_s * 1000)
            readers = frozenset(each for each, until in stream.readers.items() if until > now_ms)
            return StreamView(stream.arn, now_ms, dict(stream.shards), readers, due)

        return await self._memory.step("look_at_stream", stream_key, run)

    async def grow_stream(self, stream_key: CacheKey, arn: str, growth: Growth) -> bool:
        """See `ports.StreamStore`."""

        def run() -> bool:
            stream = self.streams.hashes[stream_key]
            is_new = stream.arn != arn
            if is_new:
                stream.arn, stream.shards = arn, {}
            for shard_id in () if is_new else growth.gone:
                stream.shards.pop(shard_id, None)
            for each in growth.added:
                start = each.start if is_new else Start.HORIZON
                before = None if is_new else stream.shards.get(each.parent or "")
                as_of_ms = before.as_of_ms if before is not None else 0
                if is_new and start is Start.DONE:
                    as_of_ms = self._memory.now_ms()
                added = ShardState(each.parent, Checkpoint(start), as_of_ms=as_of_ms)
                stream.shards.setdefault(each.shard_id, added)
            return is_new

        return await self._memory.step("grow_stream", stream_key, run)

    async def claim_shard(
        self, stream_key: CacheKey, shard_id: str, reader: Token, *, lease_s: float
    ) -> ShardState | None:
        """See `ports.StreamStore`."""

        def run() -> ShardState | None:
            shards, now_ms = self.streams.hashes[stream_key].shards, self._memory.now_ms()
            state = shards.get(shard_id)
            if state is None or state.done:
                return None
            parent = shards.get(state.parent or "")
            held = state.deadline_ms > now_ms and state.holder != reader
            if held or (parent is not None and not parent.done):
                return None
            state = replace(
                state,
                fence=state.fence + 1,
                holder=reader,
                deadline_ms=now_ms + round(lease_s * 1000),
                as_of_ms=max(state.as_of_ms, parent.as_of_ms if parent is not None else 0),
            )
            shards[shard_id] = state
            return state

        return await self._memory.step("claim_shard", stream_key, run)

    async def keep_shard(self, stream_key: CacheKey, lease: Lease, kept: Kept) -> bool:
        """See `ports.StreamStore`."""

        def run() -> bool:
            shards, now_ms = self.streams.hashes[stream_key].shards, self._memory.now_ms()
            state = shards.get(lease.shard_id)
            if state is None or (state.holder, state.fence) != (lease.reader, lease.fence):
                return False
            if kept.checkpoint is not None:
                state = replace(state, checkpoint=kept.checkpoint)
            if kept.as_of_ms:
                state = replace(state, as_of_ms=min(kept.as_of_ms, now_ms))
            if kept.lease_s > 0:
                state = replace(state, deadline_ms=now_ms + round(kept.lease_s * 1000))
            else:
                state = replace(state, holder=None, deadline_ms=0)
            shards[lease.shard_id] = state
            return True

        return await self._memory.step("keep_shard", stream_key, run)

    async def park(self, parked_key: CacheKey, parked: bytes) -> int:
        """See `ports.StreamStore`."""

        def run() -> int:
            there = self.streams.lists[parked_key]
            there.insert(0, parked)
            pushed_out = len(there[PARKED_MAX:])
            del there[PARKED_MAX:]
            return pushed_out

        return await self._memory.step("park", parked_key, run)

    async def parked(self, parked_key: CacheKey) -> list[bytes]:
        """See `ports.StreamStore`."""

        def run() -> list[bytes]:
            return list(self.streams.lists[parked_key])

        return await self._memory.step("parked", parked_key, run)

    async def unpark(self, parked_key: CacheKey, parked: bytes) -> bool:
        """See `ports.StreamStore`."""

        def run() -> bool:
            there = self.streams.lists[parked_key]
            found = parked in there
            if found:
                there.remove(parked)
            return found

        return await self._memory.step("unpark", parked_key, run)
