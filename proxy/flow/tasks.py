"""Owns background tasks: each has a name, a bound, and an end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from proxy.core.errors import ProxyError
from proxy.flow.events import Emit, InvariantViolated

T = TypeVar("T")


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
        """Start a task; whoever awaits it should shield it, so that it outlives them."""
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

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        # Reading the exception keeps asyncio from complaining when every waiter was cancelled.
        if task.cancelled() or (error := task.exception()) is None:
            return
        if not isinstance(error, ProxyError):
            self._emit(InvariantViolated(f"{task.get_name()}: {type(error).__name__}"))
