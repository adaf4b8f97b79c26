"""Owns background tasks: each has a name, a bound, and an end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from proxy.core.errors import ProxyError
from proxy.flow.events import Emit, InvariantViolated

T = TypeVar("T")
_PAUSE_S: Final = 1.0


async def result_of(task: asyncio.Task[T]) -> T:
    """Wait for a task that others own: who is cancelled here leaves it alone.

    `asyncio.shield` does the same, and takes twice as long.
    """
    ended: asyncio.Future[None] = task.get_loop().create_future()

    def tell(_: asyncio.Task[T]) -> None:
        if not ended.done():
            ended.set_result(None)

    task.add_done_callback(tell)
    await ended
    try:
        return task.result()
    finally:
        del task  # what it raised refers to this frame, which must not refer to it


class TaskOwner:
    """Starts tasks that outlive the request they began in, and ends them all at stop.

    Args:
        emit: told when a task failed in a way nobody expected.
    """

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Start a task; who waits for its `result_of` may be cancelled, and the task goes on."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def settle(self, deadline_s: float, sleep: Callable[[float], Any]) -> None:
        """Wait up to `deadline_s` seconds for all tasks, then cancel the rest."""
        if self._tasks:
            timer = asyncio.ensure_future(sleep(deadline_s))
            everyone = asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.wait({timer, everyone}, return_when=asyncio.FIRST_COMPLETED)
            timer.cancel()
            everyone.cancel()
            await asyncio.gather(timer, everyone, return_exceptions=True)

    async def keep(
        self,
        work: Callable[[], Coroutine[Any, Any, None]],
        name: str,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        """Run work that should never end, again after a pause when a bug ends it; cancel to stop.

        Without the store's or the debts' worker the process would look well and be wrong.
        """
        while True:
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - counted, and the work goes on
                self._emit(InvariantViolated(f"{name}: {type(error).__name__}"))
            await sleep(_PAUSE_S)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        # Reading the exception keeps asyncio from complaining when every waiter was cancelled.
        if task.cancelled() or (error := task.exception()) is None:
            return
        if not isinstance(error, ProxyError):
            self._emit(InvariantViolated(f"{task.get_name()}: {type(error).__name__}"))
