"""Performs the steps on streams' records on Redis or Valkey; implements `ports.StreamStore`."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

from proxy.core.fence import ItemIdentity, begun_under
from proxy.core.packing import unpacked
from proxy.core.record import RECORD_FORMAT, Entry, decode_record, decode_scope
from proxy.core.shard_tree import (
    PARKED_KEPT_S,
    PARKED_MAX,
    STREAM_KEPT_S,
    Checkpoint,
    Growth,
    Kept,
    Lease,
    ShardState,
    Start,
    StreamView,
)
from proxy.core.values import CacheKey, Token
from proxy.edge.redis_command import Command, checked, milliseconds, step_command
from proxy.edge.redis_courier import Courier, Need, Routes
from proxy.edge.redis_records import is_wrong_type, lookup_reply
from proxy.edge.zstd import decompress
from proxy.flow.ports import Peeked

_KEPT_MS: Final = milliseconds(STREAM_KEPT_S)
_PARKED_KEPT_MS: Final = milliseconds(PARKED_KEPT_S)
_FIELD: Final = struct.Struct(">cQ16sQQB")
_TIME: Final = struct.Struct(">Q")
_NOBODY: Final = bytes(16)
_READER: Final = b"@"
_NO_SHARD: Final = (b"", b"!")


class RedisStreamStore:
    """Streams' records on one server or several.

    Args:
        routes: which server has which record, and the lanes to it.
    """

    def __init__(self, routes: Routes) -> None:
        self._courier = Courier(routes)

    async def peek(self, identity: ItemIdentity) -> Peeked:
        """Look at a record by GETEX, which changes nothing here.

        As a command that writes it is refused where a write would be, and CLIENT TRACKING does
        not remember it: a batch job's keys would push out what near caches hold.
        """
        key = identity.cache_key
        reply = await self._run(key, ("GETEX", key), Need.SERVING)
        if is_wrong_type(reply):
            reply = await self._run(key, ("HGETALL", key), Need.SERVING)
        found = lookup_reply(reply, None)
        if found is None:
            return Peeked(there=False, entry=None)
        record = decode_record(found.raw)
        if not isinstance(record, Entry) or record.digest != identity.digest:
            return Peeked(there=True, entry=None)
        return Peeked(there=True, entry=unpacked(record, found.attributes, decompress))

    async def pages_cached(self, table_key: CacheKey) -> bool:
        """Tell whether anybody caches pages of a table."""
        (raw,), view = await self._courier.step(
            table_key, Need.CONNECTED, lambda _: ("GET", table_key)
        )
        scope = decode_scope(raw) if isinstance(raw, bytes) else None
        return begun_under(scope, view.incarnation, there=raw is not None).pages

    async def look_at_stream(
        self, stream_key: CacheKey, reader: Token | None, *, present_s: float, discover_s: float
    ) -> StreamView:
        """Read a stream's record."""
        times = milliseconds(present_s), milliseconds(discover_s)
        now_ms, due, flat = await self._step(stream_key, "look", reader or b"", *times)
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        arn = fields.get(b"", b"")
        readers = {
            Token(name[1:])
            for name, until in fields.items()
            if name.startswith(_READER) and _TIME.unpack(until)[0] > now_ms
        }
        return StreamView(
            arn=arn[1:].decode() if arn[:1] == bytes([RECORD_FORMAT]) else "",
            now_ms=now_ms,
            shards=dict(_shards(fields)),
            readers=frozenset(readers),
            due=bool(due),
        )

    async def grow_stream(self, stream_key: CacheKey, arn: str, growth: Growth) -> bool:
        """Add and drop shards."""
        words: list[bytes | int | str] = [arn, len(growth.gone), *growth.gone]
        for each in growth.added:
            words += each.shard_id, each.parent or "", each.start.value
        return bool(await self._step(stream_key, "grow", *words))

    async def claim_shard(
        self, stream_key: CacheKey, shard_id: str, reader: Token, *, lease_s: float
    ) -> ShardState | None:
        """Take a shard."""
        reply = await self._step(stream_key, "claim", shard_id, reader, milliseconds(lease_s))
        return _read_field(reply) if isinstance(reply, bytes) else None

    async def keep_shard(self, stream_key: CacheKey, lease: Lease, kept: Kept) -> bool:
        """Keep a checkpoint and a lease."""
        at = kept.checkpoint
        start, sequence = (at.start.value, at.sequence) if at is not None else ("", "")
        holds = lease.shard_id, lease.reader, lease.fence
        lease_ms = milliseconds(kept.lease_s)
        words = (*holds, lease_ms, kept.as_of_ms, start, sequence)
        return bool(await self._step(stream_key, "keep", *words))

    async def park(self, parked_key: CacheKey, parked: bytes) -> int:
        """Park a record."""
        command = step_command("parked", parked_key, parked, PARKED_MAX, _PARKED_KEPT_MS)
        pushed_out = await self._run(parked_key, command)
        return int(pushed_out)

    async def parked(self, parked_key: CacheKey) -> list[bytes]:
        """Return what is parked, newest first."""
        found: list[bytes] = await self._run(parked_key, ("LRANGE", parked_key, 0, -1))
        return found

    async def unpark(self, parked_key: CacheKey, parked: bytes) -> bool:
        """Take one off the list."""
        return bool(await self._run(parked_key, ("LREM", parked_key, 1, parked)))

    async def _step(self, stream_key: CacheKey, step: str, *words: bytes | int | str) -> Any:
        command = step_command("stream", stream_key, step, _KEPT_MS, *words)
        return await self._run(stream_key, command)

    async def _run(self, key: CacheKey, command: Command, need: Need = Need.CONNECTED) -> Any:
        replies, _ = await self._courier.step(key, need, lambda _: command)
        return replies[0] if need is Need.SERVING else checked(replies)[0]


def _shards(fields: dict[bytes, bytes]) -> Iterator[tuple[str, ShardState]]:
    for name, field in fields.items():
        if name not in _NO_SHARD and not name.startswith(_READER):
            yield name.decode(), _read_field(field)


def _read_field(field: bytes) -> ShardState:
    start, fence, holder, deadline_ms, as_of_ms, parent_bytes = _FIELD.unpack_from(field)
    rest = field[_FIELD.size :].decode()
    return ShardState(
        parent=rest[:parent_bytes] or None,
        checkpoint=Checkpoint(Start(start.decode()), rest[parent_bytes:]),
        fence=fence,
        holder=Token(holder) if holder != _NOBODY else None,
        deadline_ms=deadline_ms,
        as_of_ms=as_of_ms,
    )
