"""Builds the store's part of the object graph from its settings."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from proxy.configuration.checks import split_host_port
from proxy.configuration.store_sections import Sentinel, Store
from proxy.core.cache_key import KeySpace
from proxy.core.store_fitness import Flaw
from proxy.core.values import Level
from proxy.edge.redis_connection import Address
from proxy.edge.redis_lane import LaneLimits
from proxy.edge.redis_options import StoreOptions
from proxy.edge.redis_sentinel import SentinelOptions
from proxy.edge.redis_store import RedisStore
from proxy.edge.redis_stream_store import RedisStreamStore
from proxy.edge.redis_topology import build_topology
from proxy.flow.events import Emit
from proxy.flow.ports import Clock, NearFeed
from proxy.settings import Settings


@dataclass(frozen=True, slots=True)
class BuiltStore:
    """The store, what keeps it connected while it is awaited, and what is wrong with it.

    `streams` is what readers of streams need besides. `track` lets its connections tell of
    changes, before they are made.
    """

    store: RedisStore
    streams: RedisStreamStore
    keep_connected: Callable[[], Coroutine[Any, Any, None]]
    flaws: Callable[[], tuple[Flaw, ...]]
    track: Callable[[NearFeed, float], None]


def build_store(settings: Settings, keys: KeySpace, clock: Clock, emit: Emit) -> BuiltStore:
    """Put the store's part together."""
    demanded = not settings.store.accept_unfit and _any_strict(settings)
    options = store_options(settings.store, fitness_demanded=demanded)
    topology = build_topology(options, keys=keys, clock=clock, emit=emit)
    store = RedisStore(
        topology,
        fence=settings.fence_policy(),
        clock=clock,
        layout_of=lambda table: settings.policy_of(table).layout,
    )
    return BuiltStore(
        store,
        RedisStreamStore(topology),
        topology.serve,
        lambda: topology.flaws,
        lambda feed, ping_s: topology.track(feed, ping_s=ping_s),
    )


def _any_strict(settings: Settings) -> bool:
    policies = (settings.default_policy, *settings.policies.values())
    return any(policy.level is Level.STRICT for policy in policies)


def store_options(given: Store, *, fitness_demanded: bool = True) -> StoreOptions:
    """Return how to reach the store, and how far to trust it, as the settings say."""
    return StoreOptions(
        url=given.url or "",
        limits=LaneLimits(given.timeout_s, given.connect_timeout_s, given.queue_max),
        username=given.username,
        password=given.password.get_secret_value() if given.password else None,
        lanes=given.lanes if given.is_named else 0,
        heartbeat_s=given.heartbeat_s,
        heartbeat_age_s_max=given.heartbeat_age_s_max,
        quarantine_s=given.quarantine_s,
        fail_over=given.fail_over,
        fitness_demanded=fitness_demanded,
        tls=given.tls,
        ca_file=given.ca_file,
        sentinel=_sentinel(given.sentinel) if given.sentinel.addresses else None,
        cluster=_addresses(given.cluster.addresses),
    )


def _sentinel(given: Sentinel) -> SentinelOptions:
    return SentinelOptions(
        addresses=_addresses(given.addresses),
        primary_name=given.primary_name,
        username=given.username,
        password=given.password.get_secret_value() if given.password else None,
    )


def _addresses(given: tuple[str, ...]) -> tuple[Address, ...]:
    return tuple(Address(*split_host_port(each)) for each in given)
