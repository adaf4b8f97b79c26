"""The store's options come from the settings, every one of them."""

from __future__ import annotations

from dataclasses import fields

from proxy.configuration.store_sections import Store
from proxy.core.cache_key import KeySpace
from proxy.edge.clock import SystemClock
from proxy.edge.redis_connection import Address
from proxy.edge.redis_lane import LaneLimits
from proxy.edge.redis_options import StoreOptions
from proxy.edge.redis_sentinel import SentinelOptions
from proxy.settings import Settings
from proxy.store_graph import build_store, store_options
from tests.support.heard_feed import HeardFeed

SENTINEL = {"addresses": "[::1]:1,h:2", "primary_name": "p", "username": "s", "password": "t"}


def test_without_a_store_there_are_no_lanes() -> None:
    """Nothing to connect to: nothing is served, and the reason is told."""
    assert store_options(Store()).lanes == 0
    built = build_store(Settings(), KeySpace("n", "r"), SystemClock(), lambda _: None)
    built.track(HeardFeed(), 0.1)
    assert built.store.why_not_serving == "no store is configured"


def test_every_setting_of_the_store_reaches_its_options() -> None:
    """Times, bounds, secrets and places are handed on as they are."""
    given = {
        "username": "u",
        "password": "p",
        "tls": True,
        "ca_file": "/ca.pem",
        "sentinel": SENTINEL,
        "cluster": {"addresses": ["n:3"]},
        "timeout_s": 0.2,
        "connect_timeout_s": 0.4,
        "lanes": 3,
        "queue_max": 5,
        "heartbeat_s": 0.5,
        "heartbeat_age_s_max": 0.7,
        "quarantine_s": 40,
    }
    options = store_options(Store.model_validate(given))
    sentinels = (Address("::1", 1), Address("h", 2))
    assert options == StoreOptions(
        url="",
        limits=LaneLimits(0.2, 0.4, 5),
        username="u",
        password="p",
        lanes=3,
        heartbeat_s=0.5,
        heartbeat_age_s_max=0.7,
        quarantine_s=40,
        tls=True,
        ca_file="/ca.pem",
        sentinel=SentinelOptions(sentinels, "p", "s", "t"),
        cluster=(Address("n", 3),),
    )
    assert all(getattr(options, each.name) is not None for each in fields(options))
    assert store_options(Store(url="redis://h")).sentinel is None
