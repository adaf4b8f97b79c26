"""Claims about applying the batches that Lambda hands over."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import pytest

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.lambda_batch import HandedRecord, read_batch
from proxy.core.stream_records import PoisonReason, RecordResult, StreamEvent, StreamRecord
from proxy.core.values import TableName
from proxy.flow.lambda_batches import RECORDS_MAX, BatchReport, LambdaBatches
from proxy.flow.stream_effects import Applied, StreamEffects
from tests.fakes.memory_stream_store import MemoryStreamStore
from tests.fakes.virtual_clock import VirtualClock
from tests.support.flow_world import TABLE, World, key_of, value_of

ORDERS, USERS = TableName("orders"), TableName("users")
ABSENT, POISON = RecordResult.ABSENT, RecordResult.POISON


class Noted:
    """Notes what is asked for, in order; the store is out for the next `outage` requests.

    Records named in `fails` fail once each.
    """

    def __init__(self) -> None:
        self.done: list[tuple[TableName, list[str]]] = []
        self.outage = 0
        self.asked = 0
        self.fails: set[str] = set()

    async def apply(self, table: TableName, records: Sequence[object]) -> Applied:
        """Note records by their sequence numbers; what is none is poison."""
        self.asked += 1
        if self.outage:
            self.outage -= 1
            return Applied((RecordResult.FAILED,) * len(records), {})
        names = [each.sequence if isinstance(each, StreamRecord) else "poison" for each in records]
        self.done.append((table, names))
        results = [POISON if name == "poison" else ABSENT for name in names]
        for at, name in enumerate(names):
            if name in self.fails:
                self.fails.remove(name)
                results[at] = RecordResult.FAILED
        poison = {at: PoisonReason.NO_KEYS for at, name in enumerate(names) if name == "poison"}
        return Applied(tuple(results), poison)

    async def void(self, table: TableName) -> None:
        """Note a table."""
        self._ask()
        self.done.append((table, ["void"]))

    async def park(self, table: TableName, record: object, reason: PoisonReason) -> None:
        """Note a record that is poison."""
        self._ask()
        self.done.append((table, ["parked", str(record), reason]))

    def _ask(self) -> None:
        self.asked += 1
        if self.outage:
            self.outage -= 1
            raise StoreUnavailable(StoreFailure.RESET, "the connection broke")


class Bench:
    """Batches over noted effects."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.noted = Noted()
        self.batches = LambdaBatches(
            self.noted, self.noted.park, clock=self.clock, tables=[ORDERS, USERS]
        )

    async def apply(self, *batch: HandedRecord, within_s: float = 10.0) -> BatchReport:
        """Apply a batch."""
        return await self.batches.apply(batch, until_s=self.clock.monotonic_s() + within_s)


@pytest.fixture
async def bench() -> Bench:
    """Give a store that is well."""
    return Bench()


def handed(
    number: int, table: TableName | None = ORDERS, *, pk: str = "", created_s: float | None = None
) -> HandedRecord:
    """Return a record that can be read; with a `pk` it comes from Kinesis."""
    keys = {"pk": {"S": pk}, "sk": {"N": "1"}}
    record = StreamRecord(
        StreamEvent.MODIFY, keys, None, created_s, str(number), tells_after=False, table=table
    )
    return HandedRecord(f"#{number}", table, {"as": "it came"}, record, ordered=not pk)


def poison(number: int, table: TableName | None = ORDERS) -> HandedRecord:
    """Return a record that cannot be read."""
    return HandedRecord(f"#{number}", table, f"poison {number}", None, ordered=True)


async def test_records_of_a_table_are_applied_together_and_in_order(bench: Bench) -> None:
    """Those of another table come when it is their turn."""
    batch = [handed(1), handed(2), handed(3, USERS), handed(4)]
    assert await bench.apply(*batch) == BatchReport({ABSENT: 4}, None, None)
    assert bench.noted.done == [(ORDERS, ["1", "2"]), (USERS, ["3"]), (ORDERS, ["4"])]


async def test_large_batch_is_applied_in_pieces(bench: Bench) -> None:
    """None of which is larger than what may come again for one failure."""
    await bench.apply(*(handed(number) for number in range(2 * RECORDS_MAX + 1)))
    assert [len(numbers) for _, numbers in bench.noted.done] == [RECORDS_MAX, RECORDS_MAX, 1]


async def test_item_is_not_twice_in_what_kinesis_may_have_put_in_disorder(bench: Bench) -> None:
    """Or an entry that shows the last of them would be left alone, though an older change."""
    batch = [handed(1, pk="a"), handed(2, pk="b"), handed(3, pk="a"), handed(4, pk="b")]
    await bench.apply(*batch, handed(5, pk="c"), handed(6, USERS, pk="c"))
    assert bench.noted.done == [(ORDERS, ["1", "2"]), (ORDERS, ["3", "4", "5"]), (USERS, ["6"])]


async def test_poison_of_kinesis_is_nobodys_item(bench: Bench) -> None:
    """Two of them may be applied together."""
    spoiled = HandedRecord("#1", ORDERS, "poison", None, ordered=False)
    await bench.apply(spoiled, spoiled)
    assert bench.noted.done[0] == (ORDERS, ["poison", "poison"])


async def test_empty_batch_is_done(bench: Bench) -> None:
    """Nothing is asked of the store."""
    assert await bench.apply() == BatchReport({}, None, None)
    assert bench.noted.asked == 0


async def test_poison_is_parked_and_the_batch_goes_on(bench: Bench) -> None:
    """Its table was voided with it."""
    report = await bench.apply(handed(1), poison(2), handed(3))
    assert report == BatchReport({ABSENT: 2, POISON: 1}, None, None)
    assert bench.noted.done == [
        (ORDERS, ["1", "poison", "3"]),
        (ORDERS, ["parked", "poison 2", "no-keys"]),
    ]


async def test_record_that_turns_out_to_be_poison_is_parked_as_it_came(bench: Bench) -> None:
    """Also one that can be read: of a key that DynamoDB would not take, say."""

    class Strict(Noted):
        async def apply(self, table: TableName, records: Sequence[object]) -> Applied:
            return Applied((POISON,), {0: PoisonReason.STRANGE_KEY})

    batches = LambdaBatches(Strict(), bench.noted.park, clock=bench.clock, tables=[])
    await batches.apply([handed(1)], until_s=1.0)
    assert bench.noted.done == [(ORDERS, ["parked", "{'as': 'it came'}", "strange-key"])]


async def test_poison_that_cannot_be_parked_comes_again(bench: Bench) -> None:
    """Nothing is skipped silently."""

    async def no_room(_table: TableName, _record: object, _reason: PoisonReason) -> None:
        raise StoreUnavailable(StoreFailure.REFUSED, "full")

    batches = LambdaBatches(bench.noted, no_room, clock=bench.clock, tables=[])
    report = await batches.apply([handed(1), poison(2), handed(3)], until_s=1.0)
    assert report == BatchReport({ABSENT: 2}, "#2", None)


async def test_poison_of_an_unknown_table_voids_all_that_are_known(bench: Bench) -> None:
    """It may have been of any of them."""
    assert (await bench.apply(poison(1, None), poison(2, None))).results == {POISON: 2}
    assert bench.noted.done == [(ORDERS, ["void"]), (USERS, ["void"])]


async def test_store_that_is_out_for_a_moment_is_waited_for(bench: Bench) -> None:
    """What failed is tried again, with longer and longer breaks; nothing is applied before it."""
    bench.clock.chance = 1.0
    bench.noted.outage = 7
    report = await bench.apply(handed(1), handed(2, USERS))
    assert report == BatchReport({ABSENT: 2}, None, None)
    assert bench.noted.done == [(ORDERS, ["1"]), (USERS, ["2"])]
    slept_s = 0.02 + 0.05 + 0.1 + 0.2 + 0.5 * 3
    assert bench.clock.monotonic_s() == pytest.approx(slept_s)


async def test_only_what_failed_is_tried_again(bench: Bench) -> None:
    """Each record counts once, as it ended."""
    bench.noted.fails = {"2", "4"}
    report = await bench.apply(*map(handed, range(1, 6)))
    assert report.results == {ABSENT: 5}
    assert bench.noted.done == [(ORDERS, ["1", "2", "3", "4", "5"]), (ORDERS, ["2", "4"])]


async def test_first_record_that_is_not_done_is_named_when_time_is_over(bench: Bench) -> None:
    """What was applied before it is not handed over again."""
    bench.noted.outage = 1_000
    report = await bench.apply(handed(1), handed(2), handed(3, USERS), within_s=3.0)
    assert report == BatchReport({}, "#1", None)
    assert bench.clock.monotonic_s() <= 3.0
    bench.noted.outage = 0
    bench.noted.fails = {"2", "4"}
    report = await bench.apply(*map(handed, range(1, 6)), within_s=0.0)
    assert report == BatchReport({ABSENT: 3}, "#2", None)


async def test_table_that_cannot_be_voided_is_a_failure(bench: Bench) -> None:
    """Of the first record that wants it."""
    bench.noted.outage = 1
    report = await bench.apply(handed(0), poison(1, None), poison(2, None), within_s=0.0)
    assert report == BatchReport({}, "#0", None)
    bench.noted.outage = 1
    report = await bench.apply(poison(1, None), poison(2, None), within_s=0.0)
    assert report == BatchReport({}, "#1", None)


async def test_batch_is_tried_once_however_late_it_is(bench: Bench) -> None:
    """The store may well be there."""
    assert (await bench.apply(handed(1), within_s=-1.0)).unapplied is None
    bench.noted.outage = 1
    assert (await bench.apply(handed(1), within_s=-1.0)).unapplied == "#1"
    assert bench.noted.asked == 2


async def test_report_says_how_far_behind_the_last_record_was(bench: Bench) -> None:
    """By our clock; records without a time, and times to come, do not make it negative."""
    now_s = bench.clock.wall_s()
    batch = [handed(1, created_s=now_s - 9.0), handed(2, created_s=now_s - 4.0), handed(3, USERS)]
    assert (await bench.apply(*batch, poison(4))).behind_s == pytest.approx(4.0)
    assert (await bench.apply(handed(1, created_s=now_s + 5.0))).behind_s == 0.0


def by_kinesis(pk: str, v: str) -> dict[str, Any]:
    """Return a change as Lambda hands it over from Kinesis."""
    change = {"Keys": key_of(pk), "NewImage": {**key_of(pk), "v": {"S": v}}}
    payload = {"eventName": "MODIFY", "tableName": TABLE, "dynamodb": change}
    data = base64.b64encode(json.dumps(payload).encode()).decode()
    return {"eventSource": "aws:kinesis", "kinesis": {"sequenceNumber": v, "data": data}}


async def test_disorder_of_kinesis_leaves_nothing_stale(world: World) -> None:
    """With the real effects: the entry shows the change that came last, but happened first."""
    proxy = world.proxy()
    streams = MemoryStreamStore(world.store)
    effects = StreamEffects(
        world.store, streams, keys=world.keys, clock=world.clock, policy_of=world.policy_of
    )
    batches = LambdaBatches(effects, Noted().park, clock=world.clock, tables=[])
    world.put_elsewhere("a", "1")
    assert value_of(await proxy.get("a")) == "1"
    world.put_elsewhere("a", "2")
    batch = read_batch({"Records": [by_kinesis("a", "2"), by_kinesis("a", "1")]})
    report = await batches.apply(batch, until_s=1.0)
    assert sum(report.results.values()) == 2
    assert value_of(await proxy.get("a")) == "2"
