"""What is run, per level of coherence: settings, which faults may meet, and what must hold then.

Times are a tenth of the defaults, so that faults longer than leases and markers fit into minutes,
with these sums kept for real processes on a busy machine:

- `marker_s` 3 > connect 0.5 + write 1.0: the product's own rule. What the upstream applies late it
  applies 0.8 s after its reply at most, so a write's effect is 1.5 s away from its marker's end.
- `quarantine_s` 3 = `marker_s`; with replicas 7, as the product adds their lag's bound of 2 and 2
  more.
- `store.timeout_s` 0.25 is eight times what a loaded machine was seen to need; faults are longer.
- `heartbeat_age_s_max` 1.0 = four heartbeats.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from tests.chaos.judge import (
    ACKNOWLEDGED_ONLY,
    ALIVE,
    BOUNDED_AGE,
    LINEARIZABLE,
    NOT_REFUSED_YET_APPLIED,
    OWN_WRITES_READ,
    SETTLED,
    Claim,
)

MARKER_S: Final = 3.0
LEASE_S: Final = 0.5

TIMES: Final[Mapping[str, tuple[object, ...]]] = {
    "fence.marker_s": (MARKER_S,),
    "fence.tombstone_s": (3.0,),
    "fence.lease_s": (LEASE_S,),
    "fence.lease_wait_s": (0.2,),
    "upstream.connect_timeout_s": (0.5,),
    "upstream.write_timeout_s": (1.0,),
    "upstream.read_timeout_s": (1.0,),
    "store.timeout_s": (0.25,),
    "store.connect_timeout_s": (0.5,),
    "store.heartbeat_s": (0.25,),
    "store.heartbeat_age_s_max": (1.0,),
    "store.quarantine_s": (3.0,),
    "breaker.open_s": (0.3,),
    "defaults.jitter": (0.1,),
    "log.level": ("warning",),
}

PROXY_FAULTS: Final = ("proxy killed", "proxy stopped")
STORE_FAULTS: Final = (
    "store stopped",
    "store paused",
    "store full",
    "store restarted empty",
    "store restarted old",
    "store failed over",
    "store killed",
    "store handed over",
    "store slot moved",
    "store replica stopped",
)
LINK_FAULTS: Final = (
    "store link cut",
    "store link refused",
    "store link frozen",
    "store link delayed",
    "store replies held",
    "upstream link cut",
    "upstream link frozen",
    "upstream link delayed",
)
UPSTREAM_FAULTS: Final = (
    "upstream ambiguous",
    "upstream late",
    "upstream throttled",
    "upstream silent",
    "upstream broken",
    "upstream slow",
)
HARMLESS: Final = ("proxy stopped", "store full", *UPSTREAM_FAULTS)
"""Every proxy reaches the store all the time, or is not running at all."""

EVERYTHING: Final = (*PROXY_FAULTS, *STORE_FAULTS, *LINK_FAULTS, *UPSTREAM_FAULTS)
"""All but FLUSHALL: the same primary then knows of no marker, and less can be claimed."""


HABITS: Final = ((0.001, 0.0), (0.03, 0.05), (0.25, 0.05))
"""Shares of writes, and of consistent reads among the reads, one pair for all clients of a round.

Entries grow old only where nobody writes or reads consistently; many writes meet each other.
"""


@dataclass(frozen=True, slots=True)
class Setting:
    """Faults that may come in one round, and what they leave to be claimed.

    Args:
        name: for the report.
        faults: those that may come, where the store's topology can suffer them; a seed draws some.
        claims: what must hold.
        claims_unreached: what must hold instead if a write could not reach the store in time after
            all (a busy machine, a proxy that slept): then the row "a writer reaches DynamoDB but
            not the store" of ARCHITECTURE.md applies. None: the same as `claims`.
        strangers: whether some writes pass no proxy, so that only its age ends an entry.
        habits: of the clients; one is drawn.
    """

    name: str
    faults: tuple[str, ...]
    claims: tuple[Claim, ...]
    claims_unreached: tuple[Claim, ...] | None = None
    strangers: bool = False
    habits: tuple[tuple[float, float], ...] = HABITS


CALM: Final = Setting("calm", (), ())


@dataclass(frozen=True, slots=True)
class Profile:
    """One way to run the proxies.

    Args:
        name: level and write mode.
        settings: dotted names to the values that a seed may draw.
        rounds: what the rounds are, in turn.
    """

    name: str
    settings: Mapping[str, tuple[object, ...]]
    rounds: tuple[Setting, ...]

    @property
    def hard_s_max(self) -> float:
        """The longest that an entry may be served, over all draws."""
        entry_s = max(float(str(each)) for each in self.settings["defaults.fresh_ttl_s"])
        grace = ("defaults.grace_s", "defaults.stale_if_error_s")
        return entry_s + max(
            float(str(each)) for name in grace for each in self.settings.get(name, (0.0,))
        )


ALWAYS: Final = (NOT_REFUSED_YET_APPLIED, ALIVE)
FORGETFUL_FAULTS: Final = ("store flushed", *HARMLESS)


def _profiles() -> Iterator[Profile]:
    for mode in ("invalidate", "through"):
        common = {**TIMES, "defaults.write_mode": (mode,)}
        long_lived = {"defaults.fresh_ttl_s": (60.0,), "defaults.negative_ttl_s": (60.0,)}
        short_lived = {"defaults.fresh_ttl_s": (2.0,), "defaults.negative_ttl_s": (2.0,)}
        whole = Setting("everything", EVERYTHING, (LINEARIZABLE, SETTLED, *ALWAYS))
        own = (OWN_WRITES_READ, *ALWAYS)
        forgetful = Setting("forgetful", FORGETFUL_FAULTS, (ACKNOWLEDGED_ONLY, *ALWAYS), own)
        yield Profile(
            f"strict-{mode}",
            common | long_lived | {"defaults.level": ("strict",)},
            (whole, whole, forgetful),
        )
        connected = Setting("connected", HARMLESS, (LINEARIZABLE, SETTLED, *ALWAYS), own)
        yield Profile(
            f"session-{mode}",
            common | long_lived | {"defaults.level": ("session",), "defaults.grace_s": (1.0,)},
            (Setting("everything", EVERYTHING, own), connected, forgetful),
        )
        aged = (BOUNDED_AGE, SETTLED, *ALWAYS)
        yield Profile(
            f"eventual-{mode}",
            common
            | short_lived
            | {
                "defaults.level": ("eventual",),
                "defaults.grace_s": (1.0,),
                "defaults.stale_if_error_s": (1.0,),
            },
            (Setting("everything", EVERYTHING, aged, strangers=True),),
        )


PROFILES: Final = {profile.name: profile for profile in _profiles()}
