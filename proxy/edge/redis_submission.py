"""Commands on their way over a pipeline, and who is told of their replies."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

import hiredis

from proxy.core.errors import StoreUnavailable
from proxy.edge.redis_command import Command, Replies

# Its type hint speaks of a tuple of one word.
_pack: Final[Callable[[Command], bytes]] = hiredis.pack_command  # type: ignore[assignment]


class Submission(ABC):
    """Commands of one caller; gets their replies, or hears that none come, exactly once.

    Neither may raise: others share the connection.

    Args:
        packed: the commands as they go out.
        count: of the commands.

    Attributes:
        replies: those that came so far, errors in place.
        sent_round: the pipeline's own note.
    """

    __slots__ = ("count", "packed", "replies", "sent_round")

    def __init__(self, packed: bytes, count: int) -> None:
        self.packed = packed
        self.count = count
        self.replies: Replies = []
        self.sent_round = 0

    @property
    def given_up(self) -> bool:
        """Whether nobody waits for the replies any more, so that there is no need to ask."""
        return False

    @abstractmethod
    def settle(self) -> None:
        """Take note that all replies are there."""

    @abstractmethod
    def fail(self, problem: StoreUnavailable) -> None:
        """Take note that no replies come."""


class Awaited(Submission):
    """Commands whose caller awaits a future.

    Args:
        commands: what to send.
        settled: gets their replies.
    """

    __slots__ = ("settled",)

    def __init__(self, commands: tuple[Command, ...], settled: asyncio.Future[Replies]) -> None:
        super().__init__(b"".join(map(_pack, commands)), len(commands))
        self.settled = settled

    @property
    def given_up(self) -> bool:
        """Whether the caller was cancelled."""
        return self.settled.done()

    def settle(self) -> None:
        """Hand the replies over."""
        if not self.settled.done():
            self.settled.set_result(self.replies)

    def fail(self, problem: StoreUnavailable) -> None:
        """Tell the caller, if it still waits."""
        if not self.settled.done():
            # One exception object each: they get different tracebacks.
            self.settled.set_exception(StoreUnavailable(problem.failure, str(problem)))
