"""Decides whether a store keeps what level `strict` stands on: markers, and one primary at a time.

Called by `proxy.edge.redis_fitness` with what the store's server says of itself. What it does not
say counts as a flaw: a store is fit only when that is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

FIT_EVICTION: Final = frozenset({"allkeys-lru", "volatile-lru", "noeviction"})
"""Measured over one turnover of a full store: of young markers 88 % are left by allkeys-lru and
26 % by volatile-lru, but 18 % by LFU and 2 % by volatile-ttl; random ones take any, however young.
"""

LAG_S_USUAL: Final = 10.0
"""`min-replicas-max-lag` where nobody changed it and the server does not tell."""


class Flaw(StrEnum):
    """What a store lacks for `strict`; a metric label and a log field."""

    EVICTION = "eviction"
    EVICTION_UNKNOWN = "eviction-unknown"
    REPLICAS = "replicas"
    REPLICAS_UNKNOWN = "replicas-unknown"
    LAG_UNKNOWN = "lag-unknown"

    @property
    def disqualifies(self) -> bool:
        """Whether `strict` cannot stand on such a store; otherwise it is only told."""
        return self is not Flaw.LAG_UNKNOWN


ADVICE: Final[Mapping[Flaw, str]] = {
    Flaw.EVICTION: "its operator must set maxmemory-policy to allkeys-lru, volatile-lru or"
    " noeviction: the present one evicts the markers of writes in flight",
    Flaw.EVICTION_UNKNOWN: "its operator must let INFO tell maxmemory and maxmemory_policy",
    Flaw.REPLICAS: "its operator must set min-replicas-to-write to 1 or more, or remove the"
    " replicas: without it a fail-over loses acknowledged changes, and the old primary serves on",
    Flaw.REPLICAS_UNKNOWN: "its operator must let INFO tell connected_slaves",
    Flaw.LAG_UNKNOWN: "its operator should allow CONFIG GET min-replicas-max-lag to the proxy's"
    f" user; until then {LAG_S_USUAL:.0f} s are assumed",
}
"""Who must do what about each flaw; begins where "the store: " ends."""


@dataclass(frozen=True, slots=True)
class StoreTraits:
    """What a primary says of itself; None where it does not say.

    Args:
        memory_bytes_max: `maxmemory`; 0 for no bound.
        eviction: `maxmemory_policy`.
        replicas: connected ones.
        replicas_awaited: whether it takes writes only while replicas keep up with it.
        promoted: whether it ever was a replica, as far as it remembers.
        lag_s_max: how far behind a replica may be that counts as keeping up, in seconds.
    """

    memory_bytes_max: int | None
    eviction: str | None
    replicas: int | None
    replicas_awaited: bool
    promoted: bool = False
    lag_s_max: float | None = None

    @property
    def old_primary_s(self) -> float:
        """For how long, at most, an older primary may have taken writes beside this one.

        Cut off from its replicas, it stops `lag_s_max` after it last heard of them. A server that
        has no replicas and never was one has no such twin.
        """
        if not (self.promoted or self.replicas or self.replicas_awaited):
            return 0.0
        lag_s = LAG_S_USUAL if self.lag_s_max is None else self.lag_s_max
        # The lag is counted in whole seconds and looked at once a second.
        return lag_s + 2.0


def find_flaws(traits: StoreTraits, *, replicated: bool) -> tuple[Flaw, ...]:
    """Return what a store lacks for `strict`.

    Args:
        traits: what its primary says now.
        replicated: whether replicas were ever seen on this primary. One that is cut off from them
            looks as if it had none, and that is when it matters.
    """
    found: list[Flaw] = []
    if traits.memory_bytes_max is None:
        found.append(Flaw.EVICTION_UNKNOWN)
    elif traits.memory_bytes_max and traits.eviction not in FIT_EVICTION:
        found.append(Flaw.EVICTION if traits.eviction else Flaw.EVICTION_UNKNOWN)
    if traits.replicas is None:
        found.append(Flaw.REPLICAS_UNKNOWN)
    elif (traits.replicas or replicated) and not traits.replicas_awaited:
        found.append(Flaw.REPLICAS)
    elif traits.old_primary_s and traits.lag_s_max is None:
        found.append(Flaw.LAG_UNKNOWN)
    return tuple(found)
