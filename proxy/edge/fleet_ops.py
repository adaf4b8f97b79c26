"""Serves the operator of several workers: one ops port that asks each worker's own.

Built by `proxy.supervisor`. Health probes answer at once, from what the supervisor knows;
`/metrics` and `/status` ask every worker through its unix socket, each for a bounded time.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
from aiohttp import hdrs, web

from proxy.core.lifecycle import ProbeAnswer, Probes
from proxy.edge.merged_metrics import MergedMetrics
from proxy.edge.ops_access import for_operators
from proxy.edge.ops_server import add_security_headers, probe_response

ASK_TIMEOUT_S: Final = 2.0
"""A worker that is busy for longer counts as it was at the last scrape."""

_OK: Final = 200


@dataclass(eq=False)
class WorkerSlot:
    """One of the workers, as the supervisor knows it; a new process takes a dead one's slot.

    Args:
        index: from 0.
        ops_socket: the unix socket of the worker's own ops listener.
        pid: of the process that runs, or None.
        ready: whether it takes requests.
        restarts: processes that ended unasked so far.
    """

    index: int
    ops_socket: Path
    pid: int | None = None
    ready: bool = False
    restarts: int = 0


class WorkerClient:
    """Asks workers' ops listeners; use as `async with`."""

    async def __aenter__(self) -> Self:
        """Connect to nobody yet."""
        self._sessions: dict[Path, aiohttp.ClientSession] = {}
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close all connections."""
        for session in self._sessions.values():
            await session.close()

    async def ask(self, slot: WorkerSlot, path: str, *, post: str | None = None) -> str | None:
        """Return a page's text; None when the worker does not give it with 200 in time.

        Args:
            slot: whom to ask.
            path: of the page.
            post: what to send by POST; None asks by GET.
        """
        method = "GET" if post is None else "POST"
        session = self._session(slot.ops_socket)
        try:
            async with session.request(method, f"http://worker{path}", data=post) as reply:
                return await reply.text() if reply.status == _OK else None
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None

    def _session(self, ops_socket: Path) -> aiohttp.ClientSession:
        if ops_socket not in self._sessions:
            self._sessions[ops_socket] = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(ops_socket), force_close=True),
                timeout=aiohttp.ClientTimeout(total=ASK_TIMEOUT_S),
            )
        return self._sessions[ops_socket]


class FleetOps:
    """The pages of the one ops port.

    Args:
        probes: the supervisor's state, moved by the supervisor.
        slots: all workers.
        client: asks them.
        metrics: merges what they expose.
    """

    def __init__(
        self,
        probes: Probes,
        slots: list[WorkerSlot],
        *,
        client: WorkerClient,
        metrics: MergedMetrics,
    ) -> None:
        self._probes = probes
        self._slots = slots
        self._client = client
        self._metrics = metrics
        self._scraping = asyncio.Lock()
        metrics.observe_ready(lambda: sum(slot.ready for slot in slots))

    def app(self) -> web.Application:
        """Build the application, with the paths of a single process's, but for tables' modes."""
        app = web.Application()
        app.router.add_get("/", self._index)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/startupz", self._startupz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics_page)
        app.router.add_get("/status", for_operators(self._status))
        app.router.add_get("/hot", for_operators(self._hot))
        app.on_response_prepare.append(add_security_headers)
        return app

    def ready(self) -> ProbeAnswer:
        """Say yes once all workers have started, and from then on while one of them is ready.

        A worker that crashed is replaced within seconds and the others answer meanwhile; taking
        the whole pod out of service for it would turn a small fault into a large one.
        """
        answer = self._probes.ready()
        if answer.ok and not any(slot.ready for slot in self._slots):
            return ProbeAnswer(ok=False, reason="no worker is ready")
        return answer

    async def _index(self, _: web.Request) -> web.Response:
        ready = sum(slot.ready for slot in self._slots)
        return web.Response(
            text=f"dynaside: {self._probes.state}, {ready} of {len(self._slots)} workers ready\n"
            "/livez /startupz /readyz /metrics /status /hot /tables/<name>/mode\n"
        )

    async def _livez(self, _: web.Request) -> web.Response:
        return probe_response(self._probes.live())

    async def _startupz(self, _: web.Request) -> web.Response:
        return probe_response(self._probes.started())

    async def _readyz(self, _: web.Request) -> web.Response:
        return probe_response(self.ready())

    async def _metrics_page(self, request: web.Request) -> web.Response:
        async with self._scraping:  # of two scrapes at once the older counts could come last
            await asyncio.gather(*(self._scrape(slot) for slot in self._slots if slot.ready))
        body, content_type = self._metrics.exposition(request.headers.get(hdrs.ACCEPT))
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})

    async def _scrape(self, slot: WorkerSlot) -> None:
        pid = slot.pid
        text = await self._client.ask(slot, "/metrics")
        if text is not None and slot.pid == pid:  # else it ended, and was counted as ended
            self._metrics.saw(slot.index, text)

    async def _status(self, _: web.Request) -> web.Response:
        workers = await asyncio.gather(*(self._worker_status(slot) for slot in self._slots))
        return web.json_response({"state": self._probes.state, "workers": workers})

    async def _hot(self, _: web.Request) -> web.Response:
        """Show each worker's own: the same item has another hash in each."""
        asked = [slot for slot in self._slots if slot.ready]
        texts = await asyncio.gather(*(self._client.ask(slot, "/hot") for slot in asked))
        workers = [
            {"pid": slot.pid, **(json.loads(text) if text is not None else {})}
            for slot, text in zip(asked, texts, strict=True)
        ]
        return web.json_response({"workers": workers})

    async def _worker_status(self, slot: WorkerSlot) -> dict[str, Any]:
        text = await self._client.ask(slot, "/status") if slot.ready else None
        return {
            "pid": slot.pid,
            "ready": slot.ready,
            "restarts": slot.restarts,
            "status": json.loads(text) if text is not None else None,
        }
