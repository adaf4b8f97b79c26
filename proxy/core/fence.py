"""The coherence protocol's vocabulary: what a reader sees, what a lease grants, how a write ended.

The steps themselves are atomic scripts in the store (`proxy/edge/scripts`); this module holds the
pure decisions around them, for the flows and for every store adapter.

The races that the protocol closes; reader R, writers W and X, item versions 0, 1, 2:

Fill against write
    1. R misses and takes the lease.  2. R fetches version 0.  3. W begins: the marker replaces the
    lease.  4. W writes version 1 and ends: tombstone.  5. R's fill finds no lease of its own and
    is refused. Without the lease R would store 0 after 1 was acknowledged.
Write-through against write-through
    1. W begins, X begins: neither is solo.  2. DynamoDB applies X, then W.  3. W ends, X ends: both
    leave a tombstone, since nobody knows the order. Without *solo* X's item would stay.
Coalesced read against write
    1. R1 fetches version 0.  2. W writes 1 and is acknowledged.  3. R2 arrives. R2 joins R1's
    flight only if it has not started, or once its fill was accepted, which proves that no write
    began in between.
Lost marker
    1. W begins.  2. The store is flushed.  3. X begins, writes 2, ends and stores 2.  4. W ends:
    its marker is missing, so W leaves a tombstone and stores nothing.
Lagging replica
    1. W writes 1 and ends: tombstone.  2. R's lease says *strong*: R fetches with ConsistentRead,
    so a replica that still holds 0 cannot refill the entry.
Refresh against write
    1. R takes a lease over an entry in grace, which is kept inside the lease and still served.
    2. W begins: lease and kept entry go together. The kept entry returns only if W changed
    nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from proxy.core.record import Entry, Leased, Pending, Record, ScopeRecord
from proxy.core.values import CacheKey, Digest, Generation, Incarnation, TableName

_STAMP_BYTES: Final = 4


def stamp_of(generation: Generation) -> bytes:
    """Return the part of a generation that only a change of the table itself raises.

    What was learned of a table (its key schema) under one stamp is void under another. Writes that
    touch many items raise the rest of the generation.
    """
    return generation[:_STAMP_BYTES]


@dataclass(frozen=True, slots=True)
class ItemIdentity:
    """Where one item lives in the store; built only by `proxy.core.cache_key`.

    Args:
        table: the table's plain name.
        cache_key: the record's name.
        table_key: the name of the table's own record, which holds its generation.
        digest: what the entry must carry to be this item's.
        name_scopes: names the records of the scopes that a write of the item changes beside its
            table: each key attribute's value, and all items. Only writers need them.
    """

    table: TableName
    cache_key: CacheKey
    table_key: CacheKey
    digest: Digest
    name_scopes: Callable[[], tuple[CacheKey, ...]] = field(
        default=tuple, compare=False, repr=False
    )


class Proven(Protocol):
    """What told a record and will tell of its changes: a connection to the store."""

    @property
    def proven_s(self) -> float:
        """Everything that changed before this monotonic time has been told."""
        ...

    @property
    def serves_until_s(self) -> float:
        """Until when its server may answer reads, unless that is proven anew."""
        ...


class RecordState(StrEnum):
    """What a lookup found, as far as a reader must care."""

    ABSENT = "absent"  # nothing that counts
    ENTRY = "entry"
    LEASED = "leased"  # another reader is filling; `Sighting.entry` is the older entry, if any
    PENDING = "pending"  # a write is in flight


class Sighting(NamedTuple):
    """One record as a reader may use it: `entry` has proved to be this item's, here and now.

    Args:
        state: the record's state.
        entry: an entry of this incarnation, generation and digest, or None.
        generation: the table's generation, to fill under.
        table_pending: a write that may touch any item of the table is in flight.
        store_now_ms: the store's clock, never earlier than it really was at the reply.
        sources: the connections that read the item's and the table's record and will tell of
            changes; empty where nobody does, so that no copy may be kept.
    """

    state: RecordState
    entry: Entry | None
    generation: Generation
    table_pending: bool
    store_now_ms: int
    sources: tuple[Proven, ...] = ()


def sight(
    raw: Record | None,
    table: ScopeRecord,
    *,
    incarnation: Incarnation,
    digest: Digest,
    store_now_ms: int,
    sources: tuple[Proven, ...] = (),
) -> Sighting:
    """Reduce a decoded record to what a reader may use.

    Args:
        raw: the decoded record, or None when the store holds none.
        table: the decoded record of the item's table.
        incarnation: of the connection that read both.
        digest: of the item that was asked for.
        store_now_ms: the store's clock at the reply.
        sources: the connections that will tell of changes to both.

    Keeps: the rule that a value counts only under the incarnation of the connection that read it,
    under the table's present generation, and only for the item it was stored for.
    """

    def counts(entry: Entry | None) -> Entry | None:
        if entry is None or entry.incarnation != incarnation or entry.digest != digest:
            return None
        return entry if entry.generation == table.generation else None

    entry: Entry | None = None
    state = RecordState.ABSENT
    match raw:
        case Entry():
            entry = counts(raw)
            state = RecordState.ENTRY if entry else RecordState.ABSENT
        case Leased(kept=kept):
            entry = counts(kept)
            live = raw.deadline_ms > store_now_ms and raw.incarnation == incarnation
            state = RecordState.LEASED if live else RecordState.ABSENT
            if entry and not live:
                state = RecordState.ENTRY
        case Pending(deadline_ms=deadline_ms) if deadline_ms > store_now_ms:
            state = RecordState.PENDING
        case _:
            state = RecordState.ABSENT
    pending = not table.settled
    seen = None if pending else entry
    return Sighting(state, seen, table.generation, pending, store_now_ms, sources)


class LeaseState(StrEnum):
    """What the store said to a reader that wants to fill."""

    HIT = "hit"  # somebody filled meanwhile
    LEASED = "leased"  # fetch, then fill
    WAIT = "wait"  # another proxy is filling
    PENDING = "pending"  # a write is in flight: fetch, but do not fill


class LeaseReply(NamedTuple):
    """The store's answer to a lease request.

    Args:
        state: what to do.
        entry: with HIT, the entry.
        wait_s: with WAIT, how long the other's lease still runs.
        strong: with LEASED, the fetch must use ConsistentRead whatever the policy allows.
        store_now_ms: the store's clock at the reply.
    """

    state: LeaseState
    entry: Entry | None = None
    wait_s: float = 0.0
    strong: bool = True
    store_now_ms: int = 0


class Begun(NamedTuple):
    """The store's answer to a begin.

    Args:
        generation: the table's, to write through under; None while it must not be done.
        pages: somebody caches pages of the table, so their scopes must be fenced too.
    """

    generation: Generation | None
    pages: bool


def begun_under(table: ScopeRecord | None, incarnation: Incarnation, *, there: bool) -> Begun:
    """Tell a writer what it must know of its table.

    Args:
        table: the table's decoded record, None when it is not there or not readable.
        incarnation: of the connection that read it.
        there: whether there is a record; one that cannot be read may well ask for page fences.
    """
    if table is None:
        return Begun(None, there)
    counts = table.settled and table.incarnation == incarnation
    # Of another incarnation, the record is made anew before a page counts, and announced again.
    return Begun(table.generation if counts else None, table.pages_from_ms > 0)


class WriteOutcome(StrEnum):
    """What is known about a write's effect once upstream answered, or did not."""

    STORED = "S"  # applied, and the whole new item is known
    INVALIDATED = "I"  # applied
    ABORTED = "A"  # a definite refusal: nothing changed
    UNKNOWN = "U"  # time-out, reset, 5xx, cancelled after sending


def classify_write(status: int) -> WriteOutcome:
    """Tell what an upstream status says about a single write.

    A 4xx is DynamoDB's definite refusal (failed condition, validation, throttling): nothing
    changed. 408 is an intermediary's time-out and proves nothing. A 5xx may hide an applied write.
    Source: DynamoDB Developer Guide, "Error handling": "InternalServerError … may or may not".
    """
    if 200 <= status < 300:  # noqa: PLR2004 - the success class of RFC 9110 §15.3
        return WriteOutcome.INVALIDATED
    if 400 <= status < 500 and status != 408:  # noqa: PLR2004 - RFC 9110 §15.5
        return WriteOutcome.ABORTED
    return WriteOutcome.UNKNOWN
