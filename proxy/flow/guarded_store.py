"""Puts the breaker and the telemetry around the store; flows see only this one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

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

    async def lookup(
        self, identity: ItemIdentity, names: tuple[str, ...] | None = None
    ) -> Sighting:
        """See `ports.Store`."""
        return await self._guard("lookup", lambda: self._store.lookup(identity, names))

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
        if not self._breaker.admit(started_s):
            self._emit(StoreFailed(step, StoreFailure.CLOSED))
            raise StoreUnavailable(StoreFailure.CLOSED, "the store's breaker is open")
        self._tell_moves()
        try:
            reply = await call()
        except StoreUnavailable as unavailable:
            # A refusal is an answer: the store is there, and other steps may well succeed. So they
            # may where one node of a cluster is out, which costs no caller more than one time-out.
            if unavailable.failure in _THERE or unavailable.partial:
                self._breaker.succeeded()
            else:
                self._breaker.failed(self._clock.monotonic_s())
            self._emit(StoreFailed(step, unavailable.failure))
            raise
        else:
            self._breaker.succeeded()
            self._emit(StoreAnswered(step, self._clock.monotonic_s() - started_s))
            return reply
        finally:
            self._tell_moves()

    def _tell_moves(self) -> None:
        """Tell the breaker's state once after each move, however many steps are under way."""
        if self._breaker.state is not self._told:
            self._told = self._breaker.state
            self._emit(BreakerMoved(self._told.value))
