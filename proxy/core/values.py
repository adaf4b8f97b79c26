"""Names shared by every layer: identifiers and the closed enums that decisions are made of.

The words are those of ARCHITECTURE.md; each enum's members are metric labels and log fields, so
a renamed member is a change that users see.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, NewType

TableName = NewType("TableName", str)
"""A table's plain name, never an ARN."""

CacheKey = NewType("CacheKey", bytes)
"""The store's name of one record: namespace, hash tag and keyed hash of an item's identity."""

Digest = NewType("Digest", bytes)
"""16 bytes that an entry carries to prove whose entry it is."""

Generation = NewType("Generation", bytes)
"""8 bytes, random at first; entries filled under another generation do not count."""

Incarnation = NewType("Incarnation", bytes)
"""8 bytes naming the store's primary since its start or promotion."""

Token = NewType("Token", bytes)
"""16 random bytes naming one writer or one lease holder."""

TableId = NewType("TableId", bytes)
"""16 bytes that a table made anew under the same name does not share."""

AttributeValue = dict[str, Any]
"""One attribute value in DynamoDB JSON: a single member, type to content, `{"S": "a"}`."""

Item = dict[str, AttributeValue]
"""A DynamoDB item: attribute name to attribute value."""

GENERATION_BYTES: Final = 8
INCARNATION_BYTES: Final = 8
TOKEN_BYTES: Final = 16
TABLE_ID_BYTES: Final = 16
DIGEST_BYTES: Final = 16


class Level(StrEnum):
    """The coherence promised for a table; see ARCHITECTURE.md, Guarantees."""

    STRICT = "strict"
    SESSION = "session"
    EVENTUAL = "eventual"


class Mode(StrEnum):
    """What the cache does in the reads of a table; writes are fenced in every mode."""

    OFF = "off"  # nothing: reads pass through
    SHADOW = "shadow"  # fills and looks up, and answers nothing: every answer is DynamoDB's
    ON = "on"


class WriteMode(StrEnum):
    """What a write through the proxy does to the entry."""

    INVALIDATE = "invalidate"
    THROUGH = "through"
    AROUND = "around"


class FailOver(StrEnum):
    """What writes to `strict` tables do while the store's primary is new."""

    SAFE = "safe"  # are refused until no older primary can serve hits any more
    AVAILABLE = "available"  # go on; proxies that still see the older primary may not see them


class Layout(StrEnum):
    """How the store holds an entry."""

    BLOB = "blob"  # one string: the whole answer
    HASH = "hash"  # one field per top-level attribute

    @property
    def other(self) -> Layout:
        """The layout that this one is not."""
        return Layout.HASH if self is Layout.BLOB else Layout.BLOB


class Verdict(StrEnum):
    """May this entry answer a read now?"""

    FRESH = "fresh"
    GRACE = "grace"  # may be served while a refresh runs
    LAST_RESORT = "last_resort"  # may be served only if upstream fails
    TOO_OLD = "too_old"  # may be served, but not to this reader
    EXPIRED = "expired"
    ABSENT = "absent"


class Outcome(StrEnum):
    """How a request was answered."""

    # Enum's own is a Python function, and every request's outcome is looked up several times.
    __hash__ = str.__hash__

    HIT = "hit"
    NEGATIVE_HIT = "negative_hit"
    STALE_HIT = "stale_hit"
    MISS = "miss"
    COALESCED = "coalesced"
    PARTIAL = "partial"  # a batch: some of its items were fetched
    BYPASS = "bypass"
    WRITE = "write"
    REJECTED = "rejected"  # the client must change its request
    NOT_CACHED = "not_cached"  # the client wanted a cached answer only, and there is none
    FAILED = "failed"  # upstream failed and nothing could be served instead


class BypassReason(StrEnum):
    """Why the store had no part in an answer."""

    OPERATION = "operation"  # not an operation that is cached
    TABLE_OFF = "table-off"
    SHADOW = "shadow"  # the cache only rehearses
    CONSISTENT_READ = "consistent-read"
    UNDECODABLE = "undecodable"  # spelled so that only DynamoDB can judge it
    TABLE_ARN = "table-arn"
    STORE_DOWN = "store-down"
    STORE_QUARANTINE = "store-quarantine"
    STORE_UNFIT = "store-unfit"  # the store may lose what level `strict` stands on
    DEBT = "debt"  # a write of this process has not reached the store yet
    PAGE_PENDING = "page-pending"  # a write that may change the page is in flight
    PAGES_SOON = "pages-soon"  # some writer may not know yet that pages of the table are cached
    INDEX = "index"  # no page of this index is cached, at this level or at all
    INDEX_LAG = "index-lag"  # the index may not show the table's last write yet
    TABLE_PENDING = "table-pending"  # a write that may touch any item of the table is in flight
    FLIGHTS_FULL = "flights-full"
    WRITE_AROUND = "write-around"
    REQUESTED = "requested"  # the client asked for it


class AuditResult(StrEnum):
    """What became of a hit that was to be compared with DynamoDB."""

    MATCH = "match"
    STALE = "stale"  # DynamoDB differs, and the entry would be served still
    INCONCLUSIVE = "inconclusive"  # DynamoDB differs, but the item may have been written meanwhile
    DROPPED = "dropped"  # not compared: a bound was reached, or upstream is in trouble
    FAILED = "failed"  # upstream or the store gave no answer


class ShadowResult(StrEnum):
    """How the answer that the cache would have given compares with DynamoDB's."""

    AGREE = "agree"
    DIFFER = "differ"  # the cache would have answered with something outdated
    INCONCLUSIVE = "inconclusive"  # they differ, and nobody can tell whether that is an error
    WOULD_MISS = "would-miss"
    WOULD_BYPASS = "would-bypass"  # the store would have had no part
    DROPPED = "dropped"  # not rehearsed: too many rehearsals are under way
    FAILED = "failed"  # one of the two answers is none


class FillResult(StrEnum):
    """What became of a fetched item."""

    STORED = "stored"
    REFUSED = "refused"  # the lease was lost to a writer, an invalidation or its deadline
    NO_LEASE = "no-lease"  # a writer is in flight, or the wait for another filler ran out
    TOO_LARGE = "too-large"
    NOT_CACHEABLE = "not-cacheable"  # upstream answered something else than an item or its absence
    STORE_FAILED = "store-failed"


class TableCheck(StrEnum):
    """What asking upstream which table a name stands for brought."""

    SAME = "same"  # as before, or the first answer
    REMADE = "remade"  # another table, or none: no entry from before counts
    UNKNOWN = "unknown"  # DescribeTable is denied, fails, or does not tell


class FenceResult(StrEnum):
    """What a write's end step did to one record."""

    STORED = "stored"  # write-through put the new entry
    INVALIDATED = "invalidated"
    RESTORED = "restored"  # the write changed nothing: the hidden entry came back
    OVERLAPPED = "overlapped"  # other writers are still in flight
    KEPT = "kept"  # outcome unknown: the marker stays until its deadline
    LOST = "lost"  # the marker had gone: tombstone
    DEBT = "debt"  # the store was out: to be replayed
