"""Performs the steps of the coherence protocol on Redis or Valkey; implements `ports.Store`.

Redis's exceptions stop here and in `redis_lane`. Needs Redis ≥ 7.0 or Valkey ≥ 7.2 (script flags).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import redis.exceptions

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.fence import (
    Begun,
    ItemIdentity,
    LeaseReply,
    Sighting,
    WriteOutcome,
    begun_under,
    sight,
)
from proxy.core.packing import packed, unpacked_sighting
from proxy.core.pages import PageIdentity, PageSighting, sight_page
from proxy.core.policy import SCOPE_KEPT_S, TABLE_SURE_S, FencePolicy
from proxy.core.record import EntryDraft, ScopeRecord, decode_record, decode_scope
from proxy.core.values import (
    GENERATION_BYTES,
    CacheKey,
    FenceResult,
    Generation,
    Layout,
    TableId,
    TableName,
    Token,
)
from proxy.edge.redis_lane import Command, Lane, Replies
from proxy.edge.redis_lanes import RedisLanes, checked, milliseconds
from proxy.edge.redis_primary import PrimaryView
from proxy.edge.redis_records import is_wrong_type, lease_reply, lookup_command, lookup_reply
from proxy.edge.scripts import load_script
from proxy.edge.zstd import compress, decompress
from proxy.flow.ports import Clock

_SCOPE_KEPT_MS: Final = milliseconds(SCOPE_KEPT_S)
_TABLE_SURE_MS: Final = milliseconds(TABLE_SURE_S)
_Connection = tuple[Lane, PrimaryView]


class RedisStore:
    """The shared store over a few lanes.

    Args:
        lanes: connections, each with what it knows of its server.
        fence: lease, marker and tombstone times.
        clock: time and randomness.
        layout_of: tells how a table's records most probably lie in the store.
    """

    def __init__(
        self,
        lanes: RedisLanes,
        *,
        fence: FencePolicy,
        clock: Clock,
        layout_of: Callable[[TableName], Layout],
    ) -> None:
        self._lanes = lanes
        self._clock = clock
        self._layout_of = layout_of
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
    def unfit(self) -> bool:
        """Whether the store may lose what level `strict` stands on."""
        return self._lanes.fitness.unfit

    @property
    def why_not_serving(self) -> str:
        """In a few words, why `serving` is False."""
        return self._lanes.why_not_serving

    async def lookup(
        self, identity: ItemIdentity, names: tuple[str, ...] | None = None
    ) -> Sighting:
        """Read one record and its table's generation in one round trip.

        In two where the record is of another layout than its table's, as after a change of that
        setting, or where it is the string that a hash becomes while it holds no entry.
        """
        layout = self._layout_of(identity.table)
        lane, view, replies = await self._read(identity, layout, names)
        if is_wrong_type(replies[0]):
            lane, view, replies = await self._read(identity, layout.other, names)
        found = lookup_reply(replies[0], names)
        (raw_table,) = checked(replies[1:])
        now_ms = view.store_now_ms(self._clock.monotonic_s())
        table = _standing(raw_table, view, now_ms)
        if table is None:
            table = await self._learn((lane, view), identity.table_key)
            found = None  # it was read under a generation that did not count
        seen = sight(
            decode_record(found.raw) if found is not None else None,
            table,
            incarnation=view.incarnation,
            digest=identity.digest,
            store_now_ms=now_ms,
        )
        attributes = found.attributes if found is not None else None
        return unpacked_sighting(seen, attributes, decompress)

    async def lookup_page(self, page: PageIdentity) -> PageSighting:
        """Read one page and the generations of its table and scope in one round trip."""
        lane, view = self._lanes.pick_serving()
        names = (page.record.cache_key, page.record.table_key, page.scope_key)
        raw, raw_table, raw_scope = checked(await lane.submit(*(("GET", name) for name in names)))
        now_ms = view.store_now_ms(self._clock.monotonic_s())
        table = _standing(raw_table, view, now_ms)
        scope = _standing(raw_scope, view, now_ms)
        if table is None or table.pages_from_ms == 0:
            table = await self._learn((lane, view), page.record.table_key, "announce")
        if scope is None:
            scope = await self._learn((lane, view), page.scope_key, keep_ms=_SCOPE_KEPT_MS)
        seen = sight_page(
            decode_record(raw) if raw is not None else None,
            table,
            scope,
            page=page,
            incarnation=view.incarnation,
            store_now_ms=now_ms,
        )
        return replace(seen, sighting=unpacked_sighting(seen.sighting, None, decompress))

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
        return lease_reply(reply)

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
            *self._draft_arguments(identity, view, generation, draft),
        )
        return bool(stored)

    async def release(self, identity: ItemIdentity, *, token: Token) -> None:
        """Give a lease back unused."""
        lane, view = self._lanes.pick_any()
        tombstone_ms = self._tombstone_ms
        await self._step(lane, "release", identity.cache_key, view.incarnation, token, tombstone_ms)

    async def begin(self, identity: ItemIdentity, *, token: Token, settled: bool = False) -> Begun:
        """Mark a write in flight."""
        lane, view = await self._lanes.pick_soon(settled=settled)
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
        return begun_under(table, view.incarnation, there=raw_table is not None)

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
            arguments += self._draft_arguments(identity, view, *stored)
        reply = await self._step(lane, "end", identity.cache_key, *arguments)
        return FenceResult(reply.decode())

    async def invalidate(self, identity: ItemIdentity) -> None:
        """Replace whatever is there by a tombstone."""
        lane, _ = self._lanes.pick_any()
        await self._step(lane, "invalidate", identity.cache_key, self._tombstone_ms)

    async def begin_table(
        self, table_key: CacheKey, *, token: Token, settled: bool = False
    ) -> None:
        """Keep a whole table unserved while a write is in flight."""
        connection = await self._lanes.pick_soon(settled=settled)
        await self._begin_scope(connection, table_key, token, keep_ms=0)

    async def end_table(
        self, table_key: CacheKey, *, token: Token, outcome: WriteOutcome, remade: bool
    ) -> None:
        """End such a write."""
        done = "remake" if remade else "end"
        step = "abort" if outcome is WriteOutcome.ABORTED else done
        await self._scope_step(self._lanes.pick_any(), step, table_key, token)

    async def begin_scope(
        self, scope_key: CacheKey, *, token: Token, settled: bool = False
    ) -> None:
        """Keep a scope's pages unserved while a write is in flight."""
        connection = await self._lanes.pick_soon(settled=settled)
        await self._begin_scope(connection, scope_key, token, keep_ms=_SCOPE_KEPT_MS)

    async def end_scope(self, scope_key: CacheKey, *, token: Token, outcome: WriteOutcome) -> None:
        """End such a write."""
        step = "abort" if outcome is WriteOutcome.ABORTED else "end"
        connection = self._lanes.pick_any()
        await self._scope_step(connection, step, scope_key, token, keep_ms=_SCOPE_KEPT_MS)

    async def generation(self, table_key: CacheKey) -> Generation:
        """Return a table's generation."""
        return (await self._learn(self._lanes.pick_any(), table_key)).generation

    async def claim_check(self, table_key: CacheKey, *, interval_s: float) -> float:
        """Claim the check of which table a name stands for."""
        connection, interval_ms = self._lanes.pick_any(), milliseconds(interval_s)
        left = await self._scope_step(connection, "due", table_key, more=(interval_ms,))
        return left / 1000 if isinstance(left, int) else 0.0

    async def identify_table(self, table_key: CacheKey, table_id: TableId) -> bool:
        """Remember which table a name stands for."""
        connection, more = self._lanes.pick_any(), (table_id, _TABLE_SURE_MS)
        return bool(await self._scope_step(connection, "identify", table_key, more=more))

    async def _read(
        self, identity: ItemIdentity, layout: Layout, names: tuple[str, ...] | None
    ) -> tuple[Lane, PrimaryView, Replies]:
        """Read an item's and its table's record, with the view of the connection that did it.

        The item's first: an entry must count under a generation that is not older than itself.
        """
        lane, view = self._lanes.pick_serving()
        command = lookup_command(layout, identity.cache_key, names)
        return lane, view, await lane.submit(command, ("GET", identity.table_key))

    # Scripts

    def _draft_arguments(
        self, identity: ItemIdentity, view: PrimaryView, generation: Generation, draft: EntryDraft
    ) -> tuple[bytes | int, ...]:
        return (
            generation,
            identity.digest,
            view.store_passed_ms(self._clock.monotonic_s()),
            milliseconds(draft.age_s),
            milliseconds(draft.fresh_s),
            milliseconds(draft.hard_s),
            *packed(draft, compress),
        )

    async def _scope_step(
        self,
        connection: _Connection,
        step: str,
        scope_key: CacheKey,
        token: bytes = b"",
        *,
        keep_ms: int = 0,
        more: tuple[bytes | int, ...] = (),
    ) -> Any:
        lane, view = connection
        fresh = self._clock.token()[:GENERATION_BYTES]
        arguments = (step, fresh, token, self._marker_ms, keep_ms, view.incarnation, *more)
        return await self._step(lane, "scope", scope_key, *arguments)

    async def _begin_scope(
        self, connection: _Connection, scope_key: CacheKey, token: Token, *, keep_ms: int
    ) -> None:
        if await self._scope_step(connection, "begin", scope_key, token, keep_ms=keep_ms) == 0:
            what = "one scope" if keep_ms else "one table"
            raise StoreUnavailable(StoreFailure.FULL, f"too many writes in flight on {what}")

    async def _learn(
        self, connection: _Connection, scope_key: CacheKey, step: str = "learn", *, keep_ms: int = 0
    ) -> ScopeRecord:
        raw = await self._scope_step(connection, step, scope_key, keep_ms=keep_ms)
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


def _standing(raw: bytes | None, view: PrimaryView, now_ms: int) -> ScopeRecord | None:
    """Return a scope's record, or None where it must be learned first."""
    scope = decode_scope(raw) if raw is not None else None
    return scope if scope is not None and scope.stands(view.incarnation, now_ms) else None


def _with_text(step: str, command: Command) -> Command:
    return ("EVAL", load_script(step).text, *command[2:])


def _is_no_script(reply: object) -> bool:
    return isinstance(reply, redis.exceptions.NoScriptError)


def step_command(step: str, cache_key: CacheKey, *arguments: bytes | int | str) -> Command:
    """Return the command that runs one step on one record."""
    return ("EVALSHA", load_script(step).sha, 1, cache_key, *arguments)
