"""Performs the short way of a hit: from a connection's bytes to its answer within one callback.

aiohttp's own way from bytes to a handler and back costs four times what the kernel's does. So one
whole, ordinary GetItem on an idle connection is read here (`proxy.core.request_head`), and where an
answer is at hand it is written at once. aiohttp never sees those bytes. All others it gets as they
came, and in their order:

- The door opens only while aiohttp waits for a next request. Then nothing is being answered, so
  answers cannot overtake each other, and the connection is neither closing nor upgraded.
- It opens only where a request begins. `RequestBounds` follows what aiohttp was given; where the
  two might count differently, it gives the connection up for good.
- What aiohttp does around a request it does not see is done here: the count of requests, and the
  time at which an idle connection ends.

These are aiohttp's internals, so `proxy.edge.door_check` tries them at start and tells whether
there is to be a door at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from proxy.core.head_layout import HeadLayout
from proxy.core.limiter import Budget
from proxy.core.request_head import RequestBounds, read_head
from proxy.edge.http_answer import AnswerForm
from proxy.edge.http_connection import Connection, Host
from proxy.flow.at_once import AnswerNow

AdmitsHead = Callable[[bytes], bool]
"""Whether the sender of this head may be answered without further checks of who it is."""


class DoorHost(Host, Protocol):
    """What a connection with a door asks of its server beside that."""

    draining: bool
    requests_count: int
    bodies: Budget


@dataclass(frozen=True, slots=True)
class FastDoor:
    """What the doors of all connections share.

    Args:
        answer_now: answers a request's body, or does not.
        form: gives the answer its form.
        head_bytes_max: larger heads go to aiohttp, which may refuse them.
        body_bytes_max: the same for bodies.
        failed: is told what a bug raised; the request goes to aiohttp.
        admits: where callers are authenticated, is asked about every head; None admits all.
    """

    answer_now: AnswerNow
    form: AnswerForm
    head_bytes_max: int
    body_bytes_max: int
    failed: Callable[[Exception], None]
    admits: AdmitsHead | None = None

    def answer(self, head: bytes, body: bytes, opening: bytes) -> bytes | None:
        """Return an answer's bytes, if there is one at hand."""
        if self.admits is not None and not self.admits(head):
            return None
        try:
            hit = self.answer_now(body)
            return None if hit is None else self.form.hit(opening, hit)
        except Exception as error:  # noqa: BLE001 - the long way may still answer
            self.failed(error)
            return None


class DoorConnection(Connection):
    """One connection with a door.

    Args:
        host: its server.
        door: what it shares with the others.
        options: aiohttp's own.
    """

    _host: DoorHost

    def __init__(self, host: DoorHost, door: FastDoor, **options: Any) -> None:
        super().__init__(host, **options)
        self._door = door
        self._bounds = RequestBounds()
        self._layout: HeadLayout | None = None
        self._opening = b""
        self._is_get = False

    def data_received(self, data: bytes) -> None:
        """Answer a hit at once, or let aiohttp have the bytes."""
        if self._bounds.at_start and self._is_whole(data):
            if self._is_get and self._answered(data):
                return
        else:
            self._bounds.feed(data)
        super().data_received(data)

    def _is_whole(self, data: bytes) -> bool:
        """Tell whether this is one request and nothing else, and note what kind of one."""
        if self._layout is not None and self._layout.fits(data):
            self._is_get = True
            return True
        head = read_head(data)
        if head is None or len(head.raw) + head.body_bytes != len(data):
            return False
        self._is_get = head.is_plain_get and len(head.raw) <= self._door.head_bytes_max
        if self._is_get:
            self._layout = HeadLayout(head)
            self._opening = self._door.form.opening(head.value(b"content-type"))
        return True

    def _answered(self, data: bytes) -> bool:
        """Write the answer, if the connection is idle and there is one at hand."""
        waiter, transport, layout, host = self._waiter, self.transport, self._layout, self._host
        # A waiter that is pending means: no request in work or queued, and nobody asked to close.
        if waiter is None or waiter.done() or self._paused:
            return False
        if transport is None or transport.is_closing() or host.draining:
            return False
        assert layout is not None, "a whole request without a layout"
        body_bytes = len(data) - layout.bytes
        if body_bytes > self._door.body_bytes_max or not host.bodies.has_room(body_bytes):
            return False
        head, body = data[: layout.bytes], data[layout.bytes :]
        answer = self._door.answer(head, body, self._opening)
        if answer is None:
            return False
        transport.write(answer)
        host.requests_count += 1
        self._request_count += 1
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        return True
