"""Claims of proxy.edge.ops_modes, over real sockets."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from proxy.core.policy import TablePolicy
from proxy.core.values import Mode, TableName
from proxy.edge.ops_modes import ModeControl, ModePages
from proxy.flow import mode_switch
from proxy.flow.mode_switch import ModeSwitch

Client = TestClient[web.Request, web.Application]
ORDERS = TableName("orders")
PAGE = "/tables/orders/mode"


@pytest.fixture
def modes() -> ModeSwitch:
    """Tables that are on."""
    return ModeSwitch(lambda _: TablePolicy(), emit=lambda _: None)


@pytest.fixture
async def client(modes: ModeSwitch, aiohttp_client: AiohttpClient) -> Client:
    """A client of the pages."""
    app = web.Application()
    control = ModeControl(modes.policy_of, lambda: modes.switched, modes.switch)
    ModePages(control).add_to(app)
    return await aiohttp_client(app)


async def test_mode_is_shown_and_switched(client: Client, modes: ModeSwitch) -> None:
    """GET shows it, POST switches it and shows what it is then; percent is 100 if not given."""
    before = {"table": "orders", "mode": "on", "percent": 100.0, "switched": False}
    assert await (await client.get(PAGE)).json() == before
    shadow = {"table": "orders", "mode": "shadow", "percent": 2.5, "switched": True}
    reply = await client.post(PAGE, data='{"mode": "shadow", "percent": 2.5}')
    assert (reply.status, await reply.json()) == (200, shadow)
    assert await (await client.get(PAGE)).json() == shadow
    assert modes.policy_of("orders").mode_of(modes_digest()) is Mode.OFF
    await client.post(PAGE, json={"mode": "off"})
    policy = modes.policy_of("orders")
    assert (policy.mode, policy.mode_percent) == (Mode.OFF, 100)
    assert modes.policy_of("users") == TablePolicy()


def modes_digest() -> Any:
    """Return the digest that is left out first."""
    return b"\xff" * 16


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"{}",
        b'{"mode": "ON"}',
        b'{"mode": true}',
        b'{"mode": ["on"]}',
        b'{"percent": 5}',
        b'{"mode": "on", "percent": -1}',
        b'{"mode": "on", "percent": 101}',
        b'{"mode": "on", "percent": true}',
        b'{"mode": "on", "percent": "5"}',
        b'{"mode": "on", "percent": NaN}',
        b'{"mode": "on", "precent": 5}',
        b"[" * 100_000,
    ],
)
async def test_order_that_makes_no_sense_is_refused(
    client: Client, modes: ModeSwitch, body: bytes
) -> None:
    """The answer says what is allowed, and nothing is switched."""
    reply = await client.post(PAGE, data=body)
    assert reply.status == 400
    told = await reply.text()
    assert "mode" in told or "percent" in told
    assert modes.switched == {}


@pytest.mark.parametrize("name", ["ab", "a" * 256, "a%20b%20c", "abc%0A"])
async def test_name_of_no_table_is_refused(client: Client, modes: ModeSwitch, name: str) -> None:
    """Only names that DynamoDB knows."""
    page = f"http://{client.host}:{client.port}/tables/{name}/mode"
    assert (await client.session.get(page)).status == 400
    assert (await client.session.post(page, json={"mode": "on"})).status == 400
    assert modes.switched == {}


async def test_too_many_tables_are_a_conflict(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound has a name and a status of its own."""
    monkeypatch.setattr(mode_switch, "TABLES_MAX", 0)
    assert (await client.post(PAGE, json={"mode": "on"})).status == 409


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_modes_are_for_operators(
    client: Client, modes: ModeSwitch, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Peers from elsewhere and web pages neither see nor switch anything."""
    body = json.dumps({"mode": "off"})
    page = await client.request(method, PAGE, data=body, headers={"Origin": "null"})
    assert page.status == 403
    monkeypatch.setattr(web.BaseRequest, "remote", "192.0.2.1")
    assert (await client.request(method, PAGE, data=body)).status == 403
    assert modes.switched == {}
