"""Exhaustive check of the coherence protocol on one item, in the abstract.

The parts of an item's record (entry, lease, markers) are kept apart here, so this model says what
the protocol must do; `explorer.py` checks the same promises on the bytes that the scripts write.
DynamoDB is an integer: each write that takes effect makes it one larger, so "older" is "<".

    python -m tests.model.fence_model                     # the suite, larger sizes included
    python -m tests.model.fence_model 2 2 through crash   # 2 readers, 2 writers, chosen options

Options, beside readers and writers of the item:
    cold        start with no entry
    through     writes store what they wrote
    crash       writers die or lose their reply before or after the write takes effect
    rcrash      readers die
    leaseexp    leases may expire at any time
    earlyexp    a marker may expire although its write can still take effect
    flush       the store loses everything once
    grace       an entry may pass into grace, and a reader then takes a lease over it: it keeps
                serving from inside the lease until the fill, and comes back when there is none
    force       readers may take such a lease over a fresh entry
    refuse      DynamoDB may refuse a write: its end restores what its begin had hidden
    table       the last writer's write may touch any item of the table
    ackonly     check only "not older than any acknowledged write", not full linearizability

Each rule can be left out; the suite proves that each is needed:
    nobegin, nolease, nooverlap, nopoison                       of items
    keepkept    begin leaves the entry that a refresh kept in place
    restoreany  an aborted write restores what was hidden although others overlapped
    noraise     the end of a table-wide write leaves the generation as it was
    nodeadraise a table-wide writer that died leaves it as it was
    servepending    a table is served while a write to it is in flight
    latelearn   a fill goes under the generation at its end, not the one its lookup saw
    latestore   a write stores under the generation at its end, not the one its begin saw
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple


class Reader(NamedTuple):
    """One GetItem: floor when it came, lease, value read, the generation that its lookup saw."""

    phase: str = "idle"
    floor: int = 0
    leased: bool = False
    value: int = 0
    generation: int = 0


class Writer(NamedTuple):
    """One write, what it made of DynamoDB's value, and the generation it may store under."""

    phase: str = "idle"
    own: int = 0
    generation: int | None = None


class Entry(NamedTuple):
    """A cached value, of one generation of the table."""

    value: int
    generation: int = 0
    grace: bool = False


class State(NamedTuple):
    """The world between two steps."""

    readers: tuple[Reader, ...]
    writers: tuple[Writer, ...]
    entry: Entry | None = None
    lease: int | None = None  # the only reader that may fill; an entry beside it is kept and serves
    hidden: Entry | None = None
    markers: frozenset[int] = frozenset()  # writers in flight, as the store knows them
    overlapped: frozenset[int] = frozenset()  # writers that must neither store nor restore
    generation: int = 0
    table_markers: frozenset[int] = frozenset()
    upstream: int = 0
    floor: int = 0  # no later read may return less than this
    flushes: int = 0


Step = tuple[str, State, str | None]
Options = frozenset[str]


def check(readers: int, writers: int, options: str) -> tuple[int, list[str] | None]:
    """Return the number of states, and the shortest failing run if there is one."""
    chosen = frozenset(options.split())
    start = State(
        (Reader(),) * readers,
        (Writer(),) * writers,
        entry=None if "cold" in chosen else Entry(0),
        flushes=int("flush" in chosen),
    )
    came_from: dict[State, tuple[State, str] | None] = {start: None}
    queue = deque([start])
    while queue:
        state = queue.popleft()
        for label, following, fault in _steps(state, chosen):
            if fault:
                run = [f"{label}   <-- {fault}"]
                at = came_from[state]
                while at is not None:
                    run.append(at[1])
                    at = came_from[at[0]]
                return len(came_from), run[::-1]
            if following not in came_from:
                came_from[following] = (state, label)
                queue.append(following)
    return len(came_from), None


def _steps(s: State, options: Options) -> Iterator[Step]:
    for i in range(len(s.readers)):
        yield from _reader_steps(s, i, options)
    for i in range(len(s.writers)):
        table_wide = "table" in options and i == len(s.writers) - 1
        yield from (_table_writer_steps if table_wide else _writer_steps)(s, i, options)
    if s.lease is not None and "leaseexp" in options:
        yield "lease expires", s._replace(lease=None), None
    if s.entry is not None and not s.entry.grace and "grace" in options:
        yield "entry passes into grace", s._replace(entry=s.entry._replace(grace=True)), None
    if s.flushes:
        empty = State(s.readers, s.writers, generation=s.generation + 1, upstream=s.upstream)
        yield "STORE LOSES EVERYTHING", empty._replace(floor=s.floor), None


# Readers


def _reader_steps(s: State, i: int, options: Options) -> Iterator[Step]:
    me = s.readers[i]
    match me.phase:
        case "idle":
            yield from _look_up(s, i, options)
        case "acquire" | "refresh":
            yield from _acquire(s, i)
        case "fetch":
            fetched = me._replace(phase="fill" if me.leased else "return", value=s.upstream)
            yield f"reader {i} fetches {s.upstream}", _with_reader(s, i, fetched), None
        case "fetch for refresh":
            fetched = me._replace(phase="fill for refresh", value=s.upstream)
            yield f"reader {i} fetches {s.upstream}", _with_reader(s, i, fetched), None
        case "fill" | "fill for refresh":
            yield from _fill(s, i, options)
        case "return":
            yield _answer(f"reader {i} returns", s, i, me.value, "done", options)
    if "rcrash" in options and me.phase.startswith(("fetch", "fill")):
        yield f"reader {i} dies", _with_reader(s, i, Reader("done")), None


def _look_up(s: State, i: int, options: Options) -> Iterator[Step]:
    started = s.readers[i]._replace(floor=s.floor, generation=s.generation)
    came = _with_reader(s, i, started)
    entry = s.entry if s.entry and s.entry.generation == s.generation else None
    if s.table_markers and "servepending" not in options:
        yield f"reader {i} bypasses", _with_reader(s, i, started._replace(phase="fetch")), None
        return
    if entry is not None:
        then = "refresh" if entry.grace and s.lease is None else "done"
        yield _answer(f"reader {i} hits", came, i, entry.value, then, options)
    if entry is None or "force" in options:
        missed = _with_reader(s, i, started._replace(phase="acquire"))
        yield f"reader {i} misses or forces", missed, None


def _acquire(s: State, i: int) -> Iterator[Step]:
    me = s.readers[i]
    refreshes = me.phase == "refresh"
    if s.markers or s.lease is not None:
        without = Reader("done") if refreshes else me._replace(phase="fetch")
        yield f"reader {i} gets no lease", _with_reader(s, i, without), None
        return
    kept = s.entry if s.entry and s.entry.generation == me.generation else None
    leased = me._replace(phase="fetch for refresh" if refreshes else "fetch", leased=True)
    after = _with_reader(s, i, leased)._replace(lease=i, entry=kept)
    yield f"reader {i} takes the lease", after, None


def _fill(s: State, i: int, options: Options) -> Iterator[Step]:
    me = s.readers[i]
    then = Reader("done") if "refresh" in me.phase else me._replace(phase="return", leased=False)
    after = _with_reader(s, i, then)
    if s.lease == i or "nolease" in options:
        generation = s.generation if "latelearn" in options else me.generation
        filled = after._replace(entry=Entry(me.value, generation), lease=None)
        yield f"reader {i} fills {me.value}", filled, None
        yield f"reader {i} releases", after._replace(lease=None), None
    else:
        yield f"reader {i} fill refused", after, None


def _answer(label: str, s: State, i: int, value: int, then: str, options: Options) -> Step:
    floor = s.readers[i].floor
    fault = f"returned {value}, but {floor} was already visible" if value < floor else None
    after = _with_reader(s, i, Reader(then, generation=s.readers[i].generation))
    seen = s.floor if "ackonly" in options else max(s.floor, value)
    return f"{label} {value}", after._replace(floor=seen), fault


# Writers of the item


def _writer_steps(s: State, i: int, options: Options) -> Iterator[Step]:
    me = s.writers[i]
    if me.phase == "idle":
        if "nobegin" in options:
            yield f"writer {i} sends", _with_writer(s, i, Writer("sent")), None
        else:
            yield f"writer {i} begins", _begin(s, i, options), None
    elif me.phase in ("applied", "refused"):
        yield _end(s, i, options)
    yield from _effects(s, i, options)
    if i in s.markers and (me.phase == "dead" or "earlyexp" in options):
        others = s.markers - {i}
        # A marker that ran out leaves its record: only the next lease or end removes that.
        overlapped = s.overlapped - {i} if others else frozenset()
        expired = s._replace(markers=others, overlapped=overlapped, hidden=None)
        yield f"marker of writer {i} expires", expired, None


def _begin(s: State, i: int, options: Options) -> State:
    meets = s.markers and "nooverlap" not in options
    hidden = s.hidden if s.markers else s.entry
    if meets and "restoreany" not in options:
        hidden = None
    begun = Writer("sent", generation=None if s.table_markers else s.generation)
    return _with_writer(s, i, begun)._replace(
        entry=s.entry if "keepkept" in options and s.lease is not None else None,
        lease=None,
        hidden=hidden,
        markers=s.markers | {i},
        overlapped=s.overlapped | s.markers | {i} if meets else s.overlapped,
    )


def _end(s: State, i: int, options: Options) -> Step:
    me = s.writers[i]
    mine, others = i in s.markers, s.markers - {i}
    alone = mine and not others and i not in s.overlapped
    overlapped = s.overlapped - {i} if others else frozenset()
    if not mine and "nopoison" not in options:
        overlapped = frozenset(others)
    entry: Entry | None = None
    generation = s.generation if "latestore" in options else me.generation
    if me.phase == "applied":
        if alone and "through" in options and generation is not None:
            entry = Entry(me.own, generation)
    elif alone or ("restoreany" in options and not others):
        entry = s.hidden
    after = _with_writer(s, i, Writer("done"))._replace(
        entry=entry,
        lease=None,
        hidden=s.hidden if others and "restoreany" in options else None,
        markers=others,
        overlapped=overlapped,
        floor=max(s.floor, me.own),
    )
    return f"writer {i} ends, entry={entry}, acknowledged", after, None


def _effects(s: State, i: int, options: Options) -> Iterator[Step]:
    """Yield what DynamoDB and bad luck may do with a write that was sent."""
    me, new = s.writers[i], s.upstream + 1
    if me.phase == "sent":
        applied = _with_writer(s, i, me._replace(phase="applied", own=new))._replace(upstream=new)
        yield f"writer {i} takes effect as {new}", applied, None
        if "refuse" in options:
            yield f"writer {i} is refused", _with_writer(s, i, Writer("refused")), None
        if "crash" in options:
            yield (
                f"writer {i} lost, may still take effect",
                _with_writer(s, i, Writer("limbo")),
                None,
            )
    elif me.phase == "limbo":
        late = _with_writer(s, i, Writer("dead"))._replace(upstream=new)
        yield f"writer {i} takes effect late as {new}", late, None
        yield f"writer {i} never takes effect", _with_writer(s, i, Writer("dead")), None
    elif me.phase == "applied" and "crash" in options:
        yield f"writer {i} dies before its end step", _with_writer(s, i, Writer("dead")), None


# Writers of the whole table


def _table_writer_steps(s: State, i: int, options: Options) -> Iterator[Step]:
    me = s.writers[i]
    if me.phase == "idle":
        begun = _with_writer(s, i, Writer("sent"))
        yield f"table writer {i} begins", begun._replace(table_markers=s.table_markers | {i}), None
    elif me.phase in ("applied", "refused"):
        mine = i in s.table_markers
        raises = "noraise" not in options and (me.phase == "applied" or not mine)
        after = _with_writer(s, i, Writer("done"))._replace(
            table_markers=s.table_markers - {i},
            generation=s.generation + raises,
            floor=max(s.floor, me.own),
        )
        yield f"table writer {i} ends ({me.phase})", after, None
    yield from _effects(s, i, options)
    if i in s.table_markers and (me.phase == "dead" or "earlyexp" in options):
        after = s._replace(
            table_markers=s.table_markers - {i},
            generation=s.generation + ("nodeadraise" not in options),
        )
        yield f"table marker of writer {i} expires", after, None


def _with_reader(s: State, i: int, reader: Reader) -> State:
    return s._replace(readers=(*s.readers[:i], reader, *s.readers[i + 1 :]))


def _with_writer(s: State, i: int, writer: Writer) -> State:
    return s._replace(writers=(*s.writers[:i], writer, *s.writers[i + 1 :]))


class Job(NamedTuple):
    """A size with options, and whether the promise must hold."""

    readers: int
    writers: int
    options: str
    holds: bool

    def __str__(self) -> str:
        return f"{self.readers}x{self.writers} {self.options}"


SUITE = [
    Job(2, 2, "through", holds=True),
    Job(2, 2, "through crash leaseexp rcrash", holds=True),
    Job(2, 2, "cold through crash leaseexp rcrash refuse", holds=True),
    Job(2, 2, "through crash leaseexp flush ackonly", holds=True),
    Job(1, 3, "through crash leaseexp refuse", holds=True),
    Job(2, 1, "through crash leaseexp rcrash refuse grace force", holds=True),
    Job(3, 1, "cold leaseexp grace refuse", holds=True),
    Job(1, 2, "through crash leaseexp refuse grace force", holds=True),
    Job(2, 2, "through refuse grace", holds=True),
    Job(1, 2, "cold through crash leaseexp earlyexp flush ackonly refuse grace", holds=True),
    Job(2, 1, "table crash leaseexp rcrash refuse grace force", holds=True),
    Job(2, 2, "table through crash refuse", holds=True),
    Job(1, 2, "table through crash leaseexp refuse grace", holds=True),
    Job(1, 2, "table through crash earlyexp flush ackonly refuse", holds=True),
]
LARGER = [
    Job(3, 1, "cold through crash leaseexp rcrash", holds=True),
    Job(2, 2, "through crash leaseexp rcrash refuse grace force", holds=True),
    Job(2, 2, "cold through crash leaseexp earlyexp flush ackonly refuse", holds=True),
    Job(2, 2, "table through crash leaseexp refuse grace", holds=True),
    Job(1, 3, "table through crash refuse", holds=True),
]
MUTANTS = [
    Job(3, 1, "cold nobegin", holds=False),
    Job(2, 1, "cold nolease", holds=False),
    Job(1, 2, "through nooverlap", holds=False),
    Job(1, 2, "through flush nopoison ackonly", holds=False),
    Job(3, 1, "grace force keepkept", holds=False),
    Job(1, 2, "refuse restoreany", holds=False),
    Job(2, 1, "table noraise", holds=False),
    Job(2, 1, "table crash nodeadraise", holds=False),
    Job(2, 1, "table force servepending", holds=False),
    Job(2, 1, "cold table latelearn", holds=False),
    Job(1, 2, "table through latestore", holds=False),
]


def main(arguments: list[str]) -> int:
    """Run the suite, or one job of the command line; return the number of surprises."""
    jobs: list[tuple[int, int, str, Any]] = [*SUITE, *LARGER, *MUTANTS]
    if arguments:
        jobs = [(int(arguments[0]), int(arguments[1]), " ".join(arguments[2:]), None)]
    surprises = 0
    for readers, writers, options, holds in jobs:
        states, run = check(readers, writers, options)
        surprises += holds is not None and holds != (run is None)
        verdict = "holds" if run is None else "FAILS"
        print(f"{readers} readers, {writers} writers, [{options}]: {states} states, {verdict}")  # noqa: T201
        if run and holds is not False:
            print("   " + "\n   ".join(run))  # noqa: T201
    return surprises


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
