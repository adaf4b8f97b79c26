"""A `ports.Store` in memory: the protocol of the Lua scripts, with switches for tests.

It passes the same contract suite as `RedisStore`. Its switches make what a real store does only
now and then: refuse, lose a reply after the step took effect, forget, change its incarnation.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Final, TypeVar

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.fence import ItemIdentity, LeaseReply, LeaseState, Sighting, WriteOutcome, sight
from proxy.core.packing import Attributes, field_of, packed, unpacked, unpacked_sighting
from proxy.core.policy import FencePolicy
from proxy.core.record import (
    Entry,
    EntryDraft,
    Record,
    TableRecord,
    decode_record,
    decode_table,
)
from proxy.core.values import (
    GENERATION_BYTES,
    INCARNATION_BYTES,
    CacheKey,
    FenceResult,
    Generation,
    Incarnation,
    Token,
)
from proxy.flow.ports import Clock
from tests.fakes.memory_scripts import Fields, Granted, MemoryScripts, NewEntry, Stored
from tests.fakes.record_bytes import expired, unpack

T = TypeVar("T")

QUARANTINE: Final = "quarantine after a start or fail-over of the store"
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
    """

    def __init__(self, clock: Clock, fence: FencePolicy = FencePolicy()) -> None:  # noqa: B008 - frozen
        self._clock = clock
        self.scripts = MemoryScripts(self.now_ms, fence)
        self.steps: list[Step] = []
        self.before: Callable[[Step], Awaitable[None]] | None = None
        self.why_not_serving = ""
        self.down: StoreFailure | None = None
        self._gate_open = True
        self._made = count(1)
        self.incarnation = Incarnation(self._fresh(INCARNATION_BYTES))
        self._faults: deque[_Fault] = deque()

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
        self.scripts.records.pop(key, None)

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

    def table(self, table_key: CacheKey) -> TableRecord | None:
        """Return a table's decoded record."""
        raw = self.raw(table_key)
        return decode_table(raw) if raw is not None else None

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
            raw, raw_table = self.raw(identity.cache_key), self.raw(identity.table_key)
            table = decode_table(raw_table) if raw_table is not None else None
            if table is None or table.abandoned(self.now_ms()):
                table = decode_table(self._table_step(identity.table_key, "learn", b""))
                raw = None
            if table is None:
                reason = "a table's record is of another release"
                raise StoreUnavailable(StoreFailure.REFUSED, reason)
            seen = sight(
                decode_record(raw) if raw is not None else None,
                table,
                incarnation=self.incarnation,
                digest=identity.digest,
                store_now_ms=self.now_ms(),
            )
            stored = self.scripts.stored(identity.cache_key)
            fields = stored.fields if stored is not None else None
            return unpacked_sighting(seen, beside(fields, names), not_compressed)

        return await self._step("lookup", identity.cache_key, run, serving=True)

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
        new = new_entry(identity, generation, draft)
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

    async def begin(self, identity: ItemIdentity, *, token: Token) -> Generation | None:
        """See `ports.Store`."""

        def run() -> Generation | None:
            begun = self.scripts.begin(
                identity.cache_key, self.incarnation, token=token, gate_open=self._gate_open
            )
            if not begun:
                raise StoreUnavailable(StoreFailure.FULL, "too many writes in flight on one item")
            table = self.table(identity.table_key)
            return table.generation if table is not None and table.settled else None

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

        def run() -> FenceResult:
            return FenceResult(
                self.scripts.end(
                    identity.cache_key,
                    self.incarnation,
                    token=token,
                    outcome=outcome.value,
                    new=new_entry(identity, *stored) if stored else None,
                )
            )

        return await self._step("end", identity.cache_key, run)

    async def invalidate(self, identity: ItemIdentity) -> None:
        """See `ports.Store`."""
        key = identity.cache_key
        await self._step("invalidate", key, lambda: self.scripts.invalidate(key))

    async def begin_table(self, table_key: CacheKey, *, token: Token) -> None:
        """See `ports.Store`."""
        await self._step(
            "begin_table", table_key, lambda: self._table_step(table_key, "begin", token)
        )

    async def end_table(
        self, table_key: CacheKey, *, token: Token, outcome: WriteOutcome, remade: bool
    ) -> None:
        """See `ports.Store`."""
        done = "remake" if remade else "end"
        step = "abort" if outcome is WriteOutcome.ABORTED else done
        await self._step("end_table", table_key, lambda: self._table_step(table_key, step, token))

    async def generation(self, table_key: CacheKey) -> Generation:
        """See `ports.Store`."""

        def run() -> Generation:
            table = decode_table(self._table_step(table_key, "learn", b""))
            if table is None:
                reason = "a table's record is of another release"
                raise StoreUnavailable(StoreFailure.REFUSED, reason)
            return table.generation

        return await self._step("generation", table_key, run)

    # Inside

    def _table_step(self, table_key: CacheKey, step: str, token: bytes) -> bytes:
        fresh = self._fresh(GENERATION_BYTES)
        record = self.scripts.table(table_key, step, fresh=fresh, token=token)
        if record is None:
            raise StoreUnavailable(StoreFailure.FULL, "too many writes in flight on one table")
        return record

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

    def _next_fault(self, name: str) -> _Fault | None:
        for fault in self._faults:
            if fault.step in (None, name):
                self._faults.remove(fault)
                return fault
        return None

    def _fresh(self, size: int) -> bytes:
        """Return bytes of which neither half was returned before, whatever the clock's tokens."""
        return next(self._made).to_bytes(size // 2, "big") * 2


def new_entry(identity: ItemIdentity, generation: Generation, draft: EntryDraft) -> NewEntry:
    """Return a draft as the scripts take it."""
    payload, *rest = packed(draft, not_compressed)
    fields = tuple(sorted(zip(rest[1::2], rest[2::2], strict=True))) if rest else None
    return NewEntry(
        generation,
        identity.digest,
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
