"""Keeps the modes of tables alike in all workers, also in those that start later.

Built by `proxy.supervisor`. An order is kept first and told to the workers then; a worker that
starts gets all orders with its settings, and once more when it is ready: one may have come between.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

from proxy.core.values import TableName
from proxy.edge.fleet_ops import WorkerClient, WorkerSlot
from proxy.edge.ops_access import for_operators
from proxy.edge.ops_modes import (
    PATH,
    ModeOrder,
    OrderRefusedError,
    read_order,
    refusal,
    table_of,
)


class FleetModes:
    """What operators ordered since the start, and the pages where they do.

    Args:
        slots: all workers.
        client: tells them.
    """

    def __init__(self, slots: list[WorkerSlot], *, client: WorkerClient) -> None:
        self._slots = slots
        self._client = client
        self.orders: dict[TableName, ModeOrder] = {}

    def add_to(self, app: web.Application) -> None:
        """Serve the pages, with the same paths as those of a single process."""
        app.router.add_get(PATH, for_operators(self._show), allow_head=False)
        app.router.add_post(PATH, for_operators(self._switch))

    async def repeat(self, slot: WorkerSlot) -> None:
        """Tell one worker everything that was ordered."""
        for order in list(self.orders.values()):
            await self._tell(slot, order)

    async def _show(self, request: web.Request) -> web.Response:
        try:
            table = table_of(request)
        except OrderRefusedError as error:
            return refusal(error)
        asked = [slot for slot in self._slots if slot.ready]
        texts = await asyncio.gather(
            *(self._client.ask(slot, f"/tables/{table}/mode") for slot in asked)
        )
        workers = [
            {"pid": slot.pid, **_parsed(text)} for slot, text in zip(asked, texts, strict=True)
        ]
        return web.json_response({"table": table, "workers": workers})

    async def _switch(self, request: web.Request) -> web.Response:
        """Switch all workers: 200 when each that is ready did, else 503, and the order stays."""
        try:
            order = await read_order(request)
        except OrderRefusedError as error:
            return refusal(error)
        self.orders[order.table] = order
        told = [slot for slot in self._slots if slot.ready]
        texts = await asyncio.gather(*(self._tell(slot, order) for slot in told))
        workers = [
            {"pid": slot.pid, "switched": text is not None}
            for slot, text in zip(told, texts, strict=True)
        ]
        done = all(worker["switched"] for worker in workers)
        shown = {"table": order.table, **order.as_json(), "workers": workers}
        return web.json_response(shown, status=200 if done else 503)

    async def _tell(self, slot: WorkerSlot, order: ModeOrder) -> str | None:
        body = json.dumps(order.as_json())
        return await self._client.ask(slot, f"/tables/{order.table}/mode", post=body)


def _parsed(text: str | None) -> dict[str, Any]:
    """Return what a worker showed; nothing for one that did not answer."""
    shown: dict[str, Any] = {} if text is None else json.loads(text)
    shown.pop("table", None)
    return shown
