"""What is run, per level of coherence: settings, which faults may meet, and what must hold then.

Times are a tenth of the defaults, so that faults longer than leases and markers fit into minutes,
with these sums kept for real processes on a busy machine:

- `marker_s` 3 > connect 0.5 + write 1.0: the product's own rule. What the upstream applies late it
  applies 0.8 s after its reply at most, so a write's effect is 1.5 s away from its marker's end.
- `quarantine_s` 3 = `marker_s`; with replicas 7, as the product adds their lag's bound of 2 and 2
  more.
- `store.timeout_s` 0.25 is eight times what a loaded machine was seen to need; faults are longer.
- `heartbeat_age_s_max` 1.0 = four heartbeats.
- `streams.lag_max_s` 1.5 > `streams.lease_s` 1.0: the product's own rule. Beyond it a lag is looked
  at once a second, and known in whole seconds; what the stream itself holds back comes on top. So
  the bound is half of a round, and faults can last for longer. 4.0 is longer than a shard is
  without a reader when one was killed: no degrading then makes up for a record that was lost.
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
    SEEN_IN_TIME,
    SETTLED,
    Claim,
)
from tests.chaos.stream_faults import HELD_S_MAX, STREAM_FAULTS
from tests.sim.rig import TABLE

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
        strangers: how many write past every proxy: only its age, or a stream, ends an entry then.
        habits: of the clients; one is drawn.
    """

    name: str
    faults: tuple[str, ...]
    claims: tuple[Claim, ...]
    claims_unreached: tuple[Claim, ...] | None = None
    strangers: int = 0
    habits: tuple[tuple[float, float], ...] = HABITS


CALM: Final = Setting("calm", (), ())


@dataclass(frozen=True, slots=True)
class Profile:
    """One way to run the proxies.

    Args:
        name: level and write mode.
        settings: dotted names to the values that a seed may draw.
        rounds: what the rounds are, in turn.
        readers: how many processes read streams and serve nobody.
    """

    name: str
    settings: Mapping[str, tuple[object, ...]]
    rounds: tuple[Setting, ...]
    readers: int = 0

    @property
    def hard_s_max(self) -> float:
        """The longest that an entry may be served after a write that nobody fenced."""
        if "streams.lag_max_s" in self.settings:
            (lag_max_s,) = self.settings["streams.lag_max_s"]
            return float(str(lag_max_s)) + LOOK_S + WHOLE_S + HELD_S_MAX
        entry_s = max(float(str(each)) for each in self.settings["defaults.fresh_ttl_s"])
        grace = ("defaults.grace_s", "defaults.stale_if_error_s")
        return entry_s + max(
            float(str(each)) for name in grace for each in self.settings.get(name, (0.0,))
        )


LOOK_S: Final = 1.0
"""Between two looks at the lag."""

WHOLE_S: Final = 1.0
"""DynamoDB dates records and answers in whole seconds: a lag may be longer by one than it seems."""

STREAMS: Final[Mapping[str, tuple[object, ...]]] = {
    "tables": ({TABLE: {"streams": True}},),
    "streams.lag_max_s": (1.5,),
    "streams.short_ttl_s": (0.5,),
    "streams.lease_s": (1.0,),
    "streams.idle_poll_s": (0.25,),
    "streams.discover_s": (1.0,),
    "streams.over_lag": ("short_ttl", "bypass"),
}
LONG_LIVED: Final[dict[str, tuple[object, ...]]] = {
    "defaults.fresh_ttl_s": (60.0,),
    "defaults.negative_ttl_s": (60.0,),
}

ALWAYS: Final = (NOT_REFUSED_YET_APPLIED, ALIVE)
FORGETFUL_FAULTS: Final = ("store flushed", *HARMLESS)


def _profiles() -> Iterator[Profile]:
    for mode in ("invalidate", "through"):
        common = {**TIMES, "defaults.write_mode": (mode,)}
        short_lived = {"defaults.fresh_ttl_s": (2.0,), "defaults.negative_ttl_s": (2.0,)}
        whole = Setting("everything", EVERYTHING, (LINEARIZABLE, SETTLED, *ALWAYS))
        own = (OWN_WRITES_READ, *ALWAYS)
        forgetful = Setting("forgetful", FORGETFUL_FAULTS, (ACKNOWLEDGED_ONLY, *ALWAYS), own)
        yield Profile(
            f"strict-{mode}",
            common | LONG_LIVED | {"defaults.level": ("strict",)},
            (whole, whole, forgetful),
        )
        connected = Setting("connected", HARMLESS, (LINEARIZABLE, SETTLED, *ALWAYS), own)
        yield Profile(
            f"session-{mode}",
            common | LONG_LIVED | {"defaults.level": ("session",), "defaults.grace_s": (1.0,)},
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
            (Setting("everything", EVERYTHING, aged, strangers=1),),
        )


STRANGERS: Final = 3
QUIET_HABITS: Final = ((0.0, 0.0), (0.0, 0.0), (0.03, 0.05))
"""Writes and consistent reads make entries anew: with fewer, more hang on the stream alone."""


def _stream_profiles() -> Iterator[Profile]:
    """Writes past every proxy are told by a stream, which proxies read, or others for them."""
    claims = (SEEN_IN_TIME, SETTLED, *ALWAYS)
    faults = {
        "streams": (*STREAM_FAULTS, *PROXY_FAULTS),
        "everything": (*STREAM_FAULTS, *EVERYTHING),
        "forgetful": (*STREAM_FAULTS, *FORGETFUL_FAULTS),
    }
    rounds = tuple(
        Setting(name, those, claims, strangers=STRANGERS, habits=QUIET_HABITS)
        for name, those in faults.items()
    )
    for mode, readers, lag_max_s in (("invalidate", 0, 1.5), ("through", 2, 4.0)):
        yield Profile(
            f"streams-{mode}",
            {
                **TIMES,
                **LONG_LIVED,
                **STREAMS,
                "streams.reads": (not readers,),
                "streams.lag_max_s": (lag_max_s,),
                "defaults.level": ("session", "eventual"),
                "defaults.stale_if_error_s": (0.0,),
                "defaults.write_mode": (mode,),
            },
            rounds,
            readers,
        )


PROFILES: Final = {profile.name: profile for profile in (*_profiles(), *_stream_profiles())}
