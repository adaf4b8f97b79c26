"""Performs listening: the data port for SDKs, the ops port for probes and Prometheus."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from aiohttp import web

from proxy.core.errors import SettingsInvalid
from proxy.edge.http_server import BACKLOG, DataServer

# The app drains by itself, before it closes the listeners; 0 would mean to aiohttp: no bound.
_CUT_S: Final = 0.05


async def listen_at(
    name: str, address: tuple[str, int], start: Callable[[str, int], Awaitable[None]]
) -> None:
    """Start a listener on the address that a setting gives.

    Args:
        name: of the setting.
        address: host and port.
        start: `start` of one of the listeners below.

    Raises:
        SettingsInvalid: the address cannot be had: the operator must act.
    """
    host, port = address
    try:
        await start(host, port)
    except OSError as error:
        reason = f"{name}: cannot listen on {host}:{port}: {error.strerror or error}"
        raise SettingsInvalid([reason]) from error


class DataListener:
    """Accepts SDK connections.

    Args:
        server: speaks to SDKs.
        port_shared: several processes share the port (SO_REUSEPORT).
    """

    def __init__(self, server: DataServer, *, port_shared: bool) -> None:
        self._runner = web.ServerRunner(server, shutdown_timeout=_CUT_S)
        self._port_shared = port_shared
        self._site: web.TCPSite | None = None
        self.url = ""

    async def start(self, host: str, port: int) -> None:
        """Accept connections; raises OSError."""
        await self._runner.setup()
        self._site = web.TCPSite(
            self._runner, host, port, backlog=BACKLOG, reuse_port=self._port_shared or None
        )
        await self._site.start()
        self.url = _url(self._runner)

    async def stop_accepting(self) -> None:
        """Refuse new connections; those that are open stay."""
        if self._site is not None:
            await self._site.stop()

    async def close(self) -> None:
        """Close whatever is open."""
        await self._runner.cleanup()


class OpsListener:
    """Accepts probes and scrapes.

    Args:
        app: speaks to kubelet, Prometheus and operators.
    """

    def __init__(self, app: web.Application) -> None:
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CUT_S)
        self.url = ""

    async def start(self, host: str, port: int) -> None:
        """Accept connections; raises OSError."""
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        self.url = _url(self._runner)

    async def start_socket(self, path: Path) -> None:
        """Accept connections on a unix socket, which is created; raises OSError."""
        await self._runner.setup()
        await web.UnixSite(self._runner, path).start()
        self.url = f"unix:{path}"

    async def close(self) -> None:
        """Close whatever is open."""
        await self._runner.cleanup()


def _url(runner: web.BaseRunner) -> str:
    host, port, *_ = runner.addresses[0]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
