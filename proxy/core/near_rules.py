"""Decides which copies of entries this process may keep, and when one may answer a read.

All of it is synchronous and knows neither store nor clock: `proxy.flow.near_reads` tells it what
happens. It keeps a copy of what a lookup saw only if it will be told of every change, and uses it
only while it is proven that nothing was told in vain. The races it closes; reader R of this
process, writer W of another one, lanes A and B, item versions 1 and 2:

Change against lookup
    1. R's lookup sees version 1 on lane A.  2. W begins: the store tells lane A.  3. The push is
    handled before R goes on. R's *look* was made before the lookup was sent, so the push finds it
    and R keeps nothing.
Silent connection
    1. A copy of version 1 is kept.  2. W writes 2; the push is stuck, or lost with the connection.
    The store tells a connection of a change before it answers a later PING of it. So a copy
    stands as of the moment the last answered PING was sent, and is used for Δ after that.
Two lanes
    1. Lane A told R of version 1, a copy is kept.  2. W writes 2.  3. Another read of this
    process shows 2, by lane B or from upstream, before lane A's push is here. Whatever is shown
    and is not the copy drops it (`saw`, `shown`): time does not run backwards.
    The same, the other way round: 3. the lookup on lane B, which saw 2, ends first and is kept.
    4. The older lookup on lane A ends. Each lookup that ends makes all others that are under way
    *dirty*: they keep nothing, and drop a copy that is not what they show.
Own write
    1. This process begins a write: copies are dropped and lookups made dirty before begin is sent,
    and while it is held nothing is kept.  2. A lookup on lane A passed begin on its way and sees
    version 1; upstream has 2, which other reads may show already. It keeps nothing.  3. The write
    ends; copies are dropped and lookups made dirty once more, before the write is acknowledged.
Table
    A copy also needs the table's generation as it was when the entry was filled. A push for the
    table's record makes it unknown, which voids all copies of the table at once; the next lookup
    that sees the same generation brings those back of which nothing was told.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from proxy.core.fence import ItemIdentity, Proven, Sighting
from proxy.core.near_cache import NearCache
from proxy.core.near_copy import Copy, NearTable, Told
from proxy.core.values import CacheKey

TABLES_MAX: Final = 10_000  # AWS's own limit of tables per region
"""Beyond it nothing is kept of further tables."""


class _Watch:
    """What the lookups of one record that are under way have in common."""

    __slots__ = ("dirty", "looks")

    def __init__(self) -> None:
        self.dirty = False
        self.looks = 0


class Look:
    """The placeholder of one lookup, made before that is sent; give it back with `ended`."""

    __slots__ = ("asked_s", "epoch", "identity", "losses", "table", "watch")

    def __init__(self, identity: ItemIdentity, watch: _Watch, asked_s: float) -> None:
        self.identity = identity
        self.watch = watch
        self.asked_s = asked_s
        self.table: NearTable | None = None
        self.epoch = 0
        self.losses = 0


class NearRules:
    """The near cache of one process, as the protocol allows it.

    Args:
        cache: holds the copies.
    """

    def __init__(self, cache: NearCache) -> None:
        self._cache = cache
        self._tables: dict[CacheKey, NearTable] = {}
        self._watches: dict[CacheKey, _Watch] = {}
        self._told: dict[object, Told] = {}
        self._told_by: dict[tuple[Proven, ...], tuple[Told, ...]] = {}
        self._held: Counter[CacheKey] = Counter()
        self._losses = 0

    # Reading

    def find(self, identity: ItemIdentity, now_s: float, delta_s: float) -> Copy | None:
        """Return a copy that stands now.

        Args:
            identity: whose.
            now_s: monotonic time.
            delta_s: how long ago the last answered PING may have been sent; a copy of that age
                does not stand.
        """
        copy = self._cache.find(identity.cache_key)
        if copy is None:
            return None
        table = copy.table
        if table.generation != copy.entry.generation:
            if table.generation is not None:  # generations do not come back
                self._cache.drop(identity.cache_key)
            return None
        since_s = now_s - delta_s
        if not _proven(copy.told, since_s):
            return None
        return copy if table.told is copy.told or _proven(table.told, since_s) else None

    def look(self, identity: ItemIdentity, now_s: float) -> Look:
        """Make a placeholder; the lookup may be sent after that."""
        watch = self._watches.get(identity.cache_key)
        if watch is None:
            watch = self._watches[identity.cache_key] = _Watch()
        watch.looks += 1
        look = Look(identity, watch, now_s)
        look.table = self._table(identity.table_key)
        look.epoch = look.table.epoch if look.table is not None else 0
        look.losses = self._losses
        return look

    def ended(self, look: Look) -> None:
        """Give a placeholder back, whatever became of its lookup."""
        watch, cache_key = look.watch, look.identity.cache_key
        watch.looks -= 1
        if not watch.looks and self._watches.get(cache_key) is watch:
            del self._watches[cache_key]

    def saw(self, look: Look, sighting: Sighting) -> None:
        """Take note of what a lookup is about to show; keep a copy of it if that is safe."""
        # What a connection told before it was lost is void, and so is the connection.
        told = self._telling(sighting.sources) if look.losses == self._losses else ()
        if look.table is not None:
            self._saw_table(look, look.table, sighting, told)
        cache_key, entry = look.identity.cache_key, sighting.entry
        clean = not look.watch.dirty and look.losses == self._losses
        copy = self._cache.peek(cache_key)
        if copy is not None and copy.entry == entry and not (clean and _void(copy.told)):
            return
        self.shown(look.identity)
        keeps = clean and bool(told) and not self._is_held(look.identity)
        if entry is None or not entry.covers(None) or look.table is None or not keeps:
            return
        if not sighting.table_pending and look.table.generation == entry.generation:
            ahead_ms = sighting.store_now_ms - 1000 * look.asked_s
            self._cache.put(cache_key, Copy(entry, look.table, told, ahead_ms))

    def shown(self, identity: ItemIdentity) -> None:
        """Take note that a read shows an item as it was found elsewhere, perhaps newer."""
        self._forget(identity.cache_key)

    # What the store's connections tell

    def invalidated(self, cache_keys: Iterable[CacheKey]) -> None:
        """Drop the copies of records that changed, expired or were evicted."""
        for cache_key in cache_keys:
            table = self._tables.get(cache_key)
            if table is not None:
                _doubt(table)
            else:
                self._forget(cache_key)

    def lost(self, source: object) -> None:
        """Void all that one connection told so far, what is under way included."""
        self._losses += 1
        told = self._told.pop(source, None)
        self._told_by.clear()
        if told is not None:
            told.end()

    # Writing

    def hold(self, cache_keys: Sequence[CacheKey]) -> None:
        """Keep nothing of items, or whole tables, that this process is about to write."""
        self._held.update(cache_keys)
        self.invalidated(cache_keys)

    def release(self, cache_keys: Sequence[CacheKey]) -> None:
        """Let what begins from now on be kept again; call before the write is acknowledged."""
        for cache_key in cache_keys:
            self._held[cache_key] -= 1
            if not self._held[cache_key]:
                del self._held[cache_key]
        self.invalidated(cache_keys)

    # Inside

    def _saw_table(
        self, look: Look, table: NearTable, sighting: Sighting, told: tuple[Told, ...]
    ) -> None:
        seen = None if sighting.table_pending else sighting.generation
        clean = look.epoch == table.epoch and look.losses == self._losses
        if seen is not None and seen == table.generation and not (clean and _void(table.told)):
            return
        # It shows another generation than is known, or one by connections that are there: what is
        # under way may have seen an older one.
        _doubt(table)
        if clean and told and look.identity.table_key not in self._held:
            table.know(seen, told)

    def _forget(self, cache_key: CacheKey) -> None:
        self._cache.drop(cache_key)
        watch = self._watches.pop(cache_key, None)
        if watch is not None:
            watch.dirty = True

    def _table(self, table_key: CacheKey) -> NearTable | None:
        table = self._tables.get(table_key)
        if table is None and len(self._tables) < TABLES_MAX:
            table = self._tables[table_key] = NearTable()
        return table

    def _telling(self, sources: tuple[Proven, ...]) -> tuple[Told, ...]:
        told = self._told_by.get(sources)
        if told is None:
            told = self._told_by[sources] = tuple(map(self._word_of, dict.fromkeys(sources)))
        return told

    def _word_of(self, source: Proven) -> Told:
        if (known := self._told.get(source)) is None:
            known = self._told[source] = Told(source)
        return known

    def _is_held(self, identity: ItemIdentity) -> bool:
        return identity.cache_key in self._held or identity.table_key in self._held


def _doubt(table: NearTable) -> None:
    table.generation = None
    table.epoch += 1


def _proven(told: tuple[Told, ...], since_s: float) -> bool:
    for each in told:  # noqa: SIM110 - `all` would take twice as long, with each hit
        if each.source.proven_s <= since_s:
            return False
    return True


def _void(told: tuple[Told, ...]) -> bool:
    return any(each.source.proven_s == -math.inf for each in told)
