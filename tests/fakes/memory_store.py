"""A `ports.Store` in memory: the protocol of the Lua scripts, with switches for tests.

It passes the same contract suite as `RedisStore`. Its switches make what a real store does only
now and then: refuse, lose a reply after the step took effect, forget, change its incarnation.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, TypeVar

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
from proxy.core.packing import Attributes, field_of, packed, unpacked, unpacked_sighting
from proxy.core.pages import PageIdentity, PageSighting, sight_page
from proxy.core.policy import SCOPE_KEPT_S, TABLE_SURE_S, FencePolicy
from proxy.core.record import Entry, EntryDraft, Record, ScopeRecord, decode_record, decode_scope
from proxy.core.values import (
    GENERATION_BYTES,
    INCARNATION_BYTES,
    CacheKey,
    FenceResult,
    Generation,
    Incarnation,
    TableId,
    Token,
)
from proxy.flow.ports import Clock, LookupReader, NearFeed
from tests.fakes.memory_scripts import (
    Fields,
    Granted,
    MemoryScripts,
    NewEntry,
    ScopeCall,
    Stored,
)
from tests.fakes.memory_tracking import MemoryTracking
from tests.fakes.record_bytes import expired, unpack

T = TypeVar("T")

QUARANTINE: Final = "quarantine after a start or fail-over of the store"
_KEPT_MS: Final = round(SCOPE_KEPT_S * 1000)
_SURE_MS: Final = round(TABLE_SURE_S * 1000)
_EPOCH_MS: Final = 1_700_000_000_000  # the store is another machine: its clock is its own


@dataclass(frozen=True, slots=True)
class Step:
    """One step that a caller asked for, whether or not it took effect."""

    name: str
    key: CacheKey


@dataclass(frozen=True, slots=True)
class _Fault:
    failure: StoreFailure
    step: str | None
    after_effect: bool


_telling: Final[set[asyncio.Task[None]]] = set()


def tell_reader(lookup: Coroutine[Any, Any, Sighting], reader: LookupReader) -> None:
    """Let a reader know what comes of a lookup, in a task of its own."""

    async def tell() -> None:
        try:
            try:
                sighting = await lookup
            except StoreUnavailable as unavailable:
                reader.failed(unavailable)
            else:
                reader.saw(sighting)
        except Exception as error:  # noqa: BLE001 - as the real one does
            reader.broke(error)

    task = asyncio.get_running_loop().create_task(tell())
    _telling.add(task)
    task.add_done_callback(_telling.discard)


class MemoryStore:
    """The shared store as a dict; several "proxies" may share one object.

    Args:
        clock: its `monotonic_s` drives the store's own clock.
        fence: lease, marker and tombstone times.

    Attributes:
        steps: every step asked for, oldest first.
        before: awaited with each step before it takes effect, to hold it or to look on.
        why_not_serving: set by `stop_serving`; empty while it serves.
        down: while set, every step fails with it and takes no effect.
        unfit: whether the store has flaws that `strict` cannot stand on.
        settled: whether the primary is known to be the only one.
        tracking: the connection that pushes changes; None until `track`.
    """

    def __init__(self, clock: Clock, fence: FencePolicy = FencePolicy()) -> None:  # noqa: B008 - frozen
        self._clock = clock
        self.scripts = MemoryScripts(self.now_ms, fence)
        self.steps: list[Step] = []
        self.before: Callable[[Step], Awaitable[None]] | None = None
        self.why_not_serving = ""
        self.down: StoreFailure | None = None
        self.unfit = False
        self.settled = True
        self._gate_open = True
        self._made = count(1)
        self.incarnation = Incarnation(self._fresh(INCARNATION_BYTES))
        self._faults: deque[_Fault] = deque()
        self.tracking: MemoryTracking | None = None

    def track(self, feed: NearFeed) -> None:
        """Let this link's connection track what it reads, and push changes to `feed`."""
        self.tracking = MemoryTracking(feed, self._clock.monotonic_s)
        self.scripts.records.watchers.append(self.tracking.changed)

    # Switches

    @property
    def serving(self) -> bool:
        """Whether hits and fills are allowed now."""
        return not self.why_not_serving

    @property
    def quarantined(self) -> bool:
        """Whether serving was stopped for a quarantine."""
        return self.why_not_serving == QUARANTINE

    def stop_serving(self, why: str = QUARANTINE) -> None:
        """Allow no hit and no fill, and no write to store: fences go on. Default: quarantine."""
        self.why_not_serving = why
        self._gate_open = False

    def start_serving(self) -> None:
        """Allow hits and fills again."""
        self.why_not_serving = ""
        self._gate_open = True

    def fail_next(self, failure: StoreFailure, *, step: str | None = None) -> None:
        """Fail the next step (of that name) before it takes effect; calls queue up."""
        self._faults.append(_Fault(failure, step, after_effect=False))

    def lose_next_reply(self, *, step: str | None = None) -> None:
        """Let the next step (of that name) take effect and then fail with RESET."""
        self._faults.append(_Fault(StoreFailure.RESET, step, after_effect=True))

    def expire(self, key: CacheKey) -> None:
        """Let the lease or the markers in a record run out now; the record itself stays."""
        record = unpack(self.scripts.records[key].raw)
        assert record is not None, "a record of another release has no deadline that we know"
        fields = self.scripts.records[key].fields
        self.scripts.records[key] = Stored(expired(record).pack(), None, fields)

    def evict(self, key: CacheKey) -> None:
        """Drop one record, as a full store does."""
        if key in self.scripts.records:
            del self.scripts.records[key]

    def flush(self) -> None:
        """Drop every record; the incarnation stays."""
        self.scripts.records.clear()

    def change_incarnation(self) -> None:
        """Become another primary that still has every record: a promoted replica."""
        self.incarnation = Incarnation(self._fresh(INCARNATION_BYTES))

    def restart(self) -> None:
        """Become another primary without any record."""
        self.flush()
        self.change_incarnation()

    def put_raw(self, key: CacheKey, raw: bytes, *, attributes_stay: bool = False) -> None:
        """Put any bytes in a record's place, without a lifetime."""
        before = self.scripts.stored(key) if attributes_stay else None
        self.scripts.records[key] = Stored(raw, None, before.fields if before else None)

    def raw(self, key: CacheKey) -> bytes | None:
        """Return a record's bytes."""
        return self.scripts.get(key)

    def record(self, identity: ItemIdentity) -> Record | None:
        """Return an item's decoded record."""
        raw = self.raw(identity.cache_key)
        return decode_record(raw) if raw is not None else None

    def scope(self, scope_key: CacheKey) -> ScopeRecord | None:
        """Return a table's or another scope's decoded record."""
        raw = self.raw(scope_key)
        return decode_scope(raw) if raw is not None else None

    def asked(self, name: str) -> int:
        """Return how many steps of that name were asked for."""
        return sum(step.name == name for step in self.steps)

    def now_ms(self) -> int:
        """Return the store's clock."""
        return _EPOCH_MS + int(self._clock.monotonic_s() * 1000)

    # The port

    async def lookup(
        self, identity: ItemIdentity, names: tuple[str, ...] | None = None
    ) -> Sighting:
        """See `ports.Store`."""

        def run() -> Sighting:
            raw, table = self.raw(identity.cache_key), self.scope(identity.table_key)
            if table is None or not table.stands(self.incarnation, self.now_ms()):
                table = self._learn(identity.table_key)
                raw = None
            seen = sight(
                decode_record(raw) if raw is not None else None,
                table,
                incarnation=self.incarnation,
                digest=identity.digest,
                store_now_ms=self.now_ms(),
            )
            stored = self.scripts.stored(identity.cache_key)
            fields = stored.fields if stored is not None else None
            if self.tracking is not None and fields is None:  # only a GET is tracked
                sources = self.tracking.reads(identity.cache_key, identity.table_key)
                seen = seen._replace(sources=sources)
            return unpacked_sighting(seen, beside(fields, names), not_compressed)

        return await self._step("lookup", identity.cache_key, run, serving=True)

    def look_up(self, identity: ItemIdentity, reader: LookupReader) -> None:
        """See `ports.Store`."""
        tell_reader(self.lookup(identity), reader)

    async def lookup_page(self, page: PageIdentity) -> PageSighting:
        """See `ports.Store`."""

        def run() -> PageSighting:
            raw, now_ms = self.raw(page.record.cache_key), self.now_ms()
            table, scope = self.scope(page.record.table_key), self.scope(page.scope_key)
            here = self.incarnation
            if table is None or not table.stands(here, now_ms) or table.pages_from_ms == 0:
                table = self._learn(page.record.table_key, "announce")
            if scope is None or not scope.stands(here, now_ms):
                scope = self._learn(page.scope_key, keep_ms=_KEPT_MS)
            return sight_page(
                decode_record(raw) if raw is not None else None,
                table,
                scope,
                page=page,
                incarnation=self.incarnation,
                store_now_ms=now_ms,
            )

        return await self._step("lookup_page", page.record.cache_key, run, serving=True)

    async def lease(
        self, identity: ItemIdentity, *, token: Token, generation: Generation, force: bool
    ) -> LeaseReply:
        """See `ports.Store`."""

        def run() -> LeaseReply:
            granted = self.scripts.lease(
                identity.cache_key,
                self.incarnation,
                generation=generation,
                digest=identity.digest,
                token=token,
                force=force,
            )
            return self._reply(LeaseState(granted.word), granted)

        return await self._step("lease", identity.cache_key, run, serving=True)

    async def fill(
        self, identity: ItemIdentity, *, token: Token, generation: Generation, draft: EntryDraft
    ) -> bool:
        """See `ports.Store`."""
        new = new_entry(identity, generation, draft, self.now_ms())
        return await self._step(
            "fill",
            identity.cache_key,
            lambda: self.scripts.fill(identity.cache_key, self.incarnation, token=token, new=new),
            serving=True,
        )

    async def release(self, identity: ItemIdentity, *, token: Token) -> None:
        """See `ports.Store`."""
        key = identity.cache_key
        await self._step(
            "release", key, lambda: self.scripts.release(key, self.incarnation, token=token)
        )

    async def begin(self, identity: ItemIdentity, *, token: Token, settled: bool = False) -> Begun:
        """See `ports.Store`."""

        def run() -> Begun:
            self._check_settled(wanted=settled)
            begun = self.scripts.begin(
                identity.cache_key, self.incarnation, token=token, gate_open=self._gate_open
            )
            if not begun:
                raise StoreUnavailable(StoreFailure.FULL, "too many writes in flight on one item")
            table = self.scope(identity.table_key)
            there = self.raw(identity.table_key) is not None
            return begun_under(table, self.incarnation, there=there)

        return await self._step("begin", identity.cache_key, run)

    async def end(
        self,
        identity: ItemIdentity,
        *,
        token: Token,
        outcome: WriteOutcome,
        stored: tuple[Generation, EntryDraft] | None = None,
    ) -> FenceResult:
        """See `ports.Store`."""
        new = new_entry(identity, *stored, self.now_ms()) if stored else None

        def run() -> FenceResult:
            return FenceResult(
                self.scripts.end(
                    identity.cache_key,
                    self.incarnation,
                    token=token,
                    outcome=outcome.value,
                    new=new,
                )
            )

        return await self._step("end", identity.cache_key, run)

    async def invalidate(self, identity: ItemIdentity) -> None:
        """See `ports.Store`."""
        key = identity.cache_key
        await self._step("invalidate", key, lambda: self.scripts.invalidate(key))

    async def begin_table(
        self, table_key: CacheKey, *, token: Token, settled: bool = False
    ) -> None:
        """See `ports.Store`."""

        def run() -> None:
            self._check_settled(wanted=settled)
            self._scope_step(table_key, "begin", token)

        await self._step("begin_table", table_key, run)

    async def end_table(
        self, table_key: CacheKey, *, token: Token, outcome: WriteOutcome, remade: bool
    ) -> None:
        """See `ports.Store`."""
        done = "remake" if remade else "end"
        step = "abort" if outcome is WriteOutcome.ABORTED else done
        await self._step("end_table", table_key, lambda: self._scope_step(table_key, step, token))

    async def begin_scope(
        self, scope_key: CacheKey, *, token: Token, settled: bool = False
    ) -> None:
        """See `ports.Store`."""

        def run() -> None:
            self._check_settled(wanted=settled)
            self._scope_step(scope_key, "begin", token, keep_ms=_KEPT_MS)

        await self._step("begin_scope", scope_key, run)

    async def end_scope(self, scope_key: CacheKey, *, token: Token, outcome: WriteOutcome) -> None:
        """See `ports.Store`."""
        step = "abort" if outcome is WriteOutcome.ABORTED else "end"

        def run() -> None:
            self._scope_step(scope_key, step, token, keep_ms=_KEPT_MS)

        await self._step("end_scope", scope_key, run)

    async def generation(self, table_key: CacheKey) -> Generation:
        """See `ports.Store`."""

        def run() -> Generation:
            return self._learn(table_key).generation

        return await self._step("generation", table_key, run)

    async def claim_check(self, table_key: CacheKey, *, interval_s: float) -> float:
        """See `ports.Store`."""

        def run() -> float:
            call, interval_ms = self._call("due"), round(interval_s * 1000)
            left = self.scripts.due(table_key, call, interval_ms=interval_ms)
            return left / 1000 if isinstance(left, int) else 0.0

        return await self._step("claim_check", table_key, run)

    async def identify_table(self, table_key: CacheKey, table_id: TableId) -> bool:
        """See `ports.Store`."""

        def run() -> bool:
            call = self._call("identify")
            told = self.scripts.identify(table_key, call, table_id=table_id, sure_ms=_SURE_MS)
            return bool(told)

        return await self._step("identify_table", table_key, run)

    async def step(
        self, name: str, key: CacheKey, run: Callable[[], T], *, serving: bool = False
    ) -> T:
        """Take a step of another port beside this one, with the same faults."""
        return await self._step(name, key, run, serving=serving)

    # Inside

    def _scope_step(
        self, scope_key: CacheKey, step: str, token: bytes, *, keep_ms: int = 0
    ) -> bytes:
        record = self.scripts.scope(scope_key, self._call(step, token, keep_ms=keep_ms))
        if record is None:
            raise StoreUnavailable(StoreFailure.FULL, "too many writes in flight on one scope")
        return record

    def _call(self, step: str, token: bytes = b"", *, keep_ms: int = 0) -> ScopeCall:
        fresh = self._fresh(GENERATION_BYTES)
        return ScopeCall(step, self.incarnation, fresh, token, keep_ms)

    def _learn(self, scope_key: CacheKey, step: str = "learn", *, keep_ms: int = 0) -> ScopeRecord:
        scope = decode_scope(self._scope_step(scope_key, step, b"", keep_ms=keep_ms))
        if scope is None:
            reason = "a scope's record is of another release"
            raise StoreUnavailable(StoreFailure.REFUSED, reason)
        return scope

    def _reply(self, state: LeaseState, granted: Granted) -> LeaseReply:
        now_ms, detail = self.now_ms(), granted.detail
        if isinstance(detail, bytes):
            record = decode_record(detail)
            assert isinstance(record, Entry), "lease answered HIT without an entry"
            entry = unpacked(record, beside(granted.fields, None), not_compressed)
            if entry is None:
                return LeaseReply(LeaseState.PENDING, store_now_ms=now_ms)
            return LeaseReply(state, entry=entry, store_now_ms=now_ms)
        if state is LeaseState.WAIT:
            return LeaseReply(state, wait_s=detail / 1000, store_now_ms=now_ms)
        strong = bool(detail) if state is LeaseState.LEASED else True
        return LeaseReply(state, strong=strong, store_now_ms=now_ms)

    async def _step(
        self, name: str, key: CacheKey, run: Callable[[], T], *, serving: bool = False
    ) -> T:
        step = Step(name, key)
        self.steps.append(step)
        await asyncio.sleep(0)  # a real store suspends its caller: let nobody rely on less
        if self.before is not None:
            await self.before(step)
        if self.down is not None:
            raise StoreUnavailable(self.down, "the store is down")
        if serving and self.why_not_serving:
            raise StoreUnavailable(StoreFailure.CLOSED, self.why_not_serving)
        fault = self._next_fault(name)
        if fault is not None and not fault.after_effect:
            raise StoreUnavailable(fault.failure, "told to fail")
        reply = run()
        if fault is not None:
            raise StoreUnavailable(fault.failure, "told to lose the reply")
        return reply

    def _check_settled(self, *, wanted: bool) -> None:
        if wanted and not self.settled:
            raise StoreUnavailable(StoreFailure.UNSETTLED, "the primary is new")

    def _next_fault(self, name: str) -> _Fault | None:
        for fault in self._faults:
            if fault.step in (None, name):
                self._faults.remove(fault)
                return fault
        return None

    def _fresh(self, size: int) -> bytes:
        """Return bytes of which neither half was returned before, whatever the clock's tokens."""
        return next(self._made).to_bytes(size // 2, "big") * 2


def new_entry(
    identity: ItemIdentity, generation: Generation, draft: EntryDraft, sent_ms: int
) -> NewEntry:
    """Return a draft as the scripts take it."""
    payload, *rest = packed(draft, not_compressed)
    fields = tuple(sorted(zip(rest[1::2], rest[2::2], strict=True))) if rest else None
    return NewEntry(
        generation,
        identity.digest,
        sent_ms,
        round(draft.age_s * 1000),
        round(draft.fresh_s * 1000),
        round(draft.hard_s * 1000),
        payload,
        fields,
    )


def beside(fields: Fields | None, names: tuple[str, ...] | None) -> Attributes | None:
    """Return what a read of these attributes finds in a hash, None for a string."""
    if fields is None:
        return None
    wanted = dict(fields)
    if names is not None:
        wanted = {each: wanted[each] for each in map(field_of, names) if each in wanted}
    return Attributes(wanted, names)


def not_compressed(_body: bytes) -> bytes | None:
    """Compress nothing and decompress nothing: this store has room."""
    return None
