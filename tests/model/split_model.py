"""Readers and writers of one item while an older primary lives on beside the one just promoted.

Every order of steps is taken. Time is only an order here: what the settings bound in seconds is a
rule of what must have happened before. The new primary has lost all that the older one knew, which
is the worst that a fail-over can do; entries of the older incarnation would not count there anyway.
The promise is checked at each answer: nothing older than what was acknowledged or seen before the
reader came.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from tests.model.uncollected import uncollected

OLD: Final = "old"
NEW: Final = "new"


class Record(NamedTuple):
    """What one primary holds: an entry's value, markers of writers, the reader with the lease."""

    value: int | None = None
    markers: frozenset[int] = frozenset()
    lease: int | None = None


class Reader(NamedTuple):
    """One read: where it looks, and what it fetched."""

    phase: str = "idle"
    at: str = ""
    floor: int = 0
    value: int = 0


class Writer(NamedTuple):
    """One write: where it began, and whether that was before the promotion."""

    phase: str = "idle"
    at: str = ""
    early: bool = True


class State(NamedTuple):
    """The world between two steps."""

    readers: tuple[Reader, ...]
    writers: tuple[Writer, ...]
    old: Record = Record(value=0)
    new: Record | None = None
    upstream: int = 0
    floor: int = 0
    old_writes: bool = True  # the older primary takes writes, so its heartbeats are fresh
    old_hits: bool = True  # some proxy's last heartbeat from it still counts
    settled: bool = False
    gate_open: bool = False


Step = tuple[str, State, str | None]
"""What happened, the world after it, and the broken promise if any."""


@dataclass(frozen=True, slots=True)
class SplitScenario:
    """Who takes part, and which rule is left out.

    Args:
        readers: how many.
        writers: how many.
        without: "settling" (writes go to the new primary at once: `store.fail_over` available),
            "lag" (the gate waits for writes begun before the promotion only), "awaiting" (the
            older primary does not wait for replicas, so it never stops); empty for none.
        old_forgiven: look away from what the older primary answers.
    """

    readers: int
    writers: int
    without: str = ""
    old_forgiven: bool = False


@uncollected()
def explore_split(scenario: SplitScenario) -> tuple[int, list[str] | None]:
    """Take every step in every order; return states seen and the shortest failing run, if any."""
    start = State((Reader(),) * scenario.readers, (Writer(),) * scenario.writers)
    came_from: dict[State, tuple[State, str] | None] = {start: None}
    queue = deque([start])
    while queue:
        state = queue.popleft()
        for label, following, fault in _steps(scenario, state):
            if fault:
                run, at = [f"{label}   <-- {fault}"], came_from[state]
                while at is not None:
                    run.append(at[1])
                    at = came_from[at[0]]
                return len(came_from), run[::-1]
            if following not in came_from:
                came_from[following] = (state, label)
                queue.append(following)
    return len(came_from), None


def _steps(scenario: SplitScenario, s: State) -> Iterator[Step]:
    yield from _environment(scenario, s)
    for i, writer in enumerate(s.writers):
        if _waits_for_its_twin(s.writers, i):
            continue
        for label, after in _writer(scenario, s, i, writer):
            yield f"writer {i} {label}", after, None
    for i, reader in enumerate(s.readers):
        if _waits_for_its_twin(s.readers, i):
            continue
        for label, after, answer in _reader(s, i, reader):
            forgiven = scenario.old_forgiven and label.startswith("hits at old")
            told = reader.floor if answer is None or forgiven else answer
            fault = f"{told}, but {reader.floor} was there" if told < reader.floor else None
            yield f"reader {i} {label}", after._replace(floor=max(after.floor, told)), fault


def _waits_for_its_twin(each: Sequence[Reader] | Sequence[Writer], i: int) -> bool:
    """Tell whether the one before has not begun either: beginning in another order is the same run.

    Until they begin the two differ in their numbers only, which nobody does more with than compare.
    """
    return i > 0 and each[i - 1].phase == each[i].phase == "idle"


def _environment(scenario: SplitScenario, s: State) -> Iterator[Step]:
    if s.new is None:
        yield "A REPLICA IS PROMOTED", s._replace(new=Record()), None
        return
    if s.old_writes and scenario.without != "awaiting":
        yield "the older primary misses its replicas", s._replace(old_writes=False), None
    if not s.old_writes and s.old_hits:
        yield "its last heartbeat is too old", s._replace(old_hits=False), None
    may_settle = not s.old_hits or scenario.without in ("settling", "awaiting")
    if not s.settled and may_settle:
        yield "the new primary has settled", s._replace(settled=True), None
    over = not any(
        each.phase == "sent" and each.at == OLD and (each.early or scenario.without != "lag")
        for each in s.writers
    )
    stopped = not s.old_writes or scenario.without in ("lag", "awaiting")
    if not s.gate_open and over and stopped:
        yield "the gate opens", s._replace(gate_open=True), None


def _writer(scenario: SplitScenario, s: State, i: int, me: Writer) -> Iterator[tuple[str, State]]:
    match me.phase:
        case "idle":
            if s.old_writes:
                begun = _with(s, OLD, _begun(s.old, i))
                sent = Writer("sent", OLD, early=s.new is None)
                yield "begins at old", _put_writer(begun, i, sent)
            if s.new is not None and (s.settled or scenario.without == "settling"):
                begun = _with(s, NEW, _begun(s.new, i))
                yield "begins at new", _put_writer(begun, i, Writer("sent", NEW, early=False))
        case "sent":
            applied = s._replace(upstream=s.upstream + 1)
            yield "takes effect", _put_writer(applied, i, me._replace(phase="applied"))
            yield "dies unapplied", _put_writer(s, i, me._replace(phase="dead"))
        case "applied":
            done = _put_writer(s, i, me._replace(phase="done"))._replace(floor=_newest(s))
            if s.old_writes:
                yield "ends at old", _with(done, OLD, _ended(s.old, i))
            if s.new is not None:
                yield "ends at new", _with(done, NEW, _ended(s.new, i))
            yield "is acknowledged, its end still owed", done
            yield "dies applied", _put_writer(s, i, me._replace(phase="dead"))
        case _:
            for at, record in ((OLD, s.old), (NEW, s.new)):
                if record is not None and i in record.markers:
                    yield f"'s marker at {at} runs out", _with(s, at, _ended(record, i))


def _reader(s: State, i: int, me: Reader) -> Iterator[tuple[str, State, int | None]]:
    match me.phase:
        case "idle":
            if s.old_hits:
                yield "asks old", _put(s, i, Reader("asked", OLD, s.floor)), None
            if s.new is not None and s.gate_open:
                yield "asks new", _put(s, i, Reader("asked", NEW, s.floor)), None
            yield "bypasses", _put(s, i, Reader("fetch", "", s.floor)), None
        case "asked":
            yield from _looked_up(s, i, me)
        case "fetch":
            phase = "fill" if me.at else "answer"
            fetched = me._replace(phase=phase, value=s.upstream)
            yield f"fetches {s.upstream}", _put(s, i, fetched), None
        case "fill":
            record = s.old if me.at == OLD else s.new
            done = _put(s, i, me._replace(phase="done"))
            if record is not None and record.lease == i and (s.old_writes or me.at == NEW):
                filled = record._replace(value=me.value, lease=None)
                yield f"fills {me.at}", _with(done, me.at, filled), me.value
            yield "answers unfilled", done, me.value
        case "answer":
            yield "answers", _put(s, i, me._replace(phase="done")), me.value


def _looked_up(s: State, i: int, me: Reader) -> Iterator[tuple[str, State, int | None]]:
    """What a lookup, and the lease after it, find: a hit takes one step, so do the others."""
    record = s.old if me.at == OLD else s.new
    assert record is not None, "nobody asks a primary that is not there"
    if record.value is not None and not record.markers:
        hit = _put(s, i, me._replace(phase="done"))
        yield f"hits at {me.at} {record.value}", hit, record.value
    elif not record.markers and (s.old_writes or me.at == NEW):
        leased = _with(s, me.at, record._replace(lease=i))
        yield "takes the lease", _put(leased, i, me._replace(phase="fetch")), None
    else:
        yield "gets no lease", _put(s, i, me._replace(phase="fetch", at="")), None


def _begun(record: Record, i: int) -> Record:
    return Record(None, record.markers | {i}, None)


def _ended(record: Record, i: int) -> Record:
    """Leave no entry and no lease, whether or not the marker was there."""
    return Record(None, record.markers - {i}, None)


def _newest(s: State) -> int:
    """Return what an acknowledged write lets everybody rely on: its own value or a newer one."""
    return max(s.floor, s.upstream)


def _with(s: State, at: str, record: Record) -> State:
    return s._replace(old=record) if at == OLD else s._replace(new=record)


def _put(s: State, i: int, reader: Reader) -> State:
    return s._replace(readers=(*s.readers[:i], reader, *s.readers[i + 1 :]))


def _put_writer(s: State, i: int, writer: Writer) -> State:
    return s._replace(writers=(*s.writers[:i], writer, *s.writers[i + 1 :]))
