"""What is simulated, per level of coherence: settings, faults, and the guarantees that must hold.

All times are a tenth of the defaults, in the same proportions: a history is short, and what takes
30 s to go wrong must have time to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from tests.sim.checkers import (
    ACKNOWLEDGED,
    OWN_WRITES,
    SESSION,
    STRICT,
    below_floor,
    not_settled,
    older_than,
    unseen_for,
)
from tests.sim.rig import Weather
from tests.sim.simulation import Profile

FRESH_S: Final = (0.5, 5.0, 60.0)
AHEAD_S: Final = (0.2, 0.5)
GRACE_S: Final = 2.0
LAG_S: Final = 0.5

TIMES: Final[Mapping[str, tuple[object, ...]]] = {
    "fence.marker_s": (3.0,),
    "fence.tombstone_s": (3.0,),
    "fence.lease_s": (0.3,),
    "fence.lease_wait_s": (0.1,),
    "upstream.write_timeout_s": (1.0,),
    "upstream.connect_timeout_s": (0.2,),
    "upstream.read_timeout_s": (1.0,),
    "store.quarantine_s": (3.0,),
    "defaults.fresh_ttl_s": FRESH_S,
    "defaults.negative_ttl_s": FRESH_S,
    "defaults.queries.fresh_ttl_s": FRESH_S,
    "near.bytes_max": (0,),
}
DELTA_S: Final = 0.3
NEAR: Final[Mapping[str, tuple[object, ...]]] = {
    "near.bytes_max": (2**20,),
    "near.delta_s": (DELTA_S,),
    "near.eventual_delta_s": (DELTA_S,),
    "defaults.fresh_ttl_s": (5.0, 60.0),
    "defaults.negative_ttl_s": (5.0, 60.0),
}
STORE_FAULTS: Final = ("cut", "outage", "fail_over", "restart_store", "evict", "purge")
PROXY_FAULTS: Final = ("pause", "kill")
BAD: Final = Weather(
    store_slow=0.03,
    store_lost=0.05,
    upstream_ambiguous=0.1,
    upstream_late=0.1,
    upstream_throttled=0.1,
    upstream_silent=0.03,
    lag_s=LAG_S,
)


PAGES: Final = ("defaults.queries.enabled", "defaults.queries.scans")


def _profiles() -> Iterator[Profile]:
    for mode in ("invalidate", "through"):
        common = {**TIMES, "defaults.write_mode": (mode,)}
        graceful = common | {"defaults.grace_s": (0.0, GRACE_S)}
        yield Profile(
            f"strict-{mode}",
            common | {"defaults.level": ("strict",)},
            (*STORE_FAULTS, *PROXY_FAULTS),
            BAD,
            (partial(below_floor, rule=STRICT), not_settled),
        )
        yield Profile(
            f"session-{mode}",
            graceful,
            (*STORE_FAULTS, *PROXY_FAULTS),
            BAD,
            (partial(below_floor, rule=OWN_WRITES),),
        )
        yield Profile(
            f"connected-{mode}",
            graceful,
            ("evict", "purge", "pause"),
            Weather(upstream_ambiguous=0.1, upstream_late=0.1, lag_s=LAG_S),
            (partial(below_floor, rule=STRICT), partial(below_floor, rule=SESSION), not_settled),
        )
        yield Profile(
            f"forgetful-{mode}",
            graceful,
            ("flush", "evict", "purge"),
            Weather(upstream_throttled=0.1, lag_s=LAG_S),
            (partial(below_floor, rule=ACKNOWLEDGED), not_settled),
        )
        yield Profile(
            f"eventual-{mode}",
            graceful
            | {
                "defaults.level": ("eventual",),
                "defaults.stale_if_error_s": (0.0, GRACE_S),
                "defaults.fresh_ttl_s": (5.0,),
                "defaults.negative_ttl_s": (5.0,),
                "defaults.queries.fresh_ttl_s": (5.0,),
            },
            (*STORE_FAULTS, *PROXY_FAULTS),
            BAD,
            (partial(older_than, age_s_max=5.0 + GRACE_S + LAG_S), not_settled),
        )


def _near_profiles() -> Iterator[Profile]:
    """With copies in each proxy, whose pushes are late, or lost with their connection."""
    for mode in ("invalidate", "through"):
        common = {
            **TIMES,
            **NEAR,
            "defaults.write_mode": (mode,),
            "defaults.grace_s": (0.0, GRACE_S),
        }
        within_delta = partial(unseen_for, delta_s=DELTA_S)
        yield Profile(
            f"near-{mode}",
            common,
            ("evict", "purge", "pause", "drop_wire"),
            Weather(upstream_ambiguous=0.1, upstream_late=0.1, lag_s=LAG_S),
            (partial(below_floor, rule=SESSION), within_delta, not_settled),
        )
        yield Profile(
            f"near-storms-{mode}",
            common,
            (*STORE_FAULTS, *PROXY_FAULTS, "drop_wire"),
            BAD,
            (partial(below_floor, rule=OWN_WRITES),),
        )
        yield Profile(
            f"near-forgetful-{mode}",
            common,
            ("flush", "evict", "purge", "drop_wire"),
            Weather(upstream_throttled=0.1, lag_s=LAG_S),
            (within_delta, not_settled),
        )
        yield Profile(
            f"near-eventual-{mode}",
            common
            | {
                "defaults.level": ("eventual",),
                "defaults.fresh_ttl_s": (5.0,),
                "defaults.negative_ttl_s": (5.0,),
            },
            ("evict", "purge", "pause", "drop_wire"),
            Weather(upstream_throttled=0.1, lag_s=LAG_S),
            (partial(older_than, age_s_max=5.0 + GRACE_S + LAG_S + DELTA_S), not_settled),
        )


LAG_MAX_S: Final = 3.0
LOOK_S: Final = 1.0
SHORT_TTL_S: Final = 0.5
SLACK_S: Final = 1.0
"""A lag is known in whole seconds of DynamoDB's clock, and a look takes a round trip or two."""

STREAMS: Final[Mapping[str, tuple[object, ...]]] = {
    "tables.orders.streams": (True,),
    "streams.lag_max_s": (LAG_MAX_S,),
    "streams.short_ttl_s": (SHORT_TTL_S,),
    "streams.lease_s": (1.0,),
    "streams.idle_poll_s": (0.25,),
    "streams.discover_s": (1.0,),
    "defaults.fresh_ttl_s": (60.0,),
    "defaults.negative_ttl_s": (60.0,),
    "defaults.queries.fresh_ttl_s": (60.0,),
}
STREAM_FAULTS: Final = (
    "split",
    "expire_iterators",
    "trim",
    "lengthen_way",
    "hold_stream",
    "turn_stream",
    "refuse_streams",
)


def _stream_profiles() -> Iterator[Profile]:
    """With somebody who writes past every proxy, and what proxies learn of it from the stream."""
    within_bound = partial(older_than, age_s_max=LAG_MAX_S + LOOK_S + SLACK_S)
    for mode in ("invalidate", "through"):
        common = {**TIMES, **STREAMS, "defaults.write_mode": (mode,)}
        for over_lag in ("short_ttl", "bypass"):
            yield Profile(
                f"streams-{mode}-{over_lag}",
                common | {"streams.over_lag": (over_lag,)},
                (*STREAM_FAULTS, "kill", "cut", "outage", "evict", "purge", "flush"),
                BAD,
                (within_bound, not_settled),
            )
        yield Profile(
            f"streams-storms-{mode}",
            common
            | {"streams.over_lag": ("short_ttl", "bypass", "ignore"), "near.bytes_max": (0, 2**20)},
            (*STREAM_FAULTS, *STORE_FAULTS, *PROXY_FAULTS),
            BAD,
            (not_settled,),
        )
    yield Profile(
        "streams-pages",
        {**TIMES, **STREAMS, **dict.fromkeys(PAGES, (True,))},
        (*STREAM_FAULTS, "kill", "evict", "purge"),
        Weather(upstream_throttled=0.1, lag_s=LAG_S),
        (within_bound, not_settled),
    )


def _ahead_profiles() -> Iterator[Profile]:
    """With lives so short that many entries are refreshed while they are fresh."""
    names = ("strict-through", "connected-invalidate", "near-through", "near-eventual-invalidate")
    for profile in (*_profiles(), *_near_profiles()):
        if profile.name in names:
            times = dict.fromkeys(("defaults.fresh_ttl_s", "defaults.negative_ttl_s"), AHEAD_S)
            settings = {**profile.settings, **times}
            yield replace(profile, name=f"ahead-{profile.name}", settings=settings)


def _with_pages() -> Iterator[Profile]:
    """Every profile once more, with Query and Scan among its reads."""
    for profile in _profiles():
        yield profile
        settings = {**profile.settings, **dict.fromkeys(PAGES, (True,))}
        yield replace(profile, name=f"{profile.name}-pages", settings=settings)


PROFILES: Final = {
    profile.name: profile
    for profile in (*_with_pages(), *_near_profiles(), *_ahead_profiles(), *_stream_profiles())
}
