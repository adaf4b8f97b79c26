"""Claims of proxy.flow.hit_answers: what an entry answers, wherever it lies."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace

import pytest

from proxy.core.fence import Sighting
from proxy.core.record import Entry
from proxy.core.values import Outcome
from proxy.flow.hit_answers import answer_of, near_answer, store_hit
from tests.support.flow_world import World

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


@pytest.mark.parametrize("pk", ["a", "nobody"])
async def test_a_hit_is_worded_as_any_path_does(world: World, pk: str) -> None:
    """The same bytes with the same checksum and time, wherever it was found."""
    entry, sighting = await seen(world, pk)
    plan, now_ms = world.read_plan(pk), sighting.store_now_ms
    outcome = Outcome.NEGATIVE_HIT if entry.negative else Outcome.HIT
    hit = store_hit(plan, entry, now_ms)
    assert hit.answer == answer_of(plan, entry, now_ms, outcome)
    assert hit.answer.crc32 == zlib.crc32(entry.body)
    detail = "near-negative" if entry.negative else "near"
    assert near_answer(plan, entry, now_ms) == hit.answer._replace(detail=detail)


async def test_a_projection_has_a_checksum_of_its_own(world: World) -> None:
    """The entry's is of the whole item."""
    entry, sighting = await seen(world, "a")
    plan = world.read_plan("a", ProjectionExpression="v")
    answer = answer_of(plan, entry, sighting.store_now_ms, Outcome.STALE_HIT, "why")
    assert json.loads(answer.body) == {"Item": {"v": {"S": "1"}}}
    assert answer.crc32 == zlib.crc32(answer.body) != entry.crc32
    assert (answer.outcome, answer.detail) == (Outcome.STALE_HIT, "why")
