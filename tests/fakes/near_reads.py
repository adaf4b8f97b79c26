"""A read path of a process that holds some entries itself, for the fast door to ask."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.core.near_copy import NearHit
from proxy.core.read_plan import ReadPlan
from proxy.core.request import Answer, ClientRequest
from proxy.core.values import CacheKey, Outcome
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

    def near(self, plan: ReadPlan) -> NearHit | None:
        """Return a hit on what is held, or None; never waits."""
        entry = self._held.get(plan.identity.cache_key)
        asks_more = plan.get.names is not None or plan.get.capacity != "NONE"
        if entry is None or asks_more or plan.uncached:
            return None
        left_s = entry.fresh_until_s - self._ports.clock.monotonic_s()
        if left_s <= 0:
            return None
        crc32, ttl_s = checksum(entry.body), int(left_s)
        answer = Answer(
            *(200, (), entry.body, Outcome.HIT),
            table=plan.table,
            crc32=crc32,
            ttl_s=ttl_s,
            detail="near",
        )
        return NearHit(answer, plan.policy, 0.5, until_s=0)

    async def answer(
        self, plan: ReadPlan, request: ClientRequest, seen: Seen | None = None
    ) -> Answer:
        """Answer one GetItem."""
        hit = self.near(plan)
        if hit is None:
            return await super().answer(plan, request, seen)
        self._ports.emit(CapacitySaved(plan.table, hit.units))
        return hit.answer
