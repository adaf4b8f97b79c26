"""Reads the single keys of a batch, each under the very rules of a GetItem.

The same verdicts as in `proxy.flow.read_path`, and for what is missing the same flights and
leases, shared with every other reader; only the fetches go through a gathering.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from proxy.core.batch_answer import UNPROCESSED, ReadItem
from proxy.core.errors import NotCached, StoreUnavailable, UpstreamFailed
from proxy.core.fence import RecordState, Sighting
from proxy.core.read_plan import ReadPlan
from proxy.core.record import Entry
from proxy.core.values import BypassReason, Generation, Mode, Outcome, Verdict
from proxy.flow.coalescer import Flight, FlightsFullError
from proxy.flow.exchange import Fetched
from proxy.flow.filler import Landing
from proxy.flow.gathering import Gathering, Seat
from proxy.flow.read_path import ReadPath, ReadPorts


@dataclass(frozen=True, slots=True)
class Look:
    """One key after its lookup; without a sighting, `reason` says why the store has no part."""

    plan: ReadPlan
    looked_s: float
    sighting: Sighting | None = None
    reason: BypassReason | None = None

    @property
    def entry(self) -> Entry | None:
        """What the store holds, if that counts."""
        return self.sighting.entry if self.sighting is not None else None

    @property
    def verdict(self) -> Verdict:
        """Whether that may answer now."""
        if self.sighting is None:
            return Verdict.ABSENT
        return self.plan.judge(self.entry, self.sighting.store_now_ms)

    def must_serve(self) -> None:
        """Insist on an entry that may answer without upstream.

        Raises:
            NotCached: there is none.
        """
        if self.verdict not in (Verdict.FRESH, Verdict.GRACE):
            raise NotCached(self.reason or self.verdict, self.plan.table)


@dataclass(frozen=True, slots=True)
class Read:
    """One key with its answer; `stands_in` where upstream failed and an older entry answers."""

    plan: ReadPlan
    item: ReadItem
    outcome: Outcome
    reason: BypassReason | None = None
    ttl_s: int = 0
    stored: bool = False
    stands_in: bool = False


class TroubleError(Exception):
    """Upstream answered a fetch with something that is no item, and no entry may stand in."""

    def __init__(self, fetched: Fetched) -> None:
        super().__init__("no item")
        self.fetched = fetched


class KeyReader:
    """Reads single keys of batches.

    Args:
        ports: the read path's own.
        reads: refreshes what is in grace, and knows when the store may be asked.
    """

    def __init__(self, ports: ReadPorts, reads: ReadPath) -> None:
        self._ports = ports
        self._reads = reads

    async def look(self, plan: ReadPlan) -> Look:
        """Ask the store about one key, if it may be asked."""
        looked_s = self._ports.clock.monotonic_s()
        if plan.get.consistent:
            return Look(plan, looked_s, reason=BypassReason.CONSISTENT_READ)
        if plan.uncached:
            rehearses = plan.mode is Mode.SHADOW
            uncached = BypassReason.SHADOW if rehearses else BypassReason.TABLE_OFF
            return Look(plan, looked_s, reason=uncached)
        if (reason := self._reads.why_bypass(plan)) is not None:
            return Look(plan, looked_s, reason=reason)
        self._ports.hot.read(plan)
        if (near := self._ports.near.sighting(plan, looked_s)) is not None:
            self._ports.note(plan.table)
            return Look(plan, looked_s, near)
        try:
            sighting = await self._ports.near.lookup(self._ports.store, plan)
        except StoreUnavailable:
            return Look(plan, looked_s, reason=BypassReason.STORE_DOWN)
        if sighting.table_pending:
            return Look(plan, looked_s, reason=BypassReason.TABLE_PENDING)
        self._ports.note(plan.table)
        return Look(plan, looked_s, sighting)

    def from_entry(self, look: Look) -> Read | None:
        """Answer one key from its entry, if that may answer by itself."""
        if look.plan.control.refresh:
            return None
        match look.verdict:
            case Verdict.FRESH:
                assert look.entry is not None, "fresh without an entry"
                assert look.sighting is not None, "fresh without a sighting"
                if look.sighting.state is not RecordState.LEASED:
                    now_ms = look.sighting.store_now_ms
                    self._ports.ahead.served(look.plan, look.entry, now_ms)
                return self._hit(look, Outcome.NEGATIVE_HIT if look.entry.negative else Outcome.HIT)
            case Verdict.GRACE:
                assert look.sighting is not None, "grace without a sighting"
                leased = look.sighting.state is RecordState.LEASED
                if not leased and not look.plan.control.only_if_cached:
                    self._reads.refresh_soon(look.plan, look.sighting)
                return self._hit(look, Outcome.STALE_HIT)
            case _:
                return None

    def still(self, look: Look, hit: Read) -> Read:
        """Give a hit on, or leave its key unprocessed: it may have expired while others were read.

        The hard time counts when the answer leaves.
        """
        assert look.entry is not None, "a hit without an entry"
        assert look.sighting is not None, "an entry without a sighting"
        if self._reads.too_old_by_now(look.plan, look.entry, look.sighting, look.looked_s):
            return Read(look.plan, UNPROCESSED, Outcome.MISS)
        return hit

    def _hit(self, look: Look, outcome: Outcome) -> Read:
        entry, sighting = look.entry, look.sighting
        assert entry is not None, "a hit without an entry"
        assert sighting is not None, "an entry without a sighting"
        self._ports.witness.served(look.plan, entry)
        ttl_s = (entry.soft_ms - sighting.store_now_ms) // 1000
        item = ReadItem(entry.body, entry.item_bytes)
        return Read(look.plan, item, outcome, ttl_s=ttl_s)

    async def fetch(self, look: Look, gathering: Gathering) -> Read | UpstreamFailed | TroubleError:
        """Read one key from upstream; what goes wrong is returned, so that the others end too."""
        try:
            return await self._land(look, gathering)
        except UpstreamFailed as silent:
            return self._stand_in(look) or silent
        except TroubleError as trouble:
            stand_in = self._stand_in(look) if trouble.fetched.failed else None
            return stand_in or trouble

    def _stand_in(self, look: Look) -> Read | None:
        if look.verdict is not Verdict.LAST_RESORT:
            return None
        entry, sighting = look.entry, look.sighting
        assert entry is not None, "last resort without an entry"
        assert sighting is not None, "an entry without a sighting"
        if self._reads.too_old_by_now(look.plan, entry, sighting, look.looked_s):
            return None
        return replace(self._hit(look, Outcome.STALE_HIT), stands_in=True)

    async def _land(self, look: Look, gathering: Gathering) -> Read:
        plan = look.plan
        if plan.uncached:
            seat = gathering.seat()
            fetched = await seat.fetch(plan, consistent=plan.get.consistent)
            return self._landed(look, Landing(None, fetched), Outcome.BYPASS)
        if plan.control.refresh:
            return await self._refresh(look, gathering)
        outcome = Outcome.MISS if look.reason is None else Outcome.BYPASS
        try:
            landing, led = await self._share(look, gathering)
        except FlightsFullError:
            full = replace(look, reason=BypassReason.FLIGHTS_FULL)
            landing = await self._ports.filler.fetch_only(plan, gathering.seat())
            return self._landed(full, landing, Outcome.BYPASS)
        if not led and landing.says_nothing:
            landing, led = await self._ports.filler.fetch_only(plan, gathering.seat()), True
        if not led and outcome is Outcome.MISS:
            outcome = Outcome.COALESCED
        return self._landed(look, landing._replace(stored=led and landing.stored), outcome)

    async def _refresh(self, look: Look, gathering: Gathering) -> Read:
        """Fetch one key, and fill it, outside of all flights: those may have asked too early."""
        plan, seat = look.plan, gathering.seat()
        if look.sighting is None:
            landing = await self._ports.filler.fetch_only(plan, seat)
            return self._landed(look, landing, Outcome.BYPASS)
        landing = await self._fly(Flight.alone(), plan, look.sighting.generation, seat)
        self._ports.coalescer.forget(plan.identity.cache_key)
        return self._landed(look, landing, Outcome.MISS)

    async def _share(self, look: Look, gathering: Gathering) -> tuple[Landing, bool]:
        """Share a flight, under the rules that a GetItem of the item would share it."""
        # Without a sighting the store's word must not count: see ReadPath.
        plan, clock = look.plan, self._ports.clock
        generation = look.sighting.generation if look.sighting is not None else None
        return await self._ports.coalescer.share(
            plan.identity.cache_key,
            lambda flight: self._fly(flight, plan, generation, gathering.seat()),
            generation=generation,
            joins_started=plan.policy.joins_started_flights,
            accepts=lambda landing: landing.suits(plan, look.looked_s, clock.monotonic_s()),
        )

    async def _fly(
        self, flight: Flight[Landing], plan: ReadPlan, generation: Generation | None, seat: Seat
    ) -> Landing:
        try:
            return await self._ports.filler.fly(flight, plan, generation, seat)
        finally:
            seat.leave()

    def _landed(self, look: Look, landing: Landing, outcome: Outcome) -> Read:
        """Judge what a fetch brought.

        Raises:
            TroubleError: not an item, nor its absence.
        """
        self._ports.near.shown(look.plan.identity)
        if landing.entry is not None:  # another proxy filled while we asked for the lease
            item = ReadItem(landing.entry.body, landing.entry.item_bytes)
            return Read(look.plan, item, outcome, look.reason)
        assert landing.fetched is not None, "a flight landed with nothing"
        fetched = landing.fetched
        if fetched.unprocessed:
            return Read(look.plan, UNPROCESSED, outcome, look.reason)
        if fetched.found is None:
            raise TroubleError(fetched)
        item = ReadItem(fetched.found.body, fetched.found.size_bytes)
        return Read(look.plan, item, outcome, look.reason, stored=landing.stored)
