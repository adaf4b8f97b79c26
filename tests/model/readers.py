"""The model's readers: lookup (two reads), learn, lease, fetch, fill or release."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from proxy.core.fence import RecordState, Sighting, sight
from proxy.core.record import ScopeRecord, decode_record, decode_scope
from proxy.core.values import Digest, Incarnation
from tests.model import steps
from tests.model.steps import DIGEST, Specification
from tests.model.world import Reader, Scenario, State, Step, incarnation_of, token_of
from tests.model.writers import on_table


class Readers:
    """The steps of every reader of a scenario.

    A phase is a word for what comes next; "answered" after it means that the caller has its answer
    from an entry in grace, and this is the refresh.

    Args:
        scenario: their kinds.
        specification: performs calls.
    """

    def __init__(self, scenario: Scenario, specification: Specification) -> None:
        self._scenario = scenario
        self._specification = specification

    def steps(self, s: State, i: int) -> Iterator[Step]:
        """Yield all that reader `i` may do now."""
        me = s.readers[i]
        what, _, _ = me.phase.partition(", ")
        match what:
            case "idle":
                yield self._look_up(s, i)
            case "second read":
                yield from self._second_read(s, i)
            case "learn":
                yield self._sighted(i, on_table(self._specification, s, "learn", b""))
            case "lease":
                yield self._lease(s, i)
            case "fetch" | "fetch weakly":
                yield from self._fetch(s, i)
            case "fetch only":
                yield self._answer("fetches without fill", s, i, s.upstream, cached=False)
            case "fill":
                yield from self._fill(s, i)
        if "rcrash" in self._scenario.options and what.startswith(("fetch", "fill")):
            yield self._go("dies", s, i, "done")

    def _look_up(self, s: State, i: int) -> Step:
        found = (s.item.raw, s.item.fields) if s.item else None
        phase = "second read" if s.gate_open else "fetch only"
        learned = {"floor": s.floor, "found": found, "incarnation": s.incarnation}
        return self._go("looks up", s, i, phase, **learned)

    def _second_read(self, s: State, i: int) -> Iterator[Step]:
        table = decode_scope(s.table.raw) if s.table else None
        if s.readers[i].incarnation != s.incarnation:
            yield self._go("lost its connection", s, i, "fetch only")
        elif table is None or not self._stands(table, s):
            yield self._go("must learn the generation", s, i, "learn", found=None)
        else:
            yield self._sighted(i, s)

    def _stands(self, table: ScopeRecord, s: State) -> bool:
        here = table.incarnation
        if "trusting" not in self._scenario.options:
            here = Incarnation(incarnation_of(s.table_incarnation))
        return table.stands(here, self._specification.now_ms)

    def _sighted(self, i: int, s: State) -> Step:
        me, kind = s.readers[i], self._scenario.readers[i]
        assert s.table is not None, "somebody just read it"
        now_ms = self._specification.now_ms
        raw, fields = me.found or (None, None)
        seen = _sight(raw, s.table.raw, incarnation_of(me.incarnation), now_ms)
        if seen.table_pending:
            return self._go("sees a pending table", s, i, "fetch only", found=None)
        learned = {"generation": seen.generation, "found": None}
        if seen.entry is None or kind == "forcing":
            return self._go(f"sees {seen.state}", s, i, "lease", **learned)
        stale = seen.entry.soft_ms <= now_ms and seen.state is not RecordState.LEASED
        then = "lease, answered" if stale else "done"
        assert raw is not None, "an entry was seen in it"
        value = steps.value_of(raw, fields)
        return self._answer("hits", s, i, value, cached=True, then=then, **learned)

    def _lease(self, s: State, i: int) -> Step:
        me, kind = s.readers[i], self._scenario.readers[i]
        without = "done" if _answered(me) else "fetch only"
        if not s.gate_open:
            return self._go("gets no lease: gate", s, i, without)
        incarnation, force = incarnation_of(s.incarnation), kind == "forcing"
        call = steps.lease(incarnation, me.generation, token_of("reader", i), force=force)
        done = self._specification.perform(s.item, call)
        word, detail, fields = done.reply
        after = s._replace(item=done.after)
        if word == "leased":
            fetch = "fetch weakly" if kind == "weak" and not detail else "fetch"
            phase = f"{fetch}, answered" if _answered(me) else fetch
            return self._go(f"leases {detail}", after, i, phase)
        if word == "hit" and not _answered(me):
            return self._answer(
                "hits in lease", after, i, steps.value_of(detail, fields), cached=True
            )
        return self._go(f"does not lease: {word}", after, i, without)

    def _fetch(self, s: State, i: int) -> Iterator[Step]:
        me = s.readers[i]
        phase = "fill, answered" if _answered(me) else "fill"
        yield self._go(f"fetches {s.upstream}", s, i, phase, value=s.upstream)
        if "weakly" in me.phase and s.replica < s.upstream:
            yield self._go(f"fetches old {s.replica}", s, i, phase, value=s.replica)

    def _fill(self, s: State, i: int) -> Iterator[Step]:
        me, token = s.readers[i], token_of("reader", i)
        incarnation = incarnation_of(s.incarnation)
        released = self._specification.perform(s.item, steps.release(incarnation, token))
        endings = [("releases", released)]
        if s.gate_open:
            as_hash = self._scenario.readers_hash
            call = steps.fill(incarnation, me.generation, token, me.value, as_hash=as_hash)
            filled = self._specification.perform(s.item, call)
            endings.append((f"fills {me.value}" if filled.reply else "may not fill", filled))
        for label, done in endings:
            after = s._replace(item=done.after)
            if _answered(me):
                yield self._go(label, after, i, "done")
            else:
                yield self._answer(label, after, i, me.value, cached=False)

    def _answer(
        self,
        label: str,
        s: State,
        i: int,
        value: int,
        *,
        cached: bool,
        then: str = "done",
        **learned: Any,
    ) -> Step:
        me = s.readers[i]
        fault = None
        # A weak reader's own fetch may be old: only what it takes from the store is promised.
        if value < me.floor and (cached or self._scenario.readers[i] != "weak"):
            fault = f"answered {value}, but {me.floor} was visible before"
        if "ackonly" not in self._scenario.options:
            s = s._replace(floor=max(s.floor, value))
        label, after, _ = self._go(f"{label}: answers {value}", s, i, then, **learned)
        return label, after, fault

    def _go(self, label: str, s: State, i: int, phase: str, **learned: Any) -> Step:
        going_on = s.readers[i]._replace(phase=phase, **learned)
        mine = Reader("done") if phase == "done" else going_on
        readers = (*s.readers[:i], mine, *s.readers[i + 1 :])
        return f"{self._scenario.readers[i]} {i} {label}", s._replace(readers=readers), None


def _answered(reader: Reader) -> bool:
    return reader.phase.endswith(", answered")


@cache
def _sight(raw: bytes | None, table: bytes, incarnation: bytes, now_ms: int) -> Sighting:
    decoded = decode_scope(table)
    assert decoded is not None, "a table's record of ours"
    return sight(
        decode_record(raw) if raw is not None else None,
        decoded,
        incarnation=Incarnation(incarnation),
        digest=Digest(DIGEST),
        store_now_ms=now_ms,
    )
