"""How far the cache is behind writes that pass no proxy, and what a table does when it is too far.

*Lag* is how long ago all changes of a table were known to be applied, by the store's clock: the
least of its shards. A shard that was read to its end is as of the moment it was asked; one that
gave records is as of the last one's creation, as DynamoDB's own clock tells both
(ApproximateCreationDateTime and the answer's Date, whole seconds each). Which of the two holds is
said by `proxy.core.shard_progress`.
Nobody reading makes the lag grow by itself; so does a proxy that cannot see the store's record.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from math import floor

from proxy.core.policy import TablePolicy
from proxy.core.shard_tree import StreamView
from proxy.core.values import Mode


class OverLag(StrEnum):
    """What a table does while its lag is over the bound."""

    SHORT_TTL = "short_ttl"  # entries older than a short time do not count as fresh
    BYPASS = "bypass"  # reads pass to DynamoDB
    IGNORE = "ignore"  # nothing: entries live as long as without streams


@dataclass(frozen=True, slots=True)
class LagPolicy:
    """Bounds of the lag, and what to do beyond.

    Args:
        lag_s_max: the lag beyond which a table degrades.
        over_lag: how.
        short_ttl_s: with SHORT_TTL, the age below which an entry still answers.
    """

    lag_s_max: float = 30.0
    over_lag: OverLag = OverLag.SHORT_TTL
    short_ttl_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Sighting:
    """A look at a stream's record by a process, whose own clock says when.

    Args:
        view: what was seen.
        asked_s: when the look was sent.
        told_s: when its answer was there.
    """

    view: StreamView
    asked_s: float
    told_s: float

    def lag_s(self, now_s: float) -> float | None:
        """Return a table's lag now, or a little more; None while some shard was never read."""
        view, as_of_ms = self.view, self.view.as_of_ms()
        if not as_of_ms:
            return None
        return max(0.0, (view.now_ms - as_of_ms) / 1000) + now_s - self.asked_s

    def store_ms(self, at_s: float) -> int:
        """Return what the store's clock shows at a moment of this process's, or a little less."""
        return self.view.now_ms + floor((at_s - self.told_s) * 1000)


def is_over(lag_s: float | None, policy: LagPolicy) -> bool:
    """Tell whether a lag, None for an unknown one, is beyond the bound."""
    return lag_s is None or lag_s > policy.lag_s_max


def degraded(table: TablePolicy, policy: LagPolicy) -> TablePolicy:
    """Return a table's policy for as long as its lag is over the bound.

    Entries that answer only where DynamoDB fails go on doing so, as `stale_if_error_s` says.
    """
    if policy.over_lag is OverLag.IGNORE:
        return table
    if policy.over_lag is OverLag.BYPASS:
        return replace(table, mode=Mode.OFF)
    short_s = policy.short_ttl_s
    queries = replace(table.queries, fresh_ttl_s=min(short_s, table.queries.fresh_ttl_s))
    return replace(
        table,
        fresh_ttl_s=min(short_s, table.fresh_ttl_s),
        negative_ttl_s=min(short_s, table.negative_ttl_s),
        grace_s=0.0,
        queries=queries,
    )
