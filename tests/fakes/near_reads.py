"""A read path of a process that holds some entries itself, for the fast door to ask."""

from __future__ import annotations

import math
from dataclasses import dataclass

from proxy.core.near_copy import Copy, NearTable, StandingHit
from proxy.core.read_plan import ReadPlan
from proxy.core.record import Entry
from proxy.core.request import Answer, ClientRequest
from proxy.core.responses import EMPTY_BODY
from proxy.core.values import CacheKey, Generation, Incarnation
from proxy.flow.events import CapacitySaved
from proxy.flow.exchange import checksum
from proxy.flow.read_path import ReadPath, ReadPorts, Seen


@dataclass(frozen=True)
class HeldEntry:
    """What is held of one item: the answer's body, and the monotonic time it is fresh until."""

    body: bytes
    fresh_until_s: float


class NearReads(ReadPath):
    """Reads that look at what is held before they ask the store.

    Args:
        ports: of any read path.
        held: by cache key; a test changes it as it likes.
    """

    def __init__(self, ports: ReadPorts, held: dict[CacheKey, HeldEntry]) -> None:
        super().__init__(ports)
        self._held = held

    def near(self, plan: ReadPlan) -> StandingHit | None:
        """Return a hit on what is held, or None; never waits. It does not stand."""
        body = self._held.get(plan.identity.cache_key)
        asks_more = plan.get.names is not None or plan.get.capacity != "NONE"
        if body is None or asks_more or plan.uncached:
            return None
        now_s = self._ports.clock.monotonic_s()
        if now_s >= body.fresh_until_s:
            return None
        entry = Entry(
            Incarnation(bytes(8)),
            Generation(bytes(8)),
            plan.identity.digest,
            filled_ms=0,
            soft_ms=1 + int(1000 * body.fresh_until_s),
            hard_ms=0,
            negative=body.body == EMPTY_BODY,
            item_bytes=3,
            crc32=checksum(body.body),
            body=body.body,
        )
        copy = Copy(entry, NearTable(), (), 0.0)
        return StandingHit(copy, plan.table, now_s=now_s, delta_s=1.0, ends_s=-math.inf)

    async def answer(
        self, plan: ReadPlan, request: ClientRequest, seen: Seen | None = None
    ) -> Answer:
        """Answer one GetItem."""
        hit = self.near(plan)
        if hit is None:
            return await super().answer(plan, request, seen)
        self._ports.emit(CapacitySaved(plan.table, hit.units))
        return hit.answer
