"""Claims of proxy.edge.fleet_ops: the one ops port in front of workers' own, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from proxy.core.lifecycle import Probes, ProcessEvent
from proxy.core.policy import TablePolicy
from proxy.edge.fleet_ops import FleetOps, WorkerClient, WorkerSlot
from proxy.edge.hot_pages import HotPages
from proxy.edge.listeners import OpsListener
from proxy.edge.merged_metrics import MergedMetrics
from proxy.edge.ops_server import SECURITY_HEADERS, ProxyStatus, StoreStatus, build_ops_app
from tests.support.serving import total

Client = TestClient[web.Request, web.Application]


class Fleet:
    """One worker's real ops socket, and a slot nobody is in."""

    def __init__(self, folder: Path) -> None:
        self.probes = Probes()
        self.counted = 1
        self.slots = [WorkerSlot(0, folder / "0.sock", pid=10, ready=True)]
        self.slots.append(WorkerSlot(1, folder / "1.sock", restarts=2))

    def exposition(self, _: str | None) -> tuple[bytes, str]:
        """Give a counter."""
        text = f"# HELP a_total A.\n# TYPE a_total counter\na_total {self.counted}\n"
        return text.encode(), "text/plain"


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    """Serve the first worker's ops pages."""
    fleet, worker = Fleet(tmp_path), Probes()
    worker.move(ProcessEvent.ACCEPTING)
    status = ProxyStatus(
        version="1",
        uptime_s=1.0,
        store=StoreStatus(serving=True, why="", breaker="closed"),
        debts=0,
        upstream_endpoint="http://d",
        table_default=TablePolicy(),
        tables={},
    )
    app = build_ops_app(worker, fleet.exposition, lambda: status)
    HotPages(tuple).add_to(app)
    listener = OpsListener(app)
    await listener.start_socket(fleet.slots[0].ops_socket)
    yield fleet
    await listener.close()


@pytest.fixture
async def client(fleet: Fleet, aiohttp_client: AiohttpClient) -> AsyncIterator[Client]:
    """A client of the common ops port."""
    async with WorkerClient() as asking:
        ops = FleetOps(fleet.probes, fleet.slots, client=asking, metrics=MergedMetrics(2))
        yield await aiohttp_client(ops.app())


async def readiness(client: Client) -> tuple[int, str]:
    """Return status and reason of the readiness probe."""
    reply = await client.get("/readyz")
    return reply.status, (await reply.text()).strip()


async def test_ready_while_one_worker_is(client: Client, fleet: Fleet) -> None:
    """Not before all have started, then as long as any takes requests, not while draining."""
    assert await readiness(client) == (503, "starting")
    assert (await client.get("/startupz")).status == 503
    fleet.probes.move(ProcessEvent.ACCEPTING)
    assert await readiness(client) == (200, "ready")
    fleet.slots[0].ready = False
    assert await readiness(client) == (503, "no worker is ready")
    fleet.slots[1].ready = True
    assert await readiness(client) == (200, "ready")
    fleet.probes.move(ProcessEvent.STOP_ASKED)
    assert await readiness(client) == (503, "draining")
    assert [(await client.get(path)).status for path in ("/livez", "/startupz")] == [200, 200]


async def test_status_lists_the_workers(client: Client) -> None:
    """Each slot shows its process and what that says of itself, or nothing."""
    shown = await (await client.get("/status")).json()
    assert shown["state"] == "starting"
    first, second = shown["workers"]
    assert (first["pid"], first["ready"], first["restarts"]) == (10, True, 0)
    assert first["status"]["store"] == {
        "serving": True,
        "why": "",
        "breaker": "closed",
        "flaws": [],
    }
    assert second == {"pid": None, "ready": False, "restarts": 2, "status": None}


async def test_status_is_for_loopback(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are refused, as with a single process."""
    monkeypatch.setattr(web.BaseRequest, "remote", "192.0.2.1")
    assert (await client.get("/status")).status == 403


async def test_hot_items_are_listed_by_worker(client: Client, fleet: Fleet) -> None:
    """Of those that are ready; one that does not answer shows nothing."""
    fleet.slots[1].pid, fleet.slots[1].ready = 11, True
    shown = await (await client.get("/hot")).json()
    assert shown == {"workers": [{"pid": 10, "tables": []}, {"pid": 11}]}


async def test_metrics_keep_what_a_silent_worker_said(client: Client, fleet: Fleet) -> None:
    """A worker that does not answer counts as it was; nobody waits for one that is not ready."""

    async def counted() -> float:
        return total(await (await client.get("/metrics")).text(), "a_total")

    assert await counted() == 1
    fleet.counted = 5
    assert await counted() == 5
    socket = fleet.slots[0].ops_socket
    socket.rename(socket.with_suffix(".gone"))
    assert await counted() == 5


async def test_answer_of_a_process_that_ended_meanwhile_is_dropped(
    client: Client, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its counts were taken when it ended; taken again they would count twice."""
    ask = WorkerClient.ask

    async def replaced(self: WorkerClient, slot: WorkerSlot, path: str) -> str | None:
        text = await ask(self, slot, path)
        slot.pid = 11
        return text

    monkeypatch.setattr(WorkerClient, "ask", replaced)
    assert total(await (await client.get("/metrics")).text(), "a_total") == 0


async def test_index_says_what_is_there(client: Client) -> None:
    """The first page tells the state, and every answer carries the usual fields."""
    reply = await client.get("/")
    assert (await reply.text()).startswith("dynaside: starting, 1 of 2 workers ready\n")
    assert {name: reply.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS


async def test_refusal_of_a_worker_is_no_answer(fleet: Fleet) -> None:
    """A page that is not 200 counts as not given."""
    async with WorkerClient() as asking:
        assert await asking.ask(fleet.slots[0], "/nothing") is None
        assert await asking.ask(fleet.slots[0], "/readyz") == "ready\n"
