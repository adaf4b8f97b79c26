"""What this process keeps of an entry: a copy, who will tell of its changes, what it answers."""

from __future__ import annotations

import math
from typing import Final

from proxy.core.fence import Proven
from proxy.core.hits import Hit
from proxy.core.record import Entry
from proxy.core.tally import HitSums
from proxy.core.values import Generation, TableName

COPY_OVERHEAD_BYTES: Final = 1300
"""What a copy costs beside its body: objects, key, times, places in maps; measured, rounded up."""

USES_MAX: Final = 3
"""Uses that are counted of a copy: more would keep what was hot long ago."""

ASKED_BYTES_MAX: Final = 512
"""Longer requests have no standing answer; those of most keys are shorter. It is a part of what a
copy costs."""


class _Nobody:
    """Proves nothing, for ever; a `fence.Proven`."""

    proven_s = -math.inf
    serves_until_s = -math.inf


_NOBODY: Final = _Nobody()


class Told:
    """The word of one connection that it will tell of changes; void once it cannot be relied on.

    Attributes:
        source: the connection; somebody who proves nothing once the word is void.
    """

    __slots__ = ("source",)

    def __init__(self, source: Proven) -> None:
        self.source = source

    @property
    def void(self) -> bool:
        """Whether it counts no more."""
        return self.source is _NOBODY

    def end(self) -> None:
        """Make it void."""
        self.source = _NOBODY


UNTOLD: Final = Told(_NOBODY)
"""The word of nobody."""


def one_word(told: tuple[Told, ...]) -> Told:
    """Return the word on which something stands that one connection told; else nobody's."""
    return told[0] if len(told) == 1 else UNTOLD


class NearTable:
    """What is known of one table.

    Attributes:
        kept_bytes: of its copies.
        generation: the one that its copies must have been filled under, None while unknown.
        told: by which connections `generation` was told.
        teller: the one of them, where there is one.
        epoch: raised whenever a lookup under way may have seen an older generation.
    """

    __slots__ = ("epoch", "generation", "kept_bytes", "teller", "told")

    def __init__(self) -> None:
        self.kept_bytes = 0
        self.generation: Generation | None = None
        self.told: tuple[Told, ...] = ()
        self.teller = UNTOLD
        self.epoch = 0

    def know(self, generation: Generation | None, told: tuple[Told, ...]) -> None:
        """Take the present generation from whoever will tell of its changes."""
        self.generation, self.told, self.teller = generation, told, one_word(told)


class Copy:
    """One entry as a lookup saw it.

    Args:
        entry: a whole entry.
        table: of the entry.
        told: the connections that will tell when its record changes, at least one.
        ahead_ms: of the store's clock before this process's monotonic one.

    Attributes:
        asked: the request to which it has a standing answer, None for none.
    """

    __slots__ = ("ahead_ms", "asked", "entry", "size_bytes", "table", "told", "uses")

    def __init__(
        self, entry: Entry, table: NearTable, told: tuple[Told, ...], ahead_ms: float
    ) -> None:
        self.entry = entry
        self.table = table
        self.told = told
        self.ahead_ms = ahead_ms
        self.size_bytes = COPY_OVERHEAD_BYTES + len(entry.body)
        self.asked: bytes | None = None
        self.uses = 0

    def store_now_ms(self, now_s: float) -> int:
        """Return the store's clock at a monotonic time; never earlier than it is."""
        return int(self.ahead_ms + 1000 * now_s) + 1

    def before_s(self, store_ms: int) -> float:
        """Return the monotonic time at which `store_now_ms` reaches this, to a rounding."""
        return (store_ms - 1 - self.ahead_ms) / 1000


class StandingHit(Hit):
    """What a copy answers to one request, time and again until something speaks against it.

    Args:
        copy: what answers; one that two connections told of never holds.
        table: its table's name.
        now_s: monotonic time.
        delta_s: how long ago the last answered PING may have been sent.
        ends_s: monotonic time from which on the copy must be judged anew.

    Attributes:
        sums: counts such hits; set by whoever gives them.
    """

    __slots__ = (
        *("_ahead_ms", "_delta_s", "_ends_s", "_generation", "_soft_ms", "_table", "_teller"),
        *("copy", "sums"),
    )

    def __init__(
        self, copy: Copy, table: TableName, *, now_s: float, delta_s: float, ends_s: float
    ) -> None:
        self._ahead_ms = copy.ahead_ms
        self._soft_ms = copy.entry.soft_ms - 1  # as `store_now_ms` adds one
        super().__init__(copy.entry, table, near=True, ttl_s=self._ttl_s(now_s))
        self.copy = copy
        self.sums = HitSums()
        self._table = copy.table
        self._generation = copy.entry.generation
        self._teller = one_word(copy.told)
        self._delta_s = delta_s
        self._ends_s = ends_s

    def holds(self, now_s: float) -> bool:
        """Tell whether it may be given now; its time to live is right then.

        The copy is still there, or it would not be found: `NearCache` forgets both at once. All
        else that `NearRules.find` asks of it is asked here too, and whether its server may serve.
        """
        since_s, table, source = now_s - self._delta_s, self._table, self._teller.source
        if (
            now_s >= self._ends_s
            or table.generation != self._generation
            or source.proven_s <= since_s
            or table.teller.source.proven_s <= since_s
            or source.serves_until_s < now_s
        ):
            return False
        self.ttl_s = self._ttl_s(now_s)
        copy = self.copy
        if copy.uses < USES_MAX:
            copy.uses += 1
        return True

    def _ttl_s(self, now_s: float) -> int:
        return (self._soft_ms - int(self._ahead_ms + 1000 * now_s)) // 1000
