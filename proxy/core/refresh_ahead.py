"""Decides which read of a fresh entry has it refreshed before its time is over.

Each read draws for itself, and the closer the end, the likelier: of a hot item some read starts
the refresh in time, of all proxies and processes at different moments, and an item that is seldom
read hardly ever meets the last moments at all. The paper's rule is to start if
`-delta * beta * ln(u) >= left` for a random `u`, with `delta` the time that a fetch takes; that is
a chance of `exp(-left / (delta * beta))`, which is how it is computed here. Two things differ:

- The refresh shall have *ended* before the entry does. So `left` counts up to two fetch times
  before the end, and within these every read starts it.
- `delta * beta` alone is a few milliseconds: only items with thousands of reads a second would be
  sure to have a read in it. So the moments are spread by a share of the entry's life, up to
  a second: with ten reads a second, of 10 million lives of five minutes one has no refresh.

Source: Vattani, Chierichetti, Lowenstein, "Optimal probabilistic cache stampede prevention",
VLDB 2015, section 3 (XFetch).
"""

from __future__ import annotations

import math
from typing import Final

from proxy.core.record import Entry

TOOK_S_MAX: Final = 1.0
"""Slower fetches are taken for as long as this."""

_ENDS_BEFORE: Final = 2.0  # fetch times: a fetch may take longer than they took lately
_SPREAD_SHARE: Final = 0.05  # of the entry's life
_SPREAD_S_MAX: Final = 1.0
_REACH: Final = 8.0  # spreads: further away the chance is below 1 in 2,900
_LIFE_SHARE_MAX: Final = 0.5  # a short life must not be spent on refreshes alone

AHEAD_MS_MAX: Final = int(
    1000 * (_ENDS_BEFORE * TOOK_S_MAX + _REACH * (TOOK_S_MAX + _SPREAD_S_MAX))
)
"""With more time left than this no read starts a refresh: one comparison for most hits."""


def chance_ahead(entry: Entry, store_now_ms: int, took_s: float) -> float:
    """Return how likely a read of a fresh entry should start its refresh now, 0 to 1.

    Args:
        entry: what answers the read.
        store_now_ms: the store's clock.
        took_s: what fetches of its table took lately, seconds.
    """
    left_ms = entry.soft_ms - store_now_ms
    life_ms = entry.soft_ms - entry.filled_ms
    if left_ms >= AHEAD_MS_MAX or left_ms > _LIFE_SHARE_MAX * life_ms:
        return 0.0
    took_ms = 1000 * min(took_s, TOOK_S_MAX)
    spread_ms = took_ms + min(1000 * _SPREAD_S_MAX, _SPREAD_SHARE * life_ms)
    early_ms = left_ms - _ENDS_BEFORE * took_ms
    if early_ms <= 0:
        return 1.0
    return math.exp(-early_ms / spread_ms) if early_ms < _REACH * spread_ms else 0.0
