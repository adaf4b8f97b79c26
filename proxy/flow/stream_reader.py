"""Reads one table's stream, together with all other proxies of the store, and knows its lag.

Every proxy looks at the stream's record in the store, again and again: what it says is how far the
table is behind. Proxies that read also take the shards that are theirs to read, give up what
others should have, and one of them at a time asks upstream for new shards.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from proxy.core.errors import StoreUnavailable
from proxy.core.shard_tree import Lease, StreamView, childless, grow, share
from proxy.core.stream_answers import StreamRefused, StreamTrouble
from proxy.core.stream_lag import Sighting
from proxy.core.stream_records import GapReason
from proxy.core.values import TableName, Token
from proxy.flow.events import StreamGap, StreamTroubled
from proxy.flow.shard_reader import ShardPorts, ShardReader
from proxy.flow.stream_policies import StreamPolicies
from proxy.flow.tasks import TaskOwner

_PRESENT_LOOKS: Final = 4.0
"""A reader counts as there for so many looks after its last one."""

_CHILDREN_LOOKS_MAX: Final = 30
"""How often children of a closed shard are looked for at once; then as often as anything new."""

_PASSING: Final = frozenset({StreamTrouble.THROTTLED, StreamTrouble.FAILED})

NO_STREAM: Final = "no-stream"
DISABLED: Final = "disabled"
ENABLED: Final = "enabled"
UNKNOWN: Final = "unknown"


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """What `/status` and the metrics show of a table's stream.

    Args:
        state: what upstream said of it last, to this process: enabled, disabled, no-stream, a
            trouble's name, or unknown.
        lag_s: how far the table is behind; None while that is unknown.
        over: whether that is over the bound.
        shards: shards left to be read, those that wait for their parents included.
        held: those that this process reads.
        readers: processes that read.
        iterator_age_s: how old the last records were that this process read, those of the shard
            that is furthest behind; 0 where they brought none.
    """

    state: str
    lag_s: float | None
    over: bool
    shards: int
    held: int
    readers: int
    iterator_age_s: float = 0.0


class StreamReader:
    """One table's stream.

    Args:
        ports: what reading works with.
        table: whose stream.
        reader: this process, None if it only watches.
        tasks: owns what is under way; of its own, since a draining process waits for others.
        policies: told of the lag.
        arn: the stream, where DescribeTable must not be asked.
    """

    def __init__(
        self,
        ports: ShardPorts,
        table: TableName,
        *,
        reader: Token | None,
        tasks: TaskOwner,
        policies: StreamPolicies,
        arn: str | None = None,
    ) -> None:
        self._ports = ports
        self._table = table
        self._reader = reader
        self._tasks = tasks
        self._policies = policies
        self._arn = arn
        self._stream_key = ports.keys.stream_key(table)
        self._held: dict[str, ShardReader] = {}
        self._dividing = asyncio.Lock()
        self._discovering = False
        self._discover_soon = False
        self._childless: frozenset[str] = frozenset()
        self._looks_for_children = 0
        self._leaving = False
        self._state = UNKNOWN
        self._seen: Sighting | None = None

    async def watch(self) -> None:
        """Look, for ever; cancel to stop."""
        while True:
            await self.look()
            await self._ports.clock.sleep(self._ports.pace.look_s)

    async def look(self) -> None:
        """Look once at the stream's record, and do what is to be done now."""
        with suppress(StoreUnavailable):
            await self._look()
        self._policies.judge(self._table, self.lag_s)

    @property
    def lag_s(self) -> float | None:
        """How far the table is behind now, as far as this process knows."""
        seen = self._seen
        return seen.lag_s(self._ports.clock.monotonic_s()) if seen is not None else None

    def status(self) -> StreamStatus:
        """Return what is known now."""
        view = self._seen.view if self._seen is not None else None
        return StreamStatus(
            state=self._state,
            lag_s=self.lag_s,
            over=self._table in self._policies.over,
            shards=sum(not shard.done for shard in view.shards.values()) if view else 0,
            held=len(self._held),
            readers=len(view.readers) if view else 0,
            iterator_age_s=max((each.iterator_age_s for each in self._held.values()), default=0.0),
        )

    def leave(self) -> None:
        """Give up all shards, each after the batch that is being applied, and take no more."""
        self._leaving = True
        for shard in self._held.values():
            shard.leave()

    async def _look(self) -> None:
        pace = self._ports.pace
        reader = None if self._leaving else self._reader
        asked_s = self._ports.clock.monotonic_s()
        view = await self._ports.streams.look_at_stream(
            self._stream_key,
            reader,
            present_s=_PRESENT_LOOKS * pace.look_s,
            discover_s=pace.discover_s,
        )
        self._seen = Sighting(view, asked_s, self._ports.clock.monotonic_s())
        if reader is None:
            return
        if (view.due or self._discover_soon or self._awaits_children(view)) and (
            not self._discovering
        ):
            self._discovering, self._discover_soon = True, False
            self._tasks.spawn(self._discover(view), "stream discovery")
        await self._divide(view, reader)

    def _awaits_children(self, view: StreamView) -> bool:
        """Tell whether children of a closed shard are to be looked for at once."""
        waiting = frozenset(childless(view)) if self._state == ENABLED else frozenset()
        if waiting != self._childless:
            self._childless, self._looks_for_children = waiting, 0
        self._looks_for_children += 1
        return bool(waiting) and self._looks_for_children <= _CHILDREN_LOOKS_MAX

    async def _discover(self, view: StreamView) -> None:
        """Ask upstream for the stream's shards, and put what is new into the store.

        Args:
            view: taken before upstream was asked.
        """
        try:
            await self._grow(view)
        except StreamRefused as refused:
            self._state = refused.trouble.value
            self._discover_soon = refused.trouble in _PASSING
            self._ports.emit(StreamTroubled(self._table, refused.trouble))
        except StoreUnavailable:
            self._discover_soon = True
        finally:
            self._discovering = False

    async def _grow(self, view: StreamView) -> None:
        client, ports = self._ports.client, self._ports
        arn = self._arn or await client.stream_of(self._table)
        if arn is None:
            self._state = NO_STREAM
            return
        listing = await client.shards(self._table, arn)
        self._state = ENABLED if listing.enabled else DISABLED
        growth = grow(view, arn, listing.shards)
        if growth.lost:
            await self._void(GapReason.LOST)
        if not (growth.added or growth.gone or view.arn != arn):
            return
        if view.arn != arn:
            # Whoever dies between the next step and the voiding after it is followed by nobody who
            # knows that the stream was new. What closed shards brought is older than this.
            await ports.effects.void(self._table)
        if await ports.streams.grow_stream(self._stream_key, arn, growth):
            await self._void(GapReason.NEW)
        await self._look()

    async def _void(self, reason: GapReason) -> None:
        await self._ports.effects.void(self._table)
        self._ports.emit(StreamGap(self._table, reason))

    async def _divide(self, view: StreamView, reader: Token) -> None:
        """Take the shards that are this process's to read, and give up what others should have."""
        async with self._dividing:
            shares = share(view, reader)
            for shard_id in shares.give:
                if (held := self._held.get(shard_id)) is not None:
                    held.leave()
            for shard_id in shares.take:
                if shard_id not in self._held:
                    await self._claim(view.arn, shard_id, reader)

    async def _claim(self, arn: str, shard_id: str, reader: Token) -> None:
        lease_s = self._ports.pace.lease_s
        state = await self._ports.streams.claim_shard(
            self._stream_key, shard_id, reader, lease_s=lease_s
        )
        if state is None:
            return
        lease = Lease(shard_id, reader, state.fence)
        held = ShardReader(
            self._ports, self._table, arn=arn, lease=lease, state=state, store_ms=self._store_ms
        )
        if self._leaving:
            held.leave()
        self._held[shard_id] = held
        self._tasks.spawn(self._read(shard_id, held), "stream shard")

    def _store_ms(self, at_s: float) -> int:
        """Return the store's time at a moment of this process's."""
        assert self._seen is not None, "whoever holds a shard has looked"
        return self._seen.store_ms(at_s)

    async def _read(self, shard_id: str, held: ShardReader) -> None:
        try:
            done = await held.read()
        finally:
            del self._held[shard_id]
        if done:
            self._discover_soon = True
            await self.look()
