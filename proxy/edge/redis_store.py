"""Performs the steps of the coherence protocol on Redis or Valkey; implements `ports.Store`.

Redis's exceptions stop here and below. Needs Redis ≥ 7.0 or Valkey ≥ 7.2 (script flags).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

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
from proxy.core.record import EntryDraft, decode_record, decode_scope
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
from proxy.edge.redis_command import Command, checked, milliseconds, step_command
from proxy.edge.redis_courier import Build, Courier, Need, Routes, Told
from proxy.edge.redis_lookup import RedisLookup
from proxy.edge.redis_primary import PrimaryView
from proxy.edge.redis_records import is_wrong_type, lease_reply, lookup_command, lookup_reply
from proxy.edge.redis_scopes import Known, known, sources_of, standing
from proxy.edge.zstd import compress, decompress
from proxy.flow.ports import Clock, LookupReader

_SCOPE_KEPT_MS: Final = milliseconds(SCOPE_KEPT_S)
_TABLE_SURE_MS: Final = milliseconds(TABLE_SURE_S)
_ENDS: Final = {result.value.encode(): result for result in FenceResult}


class RedisStore:
    """The shared store on one server or several.

    Args:
        routes: which server has which record, and the lanes to it.
        fence: lease, marker and tombstone times.
        clock: time and randomness.
        layout_of: tells how a table's records most probably lie in the store.
    """

    def __init__(
        self,
        routes: Routes,
        *,
        fence: FencePolicy,
        clock: Clock,
        layout_of: Callable[[TableName], Layout],
    ) -> None:
        self._routes = routes
        self._courier = Courier(routes)
        self._clock = clock
        self._layout_of = layout_of
        self._lease_ms = milliseconds(fence.lease_s)
        self._marker_ms = milliseconds(fence.marker_s)
        self._tombstone_ms = milliseconds(fence.tombstone_s)

    @property
    def serving(self) -> bool:
        """Whether some server is there, proven and past its quarantine."""
        return self._routes.serving

    @property
    def quarantined(self) -> bool:
        """Whether the store's primary is there and only its quarantine is not over."""
        return self._routes.quarantined

    @property
    def unfit(self) -> bool:
        """Whether the store may lose what level `strict` stands on."""
        return self._routes.unfit

    @property
    def why_not_serving(self) -> str:
        """In a few words, why `serving` is False, or what part of the store is out."""
        return self._routes.why_not_serving

    async def lookup(
        self, identity: ItemIdentity, names: tuple[str, ...] | None = None
    ) -> Sighting:
        """Read one record and its table's generation in one round trip.

        In two where the record is of another layout than its table's, as after a change of that
        setting, or where it is the string that a hash becomes while it holds no entry.
        """
        layout = self._layout_of(identity.table)
        item, table = await self._read(identity, layout, names)
        if is_wrong_type(item.reply):
            layout = layout.other
            item, table = await self._read(identity, layout, names)
        found = lookup_reply(item.reply, names)
        now_s = self._clock.monotonic_s()
        known = standing(table, now_s)
        sources = sources_of(item, table) if layout is Layout.BLOB else ()
        if known is None:
            sources = ()
            known = (await self._learn(identity.table_key, Need.SERVING)).scope
            found = None  # it was read under a generation that did not count
        seen = sight(
            decode_record(found.raw) if found is not None else None,
            known,
            incarnation=item.view.incarnation,
            digest=identity.digest,
            store_now_ms=item.view.store_now_ms(now_s),
            sources=sources,
        )
        attributes = found.attributes if found is not None else None
        return unpacked_sighting(seen, attributes, decompress)

    def look_up(self, identity: ItemIdentity, reader: LookupReader) -> None:
        """Read them likewise, and tell a reader what is there."""
        if self._layout_of(identity.table) is not Layout.BLOB:
            reader.unsure()
            return
        try:
            lanes = self._routes.lanes_for(identity.cache_key)
            if lanes is not self._routes.lanes_for(identity.table_key):
                reader.unsure()
                return
            lane, view = lanes.pick_serving()
            now_s = self._clock.monotonic_s
            lane.enqueue(RedisLookup(identity, reader, view, source=lane.source, now_s=now_s))
        except StoreUnavailable as unavailable:
            reader.failed(self._routes.blamed(unavailable))

    async def lookup_page(self, page: PageIdentity) -> PageSighting:
        """Read one page and the generations of its table and scope in one round trip."""
        keys = (page.record.cache_key, page.record.table_key, page.scope_key)
        of_page, of_table, of_scope = await self._courier.read(
            *((key, ("GET", key)) for key in keys)
        )
        (raw,) = checked([of_page.reply])
        now_s = self._clock.monotonic_s()
        table, scope = known(of_table, now_s), known(of_scope, now_s)
        if table is None or table.scope.pages_from_ms == 0:
            table = await self._learn(page.record.table_key, Need.SERVING, "announce")
        if scope is None:
            scope = await self._learn(page.scope_key, Need.SERVING, keep_ms=_SCOPE_KEPT_MS)
        seen = sight_page(
            decode_record(raw) if raw is not None else None,
            table.by_clock_of(of_page.view, now_s),
            scope.by_clock_of(of_page.view, now_s),
            page=page,
            incarnation=of_page.view.incarnation,
            store_now_ms=of_page.view.store_now_ms(now_s),
        )
        return replace(seen, sighting=unpacked_sighting(seen.sighting, None, decompress))

    async def lease(
        self, identity: ItemIdentity, *, token: Token, generation: Generation, force: bool
    ) -> LeaseReply:
        """Ask for permission to fill."""
        times = (self._lease_ms, self._tombstone_ms)
        arguments = (generation, identity.digest, token, *times, int(force))
        step = _under("lease", identity.cache_key, *arguments)
        replies, _ = await self._courier.step(identity.cache_key, Need.SERVING, step)
        return lease_reply(checked(replies)[0])

    async def fill(
        self, identity: ItemIdentity, *, token: Token, generation: Generation, draft: EntryDraft
    ) -> bool:
        """Store an entry under a lease."""

        def step(view: PrimaryView) -> Command:
            arguments = self._draft_arguments(identity, view, generation, draft)
            return step_command("fill", identity.cache_key, view.incarnation, token, *arguments)

        replies, _ = await self._courier.step(identity.cache_key, Need.SERVING, step)
        return bool(checked(replies)[0])

    async def release(self, identity: ItemIdentity, *, token: Token) -> None:
        """Give a lease back unused."""
        step = _under("release", identity.cache_key, token, self._tombstone_ms)
        await self._step(identity.cache_key, Need.CONNECTED, step)

    async def begin(self, identity: ItemIdentity, *, token: Token, settled: bool = False) -> Begun:
        """Mark a write in flight, and read its table's record in the same round trip.

        Where that is on another server it is read at the same time, so perhaps before the marker
        is there. That will do: pages count from a marker's whole time after somebody announced
        them, and this writer's effect comes within that time after the asking for both began.
        """
        marker_ms, tombstone_ms = self._marker_ms, self._tombstone_ms

        def step(view: PrimaryView) -> Command:
            gate = int(view.gate_open(self._clock.monotonic_s()))
            arguments = (view.incarnation, token, marker_ms, gate, tombstone_ms)
            return step_command("begin", identity.cache_key, *arguments)

        need = Need.of_write(settled=settled)
        table: Told | None
        if self._courier.together(identity.cache_key, identity.table_key):
            read_table: Command = ("GET", identity.table_key)
            (begun, raw_table), view = await self._courier.step(
                identity.cache_key, need, step, read_table
            )
            table = Told(raw_table, view)
        else:
            begun, table = await asyncio.gather(
                self._step(identity.cache_key, need, step), self._table_of(identity, need)
            )
        if checked([begun]) == [0]:
            raise StoreUnavailable(StoreFailure.FULL, "too many writes in flight on one item")
        if table is None:
            return Begun(None, pages=True)
        scope = decode_scope(table.reply) if isinstance(table.reply, bytes) else None
        return begun_under(scope, table.view.incarnation, there=table.reply is not None)

    async def end(
        self,
        identity: ItemIdentity,
        *,
        token: Token,
        outcome: WriteOutcome,
        stored: tuple[Generation, EntryDraft] | None = None,
    ) -> FenceResult:
        """End a write of known outcome."""

        def step(view: PrimaryView) -> Command:
            more = self._draft_arguments(identity, view, *stored) if stored is not None else ()
            arguments = (view.incarnation, token, outcome.value, self._tombstone_ms, *more)
            return step_command("end", identity.cache_key, *arguments)

        replies, _ = await self._courier.step(identity.cache_key, Need.CONNECTED, step)
        return _ENDS[checked(replies)[0]]

    async def invalidate(self, identity: ItemIdentity) -> None:
        """Replace whatever is there by a tombstone."""
        command = step_command("invalidate", identity.cache_key, self._tombstone_ms)
        await self._step(identity.cache_key, Need.CONNECTED, lambda _: command)

    async def begin_table(
        self, table_key: CacheKey, *, token: Token, settled: bool = False
    ) -> None:
        """Keep a whole table unserved while a write is in flight."""
        await self._begin_scope(table_key, token, Need.of_write(settled=settled), keep_ms=0)

    async def end_table(
        self, table_key: CacheKey, *, token: Token, outcome: WriteOutcome, remade: bool
    ) -> None:
        """End such a write."""
        done = "remake" if remade else "end"
        step = "abort" if outcome is WriteOutcome.ABORTED else done
        await self._scope_step(table_key, Need.CONNECTED, step, token)

    async def begin_scope(
        self, scope_key: CacheKey, *, token: Token, settled: bool = False
    ) -> None:
        """Keep a scope's pages unserved while a write is in flight."""
        need = Need.of_write(settled=settled)
        await self._begin_scope(scope_key, token, need, keep_ms=_SCOPE_KEPT_MS)

    async def end_scope(self, scope_key: CacheKey, *, token: Token, outcome: WriteOutcome) -> None:
        """End such a write."""
        step = "abort" if outcome is WriteOutcome.ABORTED else "end"
        await self._scope_step(scope_key, Need.CONNECTED, step, token, keep_ms=_SCOPE_KEPT_MS)

    async def generation(self, table_key: CacheKey) -> Generation:
        """Return a table's generation."""
        return (await self._learn(table_key, Need.CONNECTED)).scope.generation

    async def claim_check(self, table_key: CacheKey, *, interval_s: float) -> float:
        """Claim the check of which table a name stands for."""
        more = (milliseconds(interval_s),)
        told = await self._scope_step(table_key, Need.CONNECTED, "due", more=more)
        return told.reply / 1000 if isinstance(told.reply, int) else 0.0

    async def identify_table(self, table_key: CacheKey, table_id: TableId) -> bool:
        """Remember which table a name stands for."""
        more = (table_id, _TABLE_SURE_MS)
        return bool(
            (await self._scope_step(table_key, Need.CONNECTED, "identify", more=more)).reply
        )

    def _read(
        self, identity: ItemIdentity, layout: Layout, names: tuple[str, ...] | None
    ) -> Awaitable[list[Told]]:
        """Read an item's and its table's record, each with the view of the connection it came by.

        Where both are on one server the item's comes first. Where they are not, the table's may: a
        write to the whole table that began in between then runs beside this read.
        """
        command = lookup_command(layout, identity.cache_key, names)
        table = ("GET", identity.table_key)
        return self._courier.read((identity.cache_key, command), (identity.table_key, table))

    async def _table_of(self, identity: ItemIdentity, need: Need) -> Told | None:
        """Read a table's record for a writer; None where its server is out, or not settled."""
        command = ("GET", identity.table_key)
        try:
            (raw,), view = await self._courier.step(identity.table_key, need, lambda _: command)
        except StoreUnavailable:
            return None
        return Told(raw, view)

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
        scope_key: CacheKey,
        need: Need,
        step: str,
        token: bytes = b"",
        *,
        keep_ms: int = 0,
        more: tuple[bytes | int, ...] = (),
    ) -> Told:
        fresh = self._clock.token()[:GENERATION_BYTES]

        def build(view: PrimaryView) -> Command:
            arguments = (step, fresh, token, self._marker_ms, keep_ms, view.incarnation, *more)
            return step_command("scope", scope_key, *arguments)

        replies, view = await self._courier.step(scope_key, need, build)
        return Told(checked(replies)[0], view)

    async def _begin_scope(
        self, scope_key: CacheKey, token: Token, need: Need, *, keep_ms: int
    ) -> None:
        told = await self._scope_step(scope_key, need, "begin", token, keep_ms=keep_ms)
        if told.reply == 0:
            what = "one scope" if keep_ms else "one table"
            raise StoreUnavailable(StoreFailure.FULL, f"too many writes in flight on {what}")

    async def _learn(
        self, scope_key: CacheKey, need: Need, step: str = "learn", *, keep_ms: int = 0
    ) -> Known:
        told = await self._scope_step(scope_key, need, step, keep_ms=keep_ms)
        scope = decode_scope(told.reply)
        if scope is None:
            raise StoreUnavailable(StoreFailure.REFUSED, "a scope's record is of another release")
        return Known(scope, told.view)

    async def _step(self, cache_key: CacheKey, need: Need, build: Build) -> Any:
        replies, _ = await self._courier.step(cache_key, need, build)
        return checked(replies)[0]


def _under(step: str, cache_key: CacheKey, *arguments: bytes | int | str) -> Build:
    """Return what makes a step's command, the connection's incarnation being its first argument."""
    return lambda view: step_command(step, cache_key, view.incarnation, *arguments)
