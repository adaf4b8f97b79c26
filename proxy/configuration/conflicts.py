"""Find settings that are each allowed but make no sense, or no safe proxy, together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from proxy.configuration.checks import url_has_password
from proxy.configuration.model import Path, Settings
from proxy.configuration.store_sections import Store
from proxy.configuration.tables import STRICT_NEEDS, TableRules, explicit
from proxy.core.values import Layout, Level, WriteMode

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class Conflict:
    """Settings that contradict each other, the one to change first, and why."""

    paths: tuple[Path, ...]
    why: str


def conflicts(settings: Settings) -> list[Conflict]:
    """Return every contradiction between settings that are each valid."""
    return [
        *_address_conflicts(settings),
        *_http_conflicts(settings),
        *_store_conflicts(settings),
        *_fence_conflicts(settings),
        *_table_conflicts(settings),
        *_stream_conflicts(settings),
    ]


def notes(settings: Settings) -> list[str]:
    """Return what is allowed but worth knowing before starting."""
    if not settings.store.is_named:
        return ["store.url is not set: nothing is cached, every request passes through"]
    return []


def _address_conflicts(settings: Settings) -> Iterator[Conflict]:
    data, ops = ("listen", "data"), ("listen", "ops")
    data_port, ops_port = settings.listen.data_address[1], settings.listen.ops_address[1]
    if data_port and data_port == ops_port:
        yield Conflict((data, ops), f"both use port {data_port}; each listener needs its own")
    if not data_port and settings.workers > 1:
        why = "port 0 with several workers would give each its own port; name one"
        yield Conflict((data, ("workers",)), why)
    if settings.upstream.endpoint is not None:
        endpoint = urlsplit(settings.upstream.endpoint)
        port = endpoint.port or (443 if endpoint.scheme == "https" else 80)
        if endpoint.hostname in _LOOPBACK and port in {data_port, ops_port}:
            why = f"port {port} is this proxy's own; it would send requests to itself"
            yield Conflict((("upstream", "endpoint"), data, ops), why)


def _http_conflicts(settings: Settings) -> Iterator[Conflict]:
    if settings.http.bodies_bytes_max < settings.http.body_bytes_max:
        why = "one body of body_bytes_max would never fit into bodies_bytes_max"
        yield Conflict((("http", "bodies_bytes_max"), ("http", "body_bytes_max")), why)


def _store_conflicts(settings: Settings) -> Iterator[Conflict]:
    store = settings.store
    if store.heartbeat_age_s_max <= store.heartbeat_s:
        yield Conflict(
            (("store", "heartbeat_age_s_max"), ("store", "heartbeat_s")),
            f"must exceed heartbeat_s ({store.heartbeat_s}), or hits stop between heartbeats",
        )
    if 0 < store.quarantine_s < settings.fence.marker_s:
        yield Conflict(
            (("store", "quarantine_s"), ("fence", "marker_s")),
            f"must be at least fence.marker_s ({settings.fence.marker_s}), so that every write"
            " in flight has ended; 0 is only for a store that nobody used before",
        )
    if store.url is not None and store.password is not None and url_has_password(store.url):
        yield Conflict(
            (("store", "password"), ("store", "url")),
            "is given here and in store.url; leave one out",
        )
    yield from _topology_conflicts(store)


def _topology_conflicts(store: Store) -> Iterator[Conflict]:
    url, tls = ("store", "url"), ("store", "tls")
    stores: dict[Path, object] = {
        url: store.url,
        ("store", "sentinel", "addresses"): store.sentinel.addresses,
        ("store", "cluster", "addresses"): store.cluster.addresses,
    }
    named = tuple(path for path, given in stores.items() if given)
    if len(named) > 1:
        yield Conflict(named, "there is one store; leave the others out")
    if store.url is not None and store.tls:
        yield Conflict((tls, url), "is for servers without a URL; here write rediss://")
    with_tls = store.tls or (store.url is not None and store.url.startswith("rediss:"))
    if store.ca_file is not None and not with_tls:
        yield Conflict(
            (("store", "ca_file"), tls, url),
            "does nothing without TLS: store.tls, or rediss:// in store.url",
        )


def _fence_conflicts(settings: Settings) -> Iterator[Conflict]:
    fence, upstream = settings.fence, settings.upstream
    write_s = upstream.connect_timeout_s + upstream.write_timeout_s
    if fence.marker_s <= write_s:
        yield Conflict(
            (
                ("fence", "marker_s"),
                ("upstream", "connect_timeout_s"),
                ("upstream", "write_timeout_s"),
            ),
            f"must exceed connect_timeout_s + write_timeout_s ({write_s}), or a write could take"
            " effect after its marker has gone",
        )
    if fence.lease_wait_s > fence.lease_s:
        yield Conflict(
            (("fence", "lease_wait_s"), ("fence", "lease_s")),
            f"must not exceed lease_s ({fence.lease_s}); after it nobody is filling",
        )


def _stream_conflicts(settings: Settings) -> Iterator[Conflict]:
    streams = settings.streams
    if streams.lag_max_s <= streams.lease_s:
        why = (
            f"must exceed lease_s ({streams.lease_s}), or every reader that dies makes its tables"
            " degrade"
        )
        yield Conflict((("streams", "lag_max_s"), ("streams", "lease_s")), why)
    for name, table in settings.tables.items():
        at = ("tables", name, "streams")
        if table.stream_arn is not None and not table.streams:
            yield Conflict(
                (("tables", name, "stream_arn"), at), "does nothing while streams is off"
            )
        if table.streams and not settings.store.is_named:
            why = "needs a store: it holds what is cached, and how far the stream was read"
            yield Conflict((at, ("store", "url")), why)


def _table_conflicts(settings: Settings) -> Iterator[Conflict]:
    sections: dict[Path, TableRules] = {("defaults",): settings.defaults}
    sections |= {("tables", name): table for name, table in settings.tables.items()}
    for at, rules in sections.items():
        yield from _strict_conflicts(settings, at, rules)
        yield from _layout_conflicts(settings, at, rules)
        yield from _query_conflicts(settings, at, rules)


def _query_conflicts(settings: Settings, at: Path, rules: TableRules) -> Iterator[Conflict]:
    """Judge what a section itself asks for; what it does not set it inherits."""
    own = "enabled" in rules.queries.model_fields_set
    on = rules.queries if own else settings.defaults.queries
    if rules.queries.scans and not on.enabled:
        why = "caches nothing while queries.enabled is false"
        yield Conflict(((*at, "queries", "scans"), (*at, "queries", "enabled")), why)


def _strict_conflicts(settings: Settings, at: Path, rules: TableRules) -> Iterator[Conflict]:
    """Compare what one section sets with what `strict` needs; inherited times are overruled."""
    own = explicit(rules)
    inherited = explicit(settings.defaults) | own
    if inherited.get("level") is not Level.STRICT:
        return

    def path_of(rule: str) -> Path:
        return (*at, rule) if rule in own else ("defaults", rule)

    for rule, needed in STRICT_NEEDS.items():
        if rule in own and own[rule] != needed:
            why = f"level strict allows only {str(needed).lower()}; leave it out"
            yield Conflict(((*at, rule), path_of("level")), why)
    if inherited.get("write_mode") is WriteMode.AROUND:
        why = "around leaves old entries in place, which level strict does not allow"
        yield Conflict((path_of("write_mode"), path_of("level")), why)
    if not settings.store.is_named and "level" in own:
        why = "strict needs a store: without one other proxies would not see our writes"
        yield Conflict((path_of("level"), ("store", "url")), why)
    if "level" in own:
        yield from _strict_store_conflicts(settings, path_of("level"))


def _strict_store_conflicts(settings: Settings, level: Path) -> Iterator[Conflict]:
    """Compare the store's times with what `strict` needs after a fail-over."""
    store = settings.store
    if not store.is_named or store.accept_unfit:
        return
    if not store.quarantine_s:
        why = (
            "strict needs a quarantine: writes in flight may lose their markers in a fail-over;"
            " for a store that nobody used before, set store.accept_unfit"
        )
        yield Conflict((("store", "quarantine_s"), level), why)
    elif store.quarantine_s < store.heartbeat_age_s_max:
        why = (
            f"must be at least heartbeat_age_s_max ({store.heartbeat_age_s_max}): so long an older"
            " primary may serve hits"
        )
        paths = (("store", "quarantine_s"), ("store", "heartbeat_age_s_max"), level)
        yield Conflict(paths, why)


def _layout_conflicts(settings: Settings, at: Path, rules: TableRules) -> Iterator[Conflict]:
    """Refuse a bound that would do nothing; one that a table of hashes inherits is only unused."""
    own = explicit(rules)
    layout = (explicit(settings.defaults) | own).get("layout")
    if layout is Layout.HASH and own.get("compress_above_bytes") is not None:
        why = "only entries of layout blob are compressed"
        source = at if "layout" in own else ("defaults",)
        yield Conflict(((*at, "compress_above_bytes"), (*source, "layout")), why)
