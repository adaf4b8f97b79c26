"""Decides when a connection to the store that owes replies was silent, or slow, for too long.

A silence is counted from whatever came last: large replies may rightly take longer than one
time-out as a whole. And where this process itself stood still, the replies lie in the socket when
the timer fires: one more turn of the loop brings them in. Rounds bound the whole: a store that
dribbles is as good as silent to whoever waits for the last reply.
"""

from __future__ import annotations

import math
from typing import Final

from proxy.core.errors import StoreFailure, StoreUnavailable

ROUNDS_MAX: Final = (
    10  # time-outs that what was sent at once may last while its replies keep coming
)
_ONE_MORE_TURN_S: Final = 0.02


class Patience:
    """One connection's silences and rounds, by the loop's clock.

    Args:
        timeout_s: the longest silence.

    Attributes:
        timeout_s: the same.
        heard_s: when something came last, or was sent while nothing was owed; set by the owner.
        round: time-outs that passed so far; a batch notes the one that it was sent in.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._doubted_s = math.nan
        self._round_ends_s = -math.inf
        self.heard_s = -math.inf
        self.round = 0

    def judge(self, now_s: float, *, oldest_round: int) -> float:
        """Return in how many seconds to ask again.

        Args:
            now_s: the loop's clock.
            oldest_round: the round in which the oldest of what is still owed was asked for.

        Raises:
            StoreUnavailable: nothing came for too long, or not all of it.
        """
        silent_from_s = self.heard_s + self.timeout_s
        if now_s >= silent_from_s:
            if self._doubted_s == self.heard_s:
                raise StoreUnavailable(StoreFailure.TIMEOUT, "the store is silent")
            self._doubted_s = self.heard_s
            return _ONE_MORE_TURN_S
        if now_s >= self._round_ends_s:
            self.round += 1
            self._round_ends_s = now_s + self.timeout_s
        if self.round - oldest_round >= ROUNDS_MAX:
            raise StoreUnavailable(StoreFailure.TIMEOUT, "the store is too slow")
        return min(silent_from_s, self._round_ends_s) - now_s
