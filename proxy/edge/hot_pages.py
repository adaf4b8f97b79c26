"""Shows an operator which items of each table are read most: `GET /hot`, as JSON.

No key of an item is shown, only a hash under a key that this process alone has: it tells items
apart and says nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Final

from aiohttp import web

from proxy.edge.ops_access import for_operators
from proxy.flow.hot_reads import HotTable

PATH: Final = "/hot"


class HotPages:
    """The page of one process.

    Args:
        report: tells what is read most, as of now.
    """

    def __init__(self, report: Callable[[], tuple[HotTable, ...]]) -> None:
        self._report = report

    def add_to(self, app: web.Application) -> None:
        """Serve it, to operators only."""
        app.router.add_get(PATH, for_operators(self._show))

    async def _show(self, _: web.Request) -> web.Response:
        return web.json_response({"tables": [asdict(table) for table in self._report()]})
