"""Claims about `proxy.flow.guarded_store`, around the memory store."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable

import pytest

from proxy.core.breaker import Breaker, BreakerState
from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.fence import ItemIdentity, WriteOutcome
from proxy.core.pages import PageIdentity
from proxy.core.record import EntryDraft
from proxy.core.values import Generation, Layout, TableId
from proxy.flow.events import BreakerMoved, Event, StoreAnswered, StoreFailed, StoreLookedUp
from proxy.flow.guarded_store import GuardedStore
from tests.fakes.memory_store import MemoryStore, Step
from tests.support.flow_world import TABLE, World
from tests.support.reader import look_up
from tests.support.virtual_time import quiesce

FAILURES_TO_OPEN, OPEN_S = 3, 2.0
DRAFT = EntryDraft(
    0.0,
    60.0,
    90.0,
    negative=True,
    item_bytes=0,
    crc32=zlib.crc32(b"{}"),
    body=b"{}",
    layout=Layout.HASH,
)
GENERATION = Generation(bytes(8))


class Guard:
    """A guarded store, what is behind it, and what it told."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.behind: MemoryStore = world.store
        self.events: list[Event] = []
        self.breaker = Breaker(failures_to_open=FAILURES_TO_OPEN, open_s=OPEN_S)
        self.store = GuardedStore(
            self.behind, breaker=self.breaker, clock=world.clock, emit=self.events.append
        )

    def page(self) -> PageIdentity:
        """Name a page."""
        return self.world.keys.page(TABLE, b"{}", self.world.keys.scan_key(TABLE))

    async def lookup(self) -> None:
        """Perform one step."""
        await self.store.lookup(self.world.identity("a"))

    async def fail(self, failure: StoreFailure = StoreFailure.TIMEOUT, times: int = 1) -> None:
        """Perform steps that fail."""
        for _ in range(times):
            self.behind.fail_next(failure)
            with pytest.raises(StoreUnavailable):
                await self.lookup()

    @property
    def moves(self) -> list[str]:
        """The breaker's states as told."""
        return [told.state for told in self.events if isinstance(told, BreakerMoved)]


@pytest.fixture
async def guard(world: World) -> Guard:
    """Give a guarded store."""
    return Guard(world)


STEPS: dict[str, Callable[[Guard], Awaitable[object]]] = {
    "lookup": lambda g: g.store.lookup(g.world.identity("a")),
    "lease": lambda g: g.store.lease(
        g.world.identity("a"), token=g.world.clock.token(), generation=GENERATION, force=True
    ),
    "fill": lambda g: g.store.fill(
        g.world.identity("a"), token=g.world.clock.token(), generation=GENERATION, draft=DRAFT
    ),
    "release": lambda g: g.store.release(g.world.identity("a"), token=g.world.clock.token()),
    "begin": lambda g: g.store.begin(g.world.identity("a"), token=g.world.clock.token()),
    "end": lambda g: g.store.end(
        g.world.identity("a"), token=g.world.clock.token(), outcome=WriteOutcome.INVALIDATED
    ),
    "invalidate": lambda g: g.store.invalidate(g.world.identity("a")),
    "begin_table": lambda g: g.store.begin_table(
        g.world.identity("a").table_key, token=g.world.clock.token()
    ),
    "end_table": lambda g: g.store.end_table(
        g.world.identity("a").table_key,
        token=g.world.clock.token(),
        outcome=WriteOutcome.ABORTED,
        remade=False,
    ),
    "generation": lambda g: g.store.generation(g.world.identity("a").table_key),
    "claim_check": lambda g: g.store.claim_check(g.world.identity("a").table_key, interval_s=1.0),
    "identify_table": lambda g: g.store.identify_table(
        g.world.identity("a").table_key, TableId(b"i" * 16)
    ),
    "lookup_page": lambda g: g.store.lookup_page(g.page()),
    "begin_scope": lambda g: g.store.begin_scope(g.page().scope_key, token=g.world.clock.token()),
    "end_scope": lambda g: g.store.end_scope(
        g.page().scope_key, token=g.world.clock.token(), outcome=WriteOutcome.ABORTED
    ),
}


@pytest.mark.parametrize("step", STEPS)
async def test_step_passes_and_is_told_with_its_duration(guard: Guard, step: str) -> None:
    """Every step reaches the store behind, under its own name, and is measured."""

    async def take_time(_: Step) -> None:
        guard.world.clock.pause(0.25)

    await guard.world.clock.sleep(9.0)
    guard.behind.before = take_time
    await STEPS[step](guard)
    assert [each.name for each in guard.behind.steps] == [step]
    assert guard.events == [StoreAnswered(step, 0.25)]


@pytest.mark.parametrize("failure", list(StoreFailure))
@pytest.mark.parametrize("step", STEPS)
async def test_failure_passes_and_is_told(guard: Guard, step: str, failure: StoreFailure) -> None:
    """Every step may fail in every way; the caller and the telemetry learn which."""
    guard.behind.fail_next(failure)
    with pytest.raises(StoreUnavailable) as raised:
        await STEPS[step](guard)
    assert raised.value.failure is failure
    assert guard.events == [StoreFailed(step, failure)]


async def test_replies_are_the_stores_own(guard: Guard) -> None:
    """What the store behind replies is what the caller gets."""
    identity, token = guard.world.identity("a"), guard.world.clock.token()
    sighting = await guard.store.lookup(identity)
    generation = sighting.generation
    lease = await guard.store.lease(identity, token=token, generation=generation, force=False)
    assert lease.state == "leased"
    assert await guard.store.fill(identity, token=token, generation=generation, draft=DRAFT)
    assert (await guard.store.lookup(identity)).entry is not None
    partial = (await guard.store.lookup(identity, ("v",))).entry
    assert partial is not None
    assert partial.names == ("v",)
    found = await guard.store.lease(identity, token=token, generation=generation, force=False)
    assert found.entry is not None
    assert (await guard.store.begin(identity, token=token)).generation == generation
    ended = await guard.store.end(
        identity, token=token, outcome=WriteOutcome.STORED, stored=(generation, DRAFT)
    )
    assert ended == "stored"
    await guard.store.begin_table(identity.table_key, token=token)
    await guard.store.end_table(
        identity.table_key, token=token, outcome=WriteOutcome.ABORTED, remade=False
    )
    assert (await guard.store.lookup(identity)).generation == generation
    assert await guard.store.claim_check(identity.table_key, interval_s=1.0) == 0.0
    assert await guard.store.claim_check(identity.table_key, interval_s=1.0) == 1.0
    assert not await guard.store.identify_table(identity.table_key, TableId(b"i" * 16))
    assert await guard.store.identify_table(identity.table_key, TableId(b"j" * 16))
    page = guard.page()
    seen = (await guard.store.lookup_page(page)).sighting.generation
    await guard.store.begin_scope(page.scope_key, token=token)
    await guard.store.end_scope(page.scope_key, token=token, outcome=WriteOutcome.ABORTED)
    assert (await guard.store.lookup_page(page)).sighting.generation == seen


async def test_serving_is_as_the_store_says(guard: Guard) -> None:
    """Whether hits are allowed, and why not, is the store's to say, whatever the breaker thinks."""
    assert (guard.store.serving, guard.store.why_not_serving) == (True, "")
    guard.behind.stop_serving("not connected")
    assert (guard.store.serving, guard.store.why_not_serving) == (False, "not connected")
    assert not guard.store.quarantined
    guard.behind.stop_serving()
    assert guard.store.quarantined
    assert not guard.store.unfit
    guard.behind.unfit = True
    assert guard.store.unfit


@pytest.mark.parametrize("step", ["begin", "begin_table", "begin_scope"])
async def test_a_begin_that_needs_a_settled_primary_says_so_to_the_store(
    guard: Guard, step: str
) -> None:
    """Its refusal is an answer: however many there are, the breaker stays closed."""
    guard.behind.settled = False
    token, page = guard.world.clock.token(), guard.page()
    target = {
        "begin": guard.world.identity("a"),
        "begin_table": page.record.table_key,
        "begin_scope": page.scope_key,
    }[step]
    for _ in range(FAILURES_TO_OPEN + 1):
        with pytest.raises(StoreUnavailable) as refused:
            await getattr(guard.store, step)(target, token=token, settled=True)
        assert refused.value.failure is StoreFailure.UNSETTLED
    await getattr(guard.store, step)(target, token=token)


async def test_store_that_does_not_answer_is_not_asked_any_more(guard: Guard) -> None:
    """After some failures in a row every step fails at once, without a round trip."""
    await guard.fail(times=FAILURES_TO_OPEN)
    asked = len(guard.behind.steps)
    with pytest.raises(StoreUnavailable) as raised:
        await guard.lookup()
    assert raised.value.failure is StoreFailure.CLOSED
    assert len(guard.behind.steps) == asked
    assert guard.events[-1] == StoreFailed("lookup", StoreFailure.CLOSED)
    assert guard.moves == ["open"]


async def test_success_in_between_keeps_the_breaker_closed(guard: Guard) -> None:
    """Only failures in a row count."""
    for _ in range(FAILURES_TO_OPEN):
        await guard.fail(times=FAILURES_TO_OPEN - 1)
        await guard.lookup()
    assert (guard.breaker.state, guard.moves) == (BreakerState.CLOSED, [])


async def test_refusal_is_an_answer(guard: Guard) -> None:
    """A store that is full refuses fills: it is there, and the breaker stays closed."""
    await guard.fail(StoreFailure.REFUSED, times=10)
    assert guard.breaker.state is BreakerState.CLOSED
    await guard.fail(times=FAILURES_TO_OPEN - 1)
    await guard.fail(StoreFailure.REFUSED)
    await guard.fail(times=FAILURES_TO_OPEN - 1)
    assert guard.breaker.state is BreakerState.CLOSED


async def test_a_node_that_is_out_leaves_the_breaker_closed(guard: Guard) -> None:
    """Other nodes of the cluster answer: their items must not lose the cache too."""
    behind = PartlyOut()
    store = GuardedStore(
        behind, breaker=guard.breaker, clock=guard.world.clock, emit=guard.events.append
    )
    for _ in range(10):
        with pytest.raises(StoreUnavailable):
            await store.invalidate(guard.world.identity("a"))
    assert guard.breaker.state is BreakerState.CLOSED
    assert guard.events[-1] == StoreFailed("invalidate", StoreFailure.TIMEOUT)


class PartlyOut(MemoryStore):
    """A cluster of which one node is out: that of every item that is asked for."""

    def __init__(self) -> None:
        """Make it; it needs no clock."""

    async def invalidate(self, identity: ItemIdentity) -> None:
        raise StoreUnavailable(StoreFailure.TIMEOUT, "silent", partial=True)


async def test_one_probe_closes_the_breaker_again(guard: Guard) -> None:
    """After the cool-down a single step is let through; its success lets all through."""
    await guard.fail(times=FAILURES_TO_OPEN)
    await guard.world.clock.sleep(OPEN_S)
    opened = asyncio.Event()

    async def hold(_: Step) -> None:
        await opened.wait()

    guard.behind.before = hold
    probe = asyncio.ensure_future(guard.lookup())
    await quiesce()
    with pytest.raises(StoreUnavailable):
        await guard.lookup()
    opened.set()
    await probe
    await guard.lookup()
    assert guard.moves == ["open", "probing", "closed"]


async def test_failed_probe_opens_the_breaker_again(guard: Guard) -> None:
    """A probe that fails costs one round trip and starts the cool-down anew."""
    await guard.fail(times=FAILURES_TO_OPEN)
    await guard.world.clock.sleep(OPEN_S)
    await guard.fail()
    asked = len(guard.behind.steps)
    with pytest.raises(StoreUnavailable):
        await guard.lookup()
    assert len(guard.behind.steps) == asked
    assert guard.moves == ["open", "probing", "open"]


async def test_move_is_told_once_however_many_steps_failed_together(guard: Guard) -> None:
    """A batch of steps that time out together opens the breaker once, and tells it once."""
    guard.behind.down = StoreFailure.TIMEOUT
    failed = await asyncio.gather(*(guard.lookup() for _ in range(10)), return_exceptions=True)
    assert {type(each) for each in failed} == {StoreUnavailable}
    assert guard.moves == ["open"]


async def test_cancelled_step_counts_as_neither(guard: Guard) -> None:
    """A caller that hangs up says nothing about the store."""
    await guard.fail(times=FAILURES_TO_OPEN - 1)

    async def hold(_: Step) -> None:
        await asyncio.get_running_loop().create_future()

    guard.behind.before = hold
    step = asyncio.ensure_future(guard.lookup())
    await quiesce()
    step.cancel()
    await asyncio.wait({step})
    guard.behind.before = None
    assert guard.breaker.state is BreakerState.CLOSED
    await guard.fail()
    assert guard.moves == ["open"]


# --- lookups that tell a reader ------------------------------------------------------------


async def test_a_lookup_that_tells_a_reader_is_counted_as_any_other(guard: Guard) -> None:
    """Its durations are told together, once; failures at once, and they open the breaker."""
    identity = guard.world.identity("a")
    for _ in range(2):
        assert await look_up(guard.store, identity) is not None
    assert guard.events == []
    guard.store.tell()
    guard.store.tell()
    (told,) = guard.events
    assert isinstance(told, StoreLookedUp)
    assert told.latencies.count == 2
    for _ in range(FAILURES_TO_OPEN):
        guard.behind.fail_next(StoreFailure.TIMEOUT)
        with pytest.raises(StoreUnavailable):
            await look_up(guard.store, identity)
    assert guard.moves == [BreakerState.OPEN]
    asked = guard.behind.asked("lookup")
    with pytest.raises(StoreUnavailable):
        await look_up(guard.store, identity)
    assert guard.behind.asked("lookup") == asked
    failures = [each.failure for each in guard.events if isinstance(each, StoreFailed)]
    assert failures == [StoreFailure.TIMEOUT] * FAILURES_TO_OPEN + [StoreFailure.CLOSED]
    await guard.world.clock.sleep(OPEN_S)
    assert await look_up(guard.store, identity) is not None
    assert guard.moves[-1] == BreakerState.CLOSED


async def test_what_else_a_reader_is_told_passes(
    guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is neither an answer nor a failure of the store."""
    bug = ValueError("bug")
    monkeypatch.setattr(guard.behind, "look_up", lambda _, reader: reader.unsure())
    assert await look_up(guard.store, guard.world.identity("a")) is None
    monkeypatch.setattr(guard.behind, "look_up", lambda _, reader: reader.broke(bug))
    with pytest.raises(ValueError, match="bug"):
        await look_up(guard.store, guard.world.identity("a"))
    assert guard.events == []
