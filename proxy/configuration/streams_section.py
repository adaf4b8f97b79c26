"""Describe the settings of reading DynamoDB Streams; a table's own stand with its rules."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from proxy.configuration.section import Section
from proxy.core.stream_lag import LagPolicy, OverLag

_LAG: Final = LagPolicy()


class Streams(Section):
    """Writes that pass no proxy, told by the streams of tables that have streams: on."""

    reads: bool = Field(
        default=True,
        description="Whether this process takes its share in reading streams; otherwise it only"
        " watches how far others are, such as dynaside streams. Of several workers one reads.",
    )
    lag_max_s: float = Field(
        default=_LAG.lag_s_max,
        ge=1,
        le=86400,
        description="Seconds that a table may be behind writes past every proxy; beyond it, and"
        " while nobody reads, it degrades as over_lag says. Longer than lease_s, after which the"
        " shards of a reader that died are taken over.",
    )
    over_lag: OverLag = Field(
        default=_LAG.over_lag,
        description="What a table does while it is too far behind: short_ttl, entries older than"
        " short_ttl_s do not answer by themselves; bypass, reads pass to DynamoDB; ignore, nothing."
        " It recovers by itself.",
    )
    short_ttl_s: float = Field(
        default=_LAG.short_ttl_s,
        ge=0,
        le=3600,
        description="Seconds an entry answers by itself while its table is too far behind.",
    )
    lease_s: float = Field(
        default=10.0,
        ge=1,
        le=600,
        description="Seconds a shard is held by a process that gives no sign of life.",
    )
    idle_poll_s: float = Field(
        default=1.0,
        ge=0.25,
        le=60,
        description="Seconds between two questions about a shard that brings nothing; each costs a"
        " read request unit of DynamoDB Streams. A busy shard is asked four times a second.",
    )
    discover_s: float = Field(
        default=30.0,
        ge=1,
        le=3600,
        description="Seconds between two looks, by one reader of the store, for shards and for"
        " another stream of a table; children of a shard that ended are looked for at once.",
    )

    def lag_policy(self) -> LagPolicy:
        """Return the bound of the lag as the flows take it."""
        return LagPolicy(self.lag_max_s, self.over_lag, self.short_ttl_s)
