"""No seed lets readers of a stream lose a record, or publish too small a lag; rules are needed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Final

import pytest

from proxy.core import shard_progress
from proxy.core.shard_tree import Checkpoint, Kept, Start, StreamView
from proxy.flow import stream_effects
from proxy.flow.shard_reader import LeaseLostError, ShardReader
from proxy.flow.stream_client import StreamClient
from proxy.flow.stream_effects import Applied, StreamEffects
from tests.sim.stream_simulation import simulate_stream

HISTORIES: Final = 12
SEEDS_MAX: Final = 400
"""A mutant that survives so many is not seen; most die within twenty."""


def test_guarantees_hold() -> None:
    """Whatever goes wrong, no entry is older than the lag says, and in the end none is old."""
    found = [f"seed {seed}: {each}" for seed in range(HISTORIES) for each in simulate_stream(seed)]
    assert found == []


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule, how to leave it out, and a seed near one that shows it."""

    name: str
    leave_out: Callable[[pytest.MonkeyPatch], None]
    first_seed: int = 0

    def __str__(self) -> str:
        return self.name


def _forget_unseen_children(patch: pytest.MonkeyPatch) -> None:
    def as_of_ms(view: StreamView) -> int:
        left = [state.as_of_ms for state in view.shards.values() if not state.done]
        return min(left) if left else max((s.as_of_ms for s in view.shards.values()), default=0)

    patch.setattr(StreamView, "as_of_ms", as_of_ms)


def _keep_an_old_lag(patch: pytest.MonkeyPatch) -> None:
    async def keep(
        reader: Any, *, as_of_s: float | None = None, lease_s: float | None = None
    ) -> None:
        now_s, lease_s = reader._ports.clock.monotonic_s, lease_s or reader._ports.pace.lease_s
        late_s = None if as_of_s is None else now_s() - as_of_s

        def step() -> Awaitable[bool]:
            as_of_ms = 0 if late_s is None else reader._store_ms(now_s() - late_s)
            kept = Kept(lease_s, as_of_ms, reader._at)
            kept_there: Awaitable[bool] = reader._ports.streams.keep_shard(
                reader._stream_key, reader._lease, kept
            )
            return kept_there

        if not await reader._surely(step):
            raise LeaseLostError

    patch.setattr(ShardReader, "_keep", keep)


def _believe_empty_answers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(shard_progress, "NEAR_S", inf)


def _void_nothing(patch: pytest.MonkeyPatch) -> None:
    async def void(_effects: StreamEffects, _table: str) -> None:
        """Leave the table as it is."""

    patch.setattr(StreamEffects, "void", void)


def _take_failures_for_done(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Applied, "failed", property(lambda _applied: []))


def _take_all_entries_for_new(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(stream_effects, "_shows", lambda _entry, _record: True)


def _go_on_at_the_end(patch: pytest.MonkeyPatch) -> None:
    iterator = StreamClient.iterator

    async def at_the_end(
        client: StreamClient, table: Any, arn: str, shard_id: str, at: Checkpoint
    ) -> str:
        return await iterator(client, table, arn, shard_id, replace(at, start=Start.LATEST))

    patch.setattr(StreamClient, "iterator", at_the_end)


RULES: Final = (
    Rule("shards that nobody has seen hold the lag up", _forget_unseen_children),
    Rule("what is kept late is late", _keep_an_old_lag, first_seed=90),
    Rule("an answer without records proves nothing to who is far away", _believe_empty_answers),
    Rule("gaps void the table", _void_nothing),
    Rule(
        "a place is kept after what is before it took effect",
        _take_failures_for_done,
        first_seed=14,
    ),
    Rule("an entry stays only if it shows the change", _take_all_entries_for_new),
    Rule("a shard is read on from where it was left", _go_on_at_the_end),
)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_rule_is_needed(rule: Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it some history goes wrong."""
    rule.leave_out(monkeypatch)
    seeds = range(rule.first_seed, rule.first_seed + SEEDS_MAX)
    assert any(simulate_stream(seed) for seed in seeds)
