"""What the operator decided for one table; built by `proxy.settings`, read by every layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.core.values import Digest, Layout, Level, Mode, WriteMode

ITEM_BYTES_MAX: Final = 400 * 1024  # DynamoDB's own limit for one item
BODY_BYTES_MAX: Final = 2 * ITEM_BYTES_MAX
"""No answer is stored that is larger: JSON spells an item longer than DynamoDB counts it."""
PAGE_BYTES_MAX: Final = 1024 * 1024  # the items that DynamoDB looks at for one page
_PERCENT_MAX: Final = 100.0
_PLACE_BYTES: Final = 4
SCOPE_KEPT_S: Final = 3600.0
"""How long a scope nobody writes to is remembered; then it gets a new generation."""

TABLE_SURE_S: Final = 5.0
"""For how long after a generation was made its table is the one that DescribeTable then tells of.

Deleting a table and making it anew takes DynamoDB longer than that.
"""


@dataclass(frozen=True, slots=True)
class QueryPolicy:
    """What is cached of a table's Query and Scan answers.

    Args:
        enabled: cache pages of Query.
        scans: cache pages of Scan too.
        indexes: secondary indexes whose pages are cached; None for all.
        fresh_ttl_s: age below which a page answers by itself.
        entry_bytes_max: larger pages are not cached.
        index_lag_s: for how long after a write a global index may not show it.
    """

    enabled: bool = False
    scans: bool = False
    indexes: tuple[str, ...] | None = None
    fresh_ttl_s: float = 60.0
    entry_bytes_max: int = PAGE_BYTES_MAX
    index_lag_s: float = 10.0


@dataclass(frozen=True, slots=True)
class TablePolicy:
    """Limits and modes of one table. All times in seconds, ≥ 0; defaults are for `session`.

    Args:
        mode: what the cache does in reads; writes are fenced all the same.
        mode_percent: the share of keys, 0 to 100, that `mode` is for; the others are `OFF`.
        level: what is promised (ARCHITECTURE.md, Guarantees).
        write_mode: what a write does to the entry.
        fresh_ttl_s: age below which an entry answers by itself.
        negative_ttl_s: the same for "no such item"; 0 caches no absence.
        grace_s: how much older an entry may be and still answer while a refresh runs.
        stale_if_error_s: how much older than fresh an entry may be and answer when upstream fails.
        refresh_ahead: whether entries of hot items are refreshed before their time is over.
        jitter: share by which each entry's times are shortened at random, 0 to 0.5, so that
            entries filled together do not expire together.
        entry_bytes_max: larger answers are not cached; at most BODY_BYTES_MAX.
        layout: how entries are stored; a reader finds either, by one more round trip at most.
        compress_above_bytes: larger answers are stored compressed; None compresses none. For
            `layout` BLOB.
        fill_consistent: read with ConsistentRead when filling (2 × the read capacity of a miss).
        consistent_refresh: let a ConsistentRead=true GetItem refresh the entry it bypassed.
        queries: what is cached of Query and Scan.
    """

    mode: Mode = Mode.ON
    mode_percent: float = 100.0
    level: Level = Level.SESSION
    write_mode: WriteMode = WriteMode.INVALIDATE
    fresh_ttl_s: float = 300.0
    negative_ttl_s: float = 5.0
    grace_s: float = 30.0
    stale_if_error_s: float = 0.0
    refresh_ahead: bool = True
    jitter: float = 0.1
    entry_bytes_max: int = ITEM_BYTES_MAX
    layout: Layout = Layout.BLOB
    compress_above_bytes: int | None = None
    fill_consistent: bool = True
    consistent_refresh: bool = True
    queries: QueryPolicy = QueryPolicy()

    def mode_of(self, digest: Digest) -> Mode:
        """Return the mode of one item or page.

        The digest decides, so every process treats a key alike, and a higher percentage only adds
        keys to those of a lower one.
        """
        if self.mode_percent >= _PERCENT_MAX:
            return self.mode
        place = int.from_bytes(digest[:_PLACE_BYTES], "big") / 256**_PLACE_BYTES
        return self.mode if _PERCENT_MAX * place < self.mode_percent else Mode.OFF

    def fresh_ms(self, *, negative: bool) -> float:
        """Return the age in milliseconds below which an entry, or an absence, may be fresh."""
        return 1000 * (self.negative_ttl_s if negative else self.fresh_ttl_s)

    @property
    def serves_grace(self) -> bool:
        """Whether an entry in grace may answer: never at `strict`."""
        return self.level is not Level.STRICT and self.grace_s > 0

    @property
    def joins_started_flights(self) -> bool:
        """Whether a read may join a fetch older than itself: only where no write need be seen."""
        return self.level is Level.EVENTUAL


@dataclass(frozen=True, slots=True)
class AuditPolicy:
    """How many hits are compared with DynamoDB.

    Args:
        share: of all hits, 0 to 1.
        reads_per_s_max: comparisons a second.
        read_units_per_s_max: read capacity units a second.
        concurrency_max: comparisons under way at one time.
    """

    share: float = 0.001
    reads_per_s_max: float = 10.0
    read_units_per_s_max: float = 20.0
    concurrency_max: int = 4


@dataclass(frozen=True, slots=True)
class NearPolicy:
    """Bounds of this process's own copies of entries.

    Args:
        bytes_max: of all copies; 0 keeps none.
        table_share_max: the largest share of it that one table may have.
        delta_s: how long a write through another proxy may stay unseen at level `session`; 0
            keeps copies from its readers.
        eventual_delta_s: the same at level `eventual`.
    """

    bytes_max: int = 32 * 1024 * 1024
    table_share_max: float = 0.75
    delta_s: float = 0.25
    eventual_delta_s: float = 1.0

    def delta_of(self, level: Level) -> float:
        """Return how long a copy stands after it was last proven; 0 where none may be used."""
        if self.bytes_max == 0 or level is Level.STRICT:
            return 0.0
        return self.eventual_delta_s if level is Level.EVENTUAL else self.delta_s

    @property
    def ping_s(self) -> float | None:
        """How often a connection must be proven; None where nobody keeps copies."""
        used = [delta_s for level in Level if (delta_s := self.delta_of(level)) > 0]
        # A third: a copy stands through two late answers.
        return min(used) / 3 if used else None


@dataclass(frozen=True, slots=True)
class FencePolicy:
    """Bounds of the coherence protocol; the same for every table and every proxy of one store.

    Args:
        lease_s: how long a filler may take before another proxy may fill.
        lease_wait_s: how long a reader waits for another proxy's fill before it fetches itself;
            time in which it could not look does not count.
        marker_s: how long a write of unknown outcome keeps its item out of the cache; must be
            longer than a write can take to have its effect.
        tombstone_s: how long after an invalidation a fill must read with ConsistentRead.
        write_timeout_s: how long a write may wait for upstream's answer.
    """

    lease_s: float = 3.0
    lease_wait_s: float = 1.0
    marker_s: float = 30.0
    tombstone_s: float = 30.0
    write_timeout_s: float = 10.0
