"""Claims about `proxy.flow.debts`, with real fences on the memory store."""

from __future__ import annotations

import asyncio
import math

import pytest

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.record import Pending, Tombstone
from proxy.core.values import FenceResult
from proxy.flow.debts import Debts
from proxy.flow.events import DebtsChanged, Event, FenceEnded
from proxy.flow.fences import ItemFence, TableFence
from tests.support.flow_world import TABLE, World


class Ledger:
    """Debts with what they told."""

    def __init__(self, world: World, debts_max: int = 10) -> None:
        self.world = world
        self.events: list[Event] = []
        self.debts = Debts(clock=world.clock, emit=self.events.append, debts_max=debts_max)

    def item(self, pk: str) -> ItemFence:
        """Return a new write's fence around an item."""
        return ItemFence(self.world.store, self.world.identity(pk), self.world.clock.token())

    def table(self) -> TableFence:
        """Return a new write's fence around the whole table."""
        table_key = self.world.keys.table_key(TABLE)
        return TableFence(self.world.store, TABLE, table_key, self.world.clock.token())

    def owes(self, pk: str) -> bool:
        """Tell whether a read of this item must bypass the store."""
        return self.debts.owes(self.world.identity(pk))


@pytest.fixture
async def ledger(world: World) -> Ledger:
    """Give an empty ledger."""
    return Ledger(world)


async def test_open_debt_concerns_its_item_only(ledger: Ledger) -> None:
    """Reads of the item bypass the store while the debt is open; other items do not."""
    assert not ledger.owes("a")
    ledger.debts.open(ledger.item("a"))
    assert (ledger.owes("a"), ledger.owes("b")) == (True, False)
    assert ledger.events == [DebtsChanged(1)]


async def test_open_debt_on_a_table_concerns_all_its_items(ledger: Ledger) -> None:
    """A write that may touch any item makes every read of the table bypass the store."""
    ledger.debts.open(ledger.table())
    assert (ledger.owes("a"), ledger.owes("b")) == (True, True)


async def test_debt_is_not_paid_before_it_is_ripe(ledger: Ledger) -> None:
    """While the write may still take effect, paying would come too early."""
    debt = ledger.debts.open(ledger.item("a"))
    assert debt.ripe_s == math.inf
    ledger.debts.ripen(debt, in_s=30.0)
    await ledger.world.clock.sleep(29.0)
    await ledger.debts.pay_ripe()
    assert (ledger.owes("a"), ledger.world.store.steps) == (True, [])
    await ledger.world.clock.sleep(1.0)
    await ledger.debts.pay_ripe()
    assert not ledger.owes("a")


async def test_paying_leaves_a_tombstone_and_is_told(ledger: Ledger) -> None:
    """A paid debt whose marker never arrived leaves a tombstone over whatever was there."""
    debt = ledger.debts.open(ledger.item("a"))
    ledger.debts.ripen(debt, in_s=0.0)
    await ledger.debts.pay_ripe()
    assert isinstance(ledger.world.store.record(ledger.world.identity("a")), Tombstone)
    assert ledger.events[1:] == [FenceEnded(TABLE, FenceResult.LOST), DebtsChanged(0)]


async def test_paying_beside_another_writer_leaves_its_marker(ledger: Ledger) -> None:
    """A debt paid while another write is in flight does not open the item to readers."""
    other = ledger.item("a")
    await other.begin()
    ledger.debts.ripen(ledger.debts.open(ledger.item("a")), in_s=0.0)
    await ledger.debts.pay_ripe()
    assert isinstance(ledger.world.store.record(ledger.world.identity("a")), Pending)


async def test_paying_a_table_raises_its_generation(ledger: Ledger) -> None:
    """A paid table debt lets no older entry of the table count."""
    store, identity = ledger.world.store, ledger.world.identity("a")
    before = (await store.lookup(identity)).generation
    ledger.debts.ripen(ledger.debts.open(ledger.table()), in_s=0.0)
    await ledger.debts.pay_ripe()
    assert (await store.lookup(identity)).generation != before
    assert len(ledger.debts) == 0


async def test_two_debts_on_one_item_are_paid_one_by_one(ledger: Ledger) -> None:
    """The item is owed until its last debt is paid."""
    first, second = (ledger.debts.open(ledger.item("a")) for _ in range(2))
    ledger.debts.ripen(first, in_s=0.0)
    ledger.debts.ripen(second, in_s=1.0)
    await ledger.debts.pay_ripe()
    assert (ledger.owes("a"), len(ledger.debts)) == (True, 1)
    await ledger.world.clock.sleep(1.0)
    await ledger.debts.pay_ripe()
    assert (ledger.owes("a"), len(ledger.debts)) == (False, 0)


async def test_paying_one_item_leaves_the_other_owed(ledger: Ledger) -> None:
    """Only the item whose debt is paid is read from the store again."""
    paid = ledger.debts.open(ledger.item("a"))
    left = ledger.debts.open(ledger.item("b"))
    ledger.debts.ripen(paid, in_s=0.0)
    await ledger.debts.pay_ripe()
    assert (ledger.owes("a"), ledger.owes("b")) == (False, True)
    assert ledger.debts.keys.keys() == set(left.keys)


async def test_paying_stops_while_the_store_is_out(ledger: Ledger) -> None:
    """One failure is enough: the others are not tried, and all stay owed."""
    for pk in "abc":
        ledger.debts.ripen(ledger.debts.open(ledger.item(pk)), in_s=0.0)
    ledger.world.store.down = StoreFailure.TIMEOUT
    await ledger.debts.pay_ripe()
    assert (len(ledger.debts), ledger.world.store.asked("end")) == (3, 1)


async def test_a_refused_payment_does_not_hold_up_the_others(ledger: Ledger) -> None:
    """A store that refuses one record is there: the others are paid, that one stays owed."""
    for pk in "abc":
        ledger.debts.ripen(ledger.debts.open(ledger.item(pk)), in_s=0.0)
    ledger.world.store.fail_next(StoreFailure.REFUSED)
    await ledger.debts.pay_ripe()
    assert (len(ledger.debts), ledger.world.store.asked("end")) == (1, 3)


async def test_payer_pays_once_the_store_is_back(ledger: Ledger) -> None:
    """The background task keeps trying and pays within moments of the store's return."""
    ledger.world.store.down = StoreFailure.CONNECT
    ledger.debts.ripen(ledger.debts.open(ledger.item("a")), in_s=0.0)
    payer = asyncio.ensure_future(ledger.debts.pay())
    await ledger.world.clock.sleep(60.0)
    assert ledger.owes("a")
    ledger.world.store.down = None
    await ledger.world.clock.sleep(0.5)
    assert not ledger.owes("a")
    payer.cancel()
    await asyncio.wait({payer})


async def test_payment_whose_reply_was_lost_is_repeated_harmlessly(ledger: Ledger) -> None:
    """A debt paid twice leaves what it left when paid once."""
    ledger.world.store.lose_next_reply(step="end")
    ledger.debts.ripen(ledger.debts.open(ledger.item("a")), in_s=0.0)
    await ledger.debts.pay_ripe()
    assert ledger.owes("a")
    await ledger.debts.pay_ripe()
    assert not ledger.owes("a")
    assert isinstance(ledger.world.store.record(ledger.world.identity("a")), Tombstone)


async def test_debts_are_bounded(world: World) -> None:
    """Beyond the bound a write is refused before it is sent, and nothing is remembered of it."""
    ledger = Ledger(world, debts_max=1)
    ledger.debts.open(ledger.item("a"))
    with pytest.raises(StoreUnavailable) as refused:
        ledger.debts.open(ledger.item("b"))
    assert refused.value.failure is StoreFailure.FULL
    assert (len(ledger.debts), ledger.owes("b")) == (1, False)


async def test_open_debt_concerns_the_pages_its_item_may_be_on(ledger: Ledger) -> None:
    """Whether pages are cached is unknown where begin did not reach the store."""
    keys = ledger.world.keys
    scopes = {pk: keys.partition_key(TABLE, "pk", {"S": pk}) for pk in ("a", "b")}
    pages = {pk: keys.page(TABLE, b"request", scope) for pk, scope in scopes.items()}
    assert not ledger.debts.owes_page(pages["a"])
    ledger.debts.open(ledger.item("a"))
    assert [ledger.debts.owes_page(pages[pk]) for pk in ("a", "b")] == [True, False]
    everything = keys.page(TABLE, b"request", keys.scan_key(TABLE))
    assert ledger.debts.owes_page(everything)
    ledger.debts.open(ledger.table())
    assert ledger.debts.owes_page(pages["b"])


async def test_debt_is_paid_for_all_that_it_was_opened_for(ledger: Ledger) -> None:
    """A fence that begins after all, and learns that no page is cached, leaves nothing owed."""
    fence = ledger.item("a")
    debt = ledger.debts.open(fence)
    await fence.begin()
    ledger.debts.ripen(debt, in_s=0.0)
    await ledger.debts.pay_ripe()
    everything = ledger.world.keys.scan_key(TABLE)
    assert not ledger.owes("a")
    assert not ledger.debts.owes_page(ledger.world.keys.page(TABLE, b"request", everything))
