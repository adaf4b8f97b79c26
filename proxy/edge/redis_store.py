"""Performs the steps of the coherence protocol on Redis or Valkey; implements `ports.Store`.

Redis's exceptions stop here and in `redis_lane`. Needs Redis ≥ 7.0 or Valkey ≥ 7.2 (script flags).
"""

from __future__ import annotations

from typing import Any, Final

import redis.exceptions

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.fence import (
    Begun,
    ItemIdentity,
    LeaseReply,
    LeaseState,
    Sighting,
    WriteOutcome,
    begun_under,
    sight,
)
from proxy.core.pages import PageIdentity, PageSighting, sight_page
from proxy.core.policy import SCOPE_KEPT_S, FencePolicy
from proxy.core.record import Entry, EntryDraft, ScopeRecord, decode_record, decode_scope
from proxy.core.values import GENERATION_BYTES, CacheKey, FenceResult, Generation, Token
from proxy.edge.redis_lane import Command, Lane
from proxy.edge.redis_lanes import RedisLanes, checked, milliseconds
from proxy.edge.scripts import load_script
from proxy.flow.ports import Clock

_SCOPE_KEPT_MS: Final = milliseconds(SCOPE_KEPT_S)


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
        now_ms = view.store_now_ms(self._clock.monotonic_s())
        table = _standing(raw_table, now_ms)
        if table is None:
            table = await self._learn(lane, identity.table_key)
            raw = None  # it was read under a generation that did not count
        return sight(
            decode_record(raw) if raw is not None else None,
            table,
            incarnation=view.incarnation,
            digest=identity.digest,
            store_now_ms=now_ms,
        )

    async def lookup_page(self, page: PageIdentity) -> PageSighting:
        """Read one page and the generations of its table and scope in one round trip."""
        lane, view = self._lanes.pick_serving()
        names = (page.record.cache_key, page.record.table_key, page.scope_key)
        raw, raw_table, raw_scope = checked(await lane.submit(*(("GET", name) for name in names)))
        now_ms = view.store_now_ms(self._clock.monotonic_s())
        table, scope = _standing(raw_table, now_ms), _standing(raw_scope, now_ms)
        if table is None or table.pages_from_ms == 0:
            table = await self._learn(lane, page.record.table_key, "announce")
        if scope is None:
            scope = await self._learn(lane, page.scope_key, keep_ms=_SCOPE_KEPT_MS)
        return sight_page(
            decode_record(raw) if raw is not None else None,
            table,
            scope,
            page=page,
            incarnation=view.incarnation,
            store_now_ms=now_ms,
        )

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
                entry = decode_record(detail)
                assert isinstance(entry, Entry), "lease answered HIT without an entry"
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

    async def begin(self, identity: ItemIdentity, *, token: Token) -> Begun:
        """Mark a write in flight."""
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
        read_table = ("GET", identity.table_key)
        begun, raw_table = await lane.submit(begin, read_table)
        if _is_no_script(begun):
            # The table's record is read again too: what it says of pages must be as of the begin.
            begun, raw_table = await lane.submit(_with_text("begin", begin), read_table)
        if checked([begun]) == [0]:
            raise StoreUnavailable(StoreFailure.FULL, "too many writes in flight on one item")
        table = decode_scope(raw_table) if isinstance(raw_table, bytes) else None
        return begun_under(table, there=raw_table is not None)

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
        await self._begin_scope(lane, table_key, token, keep_ms=0)

    async def end_table(
        self, table_key: CacheKey, *, token: Token, outcome: WriteOutcome, remade: bool
    ) -> None:
        """End such a write."""
        lane, _ = self._lanes.pick_any()
        done = "remake" if remade else "end"
        step = "abort" if outcome is WriteOutcome.ABORTED else done
        await self._scope_step(lane, step, table_key, token)

    async def begin_scope(self, scope_key: CacheKey, *, token: Token) -> None:
        """Keep a scope's pages unserved while a write is in flight."""
        lane, _ = await self._lanes.pick_soon()
        await self._begin_scope(lane, scope_key, token, keep_ms=_SCOPE_KEPT_MS)

    async def end_scope(self, scope_key: CacheKey, *, token: Token, outcome: WriteOutcome) -> None:
        """End such a write."""
        lane, _ = self._lanes.pick_any()
        step = "abort" if outcome is WriteOutcome.ABORTED else "end"
        await self._scope_step(lane, step, scope_key, token, keep_ms=_SCOPE_KEPT_MS)

    async def generation(self, table_key: CacheKey) -> Generation:
        """Return a table's generation."""
        lane, _ = self._lanes.pick_any()
        return (await self._learn(lane, table_key)).generation

    # Scripts

    async def _scope_step(
        self, lane: Lane, step: str, scope_key: CacheKey, token: bytes, *, keep_ms: int = 0
    ) -> Any:
        fresh = self._clock.token()[:GENERATION_BYTES]
        arguments = (step, fresh, token, self._marker_ms, keep_ms)
        return await self._step(lane, "scope", scope_key, *arguments)

    async def _begin_scope(
        self, lane: Lane, scope_key: CacheKey, token: Token, *, keep_ms: int
    ) -> None:
        if await self._scope_step(lane, "begin", scope_key, token, keep_ms=keep_ms) == 0:
            what = "one scope" if keep_ms else "one table"
            raise StoreUnavailable(StoreFailure.FULL, f"too many writes in flight on {what}")

    async def _learn(
        self, lane: Lane, scope_key: CacheKey, step: str = "learn", *, keep_ms: int = 0
    ) -> ScopeRecord:
        raw = await self._scope_step(lane, step, scope_key, b"", keep_ms=keep_ms)
        scope = decode_scope(raw)
        if scope is None:
            raise StoreUnavailable(StoreFailure.REFUSED, "a scope's record is of another release")
        return scope

    async def _step(self, lane: Lane, step: str, *key_and_arguments: Any) -> Any:
        command = step_command(step, *key_and_arguments)
        replies = await lane.submit(command)
        if _is_no_script(replies[0]):  # SCRIPT FLUSH: give the store the text again
            replies = await lane.submit(_with_text(step, command))
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
        draft.payload(),
    )


def _standing(raw: bytes | None, now_ms: int) -> ScopeRecord | None:
    """Return a scope's record, or None where it must be learned first."""
    scope = decode_scope(raw) if raw is not None else None
    return None if scope is None or scope.abandoned(now_ms) else scope


def _with_text(step: str, command: Command) -> Command:
    return ("EVAL", load_script(step).text, *command[2:])


def _is_no_script(reply: object) -> bool:
    return isinstance(reply, redis.exceptions.NoScriptError)


def step_command(step: str, cache_key: CacheKey, *arguments: bytes | int | str) -> Command:
    """Return the command that runs one step on one record."""
    return ("EVALSHA", load_script(step).sha, 1, cache_key, *arguments)
