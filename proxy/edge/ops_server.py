"""Serves the operator: health probes, metrics and status, on a listener apart from the data port.

`proxy.app` builds it and owns its listener. Probes answer from `proxy.core.lifecycle` alone and
never wait for Redis or DynamoDB. Everything but the modes of tables is GET or HEAD.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

from aiohttp import hdrs, web

from proxy.core.lifecycle import ProbeAnswer, Probes
from proxy.core.policy import TablePolicy
from proxy.core.values import TableName
from proxy.edge.ops_access import for_operators
from proxy.flow.stream_reader import StreamStatus

Exposition = Callable[[str | None], tuple[bytes, str]]
"""`Accept` header in; metrics and their content type out."""

SECURITY_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Server": "dynaside",  # aiohttp would tell its own and Python's version
}


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """What the proxy thinks of its store.

    Args:
        serving: whether hits are allowed.
        why: why not, in words without address or secret.
        breaker: the breaker's state.
        flaws: what the store lacks for level `strict`, by name.
    """

    serving: bool
    why: str
    breaker: str
    flaws: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProxyStatus:
    """What `/status` shows; no secret, no cache key, no item.

    Args:
        version: the proxy's version.
        uptime_s: seconds since the process started.
        store: the store's state.
        debts: writes whose effect on the store is still owed.
        upstream_endpoint: URL that requests go to, without user information.
        table_default: policy of every table not named in `tables`.
        tables: policy of each configured or switched table, by name.
        switched: tables whose mode is not that of the settings, but an operator's.
        streams: how far the tables are whose streams are read.
    """

    version: str
    uptime_s: float
    store: StoreStatus
    debts: int
    upstream_endpoint: str
    table_default: TablePolicy
    tables: Mapping[TableName, TablePolicy]
    switched: tuple[TableName, ...] = ()
    streams: Mapping[TableName, StreamStatus] = field(default_factory=dict)


def build_ops_app(
    probes: Probes,
    exposition: Exposition,
    read_status: Callable[[], ProxyStatus],
) -> web.Application:
    """Build the application behind the ops listener.

    Args:
        probes: the process's state, moved by the caller.
        exposition: gives the metrics, `Metrics.exposition`.
        read_status: takes a picture of the proxy now; called once per `/` and `/status`.

    Returns: an application with `/`, `/livez`, `/startupz`, `/readyz`, `/metrics` (for everybody)
        and `/status` (for operators). Other paths are 404, other methods 405.
    """
    pages = _Pages(probes, exposition, read_status)
    app = web.Application()
    app.router.add_get("/", pages.index)
    app.router.add_get("/livez", pages.livez)
    app.router.add_get("/startupz", pages.startupz)
    app.router.add_get("/readyz", pages.readyz)
    app.router.add_get("/metrics", pages.metrics)
    app.router.add_get("/status", for_operators(pages.status))
    app.on_response_prepare.append(add_security_headers)
    return app


class _Pages:
    """The handlers; each answers from values at hand, without waiting for anything."""

    def __init__(
        self, probes: Probes, exposition: Exposition, read_status: Callable[[], ProxyStatus]
    ) -> None:
        self._probes = probes
        self._exposition = exposition
        self._read_status = read_status

    async def index(self, _: web.Request) -> web.Response:
        lines = [
            f"dynaside {self._read_status().version}: {self._probes.state}",
            "",
            "/livez     200 while the process runs",
            "/startupz  200 once it has started",
            "/readyz    200 while it takes requests",
            "/metrics   Prometheus metrics",
            "/status    state and table policies as JSON, for loopback only",
            "/hot       the most read items of each table, hashed, as JSON, for loopback only",
            "/tables/<name>/mode  a table's mode; POST switches it; for loopback only",
            "",
        ]
        return web.Response(text="\n".join(lines))

    async def livez(self, _: web.Request) -> web.Response:
        return probe_response(self._probes.live())

    async def startupz(self, _: web.Request) -> web.Response:
        return probe_response(self._probes.started())

    async def readyz(self, _: web.Request) -> web.Response:
        return probe_response(self._probes.ready())

    async def metrics(self, request: web.Request) -> web.Response:
        body, content_type = self._exposition(request.headers.get(hdrs.ACCEPT))
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})

    async def status(self, _: web.Request) -> web.Response:
        return web.json_response({"state": self._probes.state, **asdict(self._read_status())})


def probe_response(answer: ProbeAnswer) -> web.Response:
    """Turn a verdict into 200 or 503 with its reason."""
    return web.Response(status=200 if answer.ok else 503, text=f"{answer.reason}\n")


async def add_security_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Set the header fields that every answer of the ops listener carries."""
    response.headers.update(SECURITY_HEADERS)
