"""Sequences one fetch with its fill: lease, wait for another filler, fetch, fill or give back."""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from typing import Final, NamedTuple, Protocol

from proxy.core.drafting import draft_entry
from proxy.core.errors import StoreUnavailable
from proxy.core.fence import LeaseReply, LeaseState
from proxy.core.fetches import FetchPlan
from proxy.core.policy import FencePolicy
from proxy.core.record import Entry, EntryDraft
from proxy.core.request import ClientRequest
from proxy.core.values import FillResult, Generation, Level, Token, Verdict
from proxy.flow.coalescer import Flight
from proxy.flow.events import Emit, FillEnded
from proxy.flow.exchange import Exchange, Fetched
from proxy.flow.ports import Clock, Store, UpstreamReply

# How often a reader asks whether another proxy's fill is there: a fetch takes 1 to 10 ms.
_POLL_S: Final = (0.002, 0.010)
_LEASE_ENDED: Final = (FillResult.STORED, FillResult.REFUSED)


class Landing(NamedTuple):
    """What a flight brought home: an entry that another proxy filled, or upstream's reply.

    `store_now_ms` is the store's clock when it gave the entry.
    """

    entry: Entry | None
    fetched: Fetched | None
    stored: bool = False
    store_now_ms: int = 0

    def suits(self, plan: FetchPlan, arrived_s: float, now_s: float) -> bool:
        """Tell whether it is young enough for a reader that did not start the flight.

        What was asked for after the reader came is not old, however long the answer took.
        """
        if self.entry is not None:
            return plan.judge(self.entry, self.store_now_ms) is Verdict.FRESH
        assert self.fetched is not None, "a flight landed with nothing"
        asked_s = self.fetched.asked_s
        return asked_s >= arrived_s or now_s - asked_s < plan.control.age_s_max

    @property
    def says_nothing(self) -> bool:
        """Whether who joined the flight must ask again: a batch led it, and brought no answer."""
        return self.fetched is not None and self.fetched.others


class _Patience:
    """How long one reader still waits for another proxy's fill.

    What counts is looking: between two looks no more than their longest pause. Where the rest of
    the time went to a loop that came late, or a process that was stopped, the reader has not waited
    in vain, it has not looked; and on an overloaded machine the filler is as slow as everybody, so
    a read of its own would come on top. After `lease_s` what it waited for has surely ended.
    """

    __slots__ = ("_began_s", "_fence", "_looked_s", "_waited_s")

    def __init__(self, fence: FencePolicy, now_s: float) -> None:
        self._fence = fence
        self._began_s = self._looked_s = now_s
        self._waited_s = 0.0

    def over(self, now_s: float) -> bool:
        """Count one look that was in vain; tell whether it was the last one."""
        self._waited_s += min(now_s - self._looked_s, _POLL_S[1])
        self._looked_s = now_s
        return (
            self._waited_s >= self._fence.lease_wait_s
            or now_s - self._began_s >= self._fence.lease_s
        )


class Source(Protocol):
    """Where a flight fetches from, when it is not alone."""

    def waits(self) -> None:
        """Take note that another proxy is filling: a fetch may come later, or never."""
        ...

    async def fetch(self, plan: FetchPlan, *, consistent: bool) -> Fetched:
        """Read a whole item.

        Raises:
            UpstreamFailed: no complete answer came.
        """
        ...


class Filler:
    """Fetches items and pages and offers them to the store, under the lease's rules.

    Args:
        store: holds leases and entries.
        exchange: upstream.
        clock: time, randomness, sleep.
        emit: takes events.
        fence: lease and waiting times.
    """

    def __init__(
        self, store: Store, exchange: Exchange, *, clock: Clock, emit: Emit, fence: FencePolicy
    ) -> None:
        self._store = store
        self._exchange = exchange
        self._clock = clock
        self._emit = emit
        self._fence = fence

    async def fly(
        self,
        flight: Flight[Landing],
        plan: FetchPlan,
        generation: Generation | None,
        source: Source | None = None,
    ) -> Landing:
        """Do the work of one flight; a read that demands a refresh fills over any entry.

        Args:
            flight: told as of when the result is current.
            plan: what is read, and what its policy allows.
            generation: to fill under; None fetches without asking the store at all.
            source: fetches; None for a GetItem of its own.

        Raises:
            UpstreamFailed: no complete answer came; the lease was given back.
        """
        if generation is None:
            flight.asks()
            return await self.fetch_only(plan, source)
        token = self._clock.token()
        lease = await self._acquire(flight, plan, generation, token, source)
        if lease is not None and lease.state is LeaseState.HIT:
            return Landing(lease.entry, None, store_now_ms=lease.store_now_ms)
        flight.asks()
        if lease is None or lease.state is not LeaseState.LEASED:
            landing = await self.fetch_only(plan, source)
            if landing.fetched is not None and landing.fetched.found is not None:
                self._emit(FillEnded(plan.table, FillResult.NO_LEASE))
            return landing
        consistent = _consistently(plan, demanded=lease.strong)
        fetch = (source or self._exchange).fetch(plan, consistent=consistent)
        return await self._fetch_and_fill(flight, plan, generation, token, fetch)

    async def fetch_only(self, plan: FetchPlan, source: Source | None = None) -> Landing:
        """Fetch without a fill.

        Consistently below level `eventual`: what stands in the way of a fill is mostly a write of
        a moment ago, which a lagging replica may not show yet.
        """
        consistent = _consistently(plan, demanded=plan.policy.level is not Level.EVENTUAL)
        return Landing(None, await (source or self._exchange).fetch(plan, consistent=consistent))

    async def refresh_ahead(self, plan: FetchPlan, generation: Generation) -> Landing | None:
        """Fetch and fill over an entry that is fresh still, and serves from inside the lease.

        It waits for nobody: whoever holds the lease, or writes, makes it needless. Below level
        `eventual` it reads consistently, whatever the policy allows: the entry may show a write
        that a lagging replica does not.

        Returns: None when there was no lease, so that nothing was fetched.

        Raises:
            UpstreamFailed: no complete answer came; the lease was given back, and the entry stays.
        """
        token = self._clock.token()
        try:
            lease = await self._store.lease(
                plan.identity, token=token, generation=generation, force=True
            )
        except StoreUnavailable:
            return None
        if lease.state is not LeaseState.LEASED:
            return None
        demanded = lease.strong or plan.policy.level is not Level.EVENTUAL
        fetch = self._exchange.fetch(plan, consistent=_consistently(plan, demanded=demanded))
        flight: Flight[Landing] = Flight.alone()
        return await self._fetch_and_fill(flight, plan, generation, token, fetch, over_fresh=True)

    async def refill(
        self, plan: FetchPlan, request: ClientRequest, generation: Generation
    ) -> tuple[UpstreamReply, bool]:
        """Forward a ConsistentRead and let its answer replace the entry.

        The fill is awaited, so that the caller's next, cached read is not older than this one.
        Where another reader holds the lease nothing is stored: its fill is as good, but for writes
        that pass no proxy.
        """
        token = self._clock.token()
        try:
            lease = await self._store.lease(
                plan.identity, token=token, generation=generation, force=True
            )
            leased = lease.state is LeaseState.LEASED
        except StoreUnavailable:
            leased = False
        if not leased:
            return await self._exchange.forward(request, plan.table), False
        asked_s = self._clock.monotonic_s()
        result, known = FillResult.NOT_CACHEABLE, False
        try:
            reply = await self._exchange.forward(request, plan.table)
            fetched = self._exchange.weigh(plan, reply, asked_s=asked_s, consistent=True)
            known = fetched.found is not None
            result = await self._fill(plan, generation, token, fetched)
        finally:
            if result not in _LEASE_ENDED:
                await self._give_back(plan, token, outdated=known)
        return reply, result is FillResult.STORED

    async def _acquire(
        self,
        flight: Flight[Landing],
        plan: FetchPlan,
        generation: Generation,
        token: Token,
        source: Source | None,
    ) -> LeaseReply | None:
        """Ask for the lease until it is clear who fetches; None when the store is out."""
        patience = _Patience(self._fence, self._clock.monotonic_s())
        force = plan.control.refresh
        while True:
            flight.asks()
            try:
                reply = await self._store.lease(
                    plan.identity, token=token, generation=generation, force=force
                )
            except StoreUnavailable:
                return None
            if reply.state is LeaseState.HIT:
                if plan.judge(reply.entry, reply.store_now_ms) is Verdict.FRESH:
                    return reply
                # Fresh by the times that another proxy gave it, too old for our policy or reader.
                force = True
                continue
            if reply.state is not LeaseState.WAIT or patience.over(self._clock.monotonic_s()):
                return reply
            if source is not None:
                source.waits()
            await self._clock.sleep(self._clock.uniform(*_POLL_S))

    async def _fetch_and_fill(
        self,
        flight: Flight[Landing],
        plan: FetchPlan,
        generation: Generation,
        token: Token,
        fetch: Awaitable[Fetched],
        *,
        over_fresh: bool = False,
    ) -> Landing:
        result, known = FillResult.NOT_CACHEABLE, False
        try:
            fetched = await fetch
            known = fetched.found is not None
            sent_at = flight.tick()
            result = await self._fill(plan, generation, token, fetched)
            if result is FillResult.STORED:
                flight.confirmed(sent_at)
        finally:
            if result not in _LEASE_ENDED:
                outdated = known and (over_fresh or plan.control.refresh)
                await self._give_back(plan, token, outdated=outdated)
        return Landing(None, fetched, stored=result is FillResult.STORED)

    async def _fill(
        self, plan: FetchPlan, generation: Generation, token: Token, fetched: Fetched
    ) -> FillResult:
        draft = self._draft(plan, fetched)
        if isinstance(draft, FillResult):
            result = draft
        else:
            try:
                stored = await self._store.fill(
                    plan.identity, token=token, generation=generation, draft=draft
                )
                result = FillResult.STORED if stored else FillResult.REFUSED
            except StoreUnavailable:
                result = FillResult.STORE_FAILED
        self._emit(FillEnded(plan.table, result))
        return result

    def _draft(self, plan: FetchPlan, fetched: Fetched) -> EntryDraft | FillResult:
        if fetched.found is None:
            return FillResult.NOT_CACHEABLE
        age_s = self._clock.monotonic_s() - fetched.asked_s
        chance = self._clock.uniform(0, 1)
        return draft_entry(fetched.found, plan.policy, age_s=age_s, chance=chance)

    async def _give_back(self, plan: FetchPlan, token: Token, *, outdated: bool) -> None:
        """Give the lease back, so that nobody waits for a fill that will not come.

        The entry that the lease kept comes back with it, unless the caller was shown another
        answer in its place (`outdated`) that cannot be stored: too large, or an uncached absence.
        """
        with suppress(StoreUnavailable):  # then the lease ends by itself
            if outdated:
                await self._store.invalidate(plan.identity)
            else:
                await self._store.release(plan.identity, token=token)


def _consistently(plan: FetchPlan, *, demanded: bool) -> bool:
    """Tell how upstream is asked: a global index knows no consistent read, whoever demands it."""
    return not plan.lags and (demanded or plan.policy.fill_consistent or plan.control.refresh)
