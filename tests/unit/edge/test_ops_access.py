"""Claims of proxy.edge.ops_access, over real sockets."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpClient

from proxy.edge.ops_access import for_operators, is_loopback


@pytest.fixture
def app() -> web.Application:
    """An application with one page for operators."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="secret")

    made = web.Application()
    made.router.add_get("/", for_operators(page))
    return made


async def test_operators_are_on_this_host(
    app: web.Application, aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loopback may, others are refused and see nothing."""
    client = await aiohttp_client(app)
    assert await (await client.get("/")).text() == "secret"
    monkeypatch.setattr(web.BaseRequest, "remote", "192.0.2.1")
    reply = await client.get("/")
    assert reply.status == 403
    assert "loopback" in await reply.text()


async def test_web_pages_are_no_operators(
    app: web.Application, aiohttp_client: AiohttpClient
) -> None:
    """A page that a browser on this host shows cannot act for its reader."""
    client = await aiohttp_client(app)
    for origin in ("https://evil.example", "null", "http://127.0.0.1:8112"):
        reply = await client.get("/", headers={"Origin": origin})
        assert (reply.status, await reply.text()) == (403, "this is not for web pages\n")


async def test_unix_socket_is_on_this_host(app: web.Application, tmp_path: Path) -> None:
    """Whoever may open the socket's file: a supervisor asks its workers so."""
    runner = web.AppRunner(app)
    await runner.setup()
    path = str(tmp_path / "ops.sock")
    try:
        await web.UnixSite(runner, path).start()
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session,
            session.get("http://ops/") as response,
        ):
            assert response.status == 200
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:10.0.0.1", False),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        ("localhost", False),
        ("", False),
        (None, False),
    ],
)
def test_loopback_is_told_by_address(peer: str | None, *, expected: bool) -> None:
    """Only an address of this host's loopback counts, in either family."""
    assert is_loopback(peer) is expected
