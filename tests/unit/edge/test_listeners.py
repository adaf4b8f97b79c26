"""Claims of proxy.edge.listeners."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from proxy.core.errors import SettingsInvalid
from proxy.core.request import Answer, ClientRequest
from proxy.core.values import Outcome
from proxy.edge.http_server import DataServer, HttpLimits, HttpOptions
from proxy.edge.listeners import DataListener, OpsListener, listen_at
from tests.support.serving import Wire, post


def data_server() -> DataServer:
    """Return a server that answers `{}`."""

    async def answer(_: ClientRequest) -> Answer:
        return Answer(200, (), b"{}", Outcome.HIT)

    limits = HttpLimits(1000, 4000, 8190, 10.0, 10)
    options = HttpOptions(limits, cache_status=False, server_name="S", cross_origin=False)
    return DataServer(answer, is_loop=lambda _: False, options=options, emit=lambda _: None)


def ops_app() -> web.Application:
    """Return an application with one page."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="page")

    app = web.Application()
    app.router.add_get("/", page)
    return app


async def test_data_listener_stops_accepting_and_keeps_what_is_open() -> None:
    """New connections are refused, an open one goes on until it is closed."""
    listener = DataListener(data_server(), port_shared=False)
    await listener.stop_accepting()  # before the start there is nothing to stop
    await listener.start("127.0.0.1", 0)
    port = int(listener.url.removeprefix("http://127.0.0.1:"))
    async with Wire("127.0.0.1", port) as wire:
        await wire.send(post("GetItem", b"{}"))
        await wire.reply()
        await listener.stop_accepting()
        with pytest.raises(ConnectionRefusedError):
            await Wire("127.0.0.1", port).__aenter__()
        await wire.send(post("GetItem", b"{}"))
        assert (await wire.reply()).status == 200
        await listener.close()
        assert await wire.closed()


async def test_close_does_not_wait_for_requests() -> None:
    """What the drain left over is cut off: closing takes no longer for it."""
    entered = asyncio.Event()

    async def hang(_: ClientRequest) -> Answer:
        entered.set()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    server = data_server()
    server._handler = hang
    listener = DataListener(server, port_shared=False)
    await listener.start("127.0.0.1", 0)
    async with Wire("127.0.0.1", int(listener.url.rpartition(":")[2])) as wire:
        await wire.send(post("GetItem", b"{}"))
        await entered.wait()
        await asyncio.wait_for(listener.close(), 5)
        assert await wire.closed()


async def test_shared_port_takes_two_listeners() -> None:
    """Two servers of one port each accept; without sharing the second is refused."""
    first = DataListener(data_server(), port_shared=True)
    await first.start("127.0.0.1", 0)
    port = int(first.url.rpartition(":")[2])
    second = DataListener(data_server(), port_shared=True)
    await second.start("127.0.0.1", port)
    third = DataListener(data_server(), port_shared=False)
    with pytest.raises(SettingsInvalid, match=f"listen.data: cannot listen on 127.0.0.1:{port}"):
        await listen_at("listen.data", ("127.0.0.1", port), third.start)
    for listener in (first, second, third):
        await listener.close()


async def test_ops_listener_serves_a_port_or_a_socket(tmp_path: Path) -> None:
    """Both ways lead to the same pages."""
    for_port, for_socket = OpsListener(ops_app()), OpsListener(ops_app())
    await listen_at("listen.ops", ("127.0.0.1", 0), for_port.start)
    path = tmp_path / "ops.sock"
    await for_socket.start_socket(path)
    assert for_socket.url == f"unix:{path}"
    async with aiohttp.ClientSession() as session, session.get(for_port.url) as reply:
        assert await reply.text() == "page"
    connector = aiohttp.UnixConnector(str(path))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get("http://ops/") as reply,
    ):
        assert await reply.text() == "page"
    await for_port.close()
    await for_socket.close()


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
async def test_url_of_ipv6_has_brackets() -> None:
    """An address with colons is written so that it can be pasted."""
    listener = OpsListener(ops_app())
    await listener.start("::1", 0)
    assert listener.url.startswith("http://[::1]:")
    await listener.close()
