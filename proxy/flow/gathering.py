"""Gathers the fetches of one client's batch, so that upstream is asked once for all of them.

Each key that may have to be fetched takes a seat. A seat decides: it wants its item, or another
proxy is filling it, or it leaves. As soon as every seat has decided, what is wanted goes upstream
together. Seats that wait for another proxy do not hold up the others; those that waited in vain
wait for each other, so that what is still missing then is fetched together too.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from proxy.core.batch_fetch import WantedItem
from proxy.core.fetches import FetchPlan
from proxy.core.operations import Capacity
from proxy.core.read_plan import ReadPlan
from proxy.flow.exchange import Exchange, Fetched
from proxy.flow.tasks import TaskOwner, result_of


class _State(StrEnum):
    UNDECIDED = "undecided"  # taken; its lease is still being asked for
    WAITING = "waiting"  # another proxy fills
    DECIDED = "decided"  # has asked for its item, or left


@dataclass(slots=True)
class _Round:
    """What goes upstream in one request, and what comes back."""

    wanted: list[WantedItem] = field(default_factory=list)
    hurries: bool = False  # somebody wants its item who did not wait for another proxy
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[list[Fetched]] | None = None


class Gathering:
    """The fetches of one client's batch.

    Args:
        exchange: upstream.
        tasks: owns the requests: readers of other requests may wait for them too.
        capacity: what the client wants to know of the capacity consumed.

    `consumed` is what upstream has charged so far, if it was asked.
    """

    def __init__(self, exchange: Exchange, *, tasks: TaskOwner, capacity: Capacity) -> None:
        self._exchange = exchange
        self._tasks = tasks
        self._capacity = capacity
        self._seats: Counter[_State] = Counter()
        self._round = _Round()
        self.consumed: list[dict[str, Any]] = []

    def seat(self) -> Seat:
        """Take a seat; from now on the others wait for its decision."""
        self._seats[_State.UNDECIDED] += 1
        return Seat(self)

    def move(self, before: _State, after: _State) -> None:
        """Take note that a seat has changed its state; send if everybody has decided."""
        self._seats[before] -= 1
        self._seats[after] += 1
        complete = not self._seats[_State.UNDECIDED]
        if complete and (self._round.hurries or not self._seats[_State.WAITING]):
            self._send()

    async def fetch(self, wanted: WantedItem, before: _State) -> Fetched:
        """Ask for an item together with what the others want."""
        round_ = self._round
        place = len(round_.wanted)
        round_.wanted.append(wanted)
        round_.hurries |= before is not _State.WAITING
        self.move(before, _State.DECIDED)
        await round_.gone.wait()
        assert round_.task is not None, "gone without a task"
        return (await result_of(round_.task))[place]

    def _send(self) -> None:
        if not self._round.wanted:
            return
        leaving, self._round = self._round, _Round()
        leaving.task = self._tasks.spawn(self._ask(leaving.wanted), "batch")
        leaving.gone.set()

    async def _ask(self, wanted: list[WantedItem]) -> list[Fetched]:
        fetched, consumed = await self._exchange.fetch_batch(wanted, self._capacity)
        self.consumed.extend(consumed)
        return fetched


class Seat:
    """One key's place in a gathering; a `Source` for its flight."""

    def __init__(self, gathering: Gathering) -> None:
        self._gathering = gathering
        self._state = _State.UNDECIDED

    def waits(self) -> None:
        """Let the others go ahead: another proxy is filling."""
        if self._state is _State.UNDECIDED:
            self._move(_State.WAITING)

    async def fetch(self, plan: FetchPlan, *, consistent: bool) -> Fetched:
        """Read a whole item together with what the others want.

        Raises:
            UpstreamFailed: no complete answer came.
        """
        assert isinstance(plan, ReadPlan), "a batch is of items"
        before, self._state = self._state, _State.DECIDED
        wanted = WantedItem(plan.get.table, plan.get.key, consistent)
        return await self._gathering.fetch(wanted, before)

    def leave(self) -> None:
        """Need nothing more; harmless for who has asked already."""
        if self._state is not _State.DECIDED:
            self._move(_State.DECIDED)

    def _move(self, after: _State) -> None:
        before, self._state = self._state, after
        self._gathering.move(before, after)
