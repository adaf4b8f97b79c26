"""Claims of proxy.edge.ops_server, over real sockets."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from proxy.core.lifecycle import Probes, ProcessEvent
from proxy.core.policy import TablePolicy
from proxy.core.values import TableName
from proxy.edge.ops_server import (
    SECURITY_HEADERS,
    ProxyStatus,
    StoreStatus,
    build_ops_app,
)

PATHS = ("/", "/livez", "/startupz", "/readyz", "/metrics", "/status")

STORE_DOWN = ProxyStatus(
    version="0.1.0",
    uptime_s=12.5,
    store=StoreStatus(serving=False, why="not connected", breaker="open", flaws=("eviction",)),
    debts=3,
    upstream_endpoint="https://dynamodb.eu-central-1.amazonaws.com",
    table_default=TablePolicy(),
    tables={TableName("orders"): TablePolicy(fresh_ttl_s=60.0)},
)

Client = TestClient[web.Request, web.Application]


def exposition(accept: str | None) -> tuple[bytes, str]:
    """Give a body that shows which Accept header arrived."""
    return f"# {accept}\n".encode(), "text/plain; version=0.0.4; charset=utf-8"


@pytest.fixture
def probes() -> Probes:
    """A process that is starting."""
    return Probes()


@pytest.fixture
def app(probes: Probes) -> web.Application:
    """The ops application of a proxy whose store is down."""
    return build_ops_app(probes, exposition, lambda: STORE_DOWN)


@pytest.fixture
async def client(app: web.Application, aiohttp_client: AiohttpClient) -> Client:
    """A client of the running ops server."""
    return await aiohttp_client(app)


async def statuses(client: Client) -> tuple[int, int, int]:
    """Return the statuses of the live, start-up and readiness probes."""
    live, started, ready = [
        (await client.get(path)).status for path in ("/livez", "/startupz", "/readyz")
    ]
    return live, started, ready


async def test_probes_follow_the_life_of_the_process(client: Client, probes: Probes) -> None:
    """Starting, ready, draining, stopped: each state has its three answers."""
    assert await statuses(client) == (200, 503, 503)
    probes.move(ProcessEvent.ACCEPTING)
    assert await statuses(client) == (200, 200, 200)
    probes.move(ProcessEvent.STOP_ASKED)
    assert await statuses(client) == (200, 200, 503)
    probes.move(ProcessEvent.DRAINED)
    assert await statuses(client) == (200, 200, 503)


async def test_readyz_stays_ready_while_the_store_is_down(client: Client, probes: Probes) -> None:
    """A store outage must not take every pod out: readiness does not look at it."""
    probes.move(ProcessEvent.ACCEPTING)
    assert not (await (await client.get("/status")).json())["store"]["serving"]
    assert (await client.get("/readyz")).status == 200


async def test_readyz_tells_why_it_is_not_ready(client: Client, probes: Probes) -> None:
    """The text of a 503 is the state the process is in."""
    assert await (await client.get("/readyz")).text() == "starting\n"
    probes.move(ProcessEvent.STOP_ASKED)
    assert await (await client.get("/readyz")).text() == "draining\n"


async def test_metrics_are_given_with_their_content_type(client: Client) -> None:
    """The Accept header reaches the exposition, whose content type reaches the scraper."""
    response = await client.get("/metrics", headers={"Accept": "text/x"})
    assert await response.text() == "# text/x\n"
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_the_index_names_every_page(client: Client) -> None:
    """A visitor finds version, state and all paths as plain text."""
    response = await client.get("/")
    text = await response.text()
    assert response.content_type == "text/plain"
    assert text.startswith("dynaside 0.1.0: starting\n")
    assert all(path in text for path in PATHS)


async def test_status_shows_the_proxy_as_json(client: Client) -> None:
    """Status has the state, the store with its reason, debts, upstream and table policies."""
    body = await (await client.get("/status")).json()
    assert body["state"] == "starting"
    assert body["version"] == "0.1.0"
    assert body["uptime_s"] == 12.5
    assert body["store"] == {
        "serving": False,
        "why": "not connected",
        "breaker": "open",
        "flaws": ["eviction"],
    }
    assert body["debts"] == 3
    assert body["upstream_endpoint"] == "https://dynamodb.eu-central-1.amazonaws.com"
    assert body["table_default"]["level"] == "session"
    assert body["tables"]["orders"]["fresh_ttl_s"] == 60.0


async def test_status_is_refused_to_a_peer_that_is_not_loopback(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer from elsewhere sees probes but no status."""
    monkeypatch.setattr(web.BaseRequest, "remote", "192.0.2.1")
    reply = await client.get("/status")
    assert reply.status == 403
    assert "loopback" in await reply.text()
    assert (await client.get("/livez")).status == 200


async def test_status_is_shown_through_a_unix_socket(app: web.Application, tmp_path: Path) -> None:
    """Whoever may open the socket's file is on this host: a supervisor asks its workers so."""
    runner = web.AppRunner(app)
    await runner.setup()
    path = str(tmp_path / "ops.sock")
    try:
        await web.UnixSite(runner, path).start()
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session,
            session.get("http://ops/status") as response,
        ):
            assert response.status == 200
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("path", PATHS)
async def test_head_is_answered_like_get_without_a_body(path: str, client: Client) -> None:
    """HEAD has GET's status and no body."""
    head, get = await client.head(path), await client.get(path)
    assert head.status == get.status
    assert await head.read() == b""


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_other_methods_are_refused(path: str, method: str, client: Client) -> None:
    """Nothing here changes the proxy: 405 with the methods allowed."""
    response = await client.request(method, path)
    assert response.status == 405
    assert response.headers["Allow"] == "GET,HEAD"


@pytest.mark.parametrize("path", [*PATHS, "/nothing-here"])
async def test_every_answer_carries_the_security_headers(path: str, client: Client) -> None:
    """Pages, refusals and unknown paths alike; the server does not tell its versions."""
    for method in ("GET", "POST"):
        response = await client.request(method, path)
        for name, text in SECURITY_HEADERS.items():
            assert response.headers.getall(name) == [text]


async def test_unknown_paths_are_not_found(client: Client) -> None:
    """There is nothing beside the pages that the index names."""
    assert (await client.get("/nothing-here")).status == 404
