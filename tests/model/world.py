"""What the model's world is made of: readers and writers of one item, and two stored records.

DynamoDB is an integer: each write that takes effect makes it one larger, so "older" is "<".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from tests.fakes.memory_scripts import Fields, Stored


class Reader(NamedTuple):
    """One GetItem: what it has learned so far."""

    phase: str = "idle"
    floor: int = 0
    found: tuple[bytes, Fields | None] | None = None
    generation: bytes = b""
    value: int = 0
    incarnation: int = 0


class Writer(NamedTuple):
    """One write; `value` once it took effect, `fail_overs` of the store before it began."""

    phase: str = "idle"
    value: int = 0
    generation: bytes | None = None
    fail_overs: int = 0


class State(NamedTuple):
    """The world between two steps."""

    item: Stored | None
    table: Stored | None
    readers: tuple[Reader, ...]
    writers: tuple[Writer, ...]
    upstream: int = 0
    replica: int = 0  # what an eventually consistent read may still see
    floor: int = 0  # no later reader may see less
    made: int = 1  # generations made so far
    incarnation: int = 0
    gate_open: bool = True
    faults: int = 0  # flushes or fail-overs still to come
    lagging: Stored | None = None  # what a replica of the store still holds
    table_incarnation: int = 0  # in a cluster the table's record has a primary of its own

    @property
    def fail_overs(self) -> int:
        """How many there were, of either primary."""
        return self.incarnation + self.table_incarnation


@dataclass(frozen=True, slots=True)
class Scenario:
    """Who takes part, and what may go wrong.

    Args:
        readers: "reader", "forcing" (ConsistentRead that refreshes), or "weak" (fills with
            eventually consistent reads unless told otherwise).
        writers: "put" (write-through), "update" (invalidates), "table" (may touch any item) or
            "outsider" (past the proxy, invalidated by its stream record).
        options: "crash" (writers die or lose the reply before or after the effect), "rcrash"
            (readers die), "refuse" (DynamoDB may refuse a write), "expiry" (leases, tombstones
            and entries may run out), "early" (a marker may run out before its write's effect),
            "flush", "failover" or "table-failover" (once), "trusting" (a table's record counts
            whatever its incarnation), "warm" (start with an entry), "lag" (entries may run out
            while DynamoDB's replicas lag behind), "hash" (entries are hashes), "mixed" (readers
            fill hashes, writers store strings), "ackonly" (promise only nothing older than
            acknowledged, not what other readers saw).
    """

    readers: tuple[str, ...]
    writers: tuple[str, ...]
    options: frozenset[str]

    @property
    def readers_hash(self) -> bool:
        """Whether readers fill hashes."""
        return bool(self.options & {"hash", "mixed"})

    @property
    def writers_hash(self) -> bool:
        """Whether writers store hashes."""
        return "hash" in self.options

    def __str__(self) -> str:
        return " ".join([*self.readers, *self.writers, "+", *sorted(self.options)])


Step = tuple[str, State, str | None]
"""What happened, the world after it, and the broken promise if any."""


def with_writer(s: State, i: int, writer: Writer) -> State:
    """Return the world with one writer changed."""
    return s._replace(writers=(*s.writers[:i], writer, *s.writers[i + 1 :]))


def token_of(who: str, index: int) -> bytes:
    """Name one reader or writer for the store."""
    return f"{who} {index}".encode().ljust(16)


def generation_of(count: int) -> bytes:
    """Name the table's generations."""
    return f"gen {count}".encode().ljust(8)


def incarnation_of(count: int) -> bytes:
    """Name the store's incarnations."""
    return f"inc {count}".encode().ljust(8)
