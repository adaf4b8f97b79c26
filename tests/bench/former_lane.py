"""The lane as it was before `redis_pipeline`, for `tests.bench.lanes` to compare with.

One connection owned by one worker task. Callers queue commands and wait on futures;
the worker sends everything queued as one pipeline, reads the replies and settles the futures. So a
cancelled caller never kills the connection, and a hundred concurrent reads cost one write and one
read of the socket. redis-py makes, authenticates and parses the connection.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import redis.exceptions
from redis.asyncio.connection import AbstractConnection

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.edge.redis_command import Command, Replies
from proxy.edge.redis_connection import Connect, said_by
from proxy.edge.redis_lane import LaneLimits
from proxy.flow.ports import Clock

BATCH_COMMANDS_MAX: Final = 512
ROUNDS_MAX: Final = 10  # time-outs that one batch may last while its replies keep coming
_ONE_MORE_TURN_S: Final = 0.02
_BACKOFF_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(slots=True)
class _Submission:
    commands: tuple[Command, ...]
    settled: asyncio.Future[Replies]


class FormerLane:
    """One shared connection.

    Args:
        connect: finds the server and makes an unconnected redis-py connection to it.
        greet: called on every new connection with a function that does one round trip on it;
            raises StoreUnavailable to refuse the server.
        changed: called after the lane went up or down.
        clock: time and sleep.
        limits: bounds.
    """

    def __init__(
        self,
        *,
        connect: Connect,
        greet: Callable[[Callable[..., Awaitable[Replies]]], Awaitable[None]],
        changed: Callable[[], None],
        clock: Clock,
        limits: LaneLimits,
    ) -> None:
        self._make_connection = connect
        self._greet = greet
        self._changed = changed
        self._clock = clock
        self._limits = limits
        self._queue: deque[_Submission] = deque()
        self._queued = asyncio.Event()
        self._leaving = False
        self.up = False
        self.problem: StoreUnavailable | None = None
        self.source = None

    def submit(self, *commands: Command) -> asyncio.Future[Replies]:
        """Queue commands for one round trip; the future gets one reply each, errors in place.

        Raises:
            StoreUnavailable: the lane is down or full; nothing was queued.
        """
        if not self.up:
            raise StoreUnavailable(StoreFailure.CLOSED, "not connected to the store")
        if len(self._queue) >= self._limits.queue_max:
            raise StoreUnavailable(StoreFailure.FULL, "too many commands wait for the store")
        settled: asyncio.Future[Replies] = asyncio.get_running_loop().create_future()
        self._queue.append(_Submission(commands, settled))
        self._queued.set()
        return settled

    def reconnect(self) -> None:
        """Leave this connection: its server is not the primary it was."""
        self._leaving = True
        self._queued.set()

    async def serve(self) -> None:
        """Connect, work, and connect again for ever; cancel to stop."""
        attempt = 0
        while True:
            connection: AbstractConnection | None = None
            self._leaving = False  # from here on: what is told while it connects counts too
            try:
                connection = await self._make_connection()
                await self._open(connection)
                attempt = 0
                await self._work(connection)
            except StoreUnavailable as problem:
                self._went_down(problem)
            finally:
                await self._close(connection)
            backoff_s = _BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)]
            attempt += 1
            await self._clock.sleep(backoff_s * self._clock.uniform(0.5, 1.0))

    async def _open(self, connection: AbstractConnection) -> None:
        try:
            async with asyncio.timeout(self._limits.connect_timeout_s):
                await connection.connect()  # type: ignore[no-untyped-call]
        except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailable(StoreFailure.CONNECT, said_by(error)) from error

        async def round_trip(*commands: Command) -> Replies:
            return await self._exchange(connection, commands, self._limits.connect_timeout_s)

        await self._greet(round_trip)
        self.up, self.problem = True, None
        self._changed()

    async def _work(self, connection: AbstractConnection) -> None:
        while True:
            await self._queued.wait()
            if self._leaving:
                raise StoreUnavailable(StoreFailure.CLOSED, "the store's primary changed")
            batch = self._next_batch()
            commands = tuple(command for each in batch for command in each.commands)
            if not commands:
                continue
            try:
                replies = await self._exchange(connection, commands, self._limits.timeout_s)
            except BaseException as error:
                self._fail(batch, error)
                raise
            at = 0
            for each in batch:
                count = len(each.commands)
                if not each.settled.done():
                    each.settled.set_result(replies[at : at + count])
                at += count

    def _next_batch(self) -> list[_Submission]:
        batch: list[_Submission] = []
        size = 0
        while self._queue and size < BATCH_COMMANDS_MAX:
            submission = self._queue.popleft()
            if not submission.settled.done():  # its caller gave up before anything was sent
                batch.append(submission)
                size += len(submission.commands)
        if not self._queue:
            self._queued.clear()
        return batch

    async def _exchange(
        self, connection: AbstractConnection, commands: tuple[Command, ...], timeout_s: float
    ) -> Replies:
        replies: Replies = []
        work = asyncio.ensure_future(_converse(connection, commands, replies))
        try:
            await while_it_moves(work, replies, timeout_s)
        except (redis.exceptions.RedisError, OSError) as error:
            reason = f"the store's connection broke: {type(error).__name__}"
            raise StoreUnavailable(StoreFailure.RESET, reason) from error
        finally:
            work.cancel()
        return replies

    def _went_down(self, problem: StoreUnavailable) -> None:
        self.up, self.problem = False, problem
        waiting, self._queue = list(self._queue), deque()
        self._queued.clear()
        self._fail(waiting, problem)
        self._changed()

    def _fail(self, submissions: list[_Submission], error: BaseException) -> None:
        problem = (
            error
            if isinstance(error, StoreUnavailable)
            else StoreUnavailable(StoreFailure.CLOSED, "the store's connection was closed")
        )
        for submission in submissions:
            if not submission.settled.done():
                # One exception object each: they get different tracebacks.
                submission.settled.set_exception(StoreUnavailable(problem.failure, str(problem)))

    async def _close(self, connection: AbstractConnection | None) -> None:
        if self.up:  # still up: this process is stopping, which is no news about the store
            self.up = False
            waiting, self._queue = list(self._queue), deque()
            self._fail(waiting, StoreUnavailable(StoreFailure.CLOSED, "stopping"))
        if connection is None:
            return
        # It is gone either way.
        with suppress(redis.exceptions.RedisError, OSError, TimeoutError):
            async with asyncio.timeout(self._limits.connect_timeout_s):
                await connection.disconnect(nowait=True)


async def while_it_moves(work: asyncio.Future[None], replies: Replies, timeout_s: float) -> None:
    """Wait for a batch as long as replies keep coming: `timeout_s` bounds each silence.

    A batch of large replies may rightly take longer than one time-out as a whole. And where
    this process itself stood still, the replies lie in the socket when the timer fires: one
    more turn of the loop brings them in. ROUNDS_MAX bounds the whole: a store that dribbles is as
    good as silent to whoever waits for the last reply.
    """
    for _ in range(ROUNDS_MAX):
        before = len(replies)
        for patience_s in (timeout_s, _ONE_MORE_TURN_S):
            done, _ = await asyncio.wait({work}, timeout=patience_s)
            if done:
                return work.result()
            if len(replies) > before:
                break
        else:
            raise StoreUnavailable(StoreFailure.TIMEOUT, "the store is silent")
    raise StoreUnavailable(StoreFailure.TIMEOUT, "the store is too slow")


async def _converse(
    connection: AbstractConnection, commands: tuple[Command, ...], replies: Replies
) -> None:
    """Send a batch and append each reply as it comes."""
    packed = connection.pack_commands(commands)
    await connection.send_packed_command(packed, check_health=False)
    for _ in commands:
        replies.append(await _read(connection))


async def _read(connection: AbstractConnection) -> Any:
    try:
        # math.inf: no time-out of redis-py's own; the whole batch has one.
        return await connection.read_response(timeout=math.inf, disconnect_on_error=False)
    except redis.exceptions.ResponseError as error:
        return error
