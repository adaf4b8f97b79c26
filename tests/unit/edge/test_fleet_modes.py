"""Claims of proxy.edge.fleet_modes: one order for all workers, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from proxy.core.policy import TablePolicy
from proxy.core.values import Mode, TableName
from proxy.edge.fleet_modes import FleetModes
from proxy.edge.fleet_ops import WorkerClient, WorkerSlot
from proxy.edge.listeners import OpsListener
from proxy.edge.ops_modes import ModeControl, ModeOrder, ModePages
from proxy.flow.mode_switch import ModeSwitch

Client = TestClient[web.Request, web.Application]
PAGE = "/tables/orders/mode"
ORDERS = TableName("orders")


class Worker:
    """The modes of one process behind its own socket."""

    def __init__(self, slot: WorkerSlot) -> None:
        self.slot = slot
        self.modes = ModeSwitch(lambda _: TablePolicy(), emit=lambda _: None)
        app = web.Application()
        control = ModeControl(self.modes.policy_of, lambda: self.modes.switched, self.modes.switch)
        ModePages(control).add_to(app)
        self.listener = OpsListener(app)

    def mode(self) -> Mode:
        """The mode of the one table."""
        return self.modes.policy_of(ORDERS).mode


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[list[Worker]]:
    """Two workers that are ready."""
    slots = [WorkerSlot(n, tmp_path / f"{n}.sock", pid=10 + n, ready=True) for n in range(2)]
    made = [Worker(slot) for slot in slots]
    for worker in made:
        await worker.listener.start_socket(worker.slot.ops_socket)
    yield made
    for worker in made:
        await worker.listener.close()


@pytest.fixture
async def fleet(workers: list[Worker]) -> AsyncIterator[FleetModes]:
    """The modes of both."""
    async with WorkerClient() as asking:
        yield FleetModes([worker.slot for worker in workers], client=asking)


@pytest.fixture
async def client(fleet: FleetModes, aiohttp_client: AiohttpClient) -> Client:
    """A client of the common ops port."""
    app = web.Application()
    fleet.add_to(app)
    return await aiohttp_client(app)


async def test_all_workers_are_switched(client: Client, workers: list[Worker]) -> None:
    """The answer says who was; GET shows each."""
    reply = await client.post(PAGE, json={"mode": "shadow", "percent": 50})
    told = [{"pid": 10, "switched": True}, {"pid": 11, "switched": True}]
    order = {"table": "orders", "mode": "shadow", "percent": 50.0}
    assert (reply.status, await reply.json()) == (200, {**order, "workers": told})
    assert [worker.mode() for worker in workers] == [Mode.SHADOW] * 2
    each = {"mode": "shadow", "percent": 50.0, "switched": True}
    shown = {"table": "orders", "workers": [{"pid": 10, **each}, {"pid": 11, **each}]}
    assert await (await client.get(PAGE)).json() == shown


async def test_worker_that_does_not_answer_is_told_of(
    client: Client, workers: list[Worker]
) -> None:
    """The others are switched, and the status says that somebody is not."""
    await workers[1].listener.close()
    reply = await client.post(PAGE, json={"mode": "off"})
    assert reply.status == 503
    assert [each["switched"] for each in (await reply.json())["workers"]] == [True, False]
    assert workers[0].mode() is Mode.OFF
    shown = (await (await client.get(PAGE)).json())["workers"]
    assert shown[1] == {"pid": 11}


async def test_worker_that_starts_later_is_told_then(
    client: Client, workers: list[Worker], fleet: FleetModes
) -> None:
    """Nobody waits for one that is not ready; the last order for each table is repeated to it."""
    workers[1].slot.ready = False
    for mode in ("off", "shadow"):
        reply = await client.post(PAGE, json={"mode": mode})
        assert [each["pid"] for each in (await reply.json())["workers"]] == [10]
    assert workers[1].mode() is Mode.ON
    assert fleet.orders == {ORDERS: ModeOrder(ORDERS, Mode.SHADOW, 100.0)}
    await fleet.repeat(workers[1].slot)
    assert workers[1].mode() is Mode.SHADOW


async def test_nonsense_reaches_no_worker(
    client: Client, workers: list[Worker], fleet: FleetModes
) -> None:
    """It is refused at the common port."""
    assert (await client.post(PAGE, json={"mode": "maybe"})).status == 400
    assert (await client.get("/tables/a/mode")).status == 400
    assert fleet.orders == {}
    assert all(worker.modes.switched == {} for worker in workers)


async def test_modes_are_for_operators(
    client: Client, fleet: FleetModes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a single process."""
    monkeypatch.setattr(web.BaseRequest, "remote", "192.0.2.1")
    assert (await client.post(PAGE, json={"mode": "off"})).status == 403
    assert (await client.get(PAGE)).status == 403
    assert fleet.orders == {}
