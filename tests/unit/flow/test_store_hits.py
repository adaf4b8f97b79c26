"""Claims of proxy.flow.store_hits: one lookup answers, or is not made again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from proxy.core.errors import StoreFailure
from proxy.core.hits import Hit
from proxy.core.policy import NearPolicy
from proxy.core.request import Answer
from proxy.core.values import BypassReason, Mode, Outcome
from proxy.flow.events import HitsAnswered, RefreshEnded, RequestAnswered
from proxy.flow.hit_tally import HitTally
from proxy.flow.store_hits import StoreHits
from tests.support.asked import Asked
from tests.support.flow_world import TABLE, World, client_request, key_of, value_of
from tests.support.virtual_time import quiesce

FRESH_S, GRACE_S = 60.0, 30.0


class Door:
    """A proxy as its fast door asks it."""

    def __init__(self, world: World) -> None:
        self.world, self.proxy = world, world.proxy()
        self.tally = HitTally(self.proxy.events.append)
        self.hits = StoreHits(
            self.proxy.plans,
            self.proxy.reads,
            self.proxy.dispatcher.answer,
            clock=world.clock,
            tally=self.tally,
        )

    async def found(self, pk: str = "a", **members: Any) -> Any:
        """Return what a lookup brings."""
        asked = Asked()
        self.hits.look_up(body_of(pk, **members), asked)
        return await asked.told

    async def answer(self, pk: str = "a", **members: Any) -> Answer:
        """Answer one GetItem, whoever does."""
        found = await self.found(pk, **members)
        if isinstance(found, Hit):
            return found.answer
        request = client_request("GetItem", body_of(pk, **members))
        return await (found or self.proxy.dispatcher.answer)(request)

    @property
    def lookups(self) -> int:
        """How often the store was asked for an item."""
        return self.proxy.store.asked("lookup")


def body_of(pk: str, **members: Any) -> bytes:
    """Return the body of a GetItem."""
    return json.dumps({"TableName": TABLE, "Key": key_of(pk), **members}).encode()


@pytest.fixture
async def door(world: World) -> Door:
    """Give one proxy; item a holds "1"."""
    world.put_elsewhere("a", "1")
    world.policy = replace(
        world.policy, fresh_ttl_s=FRESH_S, grace_s=GRACE_S, stale_if_error_s=600.0
    )
    return Door(world)


async def test_a_fresh_entry_is_the_answer(door: Door) -> None:
    """In the dispatcher's words, by one lookup, and told with others like it."""
    await door.proxy.get("a")
    expected = await door.proxy.get("a")
    before = door.lookups
    door.proxy.events.clear()
    hit = await door.found()
    assert (hit.answer, door.lookups) == (expected, before + 1)
    assert [event for event in door.proxy.events if isinstance(event, RequestAnswered)] == []
    door.tally.tell()
    (told,) = door.proxy.told(HitsAnswered)
    assert (told.table, told.outcome, told.units) == (TABLE, Outcome.HIT, 0.5)


async def test_an_absence_is_one_too(door: Door) -> None:
    """For its own time."""
    await door.proxy.get("nobody")
    assert (await door.found("nobody")).answer.outcome is Outcome.NEGATIVE_HIT


async def test_what_is_not_there_is_fetched_without_another_lookup(door: Door) -> None:
    """The dispatcher goes on, and tells of all the time since the request came."""
    door.world.clock.pause(1.0)
    found = await door.found()
    assert not isinstance(found, Hit)
    asked_s = door.world.clock.monotonic_s()
    door.world.clock.pause(2.0)
    answer = await found(client_request("GetItem", body_of("a")))
    assert (answer.outcome, answer.stored, value_of(answer)) == (Outcome.MISS, True, "1")
    assert door.lookups == 1
    (told,) = door.proxy.told(RequestAnswered)
    assert told.elapsed_s >= door.world.clock.monotonic_s() - asked_s >= 2.0


async def test_a_stale_entry_answers_while_it_is_refreshed(door: Door) -> None:
    """As by the long way."""
    await door.proxy.get("a")
    await door.world.clock.sleep(FRESH_S + 1)
    assert (await door.answer()).outcome is Outcome.STALE_HIT
    await quiesce()
    assert door.proxy.told(RefreshEnded) == [RefreshEnded(TABLE, replaced=True)]


async def test_a_store_that_fails_is_asked_once(door: Door) -> None:
    """Another time-out would come on top of the first."""
    await door.proxy.get("a")
    before = door.lookups
    door.proxy.store.fail_next(StoreFailure.TIMEOUT, step="lookup")
    answer = await door.answer()
    assert (answer.reason, value_of(answer)) == (BypassReason.STORE_DOWN, "1")
    assert door.lookups == before + 1


async def test_a_store_that_may_not_be_asked_is_not(door: Door) -> None:
    """Then the dispatcher says why."""
    await door.proxy.get("a")
    door.proxy.store.stop_serving()
    before = door.lookups
    assert await door.found() is None
    assert (await door.answer()).reason is BypassReason.STORE_QUARANTINE
    assert door.lookups == before


@pytest.mark.parametrize(
    "members",
    [
        {"Unknown": 1},
        {"ConsistentRead": True},
        {"ProjectionExpression": "v"},
        {"ReturnConsumedCapacity": "TOTAL"},
    ],
    ids=lambda members: next(iter(members)),
)
async def test_what_is_not_plain_is_not_looked_up(door: Door, members: dict[str, Any]) -> None:
    """It is the dispatcher's."""
    await door.proxy.get("a")
    before = door.lookups
    assert await door.found(**members) is None
    assert door.lookups == before


async def test_a_switch_in_between_counts(door: Door) -> None:
    """A lookup under another policy is worth nothing."""
    found = await door.found()
    door.world.policy = replace(door.world.policy, fresh_ttl_s=5.0)
    answer = await found(client_request("GetItem", body_of("a")))
    assert (answer.outcome, door.lookups) == (Outcome.MISS, 2)
    found = await door.found("b")
    door.world.policy = replace(door.world.policy, mode=Mode.OFF)
    answer = await found(client_request("GetItem", body_of("b")))
    assert answer.reason is BypassReason.TABLE_OFF


async def test_a_lookup_leaves_a_copy(world: World, door: Door) -> None:
    """The next read is answered by it."""
    await door.proxy.get("a")
    world.near = NearPolicy(bytes_max=1 << 20)
    near = Door(world)
    await near.found()
    (plan,) = [near.proxy.plans.plan_of(body_of("a"))]
    assert near.proxy.reads.near(plan) is not None  # type: ignore[arg-type]


class Broken(Asked):
    """Who cannot take what was found, once."""

    def __init__(self, bug: Exception) -> None:
        super().__init__()
        self.bugs: list[Exception] = []
        self._bug = bug

    def found(self, found: Any) -> None:
        """Fail at the first call."""
        super().found(found)
        raise self._bug

    def broke(self, error: Exception) -> None:
        """Take note."""
        self.bugs.append(error)


async def test_a_bug_in_a_lookup_is_told_and_the_dispatcher_answers(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One request must not wait for ever because of it."""
    bug = ValueError("bug")

    def seen(*_: object) -> None:
        raise bug

    asked = Broken(KeyError())
    monkeypatch.setattr(asked, "found", asked.told.set_result)
    monkeypatch.setattr(door.proxy.reads, "seen", seen)
    door.hits.look_up(body_of("a"), asked)
    assert await asked.told is None
    assert asked.bugs == [bug]


async def test_a_bug_in_taking_what_was_found_is_told_once(door: Door) -> None:
    """It has been told what was found, and is not told again."""
    bug = ValueError("bug")
    asked = Broken(bug)
    door.hits.look_up(body_of("a"), asked)
    await asked.told
    await quiesce()
    assert asked.bugs == [bug]


async def test_what_one_round_trip_cannot_tell_is_the_dispatchers(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks up in its own way."""
    monkeypatch.setattr(door.proxy.store, "look_up", lambda _, reader: reader.unsure())
    assert await door.found() is None
