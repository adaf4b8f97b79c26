"""Shares one fetch among the readers of one item, without ever showing a reader the past.

A flight's result may be given to a reader only if it was still current when the reader came.
Every reader and every step of a flight takes a number from one counter, so "came before" is "<".
A flight states as of which number its result is current:

1. the moment it asks the store or upstream: whoever came before that reads nothing too old;
2. the moment it sends its fill, *once the fill was accepted*: acceptance proves that no write
   began between the lease and the fill.

A reader that came later may not use the result: its fetch may have passed DynamoDB before a write
that was acknowledged before the reader came. (A pause of this process makes that gap as long as
you like: the write's acknowledgement and the reader's request wait in socket buffers together with
the flight's reply.) It waits for the flight to land and then shares a younger one.

Flights are also kept apart by the table's generation that they fill under: a flight of an older
generation may still be answered by an entry that a reader of the newer one must not see. None is
the generation of flights that have nothing to do with the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Self, TypeVar

from proxy.core.values import CacheKey, Generation
from proxy.flow.tasks import TaskOwner

R = TypeVar("R")


class Flight(Generic[R]):
    """One fetch that readers share; its work reports here when it asks and when it knows."""

    __slots__ = ("_waiting", "current_as_of", "task", "tick")

    def __init__(self, tick: Callable[[], int]) -> None:
        self.tick = tick
        self.current_as_of = 0
        self.task: asyncio.Task[R] | None = None
        self._waiting: list[asyncio.Future[None]] = []

    @classmethod
    def alone(cls) -> Self:
        """Make a flight that no other reader can find."""
        return cls(lambda: 0)

    def asks(self) -> None:
        """State that what comes back next is current as of now; call before sending."""
        self.current_as_of = self.tick()

    def confirmed(self, as_of: int) -> None:
        """State that the result was still current at `as_of`, a number taken from `tick`."""
        self.current_as_of = max(self.current_as_of, as_of)

    async def landed(self) -> asyncio.Task[R]:
        """Wait until its task has ended; who is cancelled meanwhile leaves it alone."""
        assert self.task is not None, "a flight that readers know of has a task"
        landed: asyncio.Future[None] = self.task.get_loop().create_future()
        self._waiting.append(landed)
        await landed
        return self.task

    def wake(self) -> None:
        """Let go on who waits for it to land."""
        for landed in self._waiting:
            if not landed.done():
                landed.set_result(None)


Work = Callable[[Flight[R]], Coroutine[Any, Any, R]]


class FlightsFullError(Exception):
    """Too many items have a flight at this time; the reader must fetch by itself."""


class Coalescer(Generic[R]):
    """At most one flight per item and generation at a time.

    Args:
        tasks: owns the flights: they outlive their readers.
        flights_max: flights at one time.
    """

    def __init__(self, tasks: TaskOwner, *, flights_max: int) -> None:
        self._tasks = tasks
        self._flights_max = flights_max
        self._flights: dict[CacheKey, dict[Generation | None, Flight[R]]] = {}
        self._running = 0
        self._count = 0

    def __len__(self) -> int:
        return self._running

    async def share(
        self,
        cache_key: CacheKey,
        work: Work[R],
        *,
        generation: Generation | None,
        joins_started: bool,
        accepts: Callable[[R], bool] = lambda _result: True,
    ) -> tuple[R, bool]:
        """Return the result of a flight that is right for this reader.

        Args:
            cache_key: whose flight.
            generation: the table's, as this reader saw it; None leaves the store alone.
            work: does the fetch, should this reader be the one to start it.
            joins_started: whether any flight will do, however old (level `eventual`).
            accepts: whether another reader's result will do for this one.

        Returns:
            The result, and True when this reader started the flight.

        Raises:
            FlightsFullError: nothing was started.
            Whatever the work raised, when it tried after this reader came.
        """
        arrived = self._tick()
        while True:
            flights = self._flights.get(cache_key)
            flight = flights.get(generation) if flights is not None else None
            if flight is None:
                flight = self._start(cache_key, generation, work)
                return (await flight.landed()).result(), True
            task = await flight.landed()
            if task.cancelled():
                raise asyncio.CancelledError
            if joins_started or arrived < flight.current_as_of:
                result = task.result()
                if accepts(result):
                    return result, False

    def forget(self, cache_key: CacheKey) -> None:
        """Let nobody join the present flight any more: a write was acknowledged."""
        self._flights.pop(cache_key, None)

    def _start(
        self, cache_key: CacheKey, generation: Generation | None, work: Work[R]
    ) -> Flight[R]:
        if self._running >= self._flights_max:
            raise FlightsFullError
        flight: Flight[R] = Flight(self._tick)
        self._flights.setdefault(cache_key, {})[generation] = flight
        self._running += 1
        flight.task = self._tasks.spawn(work(flight), "flight")
        flight.task.add_done_callback(lambda _: self._landed(cache_key, generation, flight))
        return flight

    def _landed(
        self, cache_key: CacheKey, generation: Generation | None, flight: Flight[R]
    ) -> None:
        self._running -= 1
        flights = self._flights.get(cache_key, {})
        if flights.get(generation) is flight:
            del flights[generation]
            if not flights:
                del self._flights[cache_key]
        flight.wake()

    def _tick(self) -> int:
        self._count += 1
        return self._count
