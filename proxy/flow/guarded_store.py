"""Puts the breaker and the telemetry around the store; flows see only this one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from proxy.core.breaker import Breaker
from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.fence import Begun, ItemIdentity, LeaseReply, Sighting, WriteOutcome
from proxy.core.pages import PageIdentity, PageSighting
from proxy.core.record import EntryDraft
from proxy.core.tally import LatencyTally
from proxy.core.values import CacheKey, FenceResult, Generation, TableId, Token
from proxy.flow.events import BreakerMoved, Emit, StoreAnswered, StoreFailed, StoreLookedUp
from proxy.flow.ports import Clock, LookupReader, Store

T = TypeVar("T")

_THERE: Final = frozenset({StoreFailure.REFUSED, StoreFailure.UNSETTLED})


class GuardedStore:
    """A `ports.Store` that stops asking a store which does not answer.

    Args:
        store: the real one.
        breaker: decides.
        clock: measures.
        emit: takes events.
    """

    def __init__(self, store: Store, *, breaker: Breaker, clock: Clock, emit: Emit) -> None:
        self._store = store
        self._breaker = breaker
        self._told = breaker.state
        self._clock = clock
        self._emit = emit
        self._lookups = LatencyTally()

    @property
    def serving(self) -> bool:
        """As the store says: an open breaker shows in each step, so that a probe can pass."""
        return self._store.serving

    @property
    def quarantined(self) -> bool:
        """As the store says."""
        return self._store.quarantined

    @property
    def unfit(self) -> bool:
        """As the store says."""
        return self._store.unfit

    @property
    def why_not_serving(self) -> str:
        """As the store says."""
        return self._store.why_not_serving

    async def lookup(
        self, identity: ItemIdentity, names: tuple[str, ...] | None = None
    ) -> Sighting:
        """See `ports.Store`."""
        return await self._guard("lookup", lambda: self._store.lookup(identity, names))

    def look_up(self, identity: ItemIdentity, reader: LookupReader) -> None:
        """See `ports.Store`."""
        started_s = self._clock.monotonic_s()
        guarded = _GuardedReader(self, reader, started_s)
        if self._admits("lookup", started_s):
            self._store.look_up(identity, guarded)
        else:
            reader.failed(_breaker_open())

    def tell(self) -> None:
        """Tell of the lookups since the last time; to be called before anybody counts."""
        told, self._lookups = self._lookups, LatencyTally()
        if told.count:
            self._emit(StoreLookedUp(told))

    async def lookup_page(self, page: PageIdentity) -> PageSighting:
        """See `ports.Store`."""
        return await self._guard("lookup_page", lambda: self._store.lookup_page(page))

    async def lease(
        self, identity: ItemIdentity, *, token: Token, generation: Generation, force: bool
    ) -> LeaseReply:
        """See `ports.Store`."""
        return await self._guard(
            "lease",
            lambda: self._store.lease(identity, token=token, generation=generation, force=force),
        )

    async def fill(
        self, identity: ItemIdentity, *, token: Token, generation: Generation, draft: EntryDraft
    ) -> bool:
        """See `ports.Store`."""
        return await self._guard(
            "fill",
            lambda: self._store.fill(identity, token=token, generation=generation, draft=draft),
        )

    async def release(self, identity: ItemIdentity, *, token: Token) -> None:
        """See `ports.Store`."""
        return await self._guard("release", lambda: self._store.release(identity, token=token))

    async def begin(self, identity: ItemIdentity, *, token: Token, settled: bool = False) -> Begun:
        """See `ports.Store`."""
        return await self._guard(
            "begin", lambda: self._store.begin(identity, token=token, settled=settled)
        )

    async def end(
        self,
        identity: ItemIdentity,
        *,
        token: Token,
        outcome: WriteOutcome,
        stored: tuple[Generation, EntryDraft] | None = None,
    ) -> FenceResult:
        """See `ports.Store`."""
        return await self._guard(
            "end",
            lambda: self._store.end(identity, token=token, outcome=outcome, stored=stored),
        )

    async def invalidate(self, identity: ItemIdentity) -> None:
        """See `ports.Store`."""
        return await self._guard("invalidate", lambda: self._store.invalidate(identity))

    async def begin_table(
        self, table_key: CacheKey, *, token: Token, settled: bool = False
    ) -> None:
        """See `ports.Store`."""
        return await self._guard(
            "begin_table",
            lambda: self._store.begin_table(table_key, token=token, settled=settled),
        )

    async def end_table(
        self, table_key: CacheKey, *, token: Token, outcome: WriteOutcome, remade: bool
    ) -> None:
        """See `ports.Store`."""
        return await self._guard(
            "end_table",
            lambda: self._store.end_table(table_key, token=token, outcome=outcome, remade=remade),
        )

    async def begin_scope(
        self, scope_key: CacheKey, *, token: Token, settled: bool = False
    ) -> None:
        """See `ports.Store`."""
        return await self._guard(
            "begin_scope",
            lambda: self._store.begin_scope(scope_key, token=token, settled=settled),
        )

    async def end_scope(self, scope_key: CacheKey, *, token: Token, outcome: WriteOutcome) -> None:
        """See `ports.Store`."""
        return await self._guard(
            "end_scope",
            lambda: self._store.end_scope(scope_key, token=token, outcome=outcome),
        )

    async def generation(self, table_key: CacheKey) -> Generation:
        """See `ports.Store`."""
        return await self._guard("generation", lambda: self._store.generation(table_key))

    async def claim_check(self, table_key: CacheKey, *, interval_s: float) -> float:
        """See `ports.Store`."""
        return await self._guard(
            "claim_check", lambda: self._store.claim_check(table_key, interval_s=interval_s)
        )

    async def identify_table(self, table_key: CacheKey, table_id: TableId) -> bool:
        """See `ports.Store`."""
        return await self._guard(
            "identify_table", lambda: self._store.identify_table(table_key, table_id)
        )

    async def _guard(self, step: str, call: Callable[[], Awaitable[T]]) -> T:
        started_s = self._clock.monotonic_s()
        if not self._admits(step, started_s):
            raise _breaker_open()
        try:
            reply = await call()
        except StoreUnavailable as unavailable:
            self._failed(step, unavailable)
            raise
        else:
            self._breaker.succeeded()
            self._emit(StoreAnswered(step, self._clock.monotonic_s() - started_s))
            return reply
        finally:
            self._tell_moves()

    def _admits(self, step: str, now_s: float) -> bool:
        admitted = self._breaker.admit(now_s)
        if admitted:
            self._tell_moves()
        else:
            self._emit(StoreFailed(step, StoreFailure.CLOSED))
        return admitted

    def _failed(self, step: str, unavailable: StoreUnavailable) -> None:
        # A refusal is an answer: the store is there, and other steps may well succeed. So they
        # may where one node of a cluster is out, which costs no caller more than one time-out.
        if unavailable.failure in _THERE or unavailable.partial:
            self._breaker.succeeded()
        else:
            self._breaker.failed(self._clock.monotonic_s())
        self._emit(StoreFailed(step, unavailable.failure))

    def looked_up(self, started_s: float) -> None:
        """Take note that a lookup was answered."""
        self._breaker.succeeded()
        self._lookups.add(self._clock.monotonic_s() - started_s)
        self._tell_moves()

    def failed_to_look_up(self, problem: StoreUnavailable) -> None:
        """Take note that one was not."""
        self._failed("lookup", problem)
        self._tell_moves()

    def _tell_moves(self) -> None:
        """Tell the breaker's state once after each move, however many steps are under way."""
        if self._breaker.state is not self._told:
            self._told = self._breaker.state
            self._emit(BreakerMoved(self._told.value))


class _GuardedReader:
    """A reader whose lookup is counted."""

    __slots__ = ("_guard", "_reader", "_started_s")

    def __init__(self, guard: GuardedStore, reader: LookupReader, started_s: float) -> None:
        self._guard = guard
        self._reader = reader
        self._started_s = started_s

    def saw(self, sighting: Sighting) -> None:
        self._guard.looked_up(self._started_s)
        self._reader.saw(sighting)

    def unsure(self) -> None:
        self._reader.unsure()  # `lookup` will be asked, and counts

    def failed(self, problem: StoreUnavailable) -> None:
        self._guard.failed_to_look_up(problem)
        self._reader.failed(problem)

    def broke(self, error: Exception) -> None:
        self._reader.broke(error)


def _breaker_open() -> StoreUnavailable:
    return StoreUnavailable(StoreFailure.CLOSED, "the store's breaker is open")
