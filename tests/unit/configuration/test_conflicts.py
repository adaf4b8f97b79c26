"""Claims about `proxy.configuration.conflicts`."""

from typing import Any

import pytest

from proxy.configuration.conflicts import conflicts, notes
from proxy.configuration.model import Settings, dotted

STORE = {"url": "redis://h"}
SERVERS = {"addresses": ["h:1"]}
STRICT = {"store": STORE, "defaults": {"level": "strict"}}


def found(given: dict[str, Any]) -> list[list[str]]:
    """Return the dotted names of the settings in each conflict."""
    settings = Settings.model_validate(given)
    return [[dotted(path) for path in conflict.paths] for conflict in conflicts(settings)]


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"listen": {"data": "h:1", "ops": "i:1"}}, ["listen.data", "listen.ops"]),
        ({"listen": {"data": "h:0"}, "workers": 2}, ["listen.data", "workers"]),
        (
            {"upstream": {"endpoint": "http://localhost:8111"}},
            ["upstream.endpoint", "listen.data", "listen.ops"],
        ),
        (
            {"listen": {"data": "h:80"}, "upstream": {"endpoint": "http://localhost"}},
            ["upstream.endpoint", "listen.data", "listen.ops"],
        ),
        (
            {"listen": {"ops": "h:443"}, "upstream": {"endpoint": "https://[::1]"}},
            ["upstream.endpoint", "listen.data", "listen.ops"],
        ),
        (
            {"store": {"heartbeat_s": 3}},
            ["store.heartbeat_age_s_max", "store.heartbeat_s"],
        ),
        (
            {"store": STORE | {"quarantine_s": 0}, "defaults": {"level": "strict"}},
            ["store.quarantine_s", "defaults.level"],
        ),
        (
            {
                "store": {"cluster": {"addresses": ["h:6379"]}, "quarantine_s": 0},
                "defaults": {"level": "strict"},
            },
            ["store.quarantine_s", "defaults.level"],
        ),
        (
            {
                "store": STORE | {"heartbeat_age_s_max": 31},
                "tables": {"abc": {"level": "strict"}},
            },
            ["store.quarantine_s", "store.heartbeat_age_s_max", "tables.abc.level"],
        ),
        ({"store": {"quarantine_s": 29}}, ["store.quarantine_s", "fence.marker_s"]),
        (
            {"store": {"url": "redis://:a@h", "password": "b"}},
            ["store.password", "store.url"],
        ),
        (
            {"store": {**STORE, "sentinel": SERVERS}},
            ["store.url", "store.sentinel.addresses"],
        ),
        (
            {"store": {"cluster": SERVERS, "sentinel": SERVERS}},
            ["store.sentinel.addresses", "store.cluster.addresses"],
        ),
        ({"store": {**STORE, "tls": True}}, ["store.tls", "store.url"]),
        ({"store": {**STORE, "ca_file": "/a"}}, ["store.ca_file", "store.tls", "store.url"]),
        (
            {"store": {"sentinel": SERVERS, "ca_file": "/a"}},
            ["store.ca_file", "store.tls", "store.url"],
        ),
        (
            {"fence": {"marker_s": 11}},
            ["fence.marker_s", "upstream.connect_timeout_s", "upstream.write_timeout_s"],
        ),
        ({"fence": {"lease_wait_s": 4}}, ["fence.lease_wait_s", "fence.lease_s"]),
        (
            {"http": {"bodies_bytes_max": 2048, "body_bytes_max": 2049}},
            ["http.bodies_bytes_max", "http.body_bytes_max"],
        ),
        ({"streams": {"lag_max_s": 10}}, ["streams.lag_max_s", "streams.lease_s"]),
        (
            {"tables": {"abc": {"streams": True}}},
            ["tables.abc.streams", "store.url"],
        ),
        (
            {
                "store": STORE,
                "tables": {"abc": {"stream_arn": "arn:aws:dynamodb:x:1:table/abc/stream/2"}},
            },
            ["tables.abc.stream_arn", "tables.abc.streams"],
        ),
        ({"defaults": {"level": "strict"}}, ["defaults.level", "store.url"]),
        (
            {"store": STORE, "defaults": {"level": "strict", "grace_s": 1}},
            ["defaults.grace_s", "defaults.level"],
        ),
        (
            {"store": STORE, "tables": {"abc": {"level": "strict", "stale_if_error_s": 1}}},
            ["tables.abc.stale_if_error_s", "tables.abc.level"],
        ),
        (
            STRICT | {"tables": {"abc": {"fill_consistent": False}}},
            ["tables.abc.fill_consistent", "defaults.level"],
        ),
        (
            {
                "store": STORE,
                "defaults": {"write_mode": "around"},
                "tables": {"abc": {"level": "strict"}},
            },
            ["defaults.write_mode", "tables.abc.level"],
        ),
        (
            {"tables": {"abc": {"layout": "hash", "compress_above_bytes": 1}}},
            ["tables.abc.compress_above_bytes", "tables.abc.layout"],
        ),
        (
            {
                "defaults": {"layout": "hash"},
                "tables": {"abc": {"compress_above_bytes": 1}},
            },
            ["tables.abc.compress_above_bytes", "defaults.layout"],
        ),
        (
            {"defaults": {"queries": {"scans": True}}},
            ["defaults.queries.scans", "defaults.queries.enabled"],
        ),
        (
            {
                "defaults": {"queries": {"enabled": True}},
                "tables": {"abc": {"queries": {"enabled": False, "scans": True}}},
            },
            ["tables.abc.queries.scans", "tables.abc.queries.enabled"],
        ),
    ],
)
def test_contradiction_is_found(given: dict[str, Any], names: list[str]) -> None:
    """Each contradiction is found once and names all settings that take part."""
    assert found(given) == [names]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"listen": {"data": "h:0", "ops": "h:0"}},
        {"listen": {"data": "h:0"}, "upstream": {"endpoint": "http://localhost:8000"}},
        {"upstream": {"endpoint": "http://elsewhere:8111"}},
        {"upstream": {"endpoint": "http://localhost"}},
        {"store": {"quarantine_s": 0}},
        {
            "store": STORE | {"quarantine_s": 0, "accept_unfit": True},
            "defaults": {"level": "strict"},
        },
        STRICT | {"store": STORE | {"heartbeat_age_s_max": 30}},
        {"store": STORE | {"quarantine_s": 0}, "defaults": {"level": "session"}},
        {"store": {"quarantine_s": 30}, "fence": {"marker_s": 30}},
        {"store": {"url": "redis://u@h", "password": "b"}},
        {"store": {"url": "rediss://h", "ca_file": "/a"}},
        {"store": {"sentinel": SERVERS, "tls": True, "ca_file": "/a"}},
        {"store": {"sentinel": SERVERS}, "defaults": {"level": "strict"}},
        {"store": {"cluster": SERVERS}, "defaults": {"level": "strict"}},
        {"fence": {"lease_s": 2, "lease_wait_s": 2}},
        {"defaults": {"compress_above_bytes": 1}, "tables": {"abc": {"layout": "hash"}}},
        {"defaults": {"layout": "hash", "compress_above_bytes": None}},
        {"defaults": {"layout": "blob", "compress_above_bytes": 1}},
        STRICT | {"tables": {"abc": {"grace_s": 0, "write_mode": "through"}}},
        STRICT | {"tables": {"abc": {"level": "session", "grace_s": 9, "write_mode": "around"}}},
        {
            "store": STORE,
            "defaults": {"grace_s": 60, "stale_if_error_s": 9, "fill_consistent": False},
            "tables": {"abc": {"level": "strict"}},
        },
        {"defaults": {"queries": {"enabled": True, "scans": True}}},
        {
            "defaults": {"queries": {"enabled": True}},
            "tables": {"abc": {"queries": {"scans": True}}},
        },
        {
            "defaults": {"queries": {"enabled": True, "scans": True}},
            "tables": {"abc": {"queries": {"enabled": False}}},
        },
    ],
)
def test_sensible_combination_is_accepted(given: dict[str, Any]) -> None:
    """The defaults and the edges of each rule are no contradiction."""
    assert found(given) == []


def test_every_contradiction_is_found_at_once() -> None:
    """One run shows all of them."""
    given = {"fence": {"marker_s": 5, "lease_wait_s": 5}, "listen": {"data": "h:8112"}}
    assert [names[0] for names in found(given)] == [
        "listen.data",
        "fence.marker_s",
        "fence.lease_wait_s",
    ]


def test_missing_store_is_worth_a_note() -> None:
    """Running without a store is allowed, and said."""
    assert "nothing is cached" in notes(Settings())[0]
    assert notes(Settings.model_validate({"store": STORE})) == []
    assert notes(Settings.model_validate({"store": {"sentinel": SERVERS}})) == []
