"""Gives hits again that copies in this process gave to the same request before.

What the read path decides about a plain read of a copy stays as it is until something is told of
the copy or its table, its time comes, or a proof is missing: all of that is asked here, and nothing
else. A read that is to be looked at, for hot items or audits, is left to the read path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from proxy.core.near_copy import StandingHit
from proxy.core.values import TableName
from proxy.flow.auditor import Auditor
from proxy.flow.debts import Debts
from proxy.flow.hot_reads import HotReads
from proxy.flow.near_reads import NearReads

NOTED_EVERY_S: Final = 60.0
"""Tables that are read are watched for five minutes after the last note."""


class Standing:
    """The standing hits of one process.

    Args:
        near: has the copies.
        hot: samples reads.
        auditor: samples hits.
        debts: while one is open, no hit stands.
        note: is told now and then of each table that is read.
    """

    def __init__(
        self,
        near: NearReads,
        hot: HotReads,
        auditor: Auditor,
        debts: Debts,
        note: Callable[[TableName], None],
    ) -> None:
        self._note = note
        self._find = near.cache.standing.get
        self._near = near
        self._hot = hot
        self._auditor = auditor
        self._owed = debts.keys

    def find(self, body: bytes, now_s: float) -> StandingHit | None:
        """Return what answers a GetItem of these bytes now; None: ask the read path."""
        hit = self._find(body)
        if hit is None or self._owed or not hit.holds(now_s):
            return None
        sums = hit.sums
        if now_s >= sums.note_s:
            sums.note_s = now_s + NOTED_EVERY_S
            self._note(hit.table)
        hot, auditor = self._hot, self._auditor
        if hot.left <= 1 or auditor.left <= 0:
            return None
        hot.left -= 1
        auditor.left -= 1
        self._near.hits += 1
        return hit

    def keep(self, body: bytes, hit: StandingHit) -> None:
        """Let a hit that the read path gave to such a GetItem stand."""
        self._near.cache.stand(body, hit)
