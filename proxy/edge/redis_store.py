"""Performs the steps of the coherence protocol on Redis or Valkey; implements `ports.Store`.

Redis's exceptions stop here and in `redis_lane`. Needs Redis ≥ 7.0 or Valkey ≥ 7.2 (script flags).
"""

from __future__ import annotations

from typing import Any

import redis.exceptions

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.fence import ItemIdentity, LeaseReply, LeaseState, Sighting, WriteOutcome, sight
from proxy.core.packing import packed, unpacked, unpacked_sighting
from proxy.core.policy import FencePolicy
from proxy.core.record import Entry, EntryDraft, TableRecord, decode_record, decode_table
from proxy.core.values import GENERATION_BYTES, CacheKey, FenceResult, Generation, Token
from proxy.edge.redis_lane import Command, Lane
from proxy.edge.redis_lanes import RedisLanes, checked, milliseconds
from proxy.edge.scripts import load_script
from proxy.edge.zstd import compress, decompress
from proxy.flow.ports import Clock


class RedisStore:
    """The shared store over a few lanes.

    Args:
        lanes: connections, each with what it knows of its server.
        fence: lease, marker and tombstone times.
        clock: time and randomness.
    """

    def __init__(self, lanes: RedisLanes, *, fence: FencePolicy, clock: Clock) -> None:
        self._lanes = lanes
        self._clock = clock
        self._lease_ms = milliseconds(fence.lease_s)
        self._marker_ms = milliseconds(fence.marker_s)
        self._tombstone_ms = milliseconds(fence.tombstone_s)

    @property
    def serving(self) -> bool:
        """Whether some lane is up, proven and past its quarantine."""
        return self._lanes.serving

    @property
    def quarantined(self) -> bool:
        """Whether the store's primary is there and only its quarantine is not over."""
        return self._lanes.quarantined

    @property
    def why_not_serving(self) -> str:
        """In a few words, why `serving` is False."""
        return self._lanes.why_not_serving

    async def lookup(self, identity: ItemIdentity) -> Sighting:
        """Read one record and its table's generation in one round trip."""
        lane, view = self._lanes.pick_serving()
        raw, raw_table = checked(
            await lane.submit(("GET", identity.cache_key), ("GET", identity.table_key))
        )
        table = decode_table(raw_table) if raw_table is not None else None
        now_ms = view.store_now_ms(self._clock.monotonic_s())
        if table is None or table.abandoned(now_ms):
            table = await self._learn_table(lane, identity.table_key)
            raw = None  # it was read under a generation that did not count
        seen = sight(
            decode_record(raw) if raw is not None else None,
            table,
            incarnation=view.incarnation,
            digest=identity.digest,
            store_now_ms=now_ms,
        )
        return unpacked_sighting(seen, decompress)

    async def lease(
        self, identity: ItemIdentity, *, token: Token, generation: Generation, force: bool
    ) -> LeaseReply:
        """Ask for permission to fill."""
        lane, view = self._lanes.pick_serving()
        reply = await self._step(
            lane,
            "lease",
            identity.cache_key,
            view.incarnation,
            generation,
            identity.digest,
            token,
            self._lease_ms,
            self._tombstone_ms,
            int(force),
        )
        state, detail, store_now_ms = reply
        match LeaseState(state.decode()):
            case LeaseState.HIT:
                record = decode_record(detail)
                entry = unpacked(record, decompress) if isinstance(record, Entry) else None
                if entry is None:  # damaged, or packed by a later release: see its sighting
                    return LeaseReply(LeaseState.PENDING, store_now_ms=store_now_ms)
                return LeaseReply(LeaseState.HIT, entry=entry, store_now_ms=store_now_ms)
            case LeaseState.WAIT:
                return LeaseReply(LeaseState.WAIT, wait_s=detail / 1000, store_now_ms=store_now_ms)
            case LeaseState.LEASED:
                return LeaseReply(LeaseState.LEASED, strong=bool(detail), store_now_ms=store_now_ms)
            case LeaseState.PENDING:
                return LeaseReply(LeaseState.PENDING, store_now_ms=store_now_ms)

    async def fill(
        self, identity: ItemIdentity, *, token: Token, generation: Generation, draft: EntryDraft
    ) -> bool:
        """Store an entry under a lease."""
        lane, view = self._lanes.pick_serving()
        stored = await self._step(
            lane,
            "fill",
            identity.cache_key,
            view.incarnation,
            token,
            *_draft_arguments(identity, generation, draft),
        )
        return bool(stored)

    async def release(self, identity: ItemIdentity, *, token: Token) -> None:
        """Give a lease back unused."""
        lane, view = self._lanes.pick_any()
        tombstone_ms = self._tombstone_ms
        await self._step(lane, "release", identity.cache_key, view.incarnation, token, tombstone_ms)

    async def begin(self, identity: ItemIdentity, *, token: Token) -> Generation | None:
        """Mark a write in flight; return the generation to write through under."""
        lane, view = await self._lanes.pick_soon()
        gate = int(view.gate_open(self._clock.monotonic_s()))
        begin = step_command(
            "begin",
            identity.cache_key,
            view.incarnation,
            token,
            self._marker_ms,
            gate,
            self._tombstone_ms,
        )
        begun, raw_table = await lane.submit(begin, ("GET", identity.table_key))
        if _is_no_script(begun):
            begun = await self._step(lane, "begin", *begin[3:])
        if checked([begun]) == [0]:
            raise StoreUnavailable(StoreFailure.FULL, "too many writes in flight on one item")
        table = decode_table(raw_table) if isinstance(raw_table, bytes) else None
        return table.generation if table is not None and table.settled else None

    async def end(
        self,
        identity: ItemIdentity,
        *,
        token: Token,
        outcome: WriteOutcome,
        stored: tuple[Generation, EntryDraft] | None = None,
    ) -> FenceResult:
        """End a write of known outcome."""
        lane, view = self._lanes.pick_any()
        arguments: list[bytes | int | str] = [
            view.incarnation,
            token,
            outcome.value,
            self._tombstone_ms,
        ]
        if stored is not None:
            arguments += _draft_arguments(identity, *stored)
        reply = await self._step(lane, "end", identity.cache_key, *arguments)
        return FenceResult(reply.decode())

    async def invalidate(self, identity: ItemIdentity) -> None:
        """Replace whatever is there by a tombstone."""
        lane, _ = self._lanes.pick_any()
        await self._step(lane, "invalidate", identity.cache_key, self._tombstone_ms)

    async def begin_table(self, table_key: CacheKey, *, token: Token) -> None:
        """Keep a whole table unserved while a write is in flight."""
        lane, _ = await self._lanes.pick_soon()
        reply = await self._table_step(lane, "begin", table_key, token)
        if reply == 0:
            raise StoreUnavailable(StoreFailure.FULL, "too many writes in flight on one table")

    async def end_table(
        self, table_key: CacheKey, *, token: Token, outcome: WriteOutcome, remade: bool
    ) -> None:
        """End such a write."""
        lane, _ = self._lanes.pick_any()
        done = "remake" if remade else "end"
        step = "abort" if outcome is WriteOutcome.ABORTED else done
        await self._table_step(lane, step, table_key, token)

    async def generation(self, table_key: CacheKey) -> Generation:
        """Return a table's generation."""
        lane, _ = self._lanes.pick_any()
        return (await self._learn_table(lane, table_key)).generation

    # Scripts

    async def _table_step(self, lane: Lane, step: str, table_key: CacheKey, token: bytes) -> Any:
        fresh = self._clock.token()[:GENERATION_BYTES]
        return await self._step(lane, "table", table_key, step, fresh, token, self._marker_ms)

    async def _learn_table(self, lane: Lane, table_key: CacheKey) -> TableRecord:
        raw = await self._table_step(lane, "learn", table_key, b"")
        table = decode_table(raw)
        if table is None:
            raise StoreUnavailable(StoreFailure.REFUSED, "a table's record is of another release")
        return table

    async def _step(self, lane: Lane, step: str, *key_and_arguments: Any) -> Any:
        command = step_command(step, *key_and_arguments)
        replies = await lane.submit(command)
        if _is_no_script(replies[0]):  # SCRIPT FLUSH: give the store the text again
            text = load_script(step).text
            replies = await lane.submit(("EVAL", text, *command[2:]))
        return checked(replies)[0]


def _draft_arguments(
    identity: ItemIdentity, generation: Generation, draft: EntryDraft
) -> tuple[bytes | int, ...]:
    return (
        generation,
        identity.digest,
        milliseconds(draft.age_s),
        milliseconds(draft.fresh_s),
        milliseconds(draft.hard_s),
        packed(draft, compress),
    )


def _is_no_script(reply: object) -> bool:
    return isinstance(reply, redis.exceptions.NoScriptError)


def step_command(step: str, cache_key: CacheKey, *arguments: bytes | int | str) -> Command:
    """Return the command that runs one step on one record."""
    return ("EVALSHA", load_script(step).sha, 1, cache_key, *arguments)
