"""Describe the settings of tables and resolve them into one `TablePolicy` per table.

A table inherits what `defaults` sets explicitly, then what its own section sets; what nobody set
comes from its coherence level.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import Field, field_validator

from proxy.configuration.section import Section
from proxy.core.policy import BODY_BYTES_MAX, PAGE_BYTES_MAX, QueryPolicy, TablePolicy
from proxy.core.values import Layout, Level, Mode, WriteMode

TABLE_NAME_PATTERN: Final = r"^[A-Za-z0-9_.-]{3,255}$"

_POLICY: Final = TablePolicy()
_QUERIES: Final = QueryPolicy()
_DAYS_30_S: Final = 30 * 86400

STRICT_NEEDS: Final[Mapping[str, Any]] = {
    "grace_s": 0.0,
    "stale_if_error_s": 0.0,
    "fill_consistent": True,
}
"""What `strict` forces: any other value would let a read see an older item."""

LEVEL_IMPLIES: Final[Mapping[Level, Mapping[str, Any]]] = {
    Level.STRICT: STRICT_NEEDS,
    Level.SESSION: {},
    Level.EVENTUAL: {"fill_consistent": False, "stale_if_error_s": 60.0},
}
"""Defaults that differ from TablePolicy's, by level."""


class Queries(Section):
    """What is cached of Query and Scan; every write through a proxy invalidates it."""

    enabled: bool = Field(
        default=_QUERIES.enabled,
        description="Whether answers to Query are cached. Then every write of the table costs the"
        " store some steps more, in all proxies that share it.",
    )
    scans: bool = Field(
        default=_QUERIES.scans,
        description="Whether answers to Scan are cached too; any write of the table invalidates"
        " them all.",
    )
    indexes: tuple[str, ...] | None = Field(
        default=_QUERIES.indexes,
        description="Names of the secondary indexes whose answers are cached; null for all. Global"
        " ones never at level strict.",
    )
    fresh_ttl_s: float = Field(
        default=_QUERIES.fresh_ttl_s,
        ge=0,
        le=_DAYS_30_S,
        description="Seconds a cached answer answers by itself; shorter than for items, because a"
        " write past the proxy is on many answers.",
    )
    entry_bytes_max: int = Field(
        default=_QUERIES.entry_bytes_max,
        ge=1,
        le=4 * PAGE_BYTES_MAX,
        description="Bytes of the largest answer that is cached; DynamoDB looks at 1 MB of items"
        " for one, and JSON spells them longer.",
    )
    index_lag_s: float = Field(
        default=_QUERIES.index_lag_s,
        ge=0,
        le=3600,
        description="Seconds after a write of the table in which no answer of a global index is"
        " cached: it may not show the write yet.",
    )


class TableRules(Section):
    """What may be set for all tables and for each; see `proxy.core.policy.TablePolicy`."""

    mode: Mode = Field(
        default=_POLICY.mode,
        description="What the cache does: on; off, reads pass through; shadow, it is filled and"
        " looked up, every answer is DynamoDB's, and the two are compared. Writes are fenced in"
        " every mode. The ops port can switch it until the next start.",
    )
    mode_percent: float = Field(
        default=_POLICY.mode_percent,
        ge=0,
        le=100,
        description="Percentage of the keys that mode is for, the same keys in every proxy; the"
        " others are off.",
    )
    level: Level = Field(
        default=_POLICY.level,
        description="Coherence promised: strict (linearizable), session (read your writes),"
        " eventual. eventual changes two defaults: fill_consistent to false and"
        " stale_if_error_s to 60.",
    )
    write_mode: WriteMode = Field(
        default=_POLICY.write_mode,
        description="What a write does to the entry: invalidate removes it, through stores the"
        " written item, around leaves it until it expires.",
    )
    fresh_ttl_s: float = Field(
        default=_POLICY.fresh_ttl_s,
        ge=0,
        le=_DAYS_30_S,
        description="Seconds an entry answers by itself; the longest that a write past the proxy"
        " stays unseen.",
    )
    negative_ttl_s: float = Field(
        default=_POLICY.negative_ttl_s,
        ge=0,
        le=_DAYS_30_S,
        description='Seconds that "no such item" is cached, 0 for never; short, because items'
        " appear more often than they vanish.",
    )
    grace_s: float = Field(
        default=_POLICY.grace_s,
        ge=0,
        le=_DAYS_30_S,
        description="Seconds past fresh in which an entry answers while a refresh runs, so that"
        " an expiring hot item makes nobody wait.",
    )
    stale_if_error_s: float = Field(
        default=_POLICY.stale_if_error_s,
        ge=0,
        le=_DAYS_30_S,
        description="Seconds past fresh in which an entry answers when DynamoDB fails or"
        " throttles; 0 reports the failure.",
    )
    refresh_ahead: bool = Field(
        default=_POLICY.refresh_ahead,
        description="Whether the entry of an item that is read often is refreshed shortly before"
        " its time is over, at every level, so that it never expires while it is in demand.",
    )
    jitter: float = Field(
        default=_POLICY.jitter,
        ge=0,
        le=0.5,
        description="Share by which each entry's times are shortened at random, so that entries"
        " filled together do not expire together.",
    )
    entry_bytes_max: int = Field(
        default=_POLICY.entry_bytes_max,
        ge=1,
        le=BODY_BYTES_MAX,
        description="Bytes of the largest answer that is cached; 400 KiB is DynamoDB's limit for"
        " one item, and JSON spells it longer.",
    )
    layout: Layout = Field(
        default=_POLICY.layout,
        description="How entries are stored: blob, one string, is right for whole reads and for"
        " small items; hash, one field per attribute, for projections of large items with many"
        " attributes. Every proxy reads both.",
    )
    compress_above_bytes: int | None = Field(
        default=_POLICY.compress_above_bytes,
        ge=0,
        le=BODY_BYTES_MAX,
        description="Bytes above which an answer is stored compressed (zstd), if that makes it"
        " smaller; null compresses none. For layout blob. Every proxy reads both.",
    )
    fill_consistent: bool = Field(
        default=_POLICY.fill_consistent,
        description="Whether a fill reads with ConsistentRead: a miss costs twice the read"
        " capacity, and no old replica's item is stored.",
    )
    consistent_refresh: bool = Field(
        default=_POLICY.consistent_refresh,
        description="Whether a client's ConsistentRead=true GetItem refreshes the entry it"
        " bypassed.",
    )
    queries: Queries = Field(default=Queries(), description=str(Queries.__doc__))

    @field_validator("mode", mode="before")
    @classmethod
    def read_yaml_words(cls, given: object) -> object:
        """Take true and false for on and off: YAML 1.1 reads these two words so."""
        return (Mode.ON if given else Mode.OFF) if isinstance(given, bool) else given


class KeyAttribute(Section):
    """One attribute of a primary key."""

    name: str = Field(min_length=1, max_length=255, description="Name of the attribute.")
    type: Literal["S", "N", "B"] = Field(description="Its type: string, number or binary.")


class KeySchema(Section):
    """Names and types of a table's partition and sort key."""

    partition: KeyAttribute = Field(description="The partition key.")
    sort: KeyAttribute | None = Field(default=None, description="The sort key; null for none.")


class Table(TableRules):
    """One table's own rules; what it does not set comes from `defaults` and its level."""

    streams: bool = Field(
        default=False,
        description="Whether writes that pass no proxy are learned from the table's DynamoDB"
        " stream, which must be enabled; needs the permissions of DynamoDB Streams.",
    )
    stream_arn: str | None = Field(
        default=None,
        pattern=r"^arn:[^:]+:dynamodb:[^:]*:[^:]*:table/[^/]+/stream/.+$",
        description="ARN of that stream, for when DescribeTable is not permitted; null asks"
        " DynamoDB, and notices when the stream is switched off and on again.",
    )

    key_schema: KeySchema | None = Field(
        default=None,
        description="Key schema, for when DescribeTable is not permitted; null asks DynamoDB.",
    )


def resolve_policy(defaults: TableRules, table: TableRules | None = None) -> TablePolicy:
    """Combine what was set explicitly with what the level implies.

    `strict` overrules what a table inherits; contradictions in one section were refused before.
    """
    chosen = explicit(defaults) | ({} if table is None else explicit(table))
    level = Level(chosen.get("level", _POLICY.level))
    implied = LEVEL_IMPLIES[level]
    # Strict wins over inherited settings, the other levels only fill gaps.
    combined = {**chosen, **implied} if level is Level.STRICT else {**implied, **chosen}
    sections = [defaults.queries] if table is None else [defaults.queries, table.queries]
    queries: dict[str, Any] = {}
    for section in sections:
        queries |= {name: getattr(section, name) for name in section.model_fields_set}
    return TablePolicy(**combined, queries=QueryPolicy(**queries))


def explicit(rules: TableRules) -> dict[str, Any]:
    """Return the rules that somebody set, by name; not those of `queries`."""
    names = TableRules.model_fields.keys() & rules.model_fields_set
    return {
        name: getattr(rules, name)
        for name in TableRules.model_fields
        if name in names - {"queries"}
    }
