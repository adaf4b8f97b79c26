"""What a reader may use of a page: the stored answer to one Query or Scan.

A page is an entry like an item's, in a record of its own, but no writer knows which pages its item
is on. So writers raise the generations of *scopes* instead: the item's table, each of its key
attributes' values, all items of the table. A page is filled under the generations of its table and
of its own scope, both in one, and counts only while neither has changed.

The races that this closes; reader R, writer W, item versions 0 and 1:

Page against write
    1. R looks up: both scopes settled, generation g.  2. W begins: its marker is in the scope.
    3. R fetches version 0.  4. W writes 1 and ends: the scope has another generation.  5. R fills
    under g. Nobody sees g any more, so nobody is served; no fence on the page itself is needed.
Joining a flight that has started
    1. R1 sees g and fetches consistently.  2. R2 comes and sees g too, settled. Every write that
    was acknowledged, or seen by anybody, before R2 came either ended before R1 saw g, so R1's
    fetch shows it, or would have left a marker or another generation for R2 to see.
Writers that know of no pages
    1. W begins its item's fence.  2. R is the first who wants a page of the table, and marks the
    table's record.  3. W, who read the record before that, writes 1 and ends: no scope raised.
    So pages count only from `pages_from_ms` on, when every write begun before the mark is over.

Unlike an item's fill, a page's accepted fill proves nothing: no writer touches the page's record.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

from proxy.core.fence import ItemIdentity, Sighting, sight
from proxy.core.record import Record, ScopeRecord
from proxy.core.values import GENERATION_BYTES, CacheKey, Generation, Incarnation

STORE_CLOCK_MARGIN_MS = 1_000
"""How much a proxy may think the store's clock later than it is, at most: a round trip."""


@dataclass(frozen=True, slots=True)
class PageIdentity:
    """Where one page lives in the store; built only by `proxy.core.cache_key`.

    Args:
        record: names the page's record as an item's is named; no writer knows it.
        scope_key: the record of the scope, beside the table, that its items are in.
    """

    record: ItemIdentity
    scope_key: CacheKey


@dataclass(frozen=True, slots=True)
class PageSighting:
    """A page as a reader may use it.

    Args:
        sighting: the record, under the generations of table and scope in one; its
            `table_pending` says that a write which may change the page is in flight.
        ready: pages of the table may be served and filled.
        quiet_s: for how long no write that may change the page has ended, at least.
    """

    sighting: Sighting
    ready: bool
    quiet_s: float


def sight_page(
    raw: Record | None,
    table: ScopeRecord,
    scope: ScopeRecord,
    *,
    page: PageIdentity,
    incarnation: Incarnation,
    store_now_ms: int,
) -> PageSighting:
    """Reduce what a lookup of a page read to what a reader may use.

    Args:
        raw: the page's decoded record, or None when the store holds none.
        table: the decoded record of its table.
        scope: the decoded record of its scope.
        page: what was asked for.
        incarnation: of the connection that read all three.
        store_now_ms: the store's clock at the reply, or a little later.
    """
    both = ScopeRecord(
        incarnation=incarnation,
        generation=_both(table.generation, scope.generation),
        deadlines_ms=table.deadlines_ms + scope.deadlines_ms,
        raised_ms=max(table.raised_ms, scope.raised_ms),
        pages_from_ms=table.pages_from_ms,
    )
    digest = page.record.digest
    sighting = sight(raw, both, incarnation=incarnation, digest=digest, store_now_ms=store_now_ms)
    surely_ms = store_now_ms - STORE_CLOCK_MARGIN_MS
    return PageSighting(
        sighting,
        ready=0 < both.pages_from_ms <= surely_ms,
        quiet_s=(surely_ms - both.raised_ms) / 1000,
    )


def _both(table: Generation, scope: Generation) -> Generation:
    return Generation(blake2b(table + scope, digest_size=GENERATION_BYTES).digest())
