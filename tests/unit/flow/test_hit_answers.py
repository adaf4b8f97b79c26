"""Claims of proxy.flow.hit_answers: what an entry answers, wherever it lies."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace

import pytest

from proxy.core.fence import Sighting
from proxy.core.near_copy import Copy, NearTable
from proxy.core.record import Entry
from proxy.core.refresh_ahead import AHEAD_MS_MAX
from proxy.core.values import Outcome
from proxy.flow.hit_answers import answer_of, near_hit, store_hit
from tests.support.flow_world import TABLE, World

FRESH_S = 60.0


async def seen(world: World, pk: str) -> tuple[Entry, Sighting]:
    """Let a proxy fill an item, or its absence, and return what a lookup sees."""
    proxy = world.proxy()
    await proxy.get(pk)
    sighting = await proxy.store.lookup(world.identity(pk), None)
    assert sighting.entry is not None
    return sighting.entry, sighting


@pytest.fixture(autouse=True)
async def _entries(world: World) -> None:
    """Let item a be there, and entries have their times."""
    world.put_elsewhere("a", "1")
    world.policy = replace(world.policy, fresh_ttl_s=FRESH_S, negative_ttl_s=5.0)


@pytest.mark.parametrize(
    ("pk", "near", "stored"),
    [
        ("a", (Outcome.HIT, "near"), Outcome.HIT),
        ("nobody", (Outcome.NEGATIVE_HIT, "near-negative"), Outcome.NEGATIVE_HIT),
    ],
)
async def test_a_hit_says_where_it_was_found(
    world: World, pk: str, near: tuple[Outcome, str], stored: Outcome
) -> None:
    """The same bytes with the same checksum; a copy of this process tells that it was one."""
    entry, sighting = await seen(world, pk)
    copy = Copy(entry, NearTable(), (), ahead_ms=float(sighting.store_now_ms))
    plan = world.read_plan(pk)
    of_copy = near_hit(plan, copy, 0.0)
    of_store = store_hit(plan, entry, sighting.store_now_ms)
    assert (of_copy.answer.outcome, of_copy.answer.detail) == near
    assert (of_store.answer.outcome, of_store.answer.detail) == (stored, None)
    for hit in (of_copy, of_store):
        answer = hit.answer
        assert (answer.body, answer.crc32) == (entry.body, zlib.crc32(entry.body))
        assert (answer.status, answer.table, hit.units) == (200, TABLE, 0.5)


async def test_a_copys_answer_ends_with_its_second(world: World) -> None:
    """Then its time to live is another; or earlier, where the policy's time is over."""
    entry, sighting = await seen(world, "a")
    copy = Copy(entry, NearTable(), (), ahead_ms=float(sighting.store_now_ms))
    hit = near_hit(world.read_plan("a"), copy, 0.5)
    assert hit.answer.ttl_s == (entry.soft_ms - copy.store_now_ms(0.5)) // 1000
    assert 0.5 < hit.until_s < 1.5
    world.policy = replace(world.policy, fresh_ttl_s=0.75)
    assert near_hit(world.read_plan("a"), copy, 0.5).until_s < 0.75
    assert not hit.ending
    late_s = (entry.soft_ms - AHEAD_MS_MAX - sighting.store_now_ms) / 1000
    assert near_hit(world.read_plan("a"), copy, late_s).ending


async def test_a_hit_of_the_store_holds_for_this_once(world: World) -> None:
    """Nobody may answer another read with it."""
    entry, sighting = await seen(world, "a")
    hit = store_hit(world.read_plan("a"), entry, sighting.store_now_ms)
    assert hit.until_s == float("-inf")


async def test_a_projection_has_a_checksum_of_its_own(world: World) -> None:
    """The entry's is of the whole item."""
    entry, sighting = await seen(world, "a")
    plan = world.read_plan("a", ProjectionExpression="v")
    answer = answer_of(plan, entry, sighting.store_now_ms, Outcome.STALE_HIT, "why")
    assert json.loads(answer.body) == {"Item": {"v": {"S": "1"}}}
    assert answer.crc32 == zlib.crc32(answer.body) != entry.crc32
    assert (answer.outcome, answer.detail) == (Outcome.STALE_HIT, "why")
