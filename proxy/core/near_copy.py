"""What this process keeps of an entry: a copy, who will tell of its changes, its last answer."""

from __future__ import annotations

from typing import Final

from proxy.core.fence import Proven
from proxy.core.policy import TablePolicy
from proxy.core.record import Entry
from proxy.core.request import Answer
from proxy.core.values import Generation

COPY_OVERHEAD_BYTES: Final = 1300
"""What a copy costs beside its body: objects, key, times, places in maps; measured, rounded up."""


class Told:
    """The word of one connection that it will tell of changes; void once it cannot be relied on."""

    __slots__ = ("source", "void")

    def __init__(self, source: Proven) -> None:
        self.source = source
        self.void = False


class NearTable:
    """What is known of one table.

    Attributes:
        kept_bytes: of its copies.
        generation: the one that its copies must have been filled under, None while unknown.
        told: by which connections `generation` was told.
        epoch: raised whenever a lookup under way may have seen an older generation.
    """

    __slots__ = ("epoch", "generation", "kept_bytes", "told")

    def __init__(self) -> None:
        self.kept_bytes = 0
        self.generation: Generation | None = None
        self.told: tuple[Told, ...] = ()
        self.epoch = 0


class NearHit:
    """What a copy answers for a while: at most until its time to live is a second less.

    Args:
        answer: to a read that asks for the whole item and nothing else.
        policy: of the table read.
        units: read capacity that each hit saves.
        until_s: monotonic time from which on it must be made anew.
        ending: whether the copy's entry is so near its end that it may be refreshed.

    Attributes:
        fields: what does not change in the answer's head, as it was sent last.
    """

    __slots__ = ("answer", "ending", "fields", "policy", "units", "until_s")

    def __init__(
        self,
        answer: Answer,
        policy: TablePolicy,
        units: float,
        *,
        until_s: float,
        ending: bool = False,
    ) -> None:
        self.answer = answer
        self.policy = policy
        self.units = units
        self.until_s = until_s
        self.ending = ending
        self.fields: bytes | None = None


class Copy:
    """One entry as a lookup saw it.

    Args:
        entry: a whole entry.
        table: of the entry.
        told: the connections that will tell when its record changes, at least one.
        ahead_ms: of the store's clock before this process's monotonic one.

    Attributes:
        hit: what it answered last.
    """

    __slots__ = ("ahead_ms", "entry", "hit", "size_bytes", "table", "told", "uses")

    def __init__(
        self, entry: Entry, table: NearTable, told: tuple[Told, ...], ahead_ms: float
    ) -> None:
        self.entry = entry
        self.table = table
        self.told = told
        self.ahead_ms = ahead_ms
        self.size_bytes = COPY_OVERHEAD_BYTES + len(entry.body)
        self.hit: NearHit | None = None
        self.uses = 0

    def store_now_ms(self, now_s: float) -> int:
        """Return the store's clock at a monotonic time; never earlier than it is."""
        return int(self.ahead_ms + 1000 * now_s) + 1

    def before_s(self, store_ms: int) -> float:
        """Return the monotonic time at which `store_now_ms` reaches this, to a rounding."""
        return (store_ms - 1 - self.ahead_ms) / 1000
