"""Performs listening: the data port for SDKs, the ops port for probes and Prometheus."""

from __future__ import annotations

from aiohttp import web

from proxy.edge.http_server import BACKLOG, DataServer


class Listeners:
    """Both listeners of one process.

    Args:
        data_server: speaks to SDKs.
        ops_app: speaks to kubelet, Prometheus and operators.
        port_shared: several processes share the data port (SO_REUSEPORT).
    """

    def __init__(
        self, data_server: DataServer, ops_app: web.Application, *, port_shared: bool
    ) -> None:
        # The app drains by itself: aiohttp's own shutdown would cut what is in flight.
        self._data_runner = web.ServerRunner(data_server, shutdown_timeout=0)
        self._ops_runner = web.AppRunner(ops_app, access_log=None, shutdown_timeout=1)
        self._port_shared = port_shared
        self._data_site: web.TCPSite | None = None
        self.data_url = ""
        self.ops_url = ""

    async def start_data(self, host: str, port: int) -> None:
        """Accept SDK connections; raises OSError."""
        await self._data_runner.setup()
        self._data_site = web.TCPSite(
            self._data_runner, host, port, backlog=BACKLOG, reuse_port=self._port_shared or None
        )
        await self._data_site.start()
        self.data_url = _url(self._data_runner)

    async def start_ops(self, host: str, port: int) -> None:
        """Accept probes and scrapes; raises OSError."""
        await self._ops_runner.setup()
        await web.TCPSite(self._ops_runner, host, port).start()
        self.ops_url = _url(self._ops_runner)

    async def stop_accepting(self) -> None:
        """Refuse new SDK connections; those that are open stay."""
        if self._data_site is not None:
            await self._data_site.stop()

    async def close(self) -> None:
        """Close whatever is open."""
        await self._data_runner.cleanup()
        await self._ops_runner.cleanup()


def _url(runner: web.BaseRunner) -> str:
    host, port, *_ = runner.addresses[0]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
