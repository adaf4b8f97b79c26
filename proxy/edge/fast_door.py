"""Performs the short way of an ordinary request: from a connection's bytes to its answer.

aiohttp's own way from bytes to a handler and back costs many times what the kernel's does. So one
whole, ordinary request on an idle connection is read here (`proxy.core.request_head`). Where its
answer is at hand it is written within the callback; where one lookup in the store finds it, it is
written where the store's reply is read; else one task asks for it and writes it. aiohttp never
sees those bytes. All others it gets as they came, and in their order:

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
from proxy.core.hits import Hit
from proxy.core.limiter import Budget
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
        self._busy = False  # with a request that aiohttp does not see
        self._asked: tuple[HeadLayout, bytes] | None = None  # it, while it is looked up
        self._work: asyncio.Task[None] | None = None  # on it
        self._rest: asyncio.Future[None] | None = None  # settled when it is done, if asked for
        self._held = b""
        self._waited = False  # a turn of the loop, for aiohttp to be ready

    def data_received(self, data: bytes) -> None:
        """Take a request that is whole and ordinary, or let aiohttp have the bytes."""
        if self._busy:
            self._hold(data)
            return
        layout = self._layout
        if not self._bounds.at_start:
            layout = None
        elif layout is None or not layout.fits(data):
            layout = self._layout = self._door.layouts.find(data)
        if layout is None:
            self._bounds.feed(data)
        elif self._is_open(len(data) - layout.bytes):
            self._take(layout, data)
            return
        elif self._is_about_to_wait:
            self._wait_a_turn(data)
            return
        super().data_received(data)

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109 - aiohttp's signature
        """End the connection, once its request was answered or the time for that is over."""
        if self._busy:
            self._force_close = True  # no further request
            self._rest = self._loop.create_future()
            await asyncio.wait({self._rest}, timeout=timeout)
        if self._busy:
            if self._work is not None:
                self._work.cancel()
            self.force_close()  # or aiohttp would wait as long for a next request
        await super().shutdown(timeout)

    def _process_keepalive(self) -> None:
        """Called by aiohttp when the connection may have been idle for long enough."""
        if self._busy:
            self._stay()
        super()._process_keepalive()

    def _is_open(self, body_bytes: int) -> bool:
        """Tell whether the connection is idle, and a body of this size within every bound."""
        waiter, transport, host = self._waiter, self.transport, self._host
        # A waiter that is pending means: no request in work or queued, and nobody asked to close.
        if waiter is None or waiter.done() or self._paused:
            return False
        if transport is None or transport.is_closing() or host.draining:
            return False
        return body_bytes <= self._door.body_bytes_max and host.bodies.has_room(body_bytes)

    @property
    def _is_about_to_wait(self) -> bool:
        """Whether aiohttp has nothing in hand, and only needs a turn to wait for a request.

        So it is with a connection's first request, and with what follows soon after an answer of
        aiohttp's. Given those, it would have every later one too, at several times the cost.
        """
        idle = self._waiter is None and self._current_request is None and not self._messages
        return idle and not self._waited

    def _wait_a_turn(self, data: bytes) -> None:
        self._waited = self._busy = True  # once: then aiohttp may have it
        self._hold(data)
        self._loop.call_soon(self._go_on_after_turn)

    def _go_on_after_turn(self) -> None:
        self._go_on(closes=False)
        self._waited = False

    def _take(self, layout: HeadLayout, data: bytes) -> None:
        host, door, at = self._host, self._door, layout.bytes
        host.requests_count += 1
        self._request_count += 1
        body = data[at:]
        admitted = layout.is_plain_get and (door.admits is None or door.admits(data[:at]))
        if admitted and self._answer_now(layout, body):
            return
        host.in_flight += 1
        host.bodies.take(len(body))
        self._busy = True
        if admitted and door.looks_up is not None:
            self._asked = layout, data
            self._look_up(door.looks_up, body)
        else:
            self._begin(layout, data, None)

    def _answer_now(self, layout: HeadLayout, body: bytes) -> bool:
        door, transport = self._door, self.transport
        assert transport is not None, "a door that is open without a transport"
        if layout is not self._get_layout:
            self._opening = door.form.opening(layout.content_type)
            self._get_layout = layout
        try:
            hit = door.answer_now(body)
            if hit is None:
                return False
            now_s = self._loop.time()
            transport.write(door.form.hit(self._opening, hit, now_s))
        except Exception as error:  # noqa: BLE001 - the handler may still answer
            door.failed(error)
            return False
        self._next_keepalive_close_time = now_s + self._keepalive_timeout  # as `_stay`
        return True

    def _look_up(self, looks_up: LookUp, body: bytes) -> None:
        try:
            looks_up(body, self)
        except Exception as error:  # noqa: BLE001 - the handler may still answer
            self.broke(error)
            if self._asked is not None:
                self.found(None)

    def found(self, found: Hit | Answers | None) -> None:
        """Answer by what a lookup found; see `proxy.flow.store_hits.Asker`."""
        assert self._asked is not None, "nothing was looked up"
        layout, data = self._asked
        self._asked = None
        if isinstance(found, Hit) and not self._host.draining and not self._paused:
            try:
                self._send(self._door.form.hit(self._opening, found, self._loop.time()))
            except Exception as error:  # noqa: BLE001 - the handler may still answer
                self._door.failed(error)
                found = None
            else:
                self._done(len(data) - layout.bytes)
                self._go_on(closes=False)
                return
        self._begin(layout, data, found)

    def broke(self, error: Exception) -> None:
        """Tell of a bug; see `proxy.flow.store_hits.Asker`."""
        self._door.failed(error)

    def _begin(self, layout: HeadLayout, data: bytes, found: Hit | Answers | None) -> None:
        # Nobody cancels it when the client hangs up: that must not end a write half-way.
        self._work = self._loop.create_task(self._serve(layout, data, found))

    def _send(self, answer: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(answer)

    def _done(self, body_bytes: int) -> None:
        self._host.in_flight -= 1
        self._host.bodies.give(body_bytes)

    def _stay(self) -> None:
        """Count the time until an idle connection ends from now."""
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout

    async def _serve(self, layout: HeadLayout, data: bytes, found: Hit | Answers | None) -> None:
        closes = True
        try:
            answer = await self._answer(layout, data, found)
            closes = self._host.draining
            self._send(answer)
            if self._paused:
                await self._drain_helper()
        except ConnectionError:
            closes = True  # the client went away without its answer
        finally:
            self._work = None
            self._busy = False
        self._go_on(closes=closes)

    async def _answer(self, layout: HeadLayout, data: bytes, found: Hit | Answers | None) -> bytes:
        host, door, body = self._host, self._door, data[layout.bytes :]
        try:
            request = ClientRequest("POST", "/", layout.headers(data), body)
            if isinstance(found, Hit):
                return door.whole(request, found.answer, closes=host.draining)
            answer = await host.answer(request, found)
            return door.whole(request, answer, closes=host.draining)
        finally:
            self._done(len(body))

    def _hold(self, data: bytes) -> None:
        if self.transport is None or not data:  # what comes after the end is for nobody
            return
        if not self._held:
            self.transport.pause_reading()
        self._held += data

    def _go_on(self, *, closes: bool) -> None:
        self._busy = False
        if self._rest is not None and not self._rest.done():
            self._rest.set_result(None)
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
