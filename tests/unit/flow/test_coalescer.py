"""Claims about `proxy.flow.coalescer`; a fetch here asks, is held, and lands with a number."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from proxy.core.errors import UpstreamFailed, UpstreamFailure
from proxy.core.values import CacheKey, Generation
from proxy.flow.coalescer import Coalescer, Flight, FlightsFullError
from proxy.flow.events import Event
from proxy.flow.tasks import TaskOwner
from tests.support.virtual_time import quiesce

A, B = CacheKey(b"a"), CacheKey(b"b")
G1, G2 = Generation(b"1"), Generation(b"2")
Reader = asyncio.Task[tuple[int, bool]]


class Airport:
    """Starts readers, holds their fetches, and counts them."""

    def __init__(self, flights_max: int = 100) -> None:
        self.events: list[Event] = []
        self.tasks = TaskOwner(self.events.append)
        self.coalescer: Coalescer[int] = Coalescer(self.tasks, flights_max=flights_max)
        self.fetches = 0
        self.accepted = False
        self.error: Exception | None = None
        self.landing = asyncio.Event()

    async def fetch(self, flight: Flight[int]) -> int:
        """Ask, wait to be let down, and offer the result to the store."""
        flight.asks()
        self.fetches += 1
        number = self.fetches
        await self.landing.wait()
        if self.error is not None:
            raise self.error
        sent_at = flight.tick()
        if self.accepted:
            flight.confirmed(sent_at)
        return number

    async def reader(
        self,
        cache_key: CacheKey = A,
        *,
        joins_started: bool = False,
        generation: Generation | None = G1,
    ) -> Reader:
        """Let one more reader come and go as far as it can."""
        reader = asyncio.ensure_future(
            self.coalescer.share(
                cache_key, self.fetch, generation=generation, joins_started=joins_started
            )
        )
        await quiesce()
        return reader

    async def crowd(self, size: int) -> list[tuple[int, bool] | BaseException]:
        """Let many readers come in one instant; return what became of them."""
        return await asyncio.gather(
            *(
                self.coalescer.share(A, self.fetch, generation=G1, joins_started=False)
                for _ in range(size)
            ),
            return_exceptions=True,
        )

    async def land(self) -> None:
        """Let every fetch that is held come home."""
        landed, self.landing = self.landing, asyncio.Event()
        landed.set()
        await quiesce()


@pytest.fixture
async def airport() -> AsyncIterator[Airport]:
    """Give an airport that is empty in the end."""
    made = Airport()
    yield made
    assert (len(made.coalescer), len(made.tasks)) == (0, 0)
    assert made.coalescer._flights == {}, "items that were read once take memory for ever"


async def test_readers_of_one_instant_share_one_fetch(airport: Airport) -> None:
    """A thousand readers that came before the fetch asked share it; one of them led."""
    airport.landing.set()
    shared = await airport.crowd(1000)
    assert airport.fetches == 1
    assert sorted(map(str, shared)) == ["(1, False)"] * 999 + ["(1, True)"]


async def test_reader_never_gets_a_result_older_than_itself(airport: Airport) -> None:
    """A reader that came while the reply was in a socket buffer waits, and fetches for itself.

    1. R1 asks.  2. A write is acknowledged.  3. R2 comes.  4. R1's reply is read: it may be from
    before the write, and its fill was not accepted. R2 must not have it.
    """
    first = await airport.reader()
    second = await airport.reader()
    await airport.land()
    assert await first == (1, True)
    assert not second.done()
    assert airport.fetches == 2
    await airport.land()
    assert await second == (2, True)


async def test_accepted_fill_serves_readers_that_came_before_it_was_sent(airport: Airport) -> None:
    """Acceptance proves that no write began meanwhile: whoever came before the fill may share."""
    first = await airport.reader()
    second = await airport.reader()
    airport.accepted = True
    await airport.land()
    assert (await first, await second) == ((1, True), (1, False))
    assert airport.fetches == 1


async def test_reader_that_came_after_the_fill_was_sent_fetches_again(airport: Airport) -> None:
    """Acceptance proves nothing about a reader that came after the fill was on its way."""
    answered = asyncio.Event()

    async def fetch(flight: Flight[int]) -> int:
        flight.asks()
        sent_at = flight.tick()
        await answered.wait()
        flight.confirmed(sent_at)
        return 0

    first = asyncio.ensure_future(
        airport.coalescer.share(A, fetch, generation=G1, joins_started=False)
    )
    await quiesce()
    second = await airport.reader()
    answered.set()
    await quiesce()
    assert await first == (0, True)
    await airport.land()
    assert await second == (1, True)


async def test_confirmation_never_makes_a_result_older(airport: Airport) -> None:
    """A number confirmed late does not take back what asking later has stated."""
    flight: Flight[int] = Flight(iter(range(1, 9)).__next__)
    early = flight.tick()
    flight.asks()
    flight.confirmed(early)
    assert flight.current_as_of == 2


async def test_result_of_a_flight_that_never_asked_is_its_leaders_alone(airport: Airport) -> None:
    """As long as a flight has not said as of when it is current, nobody may join it."""

    async def fetch(_: Flight[int]) -> int:
        await asyncio.sleep(1.0)
        return 0

    first = asyncio.ensure_future(
        airport.coalescer.share(A, fetch, generation=G1, joins_started=False)
    )
    await quiesce()
    second = await airport.reader()
    assert await first == (0, True)
    await quiesce()
    await airport.land()
    assert await second == (1, True)


async def test_readers_that_could_not_share_share_the_next_flight(airport: Airport) -> None:
    """A hundred readers that a flight was too old for take one more fetch, not a hundred."""
    first = await airport.reader()
    others = [await airport.reader() for _ in range(100)]
    await airport.land()
    await airport.land()
    shared = await asyncio.gather(first, *others)
    assert airport.fetches == 2
    assert [number for number, _ in shared] == [1] + [2] * 100
    assert [led for _, led in shared].count(True) == 2


async def test_eventual_reader_joins_a_flight_that_has_started(airport: Airport) -> None:
    """Where no write need be seen, any flight will do."""
    first = await airport.reader()
    second = await airport.reader(joins_started=True)
    await airport.land()
    assert (await first, await second) == ((1, True), (1, False))


async def test_items_do_not_share(airport: Airport) -> None:
    """Each item has its own flight."""
    readers = [await airport.reader(A), await airport.reader(B)]
    assert len(airport.coalescer) == 2
    await airport.land()
    assert [await reader for reader in readers] == [(1, True), (2, True)]


@pytest.mark.parametrize("who", ["leader", "follower"])
async def test_cancelled_reader_leaves_the_flight_to_the_others(airport: Airport, who: str) -> None:
    """Whoever hangs up, the flight goes on for the rest, the reader that started it included."""
    airport.accepted = True
    leader = await airport.reader()
    follower = await airport.reader()
    leaves, stays = (leader, follower) if who == "leader" else (follower, leader)
    leaves.cancel()
    await quiesce()
    assert leaves.cancelled()
    await airport.land()
    assert (await stays)[0] == 1
    assert airport.fetches == 1


async def test_flight_lands_although_every_reader_has_gone(airport: Airport) -> None:
    """A flight without readers still comes home, so that its fill is not wasted."""
    reader = await airport.reader()
    reader.cancel()
    await quiesce()
    assert len(airport.tasks) == 1
    await airport.land()
    assert airport.events == []


async def test_error_is_shared_by_those_who_came_before_the_fetch_asked(airport: Airport) -> None:
    """One failed fetch fails all its readers, instead of one more fetch for each."""
    airport.error = UpstreamFailed(UpstreamFailure.TIMEOUT, "silent", maybe_applied=True)
    airport.landing.set()
    assert await airport.crowd(100) == [airport.error] * 100
    assert airport.fetches == 1


async def test_error_is_not_shared_by_who_came_later(airport: Airport) -> None:
    """A failure from before a reader came is not its answer: it tries for itself."""
    first = await airport.reader()
    second = await airport.reader()
    airport.error = UpstreamFailed(UpstreamFailure.TIMEOUT, "silent", maybe_applied=True)
    await airport.land()
    airport.error = None
    await airport.land()
    assert (await second) == (2, True)
    with pytest.raises(UpstreamFailed):
        await first


async def test_cancelled_flight_cancels_its_readers(airport: Airport) -> None:
    """At stop a flight is cancelled: its readers end too and start no other."""
    readers = [await airport.reader(), await airport.reader()]
    await airport.tasks.settle(0.0, asyncio.sleep)
    await quiesce()
    assert [reader.cancelled() for reader in readers] == [True, True]
    assert airport.fetches == 1


async def test_flights_are_bounded() -> None:
    """Beyond the bound no flight starts; joining one that is there stays possible."""
    airport = Airport(flights_max=1)
    airport.accepted = True
    first = await airport.reader(A)
    with pytest.raises(FlightsFullError):
        await (await airport.reader(B))
    joined = await airport.reader(A)
    await airport.land()
    assert (await first, await joined) == ((1, True), (1, False))
    again = await airport.reader(B)
    await airport.land()
    assert await again == (2, True)


async def test_forgotten_flight_is_joined_by_nobody_and_lands_quietly(airport: Airport) -> None:
    """After a write was acknowledged nobody waits for the flight from before it."""
    first = await airport.reader()
    airport.coalescer.forget(A)
    second = await airport.reader(joins_started=True)
    assert airport.fetches == 2
    await airport.land()
    assert (await first, await second) == ((1, True), (2, True))


async def test_landing_of_a_forgotten_flight_leaves_its_successor_alone(airport: Airport) -> None:
    """The older flight's landing does not take the younger one off the list."""
    first = await airport.reader()
    airport.coalescer.forget(A)
    held, airport.landing = airport.landing, asyncio.Event()
    second = await airport.reader()
    held.set()
    assert await first == (1, True)
    assert len(airport.coalescer) == 1
    third = await airport.reader(joins_started=True)
    await airport.land()
    assert (await second, await third) == ((2, True), (2, False))


async def test_forgetting_an_item_without_a_flight_is_nothing(airport: Airport) -> None:
    """A write to an item that nobody reads has nothing to forget."""
    airport.coalescer.forget(A)
    assert len(airport.coalescer) == 0


async def test_reader_of_a_younger_generation_does_not_join(airport: Airport) -> None:
    """A flight under an older generation of the table is not shared, even with its fill accepted.

    1. R1 fetches under generation 1.  2. A batch writes the whole table and raises it to 2.
    3. R2 comes, under 2.  4. R1's fill is accepted: no *item* write touched its lease. R2 must not
    have R1's result; nor does it wait for it.
    """
    airport.accepted = True
    first = await airport.reader(generation=G1)
    second = await airport.reader(generation=G2)
    third = await airport.reader(generation=G2)
    assert airport.fetches == 2
    await airport.land()
    assert [await each for each in (first, second, third)] == [(1, True), (2, True), (2, False)]


async def test_bypassing_reader_shares_only_with_its_like(airport: Airport) -> None:
    """A reader that must not take the store's word joins no flight that may."""
    airport.accepted = True
    readers = [await airport.reader(generation=each) for each in (G1, None, G1, None)]
    assert airport.fetches == 2
    await airport.land()
    assert [(await each)[0] for each in readers] == [1, 2, 1, 2]


async def test_generations_of_one_item_land_one_by_one(airport: Airport) -> None:
    """The landing of one generation's flight leaves the other's joinable."""
    airport.accepted = True
    first = await airport.reader(generation=G1)
    held, airport.landing = airport.landing, asyncio.Event()
    second = await airport.reader(generation=G2)
    held.set()
    assert await first == (1, True)
    third = await airport.reader(generation=G2)
    await airport.land()
    assert (await second, await third) == ((2, True), (2, False))


async def test_reader_takes_only_a_result_that_will_do(airport: Airport) -> None:
    """Who does not accept what another flight brought home starts the next one."""
    first = await airport.reader()

    def other(number: int) -> bool:
        return number > 1

    choosy = [
        asyncio.ensure_future(
            airport.coalescer.share(
                A, airport.fetch, generation=G1, joins_started=True, accepts=other
            )
        )
        for _ in range(3)
    ]
    await quiesce()
    await airport.land()
    assert (first.done(), [each.done() for each in choosy]) == (True, [False] * 3)
    await airport.land()
    assert await first == (1, True)
    assert sorted([await each for each in choosy]) == [(2, False), (2, False), (2, True)]


async def test_flight_alone_is_found_by_nobody() -> None:
    """It can be told when it asks, and nobody listens."""
    flight: Flight[int] = Flight.alone()
    flight.asks()
    assert flight.current_as_of == 0
