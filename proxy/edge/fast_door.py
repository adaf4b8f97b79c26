"""Performs the short way of an ordinary request: from a connection's bytes to its answer.

aiohttp's own way from bytes to a handler and back costs many times what the kernel's does. So one
whole, ordinary request on an idle connection is read here (`proxy.core.request_head`). Where its
answer is at hand it is written within the callback; else one task asks for it and writes it, and
where one lookup in the store finds it no more than that is done.
aiohttp never sees those bytes. All others it gets as they came, and in their order:

- The door opens only while aiohttp waits for a next request. Then nothing is being answered, so
  answers cannot overtake each other, and the connection is neither closing nor upgraded.
- It opens only where a request begins. `RequestBounds` follows what aiohttp was given; where the
  two might count differently, it gives the connection up for good.
- While a request of the door's own is in work, what comes next is held: one read, as the
  transport is paused. Then it comes in as if it came only now.
- What aiohttp does around a request it does not see is done here: the count of requests, the
  time at which an idle connection ends, and waiting for the last answer at the end.

These are aiohttp's internals, so `proxy.edge.door_check` tries them at start and tells whether
there is to be a door at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from proxy.core.head_layout import HeadLayout, HeadLayouts
from proxy.core.limiter import Budget
from proxy.core.near_copy import NearHit
from proxy.core.request import Answer, ClientRequest
from proxy.core.request_head import RequestBounds
from proxy.core.responses import internal_error
from proxy.edge.http_answer import AnswerForm
from proxy.edge.http_connection import Connection, Host
from proxy.flow.at_once import AnswerNow
from proxy.flow.store_hits import Answers, LookUp

AdmitsHead = Callable[[bytes], bool]
"""Whether the sender of this head may be answered without further checks of who it is."""


class DoorHost(Host, Protocol):
    """What a connection with a door asks of its server beside that."""

    draining: bool
    requests_count: int
    in_flight: int
    bodies: Budget

    async def answer(self, received: ClientRequest, answers: Answers | None = None) -> Answer:
        """Answer a request that was read; whatever is wrong becomes an answer too."""
        ...


@dataclass(frozen=True, slots=True)
class FastDoor:
    """What the doors of all connections share.

    Args:
        answer_now: answers a request's body, or does not.
        form: gives the answer its form.
        layouts: of the requests that came of late; what has none goes to aiohttp.
        body_bytes_max: larger bodies go to aiohttp, which refuses them.
        failed: is told what a bug raised.
        looks_up: looks up what is not at hand, where anything can.
        admits: where callers are authenticated, is asked about every head before an answer at
            hand is given; None admits all.
    """

    answer_now: AnswerNow
    form: AnswerForm
    layouts: HeadLayouts
    body_bytes_max: int
    failed: Callable[[Exception], None]
    looks_up: LookUp | None = None
    admits: AdmitsHead | None = None

    def answer(self, head: bytes, body: bytes, opening: bytes) -> bytes | None:
        """Return an answer's bytes, if there is one at hand."""
        if self.admits is not None and not self.admits(head):
            return None
        try:
            hit = self.answer_now(body)
            return None if hit is None else self.form.hit(opening, hit)
        except Exception as error:  # noqa: BLE001 - the handler may still answer
            self.failed(error)
            return None

    async def look_up(self, head: bytes, body: bytes) -> NearHit | Answers | None:
        """Return a hit on what the store has, or who goes on from there; see `LookUp`."""
        if self.looks_up is None or (self.admits is not None and not self.admits(head)):
            return None
        try:
            return await self.looks_up(body)
        except Exception as error:  # noqa: BLE001 - the handler may still answer
            self.failed(error)
            return None

    def whole(self, request: ClientRequest, answer: Answer, *, closes: bool) -> bytes:
        """Return an answer's bytes, or those of an error where a bug leaves none."""
        try:
            return self.form.whole(request, answer, closes=closes)
        except Exception as error:  # noqa: BLE001 - one request fails, the process goes on
            self.failed(error)
            return self.form.whole(request, internal_error(), closes=closes)


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
        self._get_layout: HeadLayout | None = None
        self._opening = b""  # of answers to `_get_layout`
        self._work: asyncio.Task[None] | None = None
        self._held = b""

    def data_received(self, data: bytes) -> None:
        """Take a request that is whole and ordinary, or let aiohttp have the bytes."""
        if self._work is not None:
            self._hold(data)
            return
        layout = self._find_layout(data) if self._bounds.at_start else None
        if layout is None:
            self._bounds.feed(data)
        elif self._is_open(len(data) - layout.bytes):
            self._take(layout, data)
            return
        super().data_received(data)

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109 - aiohttp's signature
        """End the connection, once its request was answered or the time for that is over."""
        if self._work is not None:
            self._force_close = True  # no further request
            await asyncio.wait({self._work}, timeout=timeout)
        if self._work is not None:
            self._work.cancel()
            self.force_close()  # or aiohttp would wait as long for a next request
        await super().shutdown(timeout)

    def _process_keepalive(self) -> None:
        """Called by aiohttp when the connection may have been idle for long enough."""
        if self._work is not None:
            self._stay()
        super()._process_keepalive()

    def _find_layout(self, data: bytes) -> HeadLayout | None:
        if self._layout is None or not self._layout.fits(data):
            self._layout = self._door.layouts.find(data)
        return self._layout

    def _is_open(self, body_bytes: int) -> bool:
        """Tell whether the connection is idle, and a body of this size within every bound."""
        waiter, transport, host = self._waiter, self.transport, self._host
        # A waiter that is pending means: no request in work or queued, and nobody asked to close.
        if waiter is None or waiter.done() or self._paused:
            return False
        if transport is None or transport.is_closing() or host.draining:
            return False
        return body_bytes <= self._door.body_bytes_max and host.bodies.has_room(body_bytes)

    def _take(self, layout: HeadLayout, data: bytes) -> None:
        body = data[layout.bytes :]
        self._host.requests_count += 1
        self._request_count += 1
        if layout.is_plain_get:
            if layout is not self._get_layout:
                self._opening = self._door.form.opening(layout.content_type)
                self._get_layout = layout
            answer = self._door.answer(data[: layout.bytes], body, self._opening)
            if answer is not None:
                assert self.transport is not None, "a door that is open without a transport"
                self.transport.write(answer)
                self._stay()
                return
        self._host.in_flight += 1
        self._host.bodies.take(len(body))
        # Nobody cancels it when the client hangs up: that must not end a write half-way.
        self._work = self._loop.create_task(self._serve(layout, data))

    def _stay(self) -> None:
        """Count the time until an idle connection ends from now."""
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout

    async def _serve(self, layout: HeadLayout, data: bytes) -> None:
        closes = True
        try:
            answer = await self._answer(layout, data)
            closes = self._host.draining
            transport = self.transport
            if transport is not None and not transport.is_closing():
                transport.write(answer)
            if self._paused:
                await self._drain_helper()
        except ConnectionError:
            closes = True  # the client went away without its answer
        finally:
            self._work = None
        self._go_on(closes=closes)

    async def _answer(self, layout: HeadLayout, data: bytes) -> bytes:
        host, door, body = self._host, self._door, data[layout.bytes :]
        try:
            found = None
            if layout.is_plain_get:
                found = await door.look_up(data[: layout.bytes], body)
            if isinstance(found, NearHit) and not host.draining:
                return door.form.hit(self._opening, found)
            request = ClientRequest("POST", "/", layout.headers(data), body)
            if isinstance(found, NearHit):
                return door.whole(request, found.answer, closes=True)
            answer = await host.answer(request, found)
            return door.whole(request, answer, closes=host.draining)
        finally:
            host.in_flight -= 1
            host.bodies.give(len(body))

    def _hold(self, data: bytes) -> None:
        if self.transport is None or not data:  # what comes after the end is for nobody
            return
        if not self._held:
            self.transport.pause_reading()
        self._held += data

    def _go_on(self, *, closes: bool) -> None:
        if closes or self._close or self._force_close:
            self._held = b""
            self.force_close()
            return
        self._stay()
        held, self._held = self._held, b""
        if held:
            assert self.transport is not None, "aiohttp knows of its end before"
            self.transport.resume_reading()
            self.data_received(held)
