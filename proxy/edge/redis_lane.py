"""Performs round trips to the store over one connection that many callers share.

A *lane* keeps one connection. Callers queue commands and wait on futures; once per turn of the loop
everything queued goes out in one write, behind what is on its way already, and replies settle the
futures as they come. So a cancelled caller never kills the connection, and a hundred concurrent
reads cost one write and one read of the socket. redis-py makes and authenticates the connection;
`redis_pipeline` works on it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import redis.exceptions
from redis.asyncio.connection import AbstractConnection

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.fence import Proven
from proxy.edge.redis_command import Command, Replies
from proxy.edge.redis_connection import Connect, said_by
from proxy.edge.redis_pipeline import Pipeline, Pushed
from proxy.edge.redis_submission import Awaited, Submission
from proxy.edge.redis_wire import PublicWire, take_over
from proxy.flow.ports import Clock

_BACKOFF_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """Bounds of one lane: seconds per silence and per connect, callers that may wait to send."""

    timeout_s: float
    connect_timeout_s: float
    queue_max: int


class Lane:
    """One shared connection.

    Args:
        connect: finds the server and makes an unconnected redis-py connection to it.
        greet: called on every new connection with a function that does one round trip on it;
            raises StoreUnavailable to refuse the server.
        changed: called after the lane went up or down.
        clock: sleep.
        limits: bounds.
        pushed: takes what the store pushes by itself, before any reply that comes behind it.

    Attributes:
        up: whether commands can be submitted.
        problem: why it is not up; None while it is, or before the first attempt has ended.
        pushes: whether what the store pushes comes through on this connection.
        source: what will tell of changes to what is read now; kept by `redis_tracking`.
        flushes: whether something goes out at the end of this turn of the loop, so that one more
            command costs no system call.
    """

    def __init__(
        self,
        *,
        connect: Connect,
        greet: Callable[[Callable[..., Awaitable[Replies]]], Awaitable[None]],
        changed: Callable[[], None],
        clock: Clock,
        limits: LaneLimits,
        pushed: Pushed = lambda _: None,
    ) -> None:
        self._make_connection = connect
        self._greet = greet
        self._changed = changed
        self._clock = clock
        self._limits = limits
        self._pushed = pushed
        self._queue: deque[Submission] = deque()
        self._leaving = False
        self._over = asyncio.Event()
        self._pipeline: Pipeline | None = None
        self.up = False
        self.problem: StoreUnavailable | None = None
        self.pushes = False
        self.source: Proven | None = None
        self.flushes = False

    def submit(self, *commands: Command) -> asyncio.Future[Replies]:
        """Queue commands for one round trip; the future gets one reply each, errors in place.

        Raises:
            StoreUnavailable: the lane is down or full; nothing was queued.
        """
        assert commands, "a round trip without a command"
        # To ask asyncio which loop runs is a system call before 3.12.
        settled: asyncio.Future[Replies] = self._working.loop.create_future()
        self.enqueue(Awaited(commands, settled))
        return settled

    def enqueue(self, submission: Submission) -> None:
        """Queue commands for one round trip, behind all that are queued.

        Raises:
            StoreUnavailable: as `submit`.
        """
        pipeline = self._working
        if len(self._queue) >= self._limits.queue_max:
            raise StoreUnavailable(StoreFailure.FULL, "too many commands wait for the store")
        self._queue.append(submission)
        if not self.flushes:
            self.flushes = True
            pipeline.loop.call_soon(self._flush)

    @property
    def _working(self) -> Pipeline:
        if not self.up or self._pipeline is None:
            raise StoreUnavailable(StoreFailure.CLOSED, "not connected to the store")
        return self._pipeline

    def reconnect(self) -> None:
        """Leave this connection: its server is not the primary it was."""
        self._leaving = True
        if self.up and self._pipeline is not None:
            self._pipeline.leave(_primary_changed())

    async def serve(self) -> None:
        """Connect, work, and connect again for ever; cancel to stop."""
        attempt = 0
        while True:
            connection: AbstractConnection | None = None
            self._over.clear()
            self._leaving = False  # from here on: what is told while it connects counts too
            try:
                connection = await self._make_connection()
                self._pipeline = await self._open(connection)
                await self._introduce(self._pipeline)
                attempt = 0
                await self._over.wait()
            except StoreUnavailable as problem:
                self._went_down(problem)
            finally:
                await self._close(connection)
            backoff_s = _BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)]
            attempt += 1
            await self._clock.sleep(backoff_s * self._clock.uniform(0.5, 1.0))

    async def _open(self, connection: AbstractConnection) -> Pipeline:
        try:
            async with asyncio.timeout(self._limits.connect_timeout_s):
                await connection.connect()  # type: ignore[no-untyped-call]
        except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailable(StoreFailure.CONNECT, said_by(error)) from error
        pipeline = Pipeline(
            timeout_s=self._limits.connect_timeout_s,
            room=self._room_came,
            pushed=self._pushed,
            ended=self._ended,
        )
        pipeline.wire = await take_over(connection, pipeline)
        self.pushes = not isinstance(pipeline.wire, PublicWire)
        return pipeline

    async def _introduce(self, pipeline: Pipeline) -> None:
        async def round_trip(*commands: Command) -> Replies:
            settled: asyncio.Future[Replies] = asyncio.get_running_loop().create_future()
            pipeline.send([Awaited(commands, settled)])
            return await settled

        await self._greet(round_trip)
        pipeline.wait_at_most(self._limits.timeout_s)
        self.up, self.problem = True, None
        self._changed()
        if self._leaving:
            pipeline.leave(_primary_changed())

    def _flush(self) -> None:
        """Send what is queued, as far as the pipeline has room for it."""
        self.flushes = False
        pipeline, batch = self._pipeline, []
        room = pipeline.room if pipeline is not None else 0
        while self._queue and room > 0:
            submission = self._queue.popleft()
            if not submission.given_up:
                batch.append(submission)
                room -= submission.count
        if pipeline is not None and batch:
            pipeline.send(batch)

    def _room_came(self) -> None:
        if self._queue and not self.flushes:
            self._flush()

    def _ended(self, problem: StoreUnavailable) -> None:
        if self.up:
            self._went_down(problem)
        self._over.set()

    def _went_down(self, problem: StoreUnavailable) -> None:
        self.up, self.problem = False, problem
        self._fail_queue(problem)
        self._changed()

    def _fail_queue(self, problem: StoreUnavailable) -> None:
        waiting, self._queue = self._queue, deque()
        for submission in waiting:
            submission.fail(problem)

    async def _close(self, connection: AbstractConnection | None) -> None:
        if self.up:  # still up: this process is stopping, which is no news about the store
            self.up = False
            self._fail_queue(StoreUnavailable(StoreFailure.CLOSED, "stopping"))
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            reason = "the store's connection was closed"
            pipeline.end(StoreUnavailable(StoreFailure.CLOSED, reason))
            pipeline.wire.close()
        if connection is None:
            return
        # It is gone either way.
        with suppress(redis.exceptions.RedisError, OSError, TimeoutError):
            async with asyncio.timeout(self._limits.connect_timeout_s):
                await connection.disconnect(nowait=True)


def _primary_changed() -> StoreUnavailable:
    return StoreUnavailable(StoreFailure.CLOSED, "the store's primary changed")
