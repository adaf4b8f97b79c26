"""Applies a batch that Lambda handed over: in order, all of it or up to the first failure.

The store may be out for a moment, and after a pause of the process its connections are broken: so a
step that fails is tried again until the invocation's time is nearly over. What is left then is
handed over again; whatever was applied twice does no harm.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from proxy.core.errors import StoreUnavailable
from proxy.core.lambda_batch import HandedRecord
from proxy.core.stream_records import PoisonRecord, StreamRecord
from proxy.core.values import TableName
from proxy.flow.ports import Clock

RECORDS_MAX: Final = 100
"""Records that are applied together: when a step fails, so many may be handed over again."""

_BACKOFF_S: Final = (0.02, 0.05, 0.1, 0.2, 0.5)


class Effects(Protocol):
    """What is done about records; implemented by `stream_effects`."""

    async def apply(self, table: TableName, records: Sequence[StreamRecord]) -> object:
        """Invalidate what the records changed; raises StoreUnavailable if that is not sure."""
        ...

    async def void(self, table: TableName) -> None:
        """Let no entry of a table count any more; raises StoreUnavailable if that is not sure."""
        ...


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What became of a batch.

    Args:
        applied: records applied.
        poison: records that cannot be read; their tables were voided.
        unapplied: the identifier of the first record that is not done, None if all are.
        behind_s: how long ago, by DynamoDB's clock and ours, the last record that is done was
            written; None where none tells.
    """

    applied: int
    poison: int
    unapplied: str | None
    behind_s: float | None


class LambdaBatches:
    """Applies batches.

    Args:
        effects: what is done about records.
        clock: time, sleep and chance.
        tables: the tables to void where a record does not even tell its table.
    """

    def __init__(self, effects: Effects, *, clock: Clock, tables: Sequence[TableName]) -> None:
        self._effects = effects
        self._clock = clock
        self._tables = tuple(tables)

    async def apply(self, batch: Sequence[HandedRecord], *, until_s: float) -> BatchReport:
        """Apply a batch, or as much of it as can be done before `until_s` (monotonic).

        Raises: nothing that is the world's fault: the report tells.
        """
        applied = poison = 0
        behind_s: float | None = None
        for run in _runs(batch):
            if not await self._done(partial(self._settle, run), until_s):
                return BatchReport(applied, poison, run[0].identifier, behind_s)
            if isinstance(run[-1].record, PoisonRecord):
                poison += 1
                continue
            applied += len(run)
            if (created_s := run[-1].record.created_s) is not None:
                behind_s = max(0.0, self._clock.wall_s() - created_s)
        return BatchReport(applied, poison, None, behind_s)

    async def _settle(self, run: Sequence[HandedRecord]) -> None:
        """Do what is to be done about records of one table, or about one that is poison."""
        table = run[0].table
        records = [each.record for each in run if isinstance(each.record, StreamRecord)]
        if table is not None and records:
            await self._effects.apply(table, records)
            return
        for voided in self._tables if table is None else (table,):
            await self._effects.void(voided)

    async def _done(self, step: Callable[[], Awaitable[None]], until_s: float) -> bool:
        """Try a step until it is done; False when the time is over."""
        attempt = 0
        while True:
            try:
                await step()
            except StoreUnavailable:
                backoff_s = _BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)]
                backoff_s *= self._clock.uniform(0.5, 1.0)
                if self._clock.monotonic_s() + backoff_s >= until_s:
                    return False
                await self._clock.sleep(backoff_s)
                attempt += 1
            else:
                return True


def _runs(batch: Sequence[HandedRecord]) -> Iterator[Sequence[HandedRecord]]:
    """Yield the batch in pieces: records of one table that follow each other, poison by itself."""
    start = 0
    while start < len(batch):
        end = start + 1
        while end < min(len(batch), start + RECORDS_MAX) and _belong(batch[start], batch[end]):
            end += 1
        yield batch[start:end]
        start = end


def _belong(one: HandedRecord, other: HandedRecord) -> bool:
    readable = isinstance(one.record, StreamRecord) and isinstance(other.record, StreamRecord)
    return readable and one.table == other.table
