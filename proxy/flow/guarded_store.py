"""Puts the breaker and the telemetry around the store; flows see only this one."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from proxy.core.breaker import Breaker
from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.fence import Begun, ItemIdentity, LeaseReply, Sighting, WriteOutcome
from proxy.core.pages import PageIdentity, PageSighting
from proxy.core.record import EntryDraft
from proxy.core.values import CacheKey, FenceResult, Generation, TableId, Token
from proxy.flow.events import BreakerMoved, Emit, StoreAnswered, StoreFailed
from proxy.flow.ports import Clock, Store

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
        if not breaker.admit(started_s):
            call.close()
            self._emit(StoreFailed(step, StoreFailure.CLOSED))
            raise StoreUnavailable(StoreFailure.CLOSED, "the store's breaker is open")
        if breaker.state is not self._told:
            self._tell_move()
        try:
            reply = await call
        except StoreUnavailable as unavailable:
            # A refusal is an answer: the store is there, and other steps may well succeed. So they
            # may where one node of a cluster is out, which costs no caller more than one time-out.
            if unavailable.failure in _THERE or unavailable.partial:
                breaker.succeeded()
            else:
                breaker.failed(self._clock.monotonic_s())
            self._emit(StoreFailed(step, unavailable.failure))
            raise
        else:
            breaker.succeeded()
            self._emit(StoreAnswered(step, self._clock.monotonic_s() - started_s))
            return reply
        finally:
            if breaker.state is not self._told:
                self._tell_move()

    def _tell_move(self) -> None:
        """Tell the breaker's state once after each move, however many steps are under way."""
        self._told = self._breaker.state
        self._emit(BreakerMoved(self._told.value))
