"""Puts the breaker and the telemetry around the store; flows see only this one."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Final, TypeVar

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

    def lookup(
        self, identity: ItemIdentity, names: tuple[str, ...] | None = None
    ) -> Coroutine[Any, Any, Sighting]:
        """See `ports.Store`."""
        return self._guard("lookup", self._store.lookup(identity, names))

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

    def lookup_page(self, page: PageIdentity) -> Coroutine[Any, Any, PageSighting]:
        """See `ports.Store`."""
        return self._guard("lookup_page", self._store.lookup_page(page))

    def lease(
        self, identity: ItemIdentity, *, token: Token, generation: Generation, force: bool
    ) -> Coroutine[Any, Any, LeaseReply]:
        """See `ports.Store`."""
        return self._guard(
            "lease", self._store.lease(identity, token=token, generation=generation, force=force)
        )

    def fill(
        self, identity: ItemIdentity, *, token: Token, generation: Generation, draft: EntryDraft
    ) -> Coroutine[Any, Any, bool]:
        """See `ports.Store`."""
        return self._guard(
            "fill", self._store.fill(identity, token=token, generation=generation, draft=draft)
        )

    def release(self, identity: ItemIdentity, *, token: Token) -> Coroutine[Any, Any, None]:
        """See `ports.Store`."""
        return self._guard("release", self._store.release(identity, token=token))

    def begin(
        self, identity: ItemIdentity, *, token: Token, settled: bool = False
    ) -> Coroutine[Any, Any, Begun]:
        """See `ports.Store`."""
        return self._guard("begin", self._store.begin(identity, token=token, settled=settled))

    def end(
        self,
        identity: ItemIdentity,
        *,
        token: Token,
        outcome: WriteOutcome,
        stored: tuple[Generation, EntryDraft] | None = None,
    ) -> Coroutine[Any, Any, FenceResult]:
        """See `ports.Store`."""
        return self._guard(
            "end", self._store.end(identity, token=token, outcome=outcome, stored=stored)
        )

    def invalidate(self, identity: ItemIdentity) -> Coroutine[Any, Any, None]:
        """See `ports.Store`."""
        return self._guard("invalidate", self._store.invalidate(identity))

    def begin_table(
        self, table_key: CacheKey, *, token: Token, settled: bool = False
    ) -> Coroutine[Any, Any, None]:
        """See `ports.Store`."""
        return self._guard(
            "begin_table", self._store.begin_table(table_key, token=token, settled=settled)
        )

    def end_table(
        self, table_key: CacheKey, *, token: Token, outcome: WriteOutcome, remade: bool
    ) -> Coroutine[Any, Any, None]:
        """See `ports.Store`."""
        return self._guard(
            "end_table",
            self._store.end_table(table_key, token=token, outcome=outcome, remade=remade),
        )

    def begin_scope(
        self, scope_key: CacheKey, *, token: Token, settled: bool = False
    ) -> Coroutine[Any, Any, None]:
        """See `ports.Store`."""
        return self._guard(
            "begin_scope", self._store.begin_scope(scope_key, token=token, settled=settled)
        )

    def end_scope(
        self, scope_key: CacheKey, *, token: Token, outcome: WriteOutcome
    ) -> Coroutine[Any, Any, None]:
        """See `ports.Store`."""
        return self._guard(
            "end_scope", self._store.end_scope(scope_key, token=token, outcome=outcome)
        )

    def generation(self, table_key: CacheKey) -> Coroutine[Any, Any, Generation]:
        """See `ports.Store`."""
        return self._guard("generation", self._store.generation(table_key))

    def claim_check(self, table_key: CacheKey, *, interval_s: float) -> Coroutine[Any, Any, float]:
        """See `ports.Store`."""
        return self._guard("claim_check", self._store.claim_check(table_key, interval_s=interval_s))

    def identify_table(self, table_key: CacheKey, table_id: TableId) -> Coroutine[Any, Any, bool]:
        """See `ports.Store`."""
        return self._guard("identify_table", self._store.identify_table(table_key, table_id))

    async def _guard(self, step: str, call: Coroutine[Any, Any, T]) -> T:
        started_s = self._clock.monotonic_s()
        breaker = self._breaker
        if not self._admits(step, started_s):
            call.close()
            raise _breaker_open()
        try:
            reply = await call
        except StoreUnavailable as unavailable:
            self._failed(step, unavailable)
            raise
        else:
            breaker.succeeded()
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
