"""Sends commands over one connection and gives each reply to whoever waits for it, in order.

Owned by a lane (`redis_lane`). Everything happens inside the loop's own callbacks: one write per
`send`, and whatever the socket brings is taken apart at once. What the store pushes by itself is
handed on where it stands in the stream, before any later reply is given to anybody.
Source: RESP3 specification, "Push type": between replies, never inside one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import hiredis
import redis.exceptions

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.edge.redis_command import reply_error
from proxy.edge.redis_patience import Patience
from proxy.edge.redis_submission import Submission
from proxy.edge.redis_wire import Receiver, Wire

IN_FLIGHT_MAX: Final = 512  # commands that may wait for replies on one connection
_NOT_YET: Final = object()
Pushed = Callable[[list[Any]], None]
"""Takes what the store pushes: its kind, then what belongs to that kind."""


class Pipeline(Receiver):
    """One connection at work.

    Args:
        timeout_s: the longest silence while replies are awaited.
        room: called when replies have come, so that more can be sent.
        pushed: takes what the store pushes.
        ended: told once why the connection is of no more use, before whoever waits is.

    Attributes:
        loop: that it was made in.
        wire: what commands go out on; set once, before the first `send`.
    """

    def __init__(
        self,
        *,
        timeout_s: float,
        room: Callable[[], None],
        pushed: Pushed,
        ended: Callable[[StoreUnavailable], None],
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self._room_came = room
        self._pushed = pushed
        self._tell_ended = ended
        self._ended = False
        self._sent: deque[Submission] = deque()
        self._in_flight = 0
        self._patience = Patience(timeout_s)
        self._timer: asyncio.TimerHandle | None = None
        self._writable = True
        self._leaving: StoreUnavailable | None = None
        self._reader = hiredis.Reader(
            protocolError=redis.exceptions.InvalidResponse,
            replyError=reply_error,
            notEnoughData=_NOT_YET,
        )
        self.wire: Wire

    @property
    def room(self) -> int:
        """How many commands may be sent now."""
        if not self._writable or self._leaving is not None or self._ended:
            return 0
        return IN_FLIGHT_MAX - self._in_flight

    def wait_at_most(self, timeout_s: float) -> None:
        """Change the longest silence; nothing may be in flight."""
        assert not self._sent, "somebody waits under another time-out"
        self._patience.timeout_s = timeout_s
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def send(self, submissions: Sequence[Submission]) -> None:
        """Write all their commands at once; each gets one reply per command."""
        patience = self._patience
        if not self._sent:
            patience.heard_s = self.loop.time()
            if self._timer is None:
                self._timer = self.loop.call_later(patience.timeout_s, self._judge)
        for submission in submissions:
            submission.sent_round = patience.round
            self._in_flight += submission.count
        self._sent.extend(submissions)
        self.wire.write(b"".join([submission.packed for submission in submissions]))

    def leave(self, problem: StoreUnavailable) -> None:
        """Send nothing more, and end with `problem` once what was sent has its replies."""
        self._leaving = problem
        self.loop.call_soon(self._end_if_left)

    def end(self, problem: StoreUnavailable) -> None:
        """Fail whoever waits for a reply; the connection is of no more use."""
        if self._ended:
            return
        self._ended = True
        self._tell_ended(problem)
        if self._timer is not None:
            self._timer.cancel()
        for submission in self._sent:
            submission.fail(problem)
        self._sent.clear()

    def data_received(self, data: bytes) -> None:
        """Take what the socket brought."""
        if self._ended:
            return  # a late reply is nobody's
        self._patience.heard_s = self.loop.time()
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not _NOT_YET:
                self._take(reply)
        except redis.exceptions.InvalidResponse as error:
            self.end(broken(error))
        self._room_came()

    def take(self, reply: object) -> None:
        """Take a reply that somebody else has read.

        Raises:
            InvalidResponse: nobody waits for it.
        """
        if not self._ended:
            self._patience.heard_s = self.loop.time()
            self._take(reply)
            self._room_came()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the connection."""
        self.end(broken(exc or ConnectionError()))

    def pause_writing(self) -> None:
        """Send nothing while the socket takes nothing."""
        self._writable = False

    def resume_writing(self) -> None:
        """Send again."""
        self._writable = True
        self._room_came()

    def _take(self, reply: object) -> None:
        if type(reply) is hiredis.PushNotification:
            self._pushed(reply)
            return
        if not self._sent:
            raise redis.exceptions.InvalidResponse
        first = self._sent[0]
        first.replies.append(reply)
        if len(first.replies) < first.count:
            return
        self._sent.popleft()
        self._in_flight -= first.count
        first.settle()
        if self._leaving is not None:
            self._end_if_left()

    def _end_if_left(self) -> None:
        if self._leaving is not None and not self._sent:
            self.end(self._leaving)

    def _judge(self) -> None:
        """Look whether the store was silent for too long; once per time-out, not per reply."""
        self._timer = None
        if not self._sent:
            return
        now_s, oldest_round = self.loop.time(), self._sent[0].sent_round
        try:
            again_s = self._patience.judge(now_s, oldest_round=oldest_round)
        except StoreUnavailable as unavailable:
            self.end(unavailable)
        else:
            self._timer = self.loop.call_later(again_s, self._judge)


def broken(error: Exception) -> StoreUnavailable:
    """Return what callers see of a connection that broke."""
    reason = f"the store's connection broke: {type(error).__name__}"
    return StoreUnavailable(StoreFailure.RESET, reason)
