"""Claims about applying the batches that Lambda hands over."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.lambda_batch import HandedRecord
from proxy.core.stream_records import PoisonReason, PoisonRecord, StreamEvent, StreamRecord
from proxy.core.values import TableName
from proxy.flow.lambda_batches import RECORDS_MAX, BatchReport, LambdaBatches
from tests.fakes.virtual_clock import VirtualClock

ORDERS, USERS = TableName("orders"), TableName("users")
POISON = PoisonRecord(PoisonReason.NO_KEYS)


class Effects:
    """Notes what is asked for, in order; the store is out for the next `outage` requests."""

    def __init__(self) -> None:
        self.done: list[tuple[TableName, list[str]]] = []
        self.outage = 0
        self.asked = 0

    async def apply(self, table: TableName, records: Sequence[StreamRecord]) -> None:
        """Note records by their sequence numbers."""
        self._ask()
        self.done.append((table, [record.sequence for record in records]))

    async def void(self, table: TableName) -> None:
        """Note a table."""
        self._ask()
        self.done.append((table, ["void"]))

    def _ask(self) -> None:
        self.asked += 1
        if self.outage:
            self.outage -= 1
            raise StoreUnavailable(StoreFailure.RESET, "the connection broke")


class Bench:
    """Batches over noted effects."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.effects = Effects()
        self.batches = LambdaBatches(self.effects, clock=self.clock, tables=[ORDERS, USERS])

    async def apply(self, *batch: HandedRecord, within_s: float = 10.0) -> BatchReport:
        """Apply a batch."""
        return await self.batches.apply(batch, until_s=self.clock.monotonic_s() + within_s)


@pytest.fixture
async def bench() -> Bench:
    """Give a store that is well."""
    return Bench()


def handed(number: int, table: TableName = ORDERS, created_s: float | None = None) -> HandedRecord:
    """Return a record that can be read."""
    keys = {"pk": {"S": "a"}}
    record = StreamRecord(
        StreamEvent.MODIFY, keys, None, created_s, str(number), tells_after=False, table=table
    )
    return HandedRecord(f"#{number}", table, record)


def poison(number: int, table: TableName | None = ORDERS) -> HandedRecord:
    """Return a record that cannot be read."""
    return HandedRecord(f"#{number}", table, POISON)


async def test_records_of_a_table_are_applied_together_and_in_order(bench: Bench) -> None:
    """Those of another table come when it is their turn."""
    batch = [handed(1), handed(2), handed(3, USERS), handed(4)]
    assert await bench.apply(*batch) == BatchReport(4, 0, None, None)
    assert bench.effects.done == [(ORDERS, ["1", "2"]), (USERS, ["3"]), (ORDERS, ["4"])]


async def test_large_batch_is_applied_in_pieces(bench: Bench) -> None:
    """None of which is larger than what may come again for one failure."""
    await bench.apply(*(handed(number) for number in range(2 * RECORDS_MAX + 1)))
    assert [len(numbers) for _, numbers in bench.effects.done] == [RECORDS_MAX, RECORDS_MAX, 1]


async def test_empty_batch_is_done(bench: Bench) -> None:
    """Nothing is asked of the store."""
    assert await bench.apply() == BatchReport(0, 0, None, None)
    assert bench.effects.asked == 0


async def test_poison_voids_its_table_and_the_batch_goes_on(bench: Bench) -> None:
    """In its place: what comes after it is applied after it."""
    report = await bench.apply(handed(1), poison(2, USERS), poison(3, USERS), handed(4))
    assert report == BatchReport(2, 2, None, None)
    assert bench.effects.done == [
        (ORDERS, ["1"]),
        (USERS, ["void"]),
        (USERS, ["void"]),
        (ORDERS, ["4"]),
    ]


async def test_poison_of_an_unknown_table_voids_all_that_are_known(bench: Bench) -> None:
    """It may have been of any of them."""
    assert (await bench.apply(poison(1, None))).poison == 1
    assert bench.effects.done == [(ORDERS, ["void"]), (USERS, ["void"])]


async def test_store_that_is_out_for_a_moment_is_waited_for(bench: Bench) -> None:
    """What failed is tried again, with longer and longer breaks; nothing is applied before it."""
    bench.clock.chance = 1.0
    bench.effects.outage = 7
    report = await bench.apply(handed(1), poison(2))
    assert (report.applied, report.poison, report.unapplied) == (1, 1, None)
    assert bench.effects.done == [(ORDERS, ["1"]), (ORDERS, ["void"])]
    slept_s = 0.02 + 0.05 + 0.1 + 0.2 + 0.5 * 3
    assert bench.clock.monotonic_s() == pytest.approx(slept_s)


async def test_first_record_that_is_not_done_is_named_when_time_is_over(bench: Bench) -> None:
    """What was applied before it is not handed over again."""
    await bench.apply(handed(0))
    bench.effects.outage = 1_000
    report = await bench.apply(handed(1), handed(2), handed(3, USERS), within_s=3.0)
    assert report == BatchReport(0, 0, "#1", None)
    assert bench.clock.monotonic_s() <= 3.0
    bench.effects.outage = 0

    class Dies(Effects):
        async def void(self, table: TableName) -> None:
            raise StoreUnavailable(StoreFailure.RESET, "the connection broke")

    batches = LambdaBatches(Dies(), clock=bench.clock, tables=[])
    batch = [handed(1), poison(2), handed(3)]
    until_s = bench.clock.monotonic_s() + 1.0
    assert await batches.apply(batch, until_s=until_s) == BatchReport(1, 0, "#2", None)


async def test_batch_is_tried_once_however_late_it_is(bench: Bench) -> None:
    """The store may well be there."""
    assert (await bench.apply(handed(1), within_s=-1.0)).unapplied is None
    bench.effects.outage = 1
    assert (await bench.apply(handed(1), within_s=-1.0)).unapplied == "#1"
    assert bench.effects.asked == 2


async def test_report_says_how_far_behind_the_last_record_was(bench: Bench) -> None:
    """By our clock; records without a time, and times to come, do not make it negative."""
    now_s = bench.clock.wall_s()
    batch = [handed(1, created_s=now_s - 9.0), handed(2, created_s=now_s - 4.0), handed(3, USERS)]
    assert (await bench.apply(*batch)).behind_s == pytest.approx(4.0)
    assert (await bench.apply(handed(1, created_s=now_s + 5.0))).behind_s == 0.0


async def test_bug_is_not_taken_for_an_outage(bench: Bench) -> None:
    """It fails the invocation at once."""

    class Broken(Effects):
        async def apply(self, table: TableName, records: Sequence[StreamRecord]) -> None:
            raise AssertionError

    batches = LambdaBatches(Broken(), clock=bench.clock, tables=[])
    with pytest.raises(AssertionError):
        await batches.apply([handed(1)], until_s=10.0)
