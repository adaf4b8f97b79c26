"""What a store's connection with CLIENT TRACKING does: it remembers what it read, and pushes.

Messages of one connection keep their order. A push is made when the record changes; an answered
PING stands behind all pushes that were made before it. Without more, messages arrive at once and
the connection is proven at every moment; `hold` makes them wait, `hand_on` takes them on their way.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from proxy.core.values import CacheKey
from proxy.flow.ports import NearFeed

Message = Callable[[], None]


class MemoryConnection:
    """A `ports.NearSource`: one connection, until it is gone.

    Args:
        now_s: monotonic time of the process that has the connection.
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self.gone = False
        self.answered_s: float | None = None
        """When the last answered PING was sent; None while every moment is proven."""

    serves_until_s = math.inf
    """The memory store has no heartbeat."""

    @property
    def proven_s(self) -> float:
        """See `ports.NearSource`."""
        if self.gone:
            return -math.inf
        return self._now_s() if self.answered_s is None else self.answered_s


class MemoryTracking:
    """The tracking connection of one link to a memory store.

    Args:
        feed: takes pushes.
        now_s: monotonic time of the process that has the connection.

    Attributes:
        connection: the present one.
        hand_on: takes every message to the process, in order; at once unless replaced.
    """

    def __init__(self, feed: NearFeed, now_s: Callable[[], float]) -> None:
        self._feed = feed
        self._now_s = now_s
        self._tracked: set[bytes] = set()
        self._waiting: deque[Message] = deque()
        self.connection = MemoryConnection(now_s)
        self.hand_on: Callable[[Message], None] = _at_once

    def reads(self, *keys: bytes) -> tuple[MemoryConnection, ...]:
        """Remember records that are being read; return who will tell of changes."""
        self._tracked.update(keys)
        return (self.connection,)

    def changed(self, key: bytes | None) -> None:
        """Push that a record changed, if it was read here; None for all records."""
        connection = self.connection
        if key is None:
            self._tracked.clear()
            self.hand_on(lambda: self._feed.lost(connection))
        elif key in self._tracked:
            # One push per reading, as in a real store.
            self._tracked.remove(key)
            self.hand_on(lambda: self._feed.invalidated([CacheKey(key)]))

    def ping(self, sent_s: float) -> None:
        """Answer a PING that was sent at `sent_s`; it has reached the store now."""
        connection = self.connection

        def pong() -> None:
            connection.answered_s = sent_s

        self.hand_on(pong)

    def hold(self) -> None:
        """Let messages wait from now on; nothing newer than now is proven."""
        self.connection.answered_s = self._now_s()
        self.hand_on = self._waiting.append

    def deliver(self) -> None:
        """Let what waits arrive, and everything later at once; a PING is answered."""
        self.hand_on = _at_once
        while self._waiting:
            self._waiting.popleft()()
        self.connection.answered_s = None

    def disconnect(self) -> None:
        """Lose the connection with all that is on its way, and make another."""
        lost, self.connection = self.connection, MemoryConnection(self._now_s)
        lost.gone = True
        self._tracked.clear()
        self._waiting.clear()
        self.hand_on = _at_once
        self._feed.lost(lost)


def _at_once(message: Message) -> None:
    message()
