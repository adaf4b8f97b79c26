"""Claims of `proxy.edge.hot_pages`."""

from __future__ import annotations

import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpClient

from proxy.core.values import TableName
from proxy.edge.hot_pages import PATH, HotPages
from proxy.flow.hot_reads import HotKey, HotTable


async def test_the_page_shows_what_is_read_most(aiohttp_client: AiohttpClient) -> None:
    """As JSON, table by table, as it is at the time."""
    report: list[HotTable] = []
    app = web.Application()
    HotPages(lambda: tuple(report)).add_to(app)
    client = await aiohttp_client(app)
    assert await (await client.get(PATH)).json() == {"tables": []}
    report.append(HotTable(TableName("orders"), 9.0, 40.0, (HotKey("c0ffee", 0.5, 0.1, 4.5),)))
    assert await (await client.get(PATH)).json() == {
        "tables": [
            {
                "table": "orders",
                "reads_per_s": 9.0,
                "sampled": 40.0,
                "keys": [{"mark": "c0ffee", "share": 0.5, "share_error": 0.1, "reads_per_s": 4.5}],
            }
        ]
    }


async def test_the_page_is_for_loopback(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are refused."""
    app = web.Application()
    HotPages(tuple).add_to(app)
    client = await aiohttp_client(app)
    monkeypatch.setattr(web.BaseRequest, "remote", "192.0.2.1")
    assert (await client.get(PATH)).status == 403
