"""What happens to the model's records by itself: time, lost markers, fail-over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

from tests.fakes.memory_scripts import Stored
from tests.fakes.record_bytes import (
    PAST_MS,
    EntryBytes,
    LeaseBytes,
    PendingBytes,
    ScopeBytes,
    TombstoneBytes,
    expired,
    unpack,
)
from tests.model.world import Scenario, State, Step, token_of


class Environment:
    """Everything that nobody does.

    Args:
        scenario: what may happen.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._options = scenario.options

    def steps(self, s: State) -> Iterator[Step]:
        """Yield all that may happen now."""
        if s.replica < s.upstream and "weak" in self._scenario.readers:
            yield "DynamoDB's replica catches up", s._replace(replica=s.upstream), None
        yield from self._markers_end(s)
        if "expiry" in self._options and s.item is not None:
            caught_up = s.replica == s.upstream or "weak" not in self._scenario.readers
            lag = "lag" in self._options
            for label, item in _times_out(s.item, caught_up=caught_up, lag=lag):
                yield label, s._replace(item=item), None
        if s.faults and "flush" in self._options:
            yield "THE STORE FORGETS", s._replace(item=None, table=None, faults=0), None
        if "failover" in self._options:
            yield from self._failover(s)
        if "table-failover" in self._options:
            yield from self._table_failover(s)

    def _markers_end(self, s: State) -> Iterator[Step]:
        early = "early" in self._options
        over = [
            token_of("writer", i)
            for i, each in enumerate(s.writers)
            if each.phase in ("dead", "done") or (early and each.phase != "idle")
        ]
        for token in over:
            if s.item is not None and (item := _marker_over(s.item, token)) is not None:
                yield "a marker runs out", s._replace(item=item), None
            if s.table is not None and (table := _marker_over(s.table, token)) is not None:
                yield "a table's marker runs out", s._replace(table=table), None

    def _failover(self, s: State) -> Iterator[Step]:
        if s.faults and s.lagging != s.item:
            yield "the store's replica is in step", s._replace(lagging=s.item), None
        if s.faults:
            promoted = s._replace(
                item=s.lagging, lagging=None, incarnation=1, gate_open=False, faults=0
            )
            yield "THE STORE'S REPLICA IS PROMOTED", promoted, None
        yield from self._gate(s)

    def _table_failover(self, s: State) -> Iterator[Step]:
        if s.faults and s.lagging != s.table:
            yield "the table's replica is in step", s._replace(lagging=s.table), None
        if s.faults:
            promoted = s._replace(
                table=s.lagging, lagging=None, table_incarnation=1, gate_open=False, faults=0
            )
            yield "THE TABLE'S REPLICA IS PROMOTED", promoted, None
        yield from self._gate(s)

    def _gate(self, s: State) -> Iterator[Step]:
        in_flight = any(
            each.fail_overs != s.fail_overs and each.phase in ("sent", "limbo", "applied")
            for each in s.writers
        )
        if not s.gate_open and not in_flight:
            yield "the gate opens", s._replace(gate_open=True), None


@cache
def _times_out(
    item: Stored, *, caught_up: bool, lag: bool
) -> tuple[tuple[str, Stored | None], ...]:
    """Return what time may do to a record, each part on its own: more orders than there are.

    What outlives DynamoDB's lag stays until its replicas have caught up: tombstones, dead markers
    and, unless `lag`, entries.
    """
    record = unpack(item.raw)
    match record:
        case EntryBytes(soft_ms=soft_ms) if caught_up or lag:
            grace = replace(item, raw=replace(record, soft_ms=PAST_MS).pack())
            past = () if soft_ms == PAST_MS else (("the entry is in grace", grace),)
            return (*past, ("the entry is past its time", None))
        case LeaseBytes(deadline_ms=deadline_ms, strong=strong, kept=kept):
            over = replace(item, raw=expired(record).pack())
            live = () if deadline_ms == PAST_MS else (("the lease runs out", over),)
            gone = ("the lease is gone", None)
            bare = Stored(replace(record, kept=None).pack(), item.expires_ms)
            lost = (("the kept entry is past its time", bare),) if kept else ()
            return (*live, *lost, gone) if caught_up or not strong else (*live, *lost)
        case TombstoneBytes() if caught_up:
            return (("the tombstone is gone", None),)
        case PendingBytes(markers=markers) if caught_up:
            dead = all(each.deadline_ms == PAST_MS for each in markers)
            return (("the dead markers are gone", None),) if dead else ()
        case _:
            return ()


@cache
def _marker_over(stored: Stored, token: bytes) -> Stored | None:
    """Return a record in which one marker has run out, None if it holds no such marker."""
    record = unpack(stored.raw)
    if isinstance(record, PendingBytes):
        markers = tuple(
            replace(each, deadline_ms=PAST_MS) if each.token == token else each
            for each in record.markers
        )
        changed = replace(record, markers=markers).pack()
    elif isinstance(record, ScopeBytes):
        until = tuple(
            (each, PAST_MS if each == token else deadline_ms)
            for each, deadline_ms in record.markers
        )
        changed = replace(record, markers=until).pack()
    else:
        return None
    return None if changed == stored.raw else replace(stored, raw=changed)
