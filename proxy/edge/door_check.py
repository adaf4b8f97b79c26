"""Tries the fast door at start, on real connections over a transport in memory.

The door relies on how aiohttp is made inside (`proxy.edge.fast_door`). Another release may be made
differently and still import. So before any client comes, the same bytes go to two connections, one
of which has a door, and everything a client could notice must be the same.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import Any, Final

from aiohttp import web

from proxy.core.hits import Hit
from proxy.core.record import Entry
from proxy.core.request import Answer, ClientRequest
from proxy.core.values import Digest, Generation, Incarnation, TableName
from proxy.edge.http_server import DataServer, HttpLimits, HttpOptions
from proxy.flow.at_once import AnswerNow

_NEEDED: Final = (
    *("_waiter", "_request_count", "_keepalive_timeout", "_next_keepalive_close_time"),
    *("_loop", "_paused", "_close", "_force_close", "transport", "_current_request", "_messages"),
    *("_drain_helper", "_process_keepalive", "force_close"),
)
"""Attributes of aiohttp's that the door reads, sets or calls."""

_HELD: Final = b"held"
_ENTRY: Final = Entry(
    *(Incarnation(bytes(8)), Generation(bytes(8)), Digest(bytes(16)), 0, 0, 0, False, 0, 1),
    b'{"Item":{}}',
)
_FOUND: Final = Hit(_ENTRY, TableName("t"), near=False, ttl_s=42)
_VARIES: Final = re.compile(rb"(x-amzn-RequestId: )[0-9A-Z]{52}|(Date: )[^\r]{29}")
_TURNS: Final = 8
"""Turns of the event loop that aiohttp may need from bytes to answer; it needs three."""


def _request(body: bytes, operation: bytes = b"GetItem") -> bytes:
    return (
        b"POST / HTTP/1.1\r\nHost: h\r\nX-Amz-Target: DynamoDB_20120810.%b\r\n"
        b"Content-Type: application/x-amz-json-1.0\r\nAuthorization: a\r\n"
        b"Content-Length: %d\r\n\r\n%b"
    ) % (operation, len(body), body)


_HIT: Final = _request(_HELD)
_STEPS: Final[tuple[tuple[bytes, bool], ...]] = (
    (_HIT, True),
    (_request(b"other"), False),
    (_HIT, True),
    (_request(_HELD, b"Query"), False),
    (_HIT[:20], False),
    (_HIT[20:], False),
    (_HIT, True),
    (_HIT + _HIT, False),
    (_HIT, True),
    (_request(_HELD).replace(b"Host: h", b"Host: h\r\nConnection: close"), False),
    (_HIT, False),
)
"""Bytes that arrive together, and whether the door answers them."""


class _Memory(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self._closing = False

    def write(self, data: Any) -> None:
        self.written += data

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.written += b"".join(list_of_data)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True


async def why_no_door() -> str | None:
    """Tell why there can be no fast door with the aiohttp that is installed; None if there can."""
    missing = [name for name in _NEEDED if not hasattr(web.RequestHandler, name)]
    if missing:
        return f"aiohttp's RequestHandler has no {', '.join(missing)}"
    try:
        return await _difference()
    except Exception as error:  # noqa: BLE001 - whatever another aiohttp may raise
        return f"{type(error).__name__} while it was tried"


async def _difference() -> str | None:
    trials = [_Trial(_held), _Trial(None)]
    try:
        for number, (data, at_once) in enumerate(_STEPS):
            (opened, seen), (_, expected) = [await trial.step(data) for trial in trials]
            if opened is not at_once:
                return f"step {number} was {'' if opened else 'not '}answered at once"
            if seen != expected:
                return f"step {number} shows a difference"
    finally:
        for trial in trials:
            await trial.end()
    return None


def _held(body: bytes) -> Hit | None:
    return _FOUND if body == _HELD else None


async def _handle(_: ClientRequest) -> Answer:
    return _FOUND.answer


class _Trial:
    """One connection to a server of its own."""

    def __init__(self, answer_now: AnswerNow | None) -> None:
        limits = HttpLimits(1000, 1000, 8190, keepalive_s=60.0, connections_max=1)
        options = HttpOptions(limits, cache_status=True, server_name="S", cross_origin=False)
        self._server = DataServer(
            _handle,
            is_loop=lambda _: False,
            options=options,
            emit=lambda _: None,
            answer_now=answer_now,
        )
        self._connection: Any = self._server()
        self._transport = _Memory()
        self._connection.connection_made(self._transport)

    async def step(self, data: bytes) -> tuple[bool, object]:
        """Let bytes arrive; tell whether they were answered at once, and all that shows."""
        connection, written = self._connection, len(self._transport.written)
        await _turns()
        connection._next_keepalive_close_time = 0.0  # noqa: SLF001 - seen to be set anew
        connection.data_received(data)
        at_once = len(self._transport.written) > written
        await _turns()
        return at_once, (
            _VARIES.sub(rb"\1\2", self._transport.written),
            self._transport.is_closing(),
            connection._next_keepalive_close_time > 0,  # noqa: SLF001 - as above
            connection._request_count,  # noqa: SLF001 - as above
            self._server.requests_count,
        )

    async def end(self) -> None:
        """Leave nothing behind."""
        self._connection.connection_lost(None)
        await _turns()


async def _turns() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)
