"""What is known of a stream's shards, who reads which, and what may be read now.

A stream is a forest of shards. A shard is read after its parent, never before or beside it, so that
changes of one item are seen in their order. All of it is one record in the store, beside the leases
and the checkpoints, so every proxy sees the same (`proxy/edge/scripts/stream.lua`).

The races that the record closes; readers R and S:

Two readers after a pause
    1. R holds a shard and is stopped.  2. Its lease ends; S takes the shard over: the fence number
    rises.  3. S applies, and keeps a checkpoint.  4. R goes on: what it applies was applied
    before, which is harmless, and its checkpoint is refused. Without the number R could move the
    checkpoint past what nobody applied.
Child before parent
    1. R applies the parent's last batch and dies before it keeps the end.  2. S sees the child,
    which waits: the parent is not done. S reads the parent's end again, then the child.
Latest, and then a death
    1. R begins a new stream at its latest end, and voids the table.  2. R dies before any record
    came.  3. S goes on at the horizon, not at the latest end of its own time: it reads some
    records once more, and misses none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from math import ceil
from typing import Final

from proxy.core.values import Token

SHARDS_MAX: Final = 10_000
"""Shards of one stream; DynamoDB keeps a day of them, about six for each partition."""

STREAM_KEPT_S: Final = 2 * 86400.0
"""How long a stream that nobody reads is remembered; after a day its records are lost anyway."""

CHILDREN_S_MAX: Final = 300.0
"""A shard that was done so long ago, and has no children yet, will have none."""

PARKED_MAX: Final = 1_000
"""Records parked for one table; the oldest give way, and their items were invalidated."""

PARKED_KEPT_S: Final = 30 * 86400.0
"""How long parked records stay after the last one came."""


class Start(StrEnum):
    """Where to go on in a shard; the letter stands in the store."""

    LATEST = "L"  # at its end of that moment; whatever is older must be voided
    HORIZON = "H"  # at its oldest record
    AFTER = "A"  # after the record that was applied last
    DONE = "E"  # nowhere: it is closed and read to its end


class Step(Enum):
    """What happened in a shard."""

    POSITIONED = auto()  # an iterator at the latest end is there, and the table was voided
    APPLIED = auto()  # records took effect
    EXHAUSTED = auto()  # it is closed, and no more records are in it
    TRIMMED = auto()  # records were lost, and the table was voided


MOVES: Final[Mapping[tuple[Start, Step], Start]] = {
    (Start.LATEST, Step.POSITIONED): Start.HORIZON,
    (Start.HORIZON, Step.APPLIED): Start.AFTER,
    (Start.HORIZON, Step.EXHAUSTED): Start.DONE,
    (Start.HORIZON, Step.TRIMMED): Start.HORIZON,
    (Start.AFTER, Step.APPLIED): Start.AFTER,
    (Start.AFTER, Step.EXHAUSTED): Start.DONE,
    (Start.AFTER, Step.TRIMMED): Start.HORIZON,
}
"""A missing pair is a bug of the reader's."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where to go on; `sequence` with AFTER only."""

    start: Start
    sequence: str = ""

    def after(self, step: Step, sequence: str = "") -> Checkpoint:
        """Return the checkpoint after a step."""
        start = MOVES[self.start, step]
        return Checkpoint(start, sequence if start is Start.AFTER else "")


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard as DescribeStream tells of it."""

    shard_id: str
    parent: str | None = None
    closed: bool = False


@dataclass(frozen=True, slots=True)
class ShardState:
    """A shard as the store knows it.

    Args:
        parent: the shard that must be done first; None for none.
        checkpoint: where to go on.
        fence: how often it was taken over: only the last one's checkpoints count.
        holder: who reads it; None for nobody.
        deadline_ms: until when, on the store's clock.
        as_of_ms: all of its changes before this time, on the store's clock, were applied; 0 while
            that is unknown.
    """

    parent: str | None
    checkpoint: Checkpoint
    fence: int = 0
    holder: Token | None = None
    deadline_ms: int = 0
    as_of_ms: int = 0

    @property
    def done(self) -> bool:
        """Whether nothing is left to be read."""
        return self.checkpoint.start is Start.DONE


@dataclass(frozen=True, slots=True)
class Lease:
    """What one process holds of one shard until it is taken over, and what it says with each step.

    Args:
        shard_id: the shard.
        reader: who holds it.
        fence: under which number.
    """

    shard_id: str
    reader: Token
    fence: int


@dataclass(frozen=True, slots=True)
class Kept:
    """What a holder keeps.

    Args:
        lease_s: how much longer it holds the shard; 0 gives it back.
        as_of_ms: all of the shard's changes before this time were applied; on the store's clock,
            for a step that waits in a store that was stopped must not look younger than it is. 0
            leaves what is known.
        checkpoint: where to go on; None leaves it.
    """

    lease_s: float
    as_of_ms: int = 0
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True, slots=True)
class StreamView:
    """One look at a stream's record.

    Args:
        arn: which stream it is about; "" while there is none.
        now_ms: the store's clock.
        shards: by id.
        readers: processes that read, or would.
        due: whether whoever looked is to look at upstream for new shards now.
    """

    arn: str
    now_ms: int
    shards: Mapping[str, ShardState]
    readers: frozenset[Token] = frozenset()
    due: bool = False

    def readable(self) -> list[str]:
        """Return the shards that may be read now: not done, and no parent is left before them.

        A parent that is not there any more was trimmed: it counts as done.
        """
        return sorted(
            shard_id
            for shard_id, state in self.shards.items()
            if not state.done and self._is_done(state.parent)
        )

    def held_by(self, reader: Token) -> dict[str, ShardState]:
        """Return the shards that a process holds a lease of."""
        return {
            shard_id: state
            for shard_id, state in self.shards.items()
            if state.holder == reader and state.deadline_ms > self.now_ms
        }

    def as_of_ms(self) -> int:
        """Return the time before which all changes of the table were applied, 0 if unknown.

        Waiting shards count too, with the newest time of those before them, whose changes are all
        older than theirs. So do those that are done while nobody has seen their children: changes
        go into a shard that DescribeStream does not list yet. Where none is left to count, the
        newest of all their times is what is known.
        """
        since_ms = max(1, self.now_ms - round(CHILDREN_S_MAX * 1000))
        ends = (self.shards[shard_id].as_of_ms for shard_id in childless(self))
        left = [max(self._times(state)) for state in self.shards.values() if not state.done]
        left += [as_of_ms for as_of_ms in ends if as_of_ms >= since_ms]
        every = (state.as_of_ms for state in self.shards.values())
        return min(left) if left else max(every, default=0)

    def _times(self, state: ShardState | None) -> Iterator[int]:
        """Yield a shard's time, its parent's, and so on."""
        for _ in self.shards:  # at most: what upstream lists might go round
            if state is None:
                return
            yield state.as_of_ms
            state = self.shards.get(state.parent) if state.parent is not None else None

    def _is_done(self, shard_id: str | None) -> bool:
        parent = self.shards.get(shard_id) if shard_id is not None else None
        return parent is None or parent.done


@dataclass(frozen=True, slots=True)
class NewShard:
    """A shard to be added, with where to begin if the stream is new."""

    shard_id: str
    parent: str | None
    start: Start


@dataclass(frozen=True, slots=True)
class Growth:
    """What a look at upstream changes.

    Args:
        added: shards that the store did not know.
        gone: shards that upstream has no more.
        lost: whether one of those was not read to its end, or one that nobody ever saw is gone as
            well: records are lost.
    """

    added: tuple[NewShard, ...]
    gone: tuple[str, ...]
    lost: bool


def grow(view: StreamView, arn: str, listed: Iterable[Shard]) -> Growth:
    """Compare what the store knew *before* upstream was asked with all that upstream lists.

    What is not listed, and was known before, is trimmed. What somebody else added meanwhile is not
    in the view, and stays.

    A new stream begins at the latest end of its open shards, and after its closed ones: all that is
    older is voided. The child of an open shard begins at its own beginning.
    """
    shards = {shard.shard_id: shard for shard in listed}
    known = view.shards if view.arn == arn else {}
    added = tuple(
        NewShard(shard.shard_id, shard.parent, _start(shard, shards))
        for shard in shards.values()
        if shard.shard_id not in known
    )
    gone = tuple(sorted(known.keys() - shards.keys()))
    unread = any(not known[shard_id].done for shard_id in gone)
    # Between what is known and a shard whose parent nobody knows there was at least that parent.
    there = {None, *known, *shards}
    missed = bool(known) and any(new.parent not in there for new in added)
    return Growth(added, gone, unread or missed)


def childless(view: StreamView) -> list[str]:
    """Return the shards that are done and whose children nobody has seen yet."""
    parents = {state.parent for state in view.shards.values()}
    done = (shard_id for shard_id, state in view.shards.items() if state.done)
    return sorted(shard_id for shard_id in done if shard_id not in parents)


@dataclass(frozen=True, slots=True)
class Share:
    """Shards to take over, and shards to give up for others."""

    take: tuple[str, ...]
    give: tuple[str, ...]


def share(view: StreamView, reader: Token) -> Share:
    """Divide the readable shards among all readers: nobody holds more than his even share.

    An even share is rounded up, so that no shard is left, and nobody gives up one that another
    would have to give back.
    """
    readable = view.readable()
    readers = len(view.readers | {reader})
    even = ceil(len(readable) / readers)
    mine = sorted(view.held_by(reader).keys() & set(readable))
    if len(mine) > even:
        return Share((), tuple(mine[even:]))
    free = [each for each in readable if view.shards[each].deadline_ms <= view.now_ms]
    # Where several start at once, each begins elsewhere, so that they do not ask for the same ones.
    turn = int.from_bytes(reader[:4], "big") % len(free) if free else 0
    return Share(tuple((free[turn:] + free[:turn])[: even - len(mine)]), ())


def _start(shard: Shard, shards: Mapping[str, Shard]) -> Start:
    if shard.closed:
        return Start.DONE
    parent = shards.get(shard.parent) if shard.parent is not None else None
    return Start.LATEST if parent is None or parent.closed else Start.HORIZON
