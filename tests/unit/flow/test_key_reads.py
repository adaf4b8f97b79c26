"""Claims about `proxy.flow.key_reads`: one key of a batch is read as a GetItem would read it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from proxy.core.batch_answer import UNPROCESSED
from proxy.core.errors import StoreFailure, UpstreamFailed, UpstreamFailure
from proxy.core.operations import Capacity
from proxy.core.policy import NearPolicy
from proxy.core.read_plan import BatchReadPlan, ReadPlan
from proxy.core.values import BypassReason, Level, Mode, Outcome
from proxy.flow.events import RefreshEnded
from proxy.flow.fences import ItemFence
from proxy.flow.gathering import Gathering
from proxy.flow.hot_reads import Sampling
from proxy.flow.key_reads import KeyReader, Look, Read, TroubleError
from proxy.flow.read_path import ReadPorts
from tests.fakes.fake_upstream_script import FAILED, THROTTLED
from tests.support.flow_world import TABLE, Proxy, World, client_request, key_of
from tests.support.virtual_time import quiesce

FRESH_S, GRACE_S, IF_ERROR_S = 60.0, 30.0, 600.0


class Reader:
    """Reads single keys as batches of one do."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        ports = ReadPorts(
            store=proxy.store,
            exchange=proxy.exchange,
            filler=proxy.filler,
            coalescer=proxy.coalescer,
            debts=proxy.debts,
            tasks=proxy.tasks,
            clock=proxy.world.clock,
            emit=proxy.events.append,
            note=proxy.watch.note,
            witness=proxy.auditor,
            near=proxy.near,
            hot=proxy.hot,
            ahead=proxy.ahead,
        )
        self.keys = KeyReader(ports, proxy.reads)

    def plan(self, pk: str, *, consistent: bool = False) -> ReadPlan:
        """Plan one key beside another one that is cached."""
        asked = {
            TABLE: {"Keys": [key_of(pk)], "ConsistentRead": consistent},
            "other": {"Keys": [key_of(pk)]},
        }
        plan = self.proxy.world.plan(client_request("BatchGetItem", {"RequestItems": asked}))
        assert isinstance(plan, BatchReadPlan)
        return plan.parts[0]

    async def fetch(self, look: Look) -> Read | UpstreamFailed | TroubleError:
        """Fetch what a lookup did not find, in a batch of its own."""
        tasks = self.proxy.tasks
        gathering = Gathering(self.proxy.exchange, tasks=tasks, capacity=Capacity.NONE)
        return await self.keys.fetch(look, gathering)

    async def try_read(
        self, pk: str = "a", *, consistent: bool = False
    ) -> Read | UpstreamFailed | TroubleError:
        """Read one key."""
        look = await self.keys.look(self.plan(pk, consistent=consistent))
        return self.keys.from_entry(look) or await self.fetch(look)

    async def read(self, pk: str = "a", *, consistent: bool = False) -> Read:
        """Read one key, which must succeed."""
        read = await self.try_read(pk, consistent=consistent)
        assert isinstance(read, Read), read
        return read


@pytest.fixture
async def reader(world: World) -> Reader:
    """Give one proxy's reader; item a holds "1"."""
    world.put_elsewhere("a", "1")
    world.policy = replace(
        world.policy,
        fresh_ttl_s=FRESH_S,
        negative_ttl_s=5.0,
        grace_s=GRACE_S,
        stale_if_error_s=IF_ERROR_S,
    )
    return Reader(world.proxy())


async def aged(reader: Reader, seconds: float) -> None:
    """Read item a as "1", change it behind the proxies' backs to "2", and let the entry age."""
    await reader.read()
    reader.proxy.world.put_elsewhere("a", "2")
    await reader.proxy.world.clock.sleep(seconds)
    reader.proxy.events.clear()


def shows(read: Read, v: str) -> bool:
    """Tell whether a key's answer shows this attribute `v`."""
    return read.item.body is not None and f'"{v}"'.encode() in read.item.body


async def test_miss_is_filled_and_then_hit(reader: Reader) -> None:
    """The first read goes upstream and fills; the second is answered by the store."""
    miss, hit = await reader.read(), await reader.read()
    assert (miss.outcome, miss.stored) == (Outcome.MISS, True)
    assert (hit.outcome, hit.ttl_s, hit.stored) == (Outcome.HIT, 60, False)
    assert miss.item == hit.item
    assert shows(hit, "1")
    assert hit.item.item_bytes == 5


async def test_absence_is_filled_and_then_hit(reader: Reader) -> None:
    """What upstream does not know is a negative entry, as after a GetItem."""
    miss, hit = await reader.read("nobody"), await reader.read("nobody")
    assert (miss.item.body, miss.item.item_bytes, miss.stored) == (b"{}", 0, True)
    assert (hit.outcome, hit.item) == (Outcome.NEGATIVE_HIT, miss.item)


async def test_grace_answers_while_one_refresh_runs(reader: Reader) -> None:
    """A stale hit waits for nobody and starts a refresh, unless another reader is filling."""
    await aged(reader, FRESH_S + 1)
    gate = reader.proxy.world.upstream.hold("GetItem")
    first = await reader.read()
    await gate.reached()
    second = await Reader(reader.proxy.world.proxy()).read()
    assert [(each.outcome, each.ttl_s) for each in (first, second)] == [(Outcome.STALE_HIT, -1)] * 2
    gate.release()
    await quiesce()
    assert reader.proxy.told(RefreshEnded) == [RefreshEnded(TABLE, replaced=True)]
    assert reader.proxy.world.upstream.count("GetItem") == 1
    assert shows(await reader.read(), "2")


@pytest.mark.parametrize(
    "why",
    [
        BypassReason.CONSISTENT_READ,
        BypassReason.TABLE_OFF,
        BypassReason.STORE_DOWN,
        BypassReason.STORE_QUARANTINE,
        BypassReason.DEBT,
        BypassReason.TABLE_PENDING,
    ],
)
async def test_store_has_no_part_for_the_reasons_of_a_get(
    reader: Reader, why: BypassReason
) -> None:
    """The item is fetched consistently, nothing is filled, and the reason is told."""
    proxy, world, consistent = reader.proxy, reader.proxy.world, False
    await reader.read()
    world.put_elsewhere("a", "2")
    world.upstream.tables.lag_versions = 1
    token = world.clock.token()
    match why:
        case BypassReason.CONSISTENT_READ:
            consistent = True
        case BypassReason.TABLE_OFF:
            world.policies[TABLE] = replace(world.policy, mode=Mode.OFF)
            world.upstream.tables.lag_versions = 0  # read as it was asked
        case BypassReason.STORE_DOWN:
            proxy.store.down = StoreFailure.TIMEOUT
        case BypassReason.STORE_QUARANTINE:
            proxy.store.stop_serving()
        case BypassReason.DEBT:
            proxy.debts.open(ItemFence(proxy.store, world.identity("a"), token))
        case _:
            await proxy.store.begin_table(world.keys.table_key(TABLE), token=token)
    read = await reader.read(consistent=consistent)
    assert (read.outcome, read.reason, read.stored) == (Outcome.BYPASS, why, False)
    assert shows(read, "2")


async def test_full_flights_are_bypassed(world: World, reader: Reader) -> None:
    """With all flights taken the key is fetched without one."""
    full = Reader(world.proxy(flights_max=0))
    read = await full.read()
    assert (read.outcome, read.reason) == (Outcome.BYPASS, BypassReason.FLIGHTS_FULL)
    assert shows(read, "1")
    assert world.store.record(world.identity("a")) is None


async def test_reader_shares_a_flight(reader: Reader) -> None:
    """Two batches that miss one item fetch it once; the one that joined has stored nothing."""
    gate = reader.proxy.world.upstream.hold("BatchGetItem")
    first = asyncio.ensure_future(reader.read())
    await gate.reached()
    second = asyncio.ensure_future(reader.read())
    await quiesce()
    gate.release()
    assert [(await each).outcome for each in (first, second)] == [Outcome.MISS, Outcome.COALESCED]
    assert [(await each).stored for each in (first, second)] == [True, False]
    assert reader.proxy.world.upstream.count("BatchGetItem") == 1


async def test_reader_without_the_stores_word_shares_with_its_like(reader: Reader) -> None:
    """Coalesced or not, it says why the store had no part."""
    reader.proxy.store.stop_serving()
    gate = reader.proxy.world.upstream.hold("BatchGetItem")
    both = [asyncio.ensure_future(reader.read()) for _ in range(2)]
    await gate.reached()
    gate.release()
    assert [(await each).outcome for each in both] == [Outcome.BYPASS] * 2
    assert reader.proxy.world.upstream.count("BatchGetItem") == 1


async def test_fill_of_another_proxy_is_taken(world: World, reader: Reader) -> None:
    """Who waits for another proxy's lease gets its entry, and asks upstream for nothing."""
    other = Reader(world.proxy())
    gate = world.upstream.hold("BatchGetItem")
    first = asyncio.ensure_future(other.read())
    await gate.reached()
    second = asyncio.ensure_future(reader.read())
    await quiesce()
    gate.release()
    taken = await second
    assert (taken.outcome, taken.stored, taken.item) == (Outcome.MISS, False, (await first).item)
    assert world.upstream.count("BatchGetItem") == 1


@pytest.mark.parametrize("trouble", ["refused", "unprocessed", "throttled"])
async def test_trouble_of_another_batch_is_not_this_ones(reader: Reader, trouble: str) -> None:
    """Who joined its flight asks again, but for a failure, which is everybody's."""
    world = reader.proxy.world
    world.policy = replace(world.policy, level=Level.EVENTUAL)  # joins what has begun
    gate = world.upstream.hold("BatchGetItem")
    left = {TABLE: {"Keys": [key_of("a")]}}
    match trouble:
        case "refused":
            world.upstream.answer("BatchGetItem", {"__type": "x#ValidationException"}, status=400)
        case "unprocessed":
            world.upstream.answer("BatchGetItem", {"Responses": {}, "UnprocessedKeys": left})
        case _:
            world.upstream.fail("BatchGetItem", THROTTLED)
    first = asyncio.ensure_future(reader.try_read())
    await gate.reached()
    second = asyncio.ensure_future(reader.try_read())
    await quiesce()
    gate.release()
    outcomes = [await first, await second]
    if trouble == "throttled":
        assert all(isinstance(each, TroubleError) for each in outcomes)
        return
    assert isinstance(outcomes[0], Read) is (trouble == "unprocessed")
    assert isinstance(outcomes[1], Read)
    assert (outcomes[1].outcome, shows(outcomes[1], "1")) == (Outcome.MISS, True)


async def test_unprocessed_key_is_no_absence(reader: Reader) -> None:
    """It is not filled, its lease is given back, and the next read fetches it."""
    left = {TABLE: {"Keys": [key_of("a")]}}
    reader.proxy.world.upstream.answer("BatchGetItem", {"Responses": {}, "UnprocessedKeys": left})
    read = await reader.read()
    assert (read.item, read.outcome, read.stored) == (UNPROCESSED, Outcome.MISS, False)
    assert reader.proxy.store.record(reader.proxy.world.identity("a")) is None
    again = await reader.read()
    assert (again.stored, shows(again, "1")) == (True, True)


@pytest.mark.parametrize("trouble", ["silent", "throttled", "broken"])
@pytest.mark.parametrize("age_s", [0.0, FRESH_S + GRACE_S + 1, FRESH_S + IF_ERROR_S])
async def test_old_entry_stands_in_when_upstream_fails(
    reader: Reader, trouble: str, age_s: float
) -> None:
    """As long as the table allows; without an entry, or past its hard time, the failure shows."""
    if age_s:
        await aged(reader, age_s)
    upstream = reader.proxy.world.upstream
    if trouble == "silent":
        upstream.refuse("BatchGetItem", UpstreamFailure.CONNECT)
    else:
        upstream.fail("BatchGetItem", THROTTLED if trouble == "throttled" else FAILED)
    read = await reader.try_read()
    if FRESH_S < age_s < FRESH_S + IF_ERROR_S:
        assert isinstance(read, Read)
        assert (read.outcome, read.stands_in, shows(read, "1")) == (Outcome.STALE_HIT, True, True)
    else:
        assert isinstance(read, UpstreamFailed if trouble == "silent" else TroubleError)


async def test_refusal_is_not_hidden_by_an_old_entry(reader: Reader) -> None:
    """Only load and breakage count: a denial is the client's to see."""
    await aged(reader, FRESH_S + GRACE_S + 1)
    denied = {"__type": "com.amazon.coral.service#AccessDeniedException"}
    reader.proxy.world.upstream.answer("BatchGetItem", denied, status=400)
    read = await reader.try_read()
    assert isinstance(read, TroubleError)
    assert read.fetched.reply.status == 400


async def test_entry_that_expires_while_upstream_is_silent_does_not_stand_in(
    reader: Reader,
) -> None:
    """The hard time counts when the answer leaves."""
    await aged(reader, FRESH_S + IF_ERROR_S - 1)
    reader.proxy.world.upstream.hold("BatchGetItem")
    assert isinstance(await reader.try_read(), UpstreamFailed)


async def test_hit_that_expires_while_others_are_fetched_is_left_unprocessed(
    reader: Reader,
) -> None:
    """The client asks for it again, rather than to get it past its hard time."""
    await reader.read("nobody")
    look = await reader.keys.look(reader.plan("nobody"))
    hit = reader.keys.from_entry(look)
    assert hit is not None
    assert reader.keys.still(look, hit) is hit
    reader.proxy.world.clock.pause(6.0)
    assert reader.keys.still(look, hit).item == UNPROCESSED


async def test_a_copy_is_a_lookup_that_asks_nobody(world: World) -> None:
    """A key that a copy answers is judged as if the store had been asked."""
    world.put_elsewhere("a", "1")
    world.near = NearPolicy()
    reader = Reader(world.proxy())
    for _ in range(2):
        await reader.read()
    asked = reader.proxy.store.asked("lookup")
    look = await reader.keys.look(reader.plan("a"))
    read = reader.keys.from_entry(look)
    assert read is not None
    assert shows(read, "1")
    assert (read.outcome, reader.proxy.store.asked("lookup")) == (Outcome.HIT, asked)


async def test_keys_of_batches_are_counted_and_refreshed_ahead(world: World) -> None:
    """A hot key is refreshed by the read that sees its end near, and not during a lease."""
    world.put_elsewhere("a", "1")
    world.policy = replace(world.policy, fresh_ttl_s=FRESH_S, grace_s=0.0)
    world.sampling = Sampling(every=1)
    reader = Reader(world.proxy())
    for _ in range(4):
        await reader.read("a")
    assert [table.sampled for table in reader.proxy.hot.report()] == [4.0]
    world.put_elsewhere("a", "2")
    await world.clock.sleep(FRESH_S - 0.05)
    gate = world.upstream.hold("GetItem")
    for _ in range(2):
        assert shows(await reader.read("a"), "1")
        await gate.reached()
    gate.release()
    await quiesce()
    assert shows(await reader.read("a"), "2")
    assert reader.proxy.told(RefreshEnded) == [RefreshEnded(TABLE, replaced=True)]
