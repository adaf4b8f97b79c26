"""The protocol with one rule left out, each with the profile whose checker must notice.

The rows are those of "Why each part is there" in ARCHITECTURE.md; a simulation that cannot see them
broken proves nothing when it is silent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest

from proxy.core import near_rules
from proxy.core.fence import WriteOutcome
from proxy.core.near_copy import StandingHit
from proxy.core.near_rules import NearRules
from proxy.core.shard_tree import Step
from proxy.core.values import Incarnation
from proxy.flow import stream_effects, write_path
from proxy.flow.coalescer import Coalescer
from proxy.flow.debts import Debts
from proxy.flow.shard_reader import ShardReader, _place
from proxy.flow.stream_effects import StreamEffects
from proxy.flow.stream_policies import StreamPolicies
from tests.fakes.memory_scripts import MemoryScripts
from tests.fakes.memory_store import MemoryStore
from tests.fakes.record_bytes import PendingBytes
from tests.sim.profiles import PROFILES
from tests.sim.rig import StoreWorld, Weather
from tests.sim.simulation import Profile


@dataclass(frozen=True, slots=True)
class Mutant:
    """A rule left out.

    Args:
        rule: what is missing.
        profile: where a checker must see it.
        leave_out: takes the rule away.
        faults: the only ones that may come; empty for all of the profile's. Then nothing else
            goes wrong either, clients use simple operations, and entries live long.
        first_seed: where to begin, near one that shows it; another is found after any change.
    """

    rule: str
    profile: str
    leave_out: Callable[[pytest.MonkeyPatch], None]
    faults: tuple[str, ...] = ()
    first_seed: int = 0

    def __str__(self) -> str:
        return self.rule

    def stage(self) -> Profile:
        """Return the profile to play it in."""
        profile = PROFILES[self.profile]
        if not self.faults:
            return profile
        return replace(
            profile,
            faults=self.faults,
            weather=Weather(),
            operations=frozenset({"GetItem", "PutItem"}),
            settings={**profile.settings, "defaults.fresh_ttl_s": (60.0,)},
        )


def _fill_without_lease(patch: pytest.MonkeyPatch) -> None:
    def fill(self: Any, key: bytes, incarnation: bytes, *, token: bytes, new: Any) -> bool:
        return bool(self._put_new_entry(key, incarnation, new))

    patch.setattr(MemoryScripts, "fill", fill)


def _no_begin(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryScripts, "begin", lambda *_args, **_named: True)


def _everybody_solo(patch: pytest.MonkeyPatch) -> None:
    end = MemoryScripts.end

    def ended(self: Any, key: bytes, incarnation: bytes, *, token: bytes, **named: Any) -> str:
        _, record = self._read(key)
        if isinstance(record, PendingBytes):
            mine = tuple(replace(each, solo=True) for each in record.markers if each.token == token)
            self._put_pending(key, PendingBytes(mine, record.hidden))
        return end(self, key, incarnation, token=token, **named)

    patch.setattr(MemoryScripts, "end", ended)


def _lost_marker_stores(patch: pytest.MonkeyPatch) -> None:
    end = MemoryScripts.end

    def ended(self: Any, key: bytes, incarnation: bytes, *, token: bytes, **named: Any) -> str:
        _, record = self._read(key)
        if not isinstance(record, PendingBytes):
            self.begin(key, incarnation, token=token, gate_open=True)
        return end(self, key, incarnation, token=token, **named)

    patch.setattr(MemoryScripts, "end", ended)


def _replica_fill(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("proxy.core.read_plan.ReadPlan.fetch_body", _fetch_eventually, raising=True)


def _fetch_eventually(self: Any, *, consistent: bool) -> bytes:
    return b'{"TableName":"%s","Key":{"pk":{"S":"%s"}}}' % (
        self.get.table.encode(),
        self.get.key["pk"]["S"].encode(),
    )


def _join_any_flight(patch: pytest.MonkeyPatch) -> None:
    share = Coalescer.share

    async def joined(self: Any, *arguments: Any, **named: Any) -> Any:
        return await share(self, *arguments, **{**named, "joins_started": True})

    patch.setattr(Coalescer, "share", joined)


def _one_incarnation(patch: pytest.MonkeyPatch) -> None:
    def unchanged(self: MemoryStore) -> None:
        self.incarnation = Incarnation(self.incarnation)

    patch.setattr(MemoryStore, "change_incarnation", unchanged)


def _no_quarantine(patch: pytest.MonkeyPatch) -> None:
    fail_over = StoreWorld.fail_over
    patch.setattr(
        StoreWorld, "fail_over", lambda self, records, **_: fail_over(self, records, quarantine_s=0)
    )


def _unknown_is_aborted(patch: pytest.MonkeyPatch) -> None:
    def judged(_operation: str, status: int, _body: bytes) -> WriteOutcome:
        return WriteOutcome.INVALIDATED if status == 200 else WriteOutcome.ABORTED

    patch.setattr(write_path, "outcome_of", judged)


def _forgotten_debts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Debts, "owes", lambda *_: False)


def _no_beginning_anew(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(write_path, "_BEGIN_TRIES", 1)


def _no_placeholder(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(NearRules, "_forget", lambda self, cache_key: self._cache.drop(cache_key))


def _unproven_copies(patch: pytest.MonkeyPatch) -> None:
    def there(told: tuple[Any, ...], _since_s: float) -> bool:
        return not any(each.void for each in told)

    patch.setattr(near_rules, "_proven", there)
    holds = StandingHit.holds

    def unproven(hit: StandingHit, now_s: float) -> bool:
        hit._delta_s = math.inf
        return holds(hit, now_s)

    patch.setattr(StandingHit, "holds", unproven)


def _no_purge_on_own_write(patch: pytest.MonkeyPatch) -> None:
    for step in ("hold", "release"):
        patch.setattr(NearRules, step, lambda *_: None)


def _lost_connections_believed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(NearRules, "lost", lambda *_: None)


def _copies_outlive_newer_reads(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(NearRules, "shown", lambda *_: None)


def _kept_answers_believed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StandingHit, "holds", lambda hit, now_s: now_s < hit._ends_s)


def _no_void(patch: pytest.MonkeyPatch) -> None:
    async def void(*_: object) -> None:
        pass

    patch.setattr(StreamEffects, "void", void)


def _place_before_effect(patch: pytest.MonkeyPatch) -> None:
    apply = ShardReader._apply

    async def applied(self: Any, records: Any) -> None:
        before, after = self._at, self._at.after(Step.APPLIED, _place(records)[1])
        self._at = after
        await self._keep()
        self._at = before
        await self._ports.clock.sleep(0.5)  # time to be killed in
        await apply(self, records)

    patch.setattr(ShardReader, "_apply", applied)


def _never_degraded(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StreamPolicies, "judge", lambda *_: None)
    patch.setattr(StreamPolicies, "distrust", lambda *_: None)


def _every_entry_stays(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(stream_effects, "_shows", lambda *_: True)


def _pages_outlive_records(patch: pytest.MonkeyPatch) -> None:
    async def raised(*_: object) -> set[object]:
        return set()

    patch.setattr(StreamEffects, "_raise", raised)


MUTANTS: Final = (
    Mutant("a fill needs its lease", "strict-invalidate", _fill_without_lease),
    Mutant("a write begins before it is sent", "strict-invalidate", _no_begin),
    Mutant("only a solo writer stores or restores", "strict-through", _everybody_solo),
    Mutant(
        "a writer whose marker is missing stores nothing",
        "forgetful-through",
        _lost_marker_stores,
        ("flush",),
        first_seed=4610,
    ),
    Mutant("a fill reads consistently", "strict-invalidate", _replica_fill),
    Mutant("a flight from before is not joined", "strict-invalidate", _join_any_flight),
    Mutant(
        "entries of another incarnation do not count",
        "strict-through",
        _one_incarnation,
        ("fail_over",),
    ),
    Mutant(
        "a new incarnation is quarantined",
        "strict-through",
        _no_quarantine,
        ("fail_over", "kill"),
        first_seed=2635,
    ),
    Mutant("an unknown outcome keeps its marker", "strict-through", _unknown_is_aborted),
    Mutant(
        "a debt makes its own process bypass",
        "session-invalidate",
        _forgotten_debts,
        first_seed=945,
    ),
    Mutant(
        "a push during a lookup keeps its copy away",
        "near-invalidate",
        _no_placeholder,
        first_seed=625,
    ),
    Mutant("a copy stands for less than Δ", "near-invalidate", _unproven_copies, first_seed=2820),
    Mutant(
        "a kept answer stands as long as its copy",
        "near-invalidate",
        _kept_answers_believed,
        first_seed=2590,
    ),
    Mutant("own writes drop copies", "near-invalidate", _no_purge_on_own_write),
    Mutant(
        "what a lost connection told is void",
        "near-forgetful-invalidate",
        _lost_connections_believed,
        ("flush",),
        first_seed=180,
    ),
    Mutant(
        "what a read shows drops older copies",
        "near-invalidate",
        _copies_outlive_newer_reads,
        first_seed=645,
    ),
    Mutant(
        "a gap in a stream voids its table",
        "streams-invalidate-short_ttl",
        _no_void,
        ("turn_stream",),
    ),
    Mutant(
        "a stream's place is kept after the effect",
        "streams-invalidate-short_ttl",
        _place_before_effect,
        ("kill",),
        first_seed=50,
    ),
    Mutant(
        "a table that lags too far degrades",
        "streams-invalidate-short_ttl",
        _never_degraded,
        first_seed=340,
    ),
    Mutant(
        "an entry stays only if it shows the record's image",
        "streams-invalidate-short_ttl",
        _every_entry_stays,
        ("split",),
    ),
    Mutant(
        "a stream record raises its item's scopes",
        "streams-pages",
        _pages_outlive_records,
        first_seed=140,
    ),
)
