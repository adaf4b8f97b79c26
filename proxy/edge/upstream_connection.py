"""One connection to upstream: a request out, its reply in, one after the other.

`proxy.edge.upstream_pool` owns connections. Invariant: a reply is taken only for the request that
was sent just before. So a connection is given up where an exchange ends in any other way than with
one whole reply, and where anything arrives that nobody waits for.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import Callable
from typing import Any, Final

from proxy.edge.reply_layout import ReplyLayouts
from proxy.edge.upstream_bound import LateError
from proxy.edge.upstream_parser import BadReplyError, RawReply, ReplyParser

WHOLE_BYTES_MAX: Final = 512 * 1024
PIECE_BYTES: Final = 256 * 1024
"""Longer requests are written in pieces, a turn of the loop each: others are answered meanwhile."""


class UnansweredError(ConnectionResetError):
    """The connection ended before anything of a reply came."""


class UpstreamConnection(asyncio.Protocol):
    """One connection, from a made one to a lost one.

    Args:
        layouts: of `ReplyParser`.
    """

    def __init__(self, layouts: ReplyLayouts | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = ReplyParser(layouts)
        self._when_lost: Callable[[UpstreamConnection], None] | None = None
        self._waiter: asyncio.Future[RawReply] | None = None
        self._unsent = memoryview(b"")
        self._may_write = True
        self._lost = False
        self.open = False
        self.exchanges = 0

    def adopt(self, when_lost: Callable[[UpstreamConnection], None]) -> None:
        """Have `when_lost` called once the connection has gone, at once if it has already."""
        self._when_lost = when_lost
        if self._lost:
            when_lost(self)

    @property
    def quiet(self) -> bool:
        """Whether a request may be sent: open, and nothing has arrived that is not read yet.

        The end of the connection, or a reply to nobody (a server's 408), may wait in the socket
        until the loop's next turn. Asked now, it costs one system call instead of a request.
        """
        return self.open and not self._poll.poll(0)

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS layer, None on a plain connection."""
        found = self._transport.get_extra_info("ssl_object")
        assert found is None or isinstance(found, ssl.SSLObject), "a loop with a TLS of its own"
        return found

    async def exchange(self, method: str, head: bytes, body: bytes) -> RawReply:
        """Send a request and return the reply to it; what breaks off also ends the connection.

        Args:
            method: the request's.
            head: from the request line to the empty line.
            body: as announced in the head.

        Raises:
            OSError: the connection ended before the reply did; UnansweredError where not even a
                first byte of it came.
            BadReplyError: what came is no reply.
            LateError: whoever watches the time said so.
        """
        assert self._waiter is None, "one exchange at a time"
        assert self.open, "the pool gives open connections only"
        self.exchanges += 1
        self._parser.begin(method)
        self._waiter = self._loop.create_future()
        whole = False
        try:
            self._send(head, body)
            reply = await self._waiter
            whole = True
            return reply
        finally:
            self._waiter = None
            if not whole:
                self.abort()  # a reply may come yet, and must not meet the next request

    def abort(self) -> None:
        """End the connection now; who waits for a reply is told of an error."""
        self.open = False
        self._transport.abort()

    def fail(self, error: Exception) -> None:
        """Tell who waits for the reply of an error; nothing where it has come by now."""
        if self._waiter is None or self._waiter.done():
            return
        if not (self._parser.began or isinstance(error, LateError)):
            error = UnansweredError(type(error).__name__)
        self._waiter.set_exception(error)

    def connection_made(self, transport: Any) -> None:
        """Take the transport; called by the loop, TLS is done by now."""
        self._transport: asyncio.Transport = transport  # uvloop's is no subclass of it
        self._poll = select.poll()
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self.open = True

    def data_received(self, data: bytes) -> None:
        """Take what arrived; called by the loop."""
        if self._waiter is None or self._waiter.done():
            self.abort()  # nobody asked for it
            return
        try:
            reply = self._parser.feed(data)
        except BadReplyError as error:
            self.fail(error)
            self.abort()
            return
        if reply is not None:
            self._answer(reply)

    def eof_received(self) -> None:
        """Take note that upstream sends no more; called by the loop, which closes then."""
        self.open = False
        if self._waiter is not None and not self._waiter.done():
            if (reply := self._parser.end()) is not None:
                self._answer(reply)
            else:
                self.fail(ConnectionResetError("ended before the reply did"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note that the connection has gone; called by the loop."""
        self.open = False
        self._lost = True
        self._unsent = memoryview(b"")
        self.fail(exc or ConnectionResetError("lost before the reply came"))
        if self._when_lost is not None:
            self._when_lost(self)

    def pause_writing(self) -> None:
        """Send nothing more for now; called by the loop."""
        self._may_write = False

    def resume_writing(self) -> None:
        """Go on sending; called by the loop."""
        self._may_write = True
        self._send_piece()

    def _send(self, head: bytes, body: bytes) -> None:
        if len(body) <= WHOLE_BYTES_MAX:
            self._transport.write(head + body)
            return
        self._transport.write(head)
        self._unsent = memoryview(body)
        self._send_piece()

    def _send_piece(self) -> None:
        if not (self._unsent and self._may_write and self.open):
            return
        piece, self._unsent = self._unsent[:PIECE_BYTES], self._unsent[PIECE_BYTES:]
        self._transport.write(piece)
        self._loop.call_soon(self._send_piece)

    def _answer(self, reply: RawReply) -> None:
        assert self._waiter is not None, "a reply to nobody"
        self._waiter.set_result(reply)
        if self._unsent or not (reply.reusable and self.open):
            # Upstream answered early, and does not read the rest; or it wants no more requests.
            self._unsent = memoryview(b"")
            self.abort()
