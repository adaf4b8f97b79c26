"""A data server alone, over real sockets, with a handler of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from proxy.core.request import Answer, ClientRequest
from proxy.core.values import Outcome
from proxy.edge.http_server import DataServer, HttpLimits, HttpOptions
from proxy.edge.listeners import DataListener
from proxy.flow.at_once import AnswerNow
from proxy.flow.events import Event
from proxy.flow.store_hits import LookUp
from tests.support.serving import Wire

Handler = Callable[[ClientRequest], Awaitable[Answer]]


async def echo(request: ClientRequest) -> Answer:
    """Answer with the request's body."""
    return Answer(200, (), request.body, Outcome.HIT, crc32=1)


class Server:
    """A data server with small limits, and the events it emitted."""

    def __init__(
        self,
        handler: Handler,
        *,
        answer_now: AnswerNow | None = None,
        look_up: LookUp | None = None,
        **options: Any,
    ) -> None:
        self.port = 0
        self.events: list[Event] = []
        limits = {
            "body_bytes_max": 1000,
            "bodies_bytes_max": 4000,
            "header_bytes_max": 8190,
            "keepalive_s": 10.0,
            "connections_max": 3,
        }
        limits |= {name: options.pop(name) for name in limits if name in options}
        shown = {"cache_status": True, "server_name": "S", "cross_origin": True, **options}
        self.data_server = DataServer(
            handler,
            is_loop=lambda request: ("X-Hop", "me") in request.headers,
            options=HttpOptions(HttpLimits(**limits), **shown),  # type: ignore[arg-type]
            emit=self.events.append,
            answer_now=answer_now,
            look_up=look_up,
        )

    def wire(self) -> Wire:
        """Return a connection, not yet open."""
        return Wire("127.0.0.1", self.port)


@asynccontextmanager
async def server(handler: Handler = echo, **options: Any) -> AsyncIterator[Server]:
    """Serve on a free port."""
    running = Server(handler, **options)
    listener = DataListener(running.data_server, port_shared=False)
    await listener.start("127.0.0.1", 0)
    running.port = int(listener.url.rpartition(":")[2])
    try:
        yield running
    finally:
        await listener.close()
