"""Claims of proxy.flow.standing: a hit is given again only while nothing speaks against it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from proxy.core.near_copy import ASKED_BYTES_MAX
from proxy.core.plan_memo import PlanMemo
from proxy.core.policy import AuditPolicy, NearPolicy
from proxy.core.refresh_ahead import AHEAD_MS_MAX
from proxy.core.values import Layout, Mode
from proxy.flow.at_once import AtOnce
from proxy.flow.events import AuditEnded
from proxy.flow.hit_tally import HitTally
from proxy.flow.hot_reads import Sampling
from proxy.flow.mode_switch import ModeSwitch
from proxy.flow.standing import NOTED_EVERY_S, Standing
from tests.fakes.memory_tracking import MemoryTracking
from tests.support.flow_world import TABLE, World, key_of
from tests.support.virtual_time import quiesce

DELTA_S = 0.25
FRESH_S = 600.0


def body_of(pk: str, blanks: int = 0) -> bytes:
    """Return the body of a GetItem."""
    return json.dumps({"TableName": TABLE, "Key": key_of(pk)}).encode() + b" " * blanks


class Process:
    """A process that keeps copies, its standing hits, and who may make more of them."""

    def __init__(self, world: World, *, audit: float = 0.0, sampled_after: int = 1_000_000) -> None:
        world.near = NearPolicy(bytes_max=1 << 20, delta_s=DELTA_S)
        self.world = world
        self.noted: list[str] = []
        self.proxy = proxy = world.proxy(audit=AuditPolicy(share=audit))
        proxy.hot.left = sampled_after
        self.standing = Standing(
            proxy.near, proxy.hot, proxy.auditor, proxy.debts, self.noted.append
        )
        plans = PlanMemo(world.keys, world.policy_of, bytes_max=1 << 20)
        self.at_once = AtOnce(
            plans,
            proxy.reads.near,
            self.standing,
            clock=world.clock,
            tally=HitTally(proxy.events.append),
        )

    async def fill(self, pk: str = "a", blanks: int = 0) -> None:
        """Let a copy answer once, so that its answer stands."""
        await self.proxy.get(pk)
        await self.proxy.get(pk)
        assert self.at_once.answer(body_of(pk, blanks)) is not None

    def stands(self, pk: str = "a", blanks: int = 0) -> bool:
        """Tell whether a hit stands now."""
        now_s = self.world.clock.monotonic_s()
        return self.standing.find(body_of(pk, blanks), now_s) is not None

    @property
    def tracking(self) -> MemoryTracking:
        """What tells of changes; it proves itself all the time unless it is held."""
        assert self.proxy.store.tracking is not None
        return self.proxy.store.tracking

    def be_unproven(self) -> None:
        """Let the last proof be too old by now."""
        self.tracking.hold()
        self.world.clock.pause(DELTA_S)


@pytest.fixture
async def process(world: World) -> Process:
    """Give a process in which item `a` stands."""
    world.put_elsewhere("a", "1")
    world.policy = replace(world.policy, fresh_ttl_s=FRESH_S)
    made = Process(world)
    await made.fill()
    return made


async def test_what_stands_is_the_answer_that_the_read_path_gave(process: Process) -> None:
    """With the time that is left now; and it counts as a hit on a copy."""
    expected = await process.proxy.get("a")
    before = process.proxy.near.hits
    hit = process.at_once.answer(body_of("a"))
    assert hit is not None
    assert hit.answer == expected
    assert process.proxy.near.hits == before + 1
    await process.world.clock.sleep(10.5)
    later = process.at_once.answer(body_of("a"))
    assert later is hit
    assert later.answer == await process.proxy.get("a")
    assert later.ttl_s < int(FRESH_S) - 10


@pytest.mark.parametrize(
    "what",
    [
        lambda process: process.proxy.near.invalidated([process.world.identity("a").cache_key]),
        lambda process: process.proxy.near.invalidated([process.world.identity("a").table_key]),
        lambda process: process.proxy.near.hold([process.world.identity("a").cache_key]),
        lambda process: process.proxy.near.shown(process.world.identity("a")),
        lambda process: process.tracking.disconnect(),
        lambda process: process.proxy.near.cache.unstand(),
        lambda process: process.be_unproven(),
        lambda process: process.proxy.debts.keys.update([process.world.identity("b").cache_key]),
    ],
    ids=["push", "table", "own write", "shown", "lost", "switch", "unproven", "debt"],
)
async def test_what_speaks_against_it_ends_it(
    process: Process, what: Callable[[Process], object]
) -> None:
    """At once, whatever else is the case."""
    assert process.stands()
    what(process)
    assert not process.stands()


async def test_it_ends_before_a_read_might_start_a_refresh(process: Process) -> None:
    """The read path decides about that; and about every read of a short life's second half."""
    await process.world.clock.sleep(FRESH_S - AHEAD_MS_MAX / 1000 - 0.1)
    assert process.stands()
    await process.world.clock.sleep(0.2)
    assert not process.stands()
    process.world.put_elsewhere("short", "1")
    process.world.policy = replace(process.world.policy, fresh_ttl_s=8.0)
    await process.fill("short")
    await process.world.clock.sleep(3.9)
    assert process.stands("short")
    await process.world.clock.sleep(0.2)
    assert not process.stands("short")


async def test_its_table_is_noted_as_read_now_and_then(process: Process) -> None:
    """Or nobody would notice that the table is another one meanwhile."""
    for _ in range(3):
        assert process.stands()
    assert process.noted == [TABLE]
    await process.world.clock.sleep(NOTED_EVERY_S - 0.1)
    assert process.stands()
    assert process.noted == [TABLE]
    await process.world.clock.sleep(0.2)
    assert process.stands()
    assert process.noted == [TABLE, TABLE]


async def test_a_shorter_policy_ends_it_in_time(process: Process) -> None:
    """An entry that another proxy filled for longer is fresh for this one's time only."""
    process.world.put_elsewhere("b", "1")
    other = process.world.proxy()
    await other.get("b")
    process.world.policy = replace(process.world.policy, fresh_ttl_s=5.0)
    await process.fill("b")
    await process.world.clock.sleep(4.9)
    assert process.stands("b")
    await process.world.clock.sleep(0.2)
    assert not process.stands("b")


async def test_reads_to_be_looked_at_are_the_read_paths(world: World) -> None:
    """Hot items are sampled, and hits audited, as often as if nothing stood."""
    world.put_elsewhere("a", "1")
    world.policy = replace(world.policy, fresh_ttl_s=FRESH_S)
    world.sampling = Sampling(every=2)
    process = Process(world, audit=1.0, sampled_after=1)
    await process.fill()
    for _ in range(20):
        assert process.at_once.answer(body_of("a")) is not None
    await quiesce()
    assert len(process.proxy.told(AuditEnded)) >= 20
    (table,) = process.proxy.hot.report()
    assert table.sampled >= 5


async def test_one_spelling_of_a_request_stands(process: Process) -> None:
    """The last one; long ones never."""
    assert process.at_once.answer(body_of("a", blanks=1)) is not None
    assert (process.stands(), process.stands(blanks=1)) == (False, True)
    assert process.at_once.answer(body_of("a", blanks=ASKED_BYTES_MAX)) is not None
    assert (process.stands(blanks=1), process.stands(blanks=ASKED_BYTES_MAX)) == (True, False)


async def test_a_copy_that_leaves_takes_its_answer_along(process: Process) -> None:
    """Nothing is kept of it."""
    process.proxy.near.cache.drop(process.world.identity("a").cache_key)
    assert process.proxy.near.cache.standing == {}


async def test_a_switch_of_a_mode_ends_all(world: World) -> None:
    """Before it counts."""
    seen: list[Mode] = []
    modes = ModeSwitch(lambda _: world.policy, emit=lambda _: None)
    modes.switching = lambda: seen.append(modes.policy_of(TABLE).mode)
    assert modes.switch(TABLE, Mode.OFF, 100.0)
    assert (seen, modes.policy_of(TABLE).mode) == ([Mode.ON], Mode.OFF)


async def test_a_copy_that_two_connections_told_of_never_stands(process: Process) -> None:
    """The read path asks each of them."""
    copy = process.proxy.near.cache.peek(process.world.identity("a").cache_key)
    assert copy is not None
    copy.told = (*copy.told, *copy.told)
    plan = process.world.read_plan("a")
    now_s = process.world.clock.monotonic_s()
    assert not process.proxy.near.hit(plan, copy, now_s).holds(now_s)


async def test_hashes_have_no_copies_and_nothing_stands(world: World) -> None:
    """Their attributes are read apart."""
    world.put_elsewhere("a", "1")
    world.policy = replace(world.policy, layout=Layout.HASH)
    process = Process(world)
    await process.proxy.get("a")
    await process.proxy.get("a")
    assert process.at_once.answer(body_of("a")) is None
