"""Answers reads from this process's own copies of entries, and keeps those in step.

The rules are those of `proxy.core.near_rules`; here they meet the clock, the store's lookups and
what its connections push (`proxy.flow.ports.NearFeed`). Every method but `lookup` is synchronous:
nothing comes between looking and acting.
"""

from __future__ import annotations

from collections.abc import Sequence

from proxy.core.errors import StoreUnavailable
from proxy.core.fence import ItemIdentity, RecordState, Sighting
from proxy.core.near_cache import NearCache
from proxy.core.near_copy import Copy, StandingHit
from proxy.core.near_rules import Look, NearRules
from proxy.core.policy import NearPolicy
from proxy.core.read_plan import ReadPlan
from proxy.core.refresh_ahead import AHEAD_MS_MAX
from proxy.core.values import CacheKey, Level, Verdict
from proxy.flow.ports import Clock, LookupReader, NearSource, Store


class NearReads:
    """The near cache of one process; a `ports.NearFeed`.

    Args:
        cache: holds the copies.
        rules: decide over them.
        policy: how long a copy stands, by level.
        clock: tells monotonic time.

    Attributes:
        hits: reads that a copy answered.
        pushes: records that the store said had changed.
    """

    def __init__(
        self, cache: NearCache, rules: NearRules, *, policy: NearPolicy, clock: Clock
    ) -> None:
        self.cache = cache
        self.hits = 0
        self.pushes = 0
        self._rules = rules
        self._clock = clock
        self._delta_s = {level: policy.delta_of(level) for level in Level}
        self._session_s = policy.delta_of(Level.SESSION)

    def find(self, plan: ReadPlan, now_s: float) -> Copy | None:
        """Return a copy that may answer a read now, `now_s` being the present.

        Only a fresh one: whatever needs a refresh, or stands in for upstream, is the store's.
        """
        if plan.uncached or plan.control.refresh:
            return None
        copy = self._standing(plan, now_s)
        if copy is None:
            return None
        if plan.judge(copy.entry, copy.store_now_ms(now_s)) is not Verdict.FRESH:
            return None
        self.hits += 1
        return copy

    def hit(self, plan: ReadPlan, copy: Copy, now_s: float) -> StandingHit:
        """Return what a copy that `find` returned answers to a plain read, now and later on.

        Until its entry is so near its end that a read may start a refresh.
        """
        entry = copy.entry
        fresh_ms = int(plan.policy.fresh_ms(negative=entry.negative))
        left_ms = min(AHEAD_MS_MAX, (entry.soft_ms - entry.filled_ms) // 2)
        ends_ms = min(entry.soft_ms - left_ms, entry.filled_ms + fresh_ms)
        ends_s = copy.before_s(ends_ms)
        delta_s = self._delta_s[plan.policy.level]
        return StandingHit(copy, plan.table, now_s=now_s, delta_s=delta_s, ends_s=ends_s)

    def _standing(self, plan: ReadPlan, now_s: float) -> Copy | None:
        level = plan.policy.level
        # The usual level first: a member of an enumeration takes long to hash.
        delta_s = self._session_s if level is Level.SESSION else self._delta_s[level]
        return self._rules.find(plan.identity, now_s, delta_s) if delta_s else None

    def sighting(self, plan: ReadPlan, now_s: float) -> Sighting | None:
        """Return such a copy as a lookup would show it."""
        copy = self.find(plan, now_s)
        if copy is None:
            return None
        entry, now_ms = copy.entry, copy.store_now_ms(now_s)
        return Sighting(RecordState.ENTRY, entry, entry.generation, False, now_ms)

    async def lookup(self, store: Store, plan: ReadPlan) -> Sighting:
        """Read one record, and keep a copy of what is there if that is safe.

        Raises:
            StoreUnavailable: as `ports.Store.lookup`.
        """
        identity, names = plan.identity, plan.get.names
        if not self._delta_s[plan.policy.level]:
            return await store.lookup(identity, names)
        look = self._rules.look(identity, self._clock.monotonic_s())
        try:
            sighting = await store.lookup(identity, names)
            self._rules.saw(look, sighting)
        finally:
            self._rules.ended(look)
        return sighting

    def look_up(self, store: Store, plan: ReadPlan, reader: LookupReader) -> None:
        """Start to read one record, and keep a copy as `lookup` does; tells a reader."""
        identity = plan.identity
        if self._delta_s[plan.policy.level]:
            look = self._rules.look(identity, self._clock.monotonic_s())
            reader = _LookingReader(self._rules, look, reader)
        store.look_up(identity, reader)

    def shown(self, identity: ItemIdentity) -> None:
        """Take note that a read shows an item, or a page, as it was found elsewhere."""
        self._rules.shown(identity)

    def hold(self, records: Sequence[CacheKey]) -> None:
        """Keep nothing of items, or whole tables, that this process is about to write."""
        self._rules.hold(records)

    def release(self, records: Sequence[CacheKey]) -> None:
        """Let them be kept again; call before the write is acknowledged."""
        self._rules.release(records)

    # What the store's connections tell

    def invalidated(self, cache_keys: Sequence[CacheKey]) -> None:
        """See `ports.NearFeed`."""
        self.pushes += len(cache_keys)
        self._rules.invalidated(cache_keys)

    def lost(self, source: NearSource) -> None:
        """See `ports.NearFeed`."""
        self._rules.lost(source)


class _LookingReader:
    """A reader whose lookup has a placeholder, which is given back once, whatever comes."""

    __slots__ = ("_look", "_reader", "_rules")

    def __init__(self, rules: NearRules, look: Look, reader: LookupReader) -> None:
        self._rules = rules
        self._look: Look | None = look
        self._reader = reader

    def saw(self, sighting: Sighting) -> None:
        assert self._look is not None, "told twice"
        self._rules.saw(self._look, sighting)
        self._end()
        self._reader.saw(sighting)

    def unsure(self) -> None:
        self._end()
        self._reader.unsure()

    def failed(self, problem: StoreUnavailable) -> None:
        self._end()
        self._reader.failed(problem)

    def broke(self, error: Exception) -> None:
        self._end()
        self._reader.broke(error)

    def _end(self) -> None:
        if self._look is not None:
            self._rules.ended(self._look)
            self._look = None
