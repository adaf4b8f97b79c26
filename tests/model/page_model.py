"""Readers and writers of one page, taking the protocol's atomic steps in every possible order.

Steps on the two scopes' records are performed by the executable specification, what a reader makes
of them by the product's own `sight_page`. The promise is checked at each answer: nothing older than
what was acknowledged or seen before the reader came.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from proxy.core.cache_key import KeySpace
from proxy.core.pages import PageSighting, sight_page
from proxy.core.record import Entry, decode_scope
from proxy.core.values import Generation, Incarnation, TableName
from tests.fakes.memory_scripts import Stored
from tests.fakes.record_bytes import PAST_MS, ScopeBytes, unpack
from tests.model import steps
from tests.model.steps import KEEP_MS, Specification
from tests.model.uncollected import uncollected
from tests.model.world import generation_of, incarnation_of, token_of

_TABLE: Final = TableName("orders")
_KEYS: Final = KeySpace("model", "eu-west-1")
_PAGE: Final = _KEYS.page(_TABLE, b"request", _KEYS.scan_key(_TABLE))
_HERE: Final = Incarnation(incarnation_of(0))


class Reader(NamedTuple):
    """One Query: what it has learned so far; `page` is generation and value of the entry."""

    phase: str = "idle"
    floor: int = 0
    page: tuple[bytes, int] | None = None
    table: bytes = b""
    generation: bytes | None = None
    value: int = 0


class Writer(NamedTuple):
    """One write; `pages` tells whether it fences the scope, `value` what it wrote."""

    phase: str = "idle"
    pages: bool = False
    value: int = 0


class State(NamedTuple):
    """The world between two steps."""

    table: Stored | None
    scope: Stored | None
    readers: tuple[Reader, ...]
    writers: tuple[Writer, ...]
    page: tuple[bytes, int] | None = None
    upstream: int = 0
    floor: int = 0
    made: int = 0
    flushes: int = 0


Step = tuple[str, State, str | None]
"""What happened, the world after it, and the broken promise if any."""


@dataclass(frozen=True, slots=True)
class PageScenario:
    """Who takes part, what may go wrong, and which rule is left out.

    Args:
        readers: how many.
        writers: "item" or "table" each.
        options: "announced" (pages count from the start), "crash" (writers die around the effect),
            "refuse" (DynamoDB may refuse), "flush" (the store forgets once; then only what was
            acknowledged is promised).
        without: "begin", "raise", "delay", "scope" or "table": a rule of the protocol; empty for
            none.
    """

    readers: int
    writers: tuple[str, ...]
    options: frozenset[str] = frozenset()
    without: str = ""


@uncollected()
def explore_pages(scenario: PageScenario, specification: Specification) -> list[str] | None:
    """Take every step in every order; return the shortest failing run, if any."""
    world = _World(scenario, specification)
    start = world.start()
    came_from: dict[State, tuple[State, str] | None] = {start: None}
    queue = deque([start])
    while queue:
        state = queue.popleft()
        for label, following, fault in world.steps(state):
            if fault:
                run, at = [f"{label}   <-- {fault}"], came_from[state]
                while at is not None:
                    run.append(at[1])
                    at = came_from[at[0]]
                return run[::-1]
            if following not in came_from:
                came_from[following] = (state, label)
                queue.append(following)
    return None


class _World:
    def __init__(self, scenario: PageScenario, specification: Specification) -> None:
        self._scenario = scenario
        self._specification = specification

    def start(self) -> State:
        scenario = self._scenario
        state = State(
            None,
            None,
            (Reader(),) * scenario.readers,
            (Writer(),) * len(scenario.writers),
            flushes=int("flush" in scenario.options),
        )
        if "announced" in scenario.options:
            state = _ready(self._on(state, "table", "announce", b""))
        return state

    def steps(self, s: State) -> Iterator[Step]:
        for i in range(len(s.readers)):
            if not _waits_for_its_twin(s.readers, i):
                yield from self._reader(s, i)
        kinds = self._scenario.writers
        for i in range(len(s.writers)):
            twins = i > 0 and kinds[i - 1] == kinds[i]
            if not (twins and _waits_for_its_twin(s.writers, i)):
                yield from self._writer(s, i)
        yield from self._environment(s)

    # Readers

    def _reader(self, s: State, i: int) -> Iterator[Step]:
        me = s.readers[i]
        match me.phase:
            case "idle":
                yield self._go("reads the page", s, i, "table", floor=s.floor, page=s.page)
            case "table":
                after = s
                table = decode_scope(s.table.raw) if s.table else None
                dead = table is None or not table.stands(_HERE, self._specification.now_ms)
                if dead or (table and table.pages_from_ms == 0):
                    after = self._on(s, "table", "announce", b"")
                assert after.table is not None, "an announcement leaves a record"
                yield self._go("reads the table", after, i, "scope", table=after.table.raw)
            case "scope":
                yield self._sighted(s, i)
            case "fetch":
                phase = "answer" if me.generation is None else "fill"
                yield self._go(f"fetches {s.upstream}", s, i, phase, value=s.upstream)
            case "fill":
                assert me.generation is not None, "who may not fill answers"
                filled = s._replace(page=(me.generation, me.value))
                yield self._answer(filled, i, me.value)
                yield self._answer(s, i, me.value)
            case "answer":
                yield self._answer(s, i, me.value)

    def _sighted(self, s: State, i: int) -> Step:
        after = s
        scope = decode_scope(s.scope.raw) if s.scope else None
        if scope is None or not scope.stands(_HERE, self._specification.now_ms):
            after = self._on(s, "scope", "learn", b"")
        assert after.scope is not None, "who learned a scope left a record"
        seen = self._see(s.readers[i], after.scope.raw)
        if seen.sighting.table_pending or not self._counts(seen):
            return self._go("may not use pages", after, i, "fetch", generation=None)
        if seen.sighting.entry is not None:
            return self._answer(after, i, int(seen.sighting.entry.body))
        generation = seen.sighting.generation
        return self._go("sees no page", after, i, "fetch", generation=generation)

    def _counts(self, seen: PageSighting) -> bool:
        return seen.ready or self._scenario.without == "delay"

    def _see(self, me: Reader, raw_scope: bytes) -> PageSighting:
        table, scope = decode_scope(me.table), decode_scope(raw_scope)
        assert table is not None, "a record of ours"
        assert scope is not None, "a record of ours"
        fixed = Generation(bytes(8))
        if self._scenario.without == "scope":
            scope = replace(scope, generation=fixed)
        if self._scenario.without == "table":
            table = replace(table, generation=fixed)
        return sight_page(
            None if me.page is None else _entry(*me.page, self._specification.now_ms),
            table,
            scope,
            page=_PAGE,
            incarnation=_HERE,
            store_now_ms=self._specification.now_ms,
        )

    def _answer(self, s: State, i: int, value: int) -> Step:
        floor = s.readers[i].floor
        fault = f"answered {value}, but {floor} was visible" if value < floor else None
        if "flush" not in self._scenario.options:
            s = s._replace(floor=max(s.floor, value))
        readers = (*s.readers[:i], Reader("done"), *s.readers[i + 1 :])
        return f"reader {i} answers {value}", s._replace(readers=readers), fault

    def _go(self, label: str, s: State, i: int, phase: str, **learned: object) -> Step:
        me = s.readers[i]._replace(phase=phase, **learned)  # type: ignore[arg-type]
        readers = (*s.readers[:i], me, *s.readers[i + 1 :])
        return f"reader {i} {label}", s._replace(readers=readers), None

    # Writers

    def _writer(self, s: State, i: int) -> Iterator[Step]:
        me, who = s.writers[i], f"{self._scenario.writers[i]} writer {i}"
        whole = self._scenario.writers[i] == "table"
        fenced, token = "table" if whole else "scope", token_of("writer", i)
        new = s.upstream + 1
        match me.phase:
            case "idle":
                table = decode_scope(s.table.raw) if s.table else None
                pages = whole or (table is not None and table.pages_from_ms > 0)
                phase = "begin" if pages and self._scenario.without != "begin" else "sent"
                yield f"{who} begins", _with(s, i, Writer(phase, pages)), None
            case "begin":
                begun = self._on(s, fenced, "begin", token)
                yield f"{who} fences", _with(begun, i, me._replace(phase="sent")), None
            case "sent":
                applied = _with(s, i, me._replace(phase="applied", value=new))
                yield f"{who} takes effect as {new}", applied._replace(upstream=new), None
                if "refuse" in self._scenario.options:
                    yield f"{who} is refused", _with(s, i, me._replace(phase="refused")), None
                if "crash" in self._scenario.options:
                    yield f"{who} dies", _with(s, i, me._replace(phase="dead")), None
                    late = _with(s, i, me._replace(phase="dead"))
                    yield f"{who} dies, having written {new}", late._replace(upstream=new), None
            case "applied" | "refused":
                raises = me.phase == "applied" and self._scenario.without != "raise"
                word = "end" if raises else "abort"
                after = self._on(s, fenced, word, token) if me.pages else s
                after = after._replace(floor=max(after.floor, me.value))
                yield f"{who}: {word}", _with(after, i, Writer("done")), None

    # What nobody does

    def _environment(self, s: State) -> Iterator[Step]:
        for i, writer in enumerate(s.writers):
            if writer.phase in {"dead", "done"}:
                for name, stored in (("table", s.table), ("scope", s.scope)):
                    over = _marker_over(stored, token_of("writer", i))
                    if over is not None:
                        yield "a marker runs out", s._replace(**{name: over}), None  # type: ignore[arg-type]
        unaware = [w for w in s.writers if w.phase in {"sent", "applied"} and not w.pages]
        if not unaware and (after := _ready(s)) != s:
            yield "every writer that did not know is over", after, None
        if s.flushes:
            forgotten = s._replace(table=None, scope=None, page=None, flushes=0)
            yield "THE STORE FORGETS", forgotten, None

    def _on(self, s: State, name: str, word: str, token: bytes) -> State:
        fresh = generation_of(s.made + 1)
        keep_ms = 0 if name == "table" else KEEP_MS
        before = s.table if name == "table" else s.scope
        call = steps.scope(word, _HERE, fresh, token, keep_ms=keep_ms)
        after = self._specification.perform(before, call).after
        made = s.made + 1 if after is not None and fresh in after.raw else s.made
        if name == "table":
            return s._replace(table=after, made=made)
        return s._replace(scope=after, made=made)


def _waits_for_its_twin(each: Sequence[Reader] | Sequence[Writer], i: int) -> bool:
    """Tell whether the one before has not begun either: beginning in another order is the same run.

    Until they begin the two differ in their tokens only, which nobody does more with than compare.
    """
    return i > 0 and each[i - 1].phase == each[i].phase == "idle"


def _with(s: State, i: int, writer: Writer) -> State:
    return s._replace(writers=(*s.writers[:i], writer, *s.writers[i + 1 :]))


def _ready(s: State) -> State:
    """Return the world after the time from which pages count."""
    record = unpack(s.table.raw) if s.table else None
    if s.table is None or not isinstance(record, ScopeBytes) or record.pages_from_ms <= PAST_MS:
        return s
    passed = replace(record, pages_from_ms=PAST_MS).pack()
    return s._replace(table=Stored(passed, s.table.expires_ms))


def _marker_over(stored: Stored | None, token: bytes) -> Stored | None:
    """Return a record in which one marker has run out, None if it holds no such live marker."""
    record = unpack(stored.raw) if stored else None
    if stored is None or not isinstance(record, ScopeBytes):
        return None
    until = tuple((each, PAST_MS if each == token else at) for each, at in record.markers)
    changed = replace(record, markers=until)
    return None if changed == record else Stored(changed.pack(), stored.expires_ms)


def _entry(generation: bytes, value: int, now_ms: int) -> Entry:
    return Entry(
        incarnation=_HERE,
        generation=Generation(generation),
        digest=_PAGE.record.digest,
        filled_ms=now_ms,
        soft_ms=2 * now_ms,
        hard_ms=3 * now_ms,
        negative=False,
        item_bytes=0,
        crc32=0,
        body=str(value).encode(),
    )
