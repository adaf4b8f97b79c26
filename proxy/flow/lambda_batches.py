"""Applies a batch that Lambda handed over: in order, all of it or up to the first failure.

The store may be out for a moment, and after a pause of the process its connections are broken: so
what fails is tried again until the invocation's time is nearly over. What is left then is handed
over again; whatever was applied twice does no harm.

Records of one item that are applied together are taken for its changes in their order. From Kinesis
they may come in another: an item whose entry shows change 1 would keep it, if change 2 had come
before. So there no item is twice in what is applied together, and change 2 by itself does not leave
such an entry alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from proxy.core.errors import StoreUnavailable
from proxy.core.lambda_batch import HandedRecord
from proxy.core.stream_records import PoisonReason, RecordResult
from proxy.core.values import TableName
from proxy.flow.ports import Clock
from proxy.flow.stream_effects import Applied

RECORDS_MAX: Final = 100
"""Records that are applied together: when a step fails, so many may be handed over again."""

_BACKOFF_S: Final = (0.02, 0.05, 0.1, 0.2, 0.5)


class Effects(Protocol):
    """What is done about records; implemented by `stream_effects`."""

    async def apply(self, table: TableName, records: Sequence[object]) -> Applied:
        """Invalidate what the records changed, and void the table of those that are poison."""
        ...

    async def void(self, table: TableName) -> None:
        """Let no entry of a table count any more; raises StoreUnavailable if that is not sure."""
        ...


Park = Callable[[TableName, object, PoisonReason], Awaitable[None]]
"""Keeps poison, as it came, for the operator; raises StoreUnavailable if that is not sure."""


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What became of a batch.

    Args:
        results: how many records ended how; of an unknown table they are POISON.
        unapplied: the identifier of the first record that is not done, None if all are.
        behind_s: how long ago, by DynamoDB's clock and ours, the last record that is done was
            written; None where none tells.
    """

    results: dict[RecordResult, int]
    unapplied: str | None
    behind_s: float | None


class LambdaBatches:
    """Applies batches.

    Args:
        effects: what is done about records.
        park: what is done about poison besides.
        clock: time, sleep and chance.
        tables: the tables to void where a record does not even tell its table.
    """

    def __init__(
        self, effects: Effects, park: Park, *, clock: Clock, tables: Sequence[TableName]
    ) -> None:
        self._effects = effects
        self._park = park
        self._clock = clock
        self._tables = tuple(tables)

    async def apply(self, batch: Sequence[HandedRecord], *, until_s: float) -> BatchReport:
        """Apply a batch, or as much of it as can be done before `until_s` (monotonic).

        Raises: nothing that is the world's fault: the report tells.
        """
        results: Counter[RecordResult] = Counter()
        behind_s: float | None = None
        for run in _runs(batch):
            left = await self._work_off(run, results, until_s)
            if left:
                return BatchReport(dict(results), left[0].identifier, behind_s)
            last = run[-1].record
            if last is not None and last.created_s is not None:
                behind_s = max(0.0, self._clock.wall_s() - last.created_s)
        return BatchReport(dict(results), None, behind_s)

    async def _work_off(
        self, run: Sequence[HandedRecord], results: Counter[RecordResult], until_s: float
    ) -> Sequence[HandedRecord]:
        """Do what is to be done about records of one table; return those not done in time."""
        left, attempt = run, 0
        while True:
            left = await self._try(left, results)
            backoff_s = _BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)]
            backoff_s *= self._clock.uniform(0.5, 1.0)
            if not left or self._clock.monotonic_s() + backoff_s >= until_s:
                return left
            await self._clock.sleep(backoff_s)
            attempt += 1

    async def _try(
        self, run: Sequence[HandedRecord], results: Counter[RecordResult]
    ) -> Sequence[HandedRecord]:
        """Try once; return the records that must be tried again."""
        table = run[0].table
        if table is None:
            return await self._void_all(run, results)
        applied = await self._effects.apply(table, [each.record or each.content for each in run])
        left = []
        for at, result in enumerate(applied.results):
            ended = result
            if result is RecordResult.POISON:
                ended = await self._parked(table, run[at].content, applied.poison[at])
            if ended is RecordResult.FAILED:
                left.append(run[at])
            else:
                results[ended] += 1
        return left

    async def _parked(self, table: TableName, record: object, why: PoisonReason) -> RecordResult:
        try:
            await self._park(table, record, why)
        except StoreUnavailable:
            return RecordResult.FAILED
        return RecordResult.POISON

    async def _void_all(
        self, run: Sequence[HandedRecord], results: Counter[RecordResult]
    ) -> Sequence[HandedRecord]:
        """Void every table that is known: the records may be of any of them."""
        try:
            for table in self._tables:
                await self._effects.void(table)
        except StoreUnavailable:
            return run
        results[RecordResult.POISON] += len(run)
        return ()


def _runs(batch: Sequence[HandedRecord]) -> Iterator[Sequence[HandedRecord]]:
    """Yield the batch in pieces: records that follow each other and may be applied together."""
    start, items = 0, set[str]()
    for at, handed in enumerate(batch):
        item = "" if handed.ordered else _item(handed)
        fits = handed.table == batch[start].table and at - start < RECORDS_MAX
        if not fits or item in items:
            yield batch[start:at]
            start, items = at, set()
        if item:
            items.add(item)
    if batch:
        yield batch[start:]


def _item(handed: HandedRecord) -> str:
    """Return the same for records of one item of a table; DynamoDB spells its keys in one way."""
    return "" if handed.record is None else repr(sorted(handed.record.keys.items()))
