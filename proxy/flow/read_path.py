"""Sequences a read: lookup, then hit, stale hit or lease, fetch and fill.

`answer` is for GetItem. From the lookup on, and where the store has no part, pages of Query and
Scan go the same way (`proxy.flow.query_path`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, assert_never

from proxy.core.errors import NotCached, StoreUnavailable, UpstreamFailed
from proxy.core.fence import RecordState, Sighting
from proxy.core.fetches import FetchPlan
from proxy.core.hits import Hit
from proxy.core.item_size import read_units
from proxy.core.near_copy import Copy, StandingHit
from proxy.core.policy import TablePolicy
from proxy.core.read_plan import ReadPlan
from proxy.core.record import Entry
from proxy.core.refresh_ahead import AHEAD_MS_MAX
from proxy.core.request import Answer, ClientRequest
from proxy.core.values import BypassReason, CacheKey, Level, Outcome, TableName, Verdict
from proxy.flow.ahead import RefreshAhead
from proxy.flow.auditor import Witness
from proxy.flow.coalescer import Coalescer, Flight, FlightsFullError
from proxy.flow.debts import Debts
from proxy.flow.events import CapacitySaved, Emit, RefreshEnded
from proxy.flow.exchange import Exchange, checksum, pass_fetched, pass_on
from proxy.flow.filler import Filler, Landing
from proxy.flow.hit_answers import answer_of, body_of, near_answer, store_hit
from proxy.flow.hot_reads import HotReads
from proxy.flow.near_reads import NearReads
from proxy.flow.ports import Clock, LookupReader, Store
from proxy.flow.tasks import TaskOwner


class Seen(NamedTuple):
    """What a lookup for a plain read saw, if that was no answer; asked for at `asked_s`.

    `sighting` is None where the store did not answer.
    """

    plan: ReadPlan
    sighting: Sighting | None
    asked_s: float


class NotUnderstoodError(Exception):
    """Upstream's answer to a fetch of ours is none to the client: its own request must be sent."""


@dataclass(frozen=True, slots=True)
class ReadPorts:
    """What the read path works with; `note` is told of each table whose entries may be served."""

    store: Store
    exchange: Exchange
    filler: Filler
    coalescer: Coalescer[Landing]
    debts: Debts
    tasks: TaskOwner
    clock: Clock
    emit: Emit
    note: Callable[[TableName], None]
    witness: Witness
    near: NearReads
    hot: HotReads
    ahead: RefreshAhead


class ReadPath:
    """Answers GetItem from the cache where that is right, from upstream otherwise."""

    def __init__(self, ports: ReadPorts) -> None:
        self._ports = ports
        self._hot = ports.hot
        self._refreshing: set[CacheKey] = set()

    async def answer(
        self, plan: ReadPlan, request: ClientRequest, seen: Seen | None = None
    ) -> Answer:
        """Answer one GetItem.

        Args:
            plan: of the request.
            request: goes upstream where no entry of ours can answer it.
            seen: of `look_up` just now, where that was asked.

        Raises:
            UpstreamFailed: upstream gave no answer and no entry may stand in for it.
            NotCached: only the store may answer, and cannot.
        """
        try:
            return await self._answer(plan, request, seen)
        except NotUnderstoodError:
            # A reply in a shape of tomorrow: let upstream answer the very question itself.
            reply = await self._ports.exchange.forward(request, plan.table)
            self._ports.near.shown(plan.identity)
            answer = pass_on(reply, Outcome.BYPASS, plan.table)
            return answer.explained(BypassReason.UNDECODABLE, plan.table)

    def near(self, plan: ReadPlan) -> StandingHit | None:
        """Answer a plain read at once from this process's own copy; None: only `answer` will do.

        It is for the caller to tell what the hit saved.
        """
        if self.why_bypass(plan) is not None:
            return None
        now_s = self._ports.clock.monotonic_s()
        copy = self._find_near(plan, now_s)
        if copy is None:
            return None
        self._ports.witness.served(plan, copy.entry)
        return self._ports.near.hit(plan, copy, now_s)

    def _near(self, plan: ReadPlan) -> Answer | None:
        now_s = self._ports.clock.monotonic_s()
        copy = self._find_near(plan, now_s)
        if copy is None:
            return None
        self._tell_hit(plan, copy.entry)
        return near_answer(plan, copy.entry, copy.store_now_ms(now_s))

    def _find_near(self, plan: ReadPlan, now_s: float) -> Copy | None:
        copy = self._ports.near.find(plan, now_s)
        if copy is not None:
            self._ports.note(plan.table)
            self._hot.read(plan)
            store_now_ms = copy.store_now_ms(now_s)
            if copy.entry.soft_ms - store_now_ms < AHEAD_MS_MAX:
                self._ports.ahead.served(plan, copy.entry, store_now_ms)
        return copy

    def look_up(self, plan: ReadPlan, reader: LookupReader) -> None:
        """Start the lookup of a plain read that nothing bypasses; then ask `seen`."""
        self._hot.read(plan)
        self._ports.near.look_up(self._ports.store, plan, reader)

    def seen(self, plan: ReadPlan, sighting: Sighting, asked_s: float) -> Hit | Seen:
        """Answer a plain read by what a lookup saw, if that is a fresh entry.

        It is for the caller to tell what the hit saved.

        Returns:
            A hit; or what was seen, for `answer` to go on with.
        """
        entry, now_ms, ports = sighting.entry, sighting.store_now_ms, self._ports
        if entry is None or plan.judge(entry, now_ms) is not Verdict.FRESH:
            return Seen(plan, sighting, asked_s)
        ports.note(plan.table)
        if entry.soft_ms - now_ms < AHEAD_MS_MAX and sighting.state is not RecordState.LEASED:
            ports.ahead.served(plan, entry, now_ms)
        ports.witness.served(plan, entry)
        return store_hit(plan, entry, now_ms)

    async def _answer(self, plan: ReadPlan, request: ClientRequest, seen: Seen | None) -> Answer:
        if seen is not None:
            sighting = seen.sighting
        elif (reason := self.why_bypass(plan)) is not None:
            return await self._bypass(plan, request, reason)
        elif (answer := self._near(plan)) is not None:
            return answer
        else:
            sighting = await self._look_up(plan)
        if sighting is None:
            return await self._bypass(plan, request, BypassReason.STORE_DOWN)
        if sighting.table_pending:
            return await self._bypass(plan, request, BypassReason.TABLE_PENDING)
        if plan.get.consistent and not plan.control.refresh:
            return await self._consistent(plan, request, sighting)
        return await self.from_sighting(plan, sighting)

    async def _look_up(self, plan: ReadPlan) -> Sighting | None:
        self._hot.read(plan)
        try:
            return await self._ports.near.lookup(self._ports.store, plan)
        except StoreUnavailable:
            return None

    def why_bypass(self, plan: ReadPlan) -> BypassReason | None:
        """Return why the store may not be asked about an item now, or None when it may."""
        owed = self._ports.debts.owes(plan.identity)
        return why_bypass(self._ports.store, plan.policy, owed=owed)

    async def from_sighting(self, plan: FetchPlan, sighting: Sighting) -> Answer:
        """Answer from the entry that a lookup saw, or fetch and fill.

        Raises:
            NotUnderstoodError: the client's own request must be sent instead.
            UpstreamFailed: upstream gave no answer and no entry may stand in for it.
            NotCached: only the store may answer, and cannot.
        """
        self._ports.note(plan.table)
        if plan.control.refresh:
            return await self._refreshed(plan, sighting)
        entry = sighting.entry
        verdict = plan.judge(entry, sighting.store_now_ms)
        if plan.control.only_if_cached and verdict not in (Verdict.FRESH, Verdict.GRACE):
            raise NotCached(verdict, plan.table)
        match verdict:
            case Verdict.FRESH:
                assert entry is not None, "fresh without an entry"
                if sighting.state is not RecordState.LEASED:
                    self._ports.ahead.served(plan, entry, sighting.store_now_ms)
                outcome = Outcome.NEGATIVE_HIT if entry.negative else Outcome.HIT
                return self._hit(plan, entry, sighting.store_now_ms, outcome)
            case Verdict.GRACE:
                assert entry is not None, "grace without an entry"
                if sighting.state is not RecordState.LEASED and not plan.control.only_if_cached:
                    self.refresh_soon(plan, sighting)
                return self._hit(plan, entry, sighting.store_now_ms, Outcome.STALE_HIT)
            case Verdict.LAST_RESORT:
                assert entry is not None, "last resort without an entry"
                return await self._fetch_or_stale(plan, entry, sighting)
            case Verdict.ABSENT:
                return (await self._fly(plan, sighting))[1]
            case Verdict.EXPIRED | Verdict.TOO_OLD:
                _, answer = await self._fly(plan, sighting)
                expired, demanded = verdict is Verdict.EXPIRED, verdict is Verdict.TOO_OLD
                return answer._replace(expired=expired, demanded=demanded)
            case _:
                assert_never(verdict)

    def _hit(
        self,
        plan: FetchPlan,
        entry: Entry,
        store_now_ms: int,
        outcome: Outcome,
        *,
        detail: str | None = None,
    ) -> Answer:
        self._tell_hit(plan, entry)
        return answer_of(plan, entry, store_now_ms, outcome, detail)

    def _tell_hit(self, plan: FetchPlan, entry: Entry) -> None:
        units = read_units(entry.item_bytes, consistent=False)
        self._ports.emit(CapacitySaved(plan.table, units))
        self._ports.witness.served(plan, entry)

    def refresh_soon(self, plan: FetchPlan, sighting: Sighting) -> None:
        """Refresh in the background; the entry keeps serving from inside the lease."""
        cache_key = plan.identity.cache_key
        if cache_key in self._refreshing:
            return
        self._refreshing.add(cache_key)
        task = self._ports.tasks.spawn(self._refresh(plan, sighting), "refresh")
        task.add_done_callback(lambda _: self._refreshing.discard(cache_key))

    async def _refresh(self, plan: FetchPlan, sighting: Sighting) -> None:
        replaced = False
        try:
            landing, led = await self._share(plan, sighting, joins_started=True)
            replaced = led and landing.stored
        except (UpstreamFailed, FlightsFullError):
            led = True  # the entry stays for its grace
        if led:
            self._ports.emit(RefreshEnded(plan.table, replaced))

    async def _fetch_or_stale(self, plan: FetchPlan, entry: Entry, sighting: Sighting) -> Answer:
        looked_s = self._ports.clock.monotonic_s()
        try:
            landing, answer = await self._fly(plan, sighting)
            if landing.fetched is None or not landing.fetched.failed:
                return answer._replace(expired=True)
        except UpstreamFailed:
            if self.too_old_by_now(plan, entry, sighting, looked_s):
                raise
        else:
            if self.too_old_by_now(plan, entry, sighting, looked_s):
                return answer._replace(expired=True)
        detail = "stale-if-error"
        return self._hit(plan, entry, sighting.store_now_ms, Outcome.STALE_HIT, detail=detail)

    def too_old_by_now(
        self, plan: FetchPlan, entry: Entry, sighting: Sighting, looked_s: float
    ) -> bool:
        """Tell whether the entry passed its time while upstream was asked."""
        elapsed_ms = 1000 * (self._ports.clock.monotonic_s() - looked_s)
        now_ms = sighting.store_now_ms + int(elapsed_ms) + 1
        return plan.judge(entry, now_ms) in (Verdict.EXPIRED, Verdict.TOO_OLD)

    async def _fly(self, plan: FetchPlan, sighting: Sighting | None) -> tuple[Landing, Answer]:
        """Share a flight, or fetch without one when all are taken."""
        asked_s = self._ports.clock.monotonic_s()
        try:
            landing, led = await self._share(plan, sighting)
            if led:
                self._ports.ahead.landed(plan.table, landing, asked_s)
            if not led and landing.says_nothing:
                landing, led = await self._ports.filler.fetch_only(plan), True
        except FlightsFullError:
            landing = await self._ports.filler.fetch_only(plan)
            answer = self._landed(plan, landing, led=True)
            return landing, answer.explained(BypassReason.FLIGHTS_FULL, plan.table)
        return landing, self._landed(plan, landing, led=led)

    async def _share(
        self, plan: FetchPlan, sighting: Sighting | None, *, joins_started: bool = False
    ) -> tuple[Landing, bool]:
        # A bypass must not share with flights that may take the store's word: its reason may be a
        # write of our own that the store has not heard of. It has a generation of its own: None.
        generation = sighting.generation if sighting is not None else None
        proven = plan.is_page and generation is not None
        clock = self._ports.clock
        arrived_s = clock.monotonic_s()
        return await self._ports.coalescer.share(
            plan.identity.cache_key,
            lambda flight: self._ports.filler.fly(flight, plan, generation),
            generation=generation,
            joins_started=joins_started or proven or plan.policy.joins_started_flights,
            accepts=lambda landing: landing.suits(plan, arrived_s, clock.monotonic_s()),
        )

    def _landed(self, plan: FetchPlan, landing: Landing, *, led: bool) -> Answer:
        self._ports.near.shown(plan.identity)
        outcome = Outcome.MISS if led else Outcome.COALESCED
        if landing.entry is not None:
            # Another proxy filled while we asked for the lease.
            return self._built(plan, body_of(plan, landing.entry), outcome)
        assert landing.fetched is not None, "a flight landed with nothing"
        fetched = landing.fetched
        understood = fetched.found is not None or fetched.failed
        if not understood and (plan.is_page or fetched.reply.status == 200):  # noqa: PLR2004
            raise NotUnderstoodError
        if fetched.found is None:
            return pass_fetched(fetched.reply, outcome, plan.table)
        body = plan.answer_body(fetched.found.body, fetched.found.consumed if led else None)
        if not led or body != fetched.reply.body:
            return self._built(plan, body, outcome, stored=led and landing.stored)
        headers, stored = fetched.reply.headers, landing.stored
        return Answer(200, headers, body, outcome, table=plan.table, stored=stored, fetched=True)

    def _built(
        self, plan: FetchPlan, body: bytes, outcome: Outcome, *, stored: bool = False
    ) -> Answer:
        crc32 = checksum(body)
        return Answer(200, (), body, outcome, table=plan.table, crc32=crc32, stored=stored)

    async def _bypass(self, plan: ReadPlan, request: ClientRequest, reason: BypassReason) -> Answer:
        """Answer from upstream; concurrent readers of the item still share one fetch."""
        uncontrolled = not (plan.control.only_if_cached or plan.control.refresh)
        if plan.get.consistent and uncontrolled:
            reply = await self._ports.exchange.forward(request, plan.table)
            self._ports.near.shown(plan.identity)
            return pass_on(reply, Outcome.BYPASS, plan.table).explained(reason, plan.table)
        return await self.past_store(plan, reason)

    async def past_store(self, plan: FetchPlan, reason: BypassReason) -> Answer:
        """Answer from upstream without the store's part; readers still share one fetch.

        Raises:
            NotUnderstoodError, UpstreamFailed, NotCached: as `from_sighting`.
        """
        if plan.control.only_if_cached:
            raise NotCached(reason, plan.table)
        if plan.control.refresh:
            answer = self._landed(plan, await self._ports.filler.fetch_only(plan), led=True)
        else:
            _, answer = await self._fly(plan, None)
        return answer.explained(reason, plan.table)

    async def _refreshed(self, plan: FetchPlan, sighting: Sighting) -> Answer:
        """Fetch and fill alone: a flight that others started may have asked too early."""
        flight: Flight[Landing] = Flight.alone()
        landing = await self._ports.filler.fly(flight, plan, sighting.generation)
        # At `eventual` any flight may be joined: none that is older than what was shown here.
        self._ports.coalescer.forget(plan.identity.cache_key)
        return self._landed(plan, landing, led=True)._replace(demanded=True)

    async def _consistent(
        self, plan: ReadPlan, request: ClientRequest, sighting: Sighting
    ) -> Answer:
        """Forward a ConsistentRead untouched; what it brings refreshes the entry."""
        reply, stored = await self._ports.filler.refill(plan, request, sighting.generation)
        self._ports.near.shown(plan.identity)
        answer = pass_on(reply, Outcome.BYPASS, plan.table)
        answer = answer.explained(BypassReason.CONSISTENT_READ, plan.table)
        return answer._replace(stored=stored)


def why_bypass(store: Store, policy: TablePolicy, *, owed: bool) -> BypassReason | None:
    """Tell why the store may have no part in a read; None when it may.

    Args:
        store: as it is now.
        policy: of the table read.
        owed: whether it may not know of a write of this process that the read must show.
    """
    if owed:
        return BypassReason.DEBT
    if store.serving:
        unfit = policy.level is Level.STRICT and store.unfit
        return BypassReason.STORE_UNFIT if unfit else None
    return BypassReason.STORE_QUARANTINE if store.quarantined else BypassReason.STORE_DOWN
