"""Reads one shard under one lease: records take effect, and only then is the place kept.

The lease is asked for by `proxy.flow.stream_reader`, and prolonged with everything that is kept
here, in trouble too. A place that is refused means that another process has the shard: what was
applied here was applied twice, which does no harm.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from proxy.core.cache_key import KeySpace
from proxy.core.errors import StoreUnavailable
from proxy.core.shard_progress import ShardProgress, may_have_missed
from proxy.core.shard_tree import Kept, Lease, ShardState, Start, Step
from proxy.core.stream_answers import StreamRefused, StreamTrouble
from proxy.core.stream_records import (
    GapReason,
    PoisonReason,
    PoisonRecord,
    RecordResult,
    read_record,
)
from proxy.core.values import TableName
from proxy.flow.events import (
    Emit,
    StreamGap,
    StreamRecordsApplied,
    StreamTroubled,
)
from proxy.flow.parking import Parking
from proxy.flow.ports import Clock, StreamStore
from proxy.flow.stream_client import Got, StreamClient
from proxy.flow.stream_effects import StreamEffects

T = TypeVar("T")

POLL_S: Final = 0.25
"""Between two questions about a busy shard: of five a second, one is left to other readers."""

BYTES_PER_S: Final = 1_500_000
"""DynamoDB gives 2 MB a second of a shard, to all its readers together."""

TRIES_MAX: Final = 8
"""How often a record is tried that the store refuses while it takes others."""

_BACKOFF_S: Final = 0.1
_BACKOFF_S_MAX: Final = 5.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How eagerly streams are read.

    Args:
        lease_s: how long a shard is held without a word.
        idle_poll_s: between two questions about a shard that brings nothing.
        look_s: between two looks at the leases.
        discover_s: between two looks at upstream for new shards, by one of all readers.
    """

    lease_s: float = 10.0
    idle_poll_s: float = 1.0
    look_s: float = 1.0
    discover_s: float = 30.0


@dataclass(frozen=True, slots=True)
class ShardPorts:
    """What reading works with."""

    client: StreamClient
    streams: StreamStore
    effects: StreamEffects
    keys: KeySpace
    clock: Clock
    emit: Emit
    pace: Pace


class LeaseLostError(Exception):
    """Another process has the shard."""


class ShardReader:
    """Reads one shard.

    Args:
        ports: what it works with.
        table: whose stream it is of.
        arn: the stream.
        lease: what this process holds.
        state: the shard as it was when it was taken over.
        store_ms: returns the store's time at a moment of this process's clock, or a little less.

    Attributes:
        leaving: whether it is to give the shard up after its batch.
        iterator_age_s: how old the last record of the last batch was, 0 where there was none.
    """

    def __init__(
        self,
        ports: ShardPorts,
        table: TableName,
        *,
        arn: str,
        lease: Lease,
        state: ShardState,
        store_ms: Callable[[float], int],
    ) -> None:
        self._ports = ports
        self._table = table
        self._arn = arn
        self._lease = lease
        self._at = state.checkpoint
        self._as_of_ms = state.as_of_ms
        self._store_ms = store_ms
        self._progress = ShardProgress(ports.pace.idle_poll_s)
        self._stream_key = ports.keys.stream_key(table)
        self._parking = Parking(ports.streams, keys=ports.keys, emit=ports.emit)
        self._failures = 0
        self._idle_s = POLL_S
        self.leaving = False
        self.iterator_age_s = 0.0

    async def read(self) -> bool:
        """Read until the shard is done, which is True, or given up, or lost."""
        try:
            await self._read()
        except LeaseLostError:
            return False
        return self._at.start is Start.DONE

    def leave(self) -> None:
        """Give the shard up after the batch that is being applied."""
        self.leaving = True

    async def _read(self) -> None:
        iterator: str | None = None
        while self._at.start is not Start.DONE:
            if self.leaving:
                await self._keep(lease_s=0.0)
                return
            try:
                if iterator is None:
                    iterator = await self._position()
                asked_s = self._ports.clock.monotonic_s()
                got = await self._ports.client.records(self._table, iterator)
            except StreamRefused as refused:
                iterator = await self._after(refused.trouble, iterator)
                continue
            self._failures = 0
            await self._take(got, asked_s)
            iterator = got.batch.iterator
            if iterator is not None:
                await self._pause(got, asked_s)

    async def _position(self) -> str:
        """Return an iterator at the checkpoint; at the latest end all that is older is voided."""
        client, shard_id = self._ports.client, self._lease.shard_id
        asked_s = self._ports.clock.monotonic_s()
        latest = self._at.start is Start.LATEST
        if not latest and may_have_missed(self._as_of_ms, self._store_ms(asked_s)):
            await self._void(GapReason.UNREAD)
            await self._keep(as_of_s=asked_s)
        iterator = await client.iterator(self._table, self._arn, shard_id, self._at)
        self._progress.moved()
        if latest:
            await self._void(GapReason.NEW)
            self._at = self._at.after(Step.POSITIONED)
            self._progress.moved(asked_s)
            await self._keep(as_of_s=asked_s)
        return iterator

    async def _take(self, got: Got, asked_s: float) -> None:
        """Let a batch take effect, and keep the place after it."""
        records, created_s = got.batch.records, None
        if records:
            await self._apply(records)
            created_s, sequence = _place(records)
            self._at = self._at.after(Step.APPLIED, sequence) if sequence else self._at
        age_s = max(0.0, got.now_s - created_s) if created_s is not None else None
        self.iterator_age_s = age_s or 0.0
        closed = got.batch.iterator is None
        as_of_s = self._progress.answered(asked_s, age_s, closed=closed)
        if closed:
            self._at = self._at.after(Step.EXHAUSTED)
            await self._keep(as_of_s=as_of_s, lease_s=0.0)
        else:
            await self._keep(as_of_s=as_of_s)

    async def _after(self, trouble: StreamTrouble, iterator: str | None) -> str | None:
        """Deal with a refusal; return the iterator to go on with."""
        self._ports.emit(StreamTroubled(self._table, trouble))
        if trouble is StreamTrouble.EXPIRED and iterator is not None:
            return None
        gone = trouble is StreamTrouble.GONE
        if gone or (trouble is StreamTrouble.TRIMMED and self._at.start is not Start.LATEST):
            voided_s = self._ports.clock.monotonic_s()
            await self._void(GapReason.LOST if gone else GapReason.TRIMMED)
            if self._at.start is Start.LATEST:
                self._at = self._at.after(Step.POSITIONED)
            self._at = self._at.after(Step.EXHAUSTED if gone else Step.TRIMMED)
            await self._keep(as_of_s=voided_s, lease_s=0.0 if gone else None)
            if not gone:
                await self._back_off()
            return None
        await self._back_off()
        return iterator

    async def _pause(self, got: Got, asked_s: float) -> None:
        """Wait as long as the shard's limits want, longer while it brings nothing."""
        if got.batch.records or self._progress.is_far:
            self._idle_s = POLL_S
        wait_s = max(self._idle_s, got.size_bytes / BYTES_PER_S)
        self._idle_s = max(POLL_S, min(2 * self._idle_s, self._ports.pace.idle_poll_s))
        passed_s = self._ports.clock.monotonic_s() - asked_s
        await self._ports.clock.sleep(max(0.0, wait_s - passed_s))

    async def _back_off(self) -> None:
        """Wait, longer with each failure, and hold the shard meanwhile."""
        self._failures += 1
        most_s = min(_BACKOFF_S * 2.0 ** min(self._failures, 16), _BACKOFF_S_MAX)
        most_s = min(most_s, self._ports.pace.lease_s / 2)
        await self._ports.clock.sleep(self._ports.clock.uniform(most_s / 2, most_s))
        await self._keep()

    async def _apply(self, records: Sequence[Any]) -> None:
        """Apply records until each took effect, or was parked after its table was voided."""
        left, tries = list(records), 0
        while True:
            applied = await self._ports.effects.apply(self._table, left)
            for result in RecordResult:
                if count := applied.results.count(result):
                    self._ports.emit(StreamRecordsApplied(self._table, result, count))
            for at, reason in applied.poison.items():
                if applied.results[at] is RecordResult.POISON:
                    await self._park(left[at], reason)
            left = [left[at] for at in applied.failed]
            if not left:
                return
            tries += 1
            await self._back_off()  # returns only while the store takes what is kept
            if tries >= TRIES_MAX:
                await self._void(GapReason.REFUSED)
                for record in left:
                    await self._park(record, PoisonReason.REFUSED)
                return

    async def _park(self, record: object, reason: PoisonReason) -> None:
        shard_id = self._lease.shard_id
        await self._surely(
            lambda: self._parking.park(self._table, record, reason, shard_id=shard_id)
        )

    async def _void(self, reason: GapReason) -> None:
        await self._surely(lambda: self._ports.effects.void(self._table))
        self._ports.emit(StreamGap(self._table, reason))

    async def _keep(self, *, as_of_s: float | None = None, lease_s: float | None = None) -> None:
        """Keep the place and the lease.

        Args:
            as_of_s: all of the shard's changes before this moment (monotonic) were applied; None
                leaves what is known.
            lease_s: how long to hold the shard, None for as long as ever.

        Raises:
            LeaseLostError: somebody else has the shard.
        """
        lease_s = self._ports.pace.lease_s if lease_s is None else lease_s
        if as_of_s is not None:
            self._as_of_ms = self._store_ms(as_of_s)
        keep, kept = self._ports.streams.keep_shard, Kept(lease_s, self._as_of_ms, self._at)
        if not await self._surely(lambda: keep(self._stream_key, self._lease, kept)):
            raise LeaseLostError

    async def _surely(self, step: Callable[[], Awaitable[T]]) -> T:
        """Take a step of the store's, however long it is out: nothing goes on without it."""
        tries = 0
        while True:
            try:
                return await step()
            except StoreUnavailable:
                tries += 1
                most_s = min(_BACKOFF_S * 2.0 ** min(tries, 16), _BACKOFF_S_MAX)
                await self._ports.clock.sleep(self._ports.clock.uniform(most_s / 2, most_s))


def _place(records: Sequence[Any]) -> tuple[float | None, str]:
    """Return when the last record came about, and the last place that is told."""
    created_s, sequence = None, ""
    for record in reversed(records):
        try:
            read = read_record(record)
        except PoisonRecord as poison:
            sequence = poison.sequence
        else:
            created_s, sequence = read.created_s, read.sequence
        if sequence:
            break
    return created_s, sequence
