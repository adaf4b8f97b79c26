"""Serves hits that it holds itself, with or without a fast door, for `tests.bench.door`.

Both ways have the same planning, the same entries, the same events, metrics and log; what differs
is how bytes become a request and an answer becomes bytes. It tells its port on standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Final

import uvloop

from proxy.core.cache_key import KeySpace
from proxy.core.hits import Hit
from proxy.core.plan_memo import PlanMemo
from proxy.core.policy import TablePolicy
from proxy.core.read_plan import ReadPlan
from proxy.core.record import Entry
from proxy.core.request import Answer, ClientRequest
from proxy.core.values import CacheKey, Digest, Generation, Incarnation, TableName
from proxy.edge.clock import SystemClock
from proxy.edge.http_server import DataServer, HttpLimits, HttpOptions
from proxy.edge.listeners import DataListener
from proxy.edge.log import EventLog, logger
from proxy.edge.metrics import Metrics, MetricsIdentity
from proxy.flow.events import Event
from proxy.flow.exchange import checksum
from proxy.flow.hit_tally import HitTally

TABLE: Final = TableName("bench")
LIMITS: Final = HttpLimits(
    16 * 1024 * 1024, 64 * 1024 * 1024, 32 * 1024, keepalive_s=75.0, connections_max=4096
)


def key_of(number: int) -> dict[str, dict[str, str]]:
    """Return the primary key of one item."""
    return {"pk": {"S": f"user#{number:06d}"}}


def item_body(number: int, item_bytes: int) -> bytes:
    """Return the answer's body for one item."""
    return json.dumps({"Item": {**key_of(number), "v": {"S": "x" * item_bytes}}}).encode()


class Process:
    """One process's flows, as far as hits of its own need them.

    Args:
        keys: how many items it holds.
        item_bytes: how large each is, about.
    """

    def __init__(self, keys: int, item_bytes: int) -> None:
        self.clock = SystemClock()
        self._metrics = Metrics(MetricsIdentity(*["bench"] * 6))
        self._log = EventLog(logger("bench"), self.clock.monotonic_s)
        space, policy = KeySpace("bench", "us-east-1"), TablePolicy()
        self._tally = HitTally(self.emit)
        self._hits: dict[CacheKey, Hit] = {}
        space, policy = KeySpace("bench", "us-east-1"), TablePolicy()
        self._plan_of = PlanMemo(space, lambda _: policy, bytes_max=16 * 1024 * 1024).plan_of
        for number in range(keys):
            body = item_body(number, item_bytes)
            entry = Entry(
                *(Incarnation(bytes(8)), Generation(bytes(8)), Digest(bytes(16)), 0, 0, 0),
                *(False, item_bytes, checksum(body), body),
            )
            record = space.item(TABLE, key_of(number)).cache_key
            self._hits[record] = Hit(entry, TABLE, near=True, ttl_s=300)

    def emit(self, event: Event) -> None:
        """Count and log, as the proxy does."""
        self._metrics.on_event(event)
        self._log.on_event(event)

    def answer_now(self, body: bytes) -> Hit | None:
        """Answer what is held."""
        started_s = self.clock.monotonic_s()
        plan = self._plan_of(body)
        if not isinstance(plan, ReadPlan):
            return None
        hit = self._hits.get(plan.identity.cache_key)
        if hit is not None:
            sums = self._tally.of(hit.outcome, plan.table)
            sums.add(hit.units, self.clock.monotonic_s() - started_s)
        return hit

    async def handle(self, request: ClientRequest) -> Answer:
        """Answer by the long way; what is not held is an error of the benchmark's."""
        hit = self.answer_now(request.body)
        assert hit is not None, "not held"
        return hit.answer


async def serve(*, door: bool, keys: int, item_bytes: int) -> None:
    """Serve until killed."""
    process = Process(keys, item_bytes)
    server = DataServer(
        process.handle,
        is_loop=lambda _: False,
        options=HttpOptions(LIMITS, cache_status=True, server_name="Server", cross_origin=False),
        emit=process.emit,
        answer_now=process.answer_now if door else None,
    )
    listener = DataListener(server, port_shared=False)
    await listener.start("127.0.0.1", 0)
    print(listener.url, flush=True)  # noqa: T201 - who started it waits for this line
    await asyncio.Event().wait()


def main() -> None:
    """Serve as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--door", action="store_true")
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument("--item-bytes", type=int, default=300)
    given = parser.parse_args()
    uvloop.run(serve(door=given.door, keys=given.keys, item_bytes=given.item_bytes))


if __name__ == "__main__":
    main()
