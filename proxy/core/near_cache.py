"""Holds this process's own copies of entries: bounded in bytes, and picky about what stays.

A map from cache key to copy with the S3-FIFO policy: new copies pass through a small window, and
only what was asked for again there goes on into the main queue; what came back soon after it had
left the window goes there at once. So a scan of items that nobody asks for twice leaves the main
queue alone. A hit moves nothing: it counts one use.

It knows nothing of what makes a copy right: that is `proxy.core.near_rules`. Every step is O(1),
most of them amortized over the insertions that paid for them.

Source: Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023, section 4.
Chosen by measurement: `tests/bench/near_hit_ratio.py`.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from typing import Final

from proxy.core.near_copy import ASKED_BYTES_MAX, USES_MAX, Copy, NearTable, StandingHit
from proxy.core.values import CacheKey

_WINDOW_SHARE: Final = 0.1  # of the budget, as in the paper
_USES_TO_STAY: Final = 2  # within the window
_SLOT_PER_BYTES: Final = 1024  # one ghost for so much budget: about one per copy of a small item
_SLOTS_MIN: Final = 64
_SLOT_BYTES: Final = 8
_PRINT_BITS: Final = 16
_TABLE_STEPS_MAX: Final = 32


class NearCache:
    """All copies.

    Args:
        bytes_max: of all copies and of what is remembered of those that left; 0 keeps none.
        table_share_max: the largest share of it that one table's copies may have, above 0, to 1.

    Attributes:
        standing: what copies answer to requests that were asked before; read only.
        kept_bytes: that count against `bytes_max` now.
        evictions: copies that left for want of space.
        refused: copies that were not taken: too large, or their table has its share.
    """

    def __init__(self, *, bytes_max: int, table_share_max: float) -> None:
        self._ghosts = _Ghosts(max(_SLOTS_MIN, bytes_max // _SLOT_PER_BYTES))
        self.kept_bytes = self._ghosts.size_bytes
        self.standing: dict[bytes, StandingHit] = {}
        self.evictions = 0
        self.refused = 0
        self._bytes_max = bytes_max
        self._table_bytes_max = int(table_share_max * bytes_max)
        self._window_bytes_max = int(_WINDOW_SHARE * bytes_max)
        self._copy_bytes_max = min(self._window_bytes_max, self._table_bytes_max)
        self._window_bytes = 0
        self._window: OrderedDict[CacheKey, Copy] = OrderedDict()
        self._main: OrderedDict[CacheKey, Copy] = OrderedDict()
        self._window_next = False

    def __len__(self) -> int:
        return len(self._window) + len(self._main)

    def find(self, cache_key: CacheKey) -> Copy | None:
        """Return the copy of a record and count a use of it."""
        copy = self._main.get(cache_key) or self._window.get(cache_key)
        if copy is not None and copy.uses < USES_MAX:
            copy.uses += 1
        return copy

    def peek(self, cache_key: CacheKey) -> Copy | None:
        """Return the copy of a record; that is no use of it."""
        return self._main.get(cache_key) or self._window.get(cache_key)

    def put(self, cache_key: CacheKey, copy: Copy) -> bool:
        """Take a copy in the place of any other; False when it was refused, and none is there."""
        self.drop(cache_key)
        if copy.size_bytes > self._copy_bytes_max or not self._make_room_in_table(copy):
            self.refused += 1
            return False
        while self.kept_bytes + copy.size_bytes > self._bytes_max:
            self._step(None)
        if self._ghosts.recall(cache_key, len(self)):
            self._main[cache_key] = copy
        else:
            self._window[cache_key] = copy
            self._window_bytes += copy.size_bytes
        self.kept_bytes += copy.size_bytes
        copy.table.kept_bytes += copy.size_bytes
        return True

    def stand(self, asked: bytes, hit: StandingHit) -> None:
        """Keep what a copy that is here answers to a request, as long as the copy is.

        Args:
            asked: the request's body; in place of another one that the copy answered.
            hit: the answer.
        """
        if len(asked) <= ASKED_BYTES_MAX:
            self._unstand(hit.copy)
            hit.copy.asked = asked
            self.standing[asked] = hit

    def unstand(self) -> None:
        """Forget all that copies answer to requests; the copies stay."""
        self.standing.clear()

    def drop(self, cache_key: CacheKey) -> None:
        """Forget the copy of a record, if there is one, and what it answers."""
        copy = self._main.pop(cache_key, None)
        if copy is None:
            copy = self._window.pop(cache_key, None)
            if copy is None:
                return
            self._window_bytes -= copy.size_bytes
        self._unstand(copy)
        self.kept_bytes -= copy.size_bytes
        copy.table.kept_bytes -= copy.size_bytes

    def _unstand(self, copy: Copy) -> None:
        if copy.asked is not None:
            self.standing.pop(copy.asked, None)
            copy.asked = None

    def _make_room_in_table(self, copy: Copy) -> bool:
        """Let a table that has its share lose something of its own; False if that takes too long.

        Its copies stand among those of others, so the hand passes others by on the way.
        """
        for _ in range(_TABLE_STEPS_MAX):
            if copy.table.kept_bytes + copy.size_bytes <= self._table_bytes_max:
                return True
            self._step(copy.table)
        return False

    def _step(self, only: NearTable | None) -> None:
        """Judge the oldest copy of one queue: it stays, moves on, or leaves.

        Args:
            only: the one table that is to lose a copy, None for any.
        """
        in_window = self._window_bytes > self._window_bytes_max or not self._main
        if only is not None:
            # Its copies may all be in the queue that is not due.
            self._window_next = not self._window_next
            in_window = bool(self._window) and (self._window_next or not self._main)
        queue = self._window if in_window else self._main
        cache_key, copy = next(iter(queue.items()))
        if only is not None and copy.table is not only:
            queue.move_to_end(cache_key)
        elif in_window and copy.uses >= _USES_TO_STAY:
            del queue[cache_key]
            self._window_bytes -= copy.size_bytes
            copy.uses = 0
            self._main[cache_key] = copy
        elif not in_window and copy.uses:
            copy.uses -= 1
            queue.move_to_end(cache_key)
        else:
            self.drop(cache_key)
            self.evictions += 1
            if in_window:
                self._ghosts.remember(cache_key)


class _Ghosts:
    """Remembers, roughly, which copies left the window of late: a fingerprint in a slot each.

    A slot holds fingerprint and number of the last copy that fell into it. Forgetting too early,
    or taking one for another (1 in 65,536), only puts a copy into the other queue.

    Args:
        slots: how many are remembered at most.
    """

    def __init__(self, slots: int) -> None:
        self._slots = array("Q", bytes(_SLOT_BYTES * slots))
        self._count = 0

    @property
    def size_bytes(self) -> int:
        return _SLOT_BYTES * len(self._slots)

    def remember(self, cache_key: CacheKey) -> None:
        """Note that a copy left the window."""
        self._count += 1
        slot, fingerprint = self._place(cache_key)
        self._slots[slot] = self._count << _PRINT_BITS | fingerprint

    def recall(self, cache_key: CacheKey, among: int) -> bool:
        """Tell whether a copy was among the last `among` to leave."""
        slot, fingerprint = self._place(cache_key)
        number, found = divmod(self._slots[slot], 1 << _PRINT_BITS)
        return number > 0 and found == fingerprint and self._count - number < among

    def _place(self, cache_key: CacheKey) -> tuple[int, int]:
        # A cache key ends in a keyed hash: its last bytes are as good as random.
        number = int.from_bytes(cache_key[-_SLOT_BYTES:], "big")
        return (number >> _PRINT_BITS) % len(self._slots), number & ((1 << _PRINT_BITS) - 1)
