"""Claims of proxy.edge.door_check: an aiohttp that is made differently inside gets no door."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from proxy.edge import door_check
from proxy.edge.door_check import why_no_door
from proxy.edge.fast_door import DoorConnection
from proxy.edge.http_connection import Connection


async def test_the_installed_aiohttp_has_a_door() -> None:
    """Nothing speaks against it, and nothing is left over."""
    before = asyncio.all_tasks()
    assert await why_no_door() is None
    assert asyncio.all_tasks() == before


async def test_a_missing_attribute_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log should say what is missing."""
    monkeypatch.delattr(web.RequestHandler, "_waiter")
    assert await why_no_door() == "aiohttp's RequestHandler has no _waiter"


async def test_whatever_it_raises_shuts_the_door(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another aiohttp may fail in any way."""

    def fail(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(DoorConnection, "data_received", fail)
    assert await why_no_door() == "RuntimeError while it was tried"


def never(connection: Any, layout: Any, body: bytes) -> bool:
    return False


def uncounted(connection: Any, layout: Any, data: bytes) -> None:
    TAKE(connection, layout, data)
    connection._request_count -= 1


def twice(connection: Any, layout: Any, data: bytes) -> None:
    TAKE(connection, layout, data)
    Connection.data_received(connection, data)


def ended(connection: Any, *, closes: bool) -> None:
    GO_ON(connection, closes=not closes)


def untimed(_: Any) -> None:
    return None


TAKE = DoorConnection._take
GO_ON = DoorConnection._go_on


@pytest.mark.parametrize(
    ("of", "name", "broken", "why"),
    [
        (DoorConnection, "_answer_now", never, "step 0 was not answered at once"),
        (DoorConnection, "_take", uncounted, "step 0 shows a difference"),
        (DoorConnection, "_stay", untimed, "step 1 shows a difference"),
        (DoorConnection, "_take", twice, "step 0 shows a difference"),
        (DoorConnection, "_go_on", ended, "step 1 shows a difference"),
    ],
)
async def test_any_difference_shuts_the_door(
    monkeypatch: pytest.MonkeyPatch, of: type, name: str, broken: Callable[..., None], why: str
) -> None:
    """No answer at once, another count, another time, another answer, another end: all are seen."""
    monkeypatch.setattr(of, name, broken)
    assert await why_no_door() == why


async def test_an_answer_at_once_by_the_long_way_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """If aiohttp answered at once itself, the door might be in its way."""
    steps = tuple((data, False) for data, _ in door_check._STEPS)
    monkeypatch.setattr(door_check, "_STEPS", steps)
    assert await why_no_door() == "step 0 was answered at once"


async def test_a_gathered_answer_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the library writes in one piece or in several, its bytes are compared."""
    received = Connection.data_received

    def in_pieces(connection: Any, data: bytes) -> None:
        received(connection, data)
        connection.transport.writelines([b"x", b"y"])

    monkeypatch.setattr(Connection, "data_received", in_pieces)
    assert await why_no_door() == "step 0 shows a difference"
