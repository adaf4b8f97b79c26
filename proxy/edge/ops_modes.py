"""Serves the modes of tables to operators: `GET` and `POST /tables/<name>/mode`.

An order is JSON, `{"mode": "shadow", "percent": 10}`; without `percent` it is for all keys.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from proxy.core.policy import TablePolicy
from proxy.core.values import Mode, TableName
from proxy.edge.ops_access import for_operators

PATH: Final = "/tables/{table}/mode"

_TABLE: Final = re.compile(r"[A-Za-z0-9_.-]{3,255}")
_PERCENT_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class ModeOrder:
    """An operator's wish for one table."""

    table: TableName
    mode: Mode
    percent: float

    def as_json(self) -> dict[str, Any]:
        """Return it as an order is written."""
        return {"mode": self.mode.value, "percent": self.percent}


@dataclass(frozen=True, slots=True)
class ModeControl:
    """The modes of a process.

    Args:
        policy_of: a table's policy as it is now.
        switched: the policies of the tables that were switched.
        switch: switches a table's mode for so many percent of its keys; False when too many are.
    """

    policy_of: Callable[[str], TablePolicy]
    switched: Callable[[], Mapping[TableName, TablePolicy]]
    switch: Callable[[TableName, Mode, float], bool]


class OrderRefusedError(Exception):
    """The order makes no sense; says why."""


def table_of(request: web.Request) -> TableName:
    """Return the table that a path names.

    Raises:
        OrderRefusedError: no table can have this name.
    """
    name = request.match_info["table"]
    if _TABLE.fullmatch(name) is None:
        raise OrderRefusedError("a table's name has 3 to 255 of A-Z a-z 0-9 _ . -")
    return TableName(name)


async def read_order(request: web.Request) -> ModeOrder:
    """Read an order, whatever its content type says.

    Raises:
        OrderRefusedError: what was sent is none.
    """
    table = table_of(request)
    try:
        asked = json.loads(await request.read())
    except (ValueError, RecursionError):
        asked = None
    if not isinstance(asked, dict) or not asked.keys() <= {"mode", "percent"}:
        raise OrderRefusedError('not like {"mode": "shadow", "percent": 10}')
    mode, percent = asked.get("mode"), asked.get("percent", _PERCENT_MAX)
    if not isinstance(mode, str) or mode not in set(Mode):
        raise OrderRefusedError("mode is one of " + ", ".join(Mode))
    number = isinstance(percent, int | float) and not isinstance(percent, bool)
    if not number or not 0 <= percent <= _PERCENT_MAX:
        raise OrderRefusedError(f"percent is a number from 0 to {_PERCENT_MAX}")
    return ModeOrder(table, Mode(mode), float(percent))


def refusal(error: OrderRefusedError) -> web.Response:
    """Answer an order that makes no sense."""
    return web.Response(status=400, text=f"{error}\n")


class ModePages:
    """The pages of one process.

    Args:
        control: its modes.
    """

    def __init__(self, control: ModeControl) -> None:
        self._control = control

    def add_to(self, app: web.Application) -> None:
        """Serve them."""
        app.router.add_get(PATH, for_operators(self._show), allow_head=False)
        app.router.add_post(PATH, for_operators(self._switch))

    async def _show(self, request: web.Request) -> web.Response:
        try:
            return self._shown(table_of(request))
        except OrderRefusedError as error:
            return refusal(error)

    async def _switch(self, request: web.Request) -> web.Response:
        try:
            order = await read_order(request)
        except OrderRefusedError as error:
            return refusal(error)
        if not self._control.switch(order.table, order.mode, order.percent):
            return web.Response(status=409, text="too many tables were switched\n")
        return self._shown(order.table)

    def _shown(self, table: TableName) -> web.Response:
        policy = self._control.policy_of(table)
        order = ModeOrder(table, policy.mode, policy.mode_percent)
        switched = table in self._control.switched()
        return web.json_response({"table": table, **order.as_json(), "switched": switched})
