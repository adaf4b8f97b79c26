"""The world as the flows see it: Protocols that `proxy.edge` implements and tests fake.

A fake is used only if it passes the same suite in `tests/contracts` as the real adapter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from proxy.core.errors import StoreUnavailable
from proxy.core.fence import Begun, ItemIdentity, LeaseReply, Sighting, WriteOutcome
from proxy.core.pages import PageIdentity, PageSighting
from proxy.core.record import Entry, EntryDraft
from proxy.core.shard_tree import Growth, Kept, Lease, ShardState, StreamView
from proxy.core.values import CacheKey, FenceResult, Generation, TableId, Token


class Clock(Protocol):
    """Time and randomness, injected so that tests and simulation own both."""

    def monotonic_s(self) -> float:
        """Seconds on a clock that never goes back; only compared within this process."""
        ...

    def wall_s(self) -> float:
        """Seconds since the epoch."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Suspend the caller for `delay_s` seconds."""
        ...

    def uniform(self, low: float, high: float) -> float:
        """Return a random number between `low` and `high`."""
        ...

    def token(self) -> Token:
        """Return 16 fresh random bytes."""
        ...


class UpstreamRequest(NamedTuple):
    """One HTTP request for DynamoDB, before signing.

    Args:
        operation: `GetItem`, …, for telemetry; "other" when unknown.
        streams: True for the DynamoDB Streams endpoint.
        method: HTTP method.
        target: path with query as the client sent it, normally `/`.
        headers: end-to-end header fields to send, in order; no Host, no signature fields, no
            hop-by-hop fields (the adapter drops those all the same).
        body: the exact bytes to send and to sign.
        timeout_s: bound on the whole exchange.
        repeatable: True for reads: may be sent once more after the connection broke.
    """

    operation: str
    streams: bool
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    timeout_s: float
    repeatable: bool


class UpstreamReply(NamedTuple):
    """A complete answer as upstream sent it: end-to-end headers in order, body bytes untouched."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Upstream(Protocol):
    """DynamoDB, signed with the process's own credentials."""

    async def send(self, request: UpstreamRequest) -> UpstreamReply:
        """Send one request and return the whole answer, whatever its status.

        Raises:
            UpstreamFailed: no complete answer came; tells whether a write may have been applied.
        """
        ...


class LookupReader(Protocol):
    """Is told what came of a lookup: by one of these calls, once, perhaps before it returns."""

    def saw(self, sighting: Sighting) -> None:
        """Take what is there."""
        ...

    def unsure(self) -> None:
        """Take note that it needs more than one round trip: ask by `Store.lookup`."""
        ...

    def failed(self, problem: StoreUnavailable) -> None:
        """Take note that the store did not answer."""
        ...

    def broke(self, error: Exception) -> None:
        """Take what a bug raised, perhaps in one of the other calls."""
        ...


class Store(Protocol):
    """The shared Redis/Valkey. Every method is one round trip and one atomic step per record.

    Every method raises StoreUnavailable within the store time-out.
    """

    @property
    def serving(self) -> bool:
        """Whether hits and fills are allowed now: primary known, heartbeat young, gate open."""
        ...

    @property
    def quarantined(self) -> bool:
        """Whether the store's primary is there and only its quarantine is not over."""
        ...

    @property
    def unfit(self) -> bool:
        """Whether the store may lose what level `strict` stands on."""
        ...

    @property
    def why_not_serving(self) -> str:
        """In a few words for the operator, why `serving` is False; empty when it is True."""
        ...

    async def lookup(
        self, identity: ItemIdentity, names: tuple[str, ...] | None = None
    ) -> Sighting:
        """Read one record and its table's generation.

        Args:
            identity: whose record.
            names: the top-level attributes that the caller needs, None for all. Only a hint: the
                sighting's entry may hold more, and `Entry.covers` tells what it may answer.
        """
        ...

    def look_up(self, identity: ItemIdentity, reader: LookupReader) -> None:
        """Start to read one record and its table's generation; a reader is told what came of it."""
        ...

    async def lookup_page(self, page: PageIdentity) -> PageSighting:
        """Read one page and the generations of its table and scope.

        Lets every writer know, from now on, that pages of the table are cached.
        """
        ...

    async def lease(
        self, identity: ItemIdentity, *, token: Token, generation: Generation, force: bool
    ) -> LeaseReply:
        """Ask for permission to fill; `force` takes it over a fresh entry, which keeps serving."""
        ...

    async def fill(
        self, identity: ItemIdentity, *, token: Token, generation: Generation, draft: EntryDraft
    ) -> bool:
        """Store an entry under a lease; False when the lease had gone and nothing was stored."""
        ...

    async def release(self, identity: ItemIdentity, *, token: Token) -> None:
        """Give a lease back unused; an older entry that was kept under it comes back."""
        ...

    async def begin(self, identity: ItemIdentity, *, token: Token, settled: bool = False) -> Begun:
        """Mark a write in flight on one record, and read its table's record just after that.

        Args:
            identity: whose record.
            token: of the write.
            settled: only at a primary that is known to be the only one; UNSETTLED otherwise.
        """
        ...

    async def end(
        self,
        identity: ItemIdentity,
        *,
        token: Token,
        outcome: WriteOutcome,
        stored: tuple[Generation, EntryDraft] | None = None,
    ) -> FenceResult:
        """End a write of known outcome; `stored` is the new entry for `WriteOutcome.STORED`."""
        ...

    async def invalidate(self, identity: ItemIdentity) -> None:
        """Replace whatever is there by a tombstone; writers in flight lose their right to store."""
        ...

    async def begin_table(
        self, table_key: CacheKey, *, token: Token, settled: bool = False
    ) -> None:
        """Keep a whole table unserved while a write to it, of any item, is in flight.

        `settled` as in `begin`.
        """
        ...

    async def end_table(
        self, table_key: CacheKey, *, token: Token, outcome: WriteOutcome, remade: bool
    ) -> None:
        """End such a write; unless it was aborted, no entry from before counts any more.

        Args:
            table_key: the table's record.
            token: of the write.
            outcome: anything but UNKNOWN.
            remade: whether the table itself may have been made anew, not only its items.
        """
        ...

    async def begin_scope(
        self, scope_key: CacheKey, *, token: Token, settled: bool = False
    ) -> None:
        """Keep a scope's pages unserved while a write to one of its items is in flight.

        `settled` as in `begin`.
        """
        ...

    async def end_scope(self, scope_key: CacheKey, *, token: Token, outcome: WriteOutcome) -> None:
        """End such a write; unless it was aborted, no page of the scope from before counts.

        Args:
            scope_key: the scope's record, not a table's.
            token: of the write.
            outcome: anything but UNKNOWN.
        """
        ...

    async def generation(self, table_key: CacheKey) -> Generation:
        """Return a table's generation, whether or not it is served now."""
        ...

    async def claim_check(self, table_key: CacheKey, *, interval_s: float) -> float:
        """Claim the check of which table a name stands for, for one proxy per interval.

        Returns:
            0.0 to the one that is to check now, to all others the seconds until a check is due.
        """
        ...

    async def identify_table(self, table_key: CacheKey, table_id: TableId) -> bool:
        """Remember which table a name stands for.

        Returns:
            Whether that made it another one: no entry from before counts any more. So it is
            where the id was unknown so far, unless all entries are younger than TABLE_SURE_S.
        """
        ...


class Peeked(NamedTuple):
    """What is in a record's place.

    Args:
        there: whether anything is.
        entry: a whole entry of the item that nobody is about to replace, or None.
    """

    there: bool
    entry: Entry | None


class StreamStore(Protocol):
    """What the reader of streams needs of the store beside `Store`; same rules.

    A stream's record is shared by all proxies: `proxy.core.shard_tree`.
    """

    async def peek(self, identity: ItemIdentity) -> Peeked:
        """Look at a record as a write would find it; nobody is told of its changes.

        Raises StoreUnavailable also where hits are not allowed.
        """
        ...

    async def pages_cached(self, table_key: CacheKey) -> bool:
        """Tell whether anybody caches pages of a table; True where that cannot be read."""
        ...

    async def look_at_stream(
        self, stream_key: CacheKey, reader: Token | None, *, present_s: float, discover_s: float
    ) -> StreamView:
        """Read a stream's record; a reader is known to be there for `present_s` from now on.

        One reader per `discover_s` is told that it is due to look at upstream.
        """
        ...

    async def grow_stream(self, stream_key: CacheKey, arn: str, growth: Growth) -> bool:
        """Add and drop shards; True where the stream is new, and all that was known is forgotten.

        Shards added to a stream that was there begin at their horizon, whatever `growth` says.
        """
        ...

    async def claim_shard(
        self, stream_key: CacheKey, shard_id: str, reader: Token, *, lease_s: float
    ) -> ShardState | None:
        """Take a shard that nobody holds, and whose parent is done; None where it is not so."""
        ...

    async def keep_shard(self, stream_key: CacheKey, lease: Lease, kept: Kept) -> bool:
        """Keep a checkpoint and a lease; False, with nothing kept, if somebody took it over."""
        ...

    async def park(self, parked_key: CacheKey, parked: bytes) -> int:
        """Park a record; return how many older ones it pushed out."""
        ...

    async def parked(self, parked_key: CacheKey) -> list[bytes]:
        """Return what is parked, newest first."""
        ...

    async def unpark(self, parked_key: CacheKey, parked: bytes) -> bool:
        """Take one off the list; False where it is not there any more."""
        ...


class NearSource(Protocol):
    """One connection that told a record and will be told when it changes."""

    @property
    def proven_s(self) -> float:
        """Monotonic time at which the last answered PING was sent; -inf once it is gone."""
        ...

    @property
    def serves_until_s(self) -> float:
        """Monotonic time until which its server may answer reads, unless proven anew."""
        ...


class NearFeed(Protocol):
    """Takes what the store's connections push; implemented by the near cache.

    Called when a push is read, before any later reply of the same connection is handed on.
    """

    def invalidated(self, cache_keys: Sequence[CacheKey]) -> None:
        """Take note that these records changed, expired or were evicted."""
        ...

    def lost(self, source: NearSource) -> None:
        """Take note that all that this connection told is void.

        After a disconnect, a new incarnation, a push that names no record, or in quarantine.
        """
        ...
