"""One whole proxy but for sockets and engines: bytes in, bytes out, on virtual time."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Final

from proxy.core.policy import FencePolicy
from proxy.core.values import Mode
from proxy.edge.http_server import DataServer, HttpLimits, HttpOptions
from proxy.flow.at_once import AtOnce
from proxy.flow.dispatcher import Dispatcher
from proxy.flow.events import (
    CapacitySaved,
    Event,
    HitsAnswered,
    RequestAnswered,
    UpstreamAnswered,
)
from proxy.flow.hit_tally import HitTally
from proxy.flow.standing import Standing
from proxy.flow.store_hits import StoreHits
from tests.fakes.near_reads import HeldEntry, NearReads
from tests.support.flow_world import TABLE, World, key_of
from tests.support.memory_peer import MemoryPeer, turns

HELD: Final = {"a": b'{"Item":{"pk":{"S":"a"},"v":{"S":"1"}}}', "gone": b"{}"}
FRESH_S: Final = 30.0
KEEPALIVE_S: Final = 5.0
BODY_BYTES_MAX: Final = 400
PEERS: Final = 2

BODIES: Final = {
    "held": {"TableName": TABLE, "Key": key_of("a")},
    "absent": {"TableName": TABLE, "Key": key_of("gone")},
    "stored": {"TableName": TABLE, "Key": key_of("b")},
    "projected": {"TableName": TABLE, "Key": key_of("a"), "ProjectionExpression": "v"},
    "consistent": {"TableName": TABLE, "Key": key_of("a"), "ConsistentRead": True},
    "capacity": {"TableName": TABLE, "Key": key_of("a"), "ReturnConsumedCapacity": "TOTAL"},
    "off": {"TableName": "off", "Key": key_of("a")},
    "shadow": {"TableName": "shadow", "Key": key_of("a")},
    "unknown": {"TableName": TABLE, "Key": key_of("a"), "Unknown": 1},
    "padded": {"TableName": TABLE, "Key": key_of("a")},
    "large": {"TableName": TABLE, "Key": key_of("a" * BODY_BYTES_MAX)},
}


def body(name: str) -> bytes:
    """Return the body of one of the requests."""
    blanks = b" " * BODY_BYTES_MAX if name == "padded" else b""
    return json.dumps(BODIES[name]).encode() + blanks


@dataclass(frozen=True)
class Seen:
    """All that anybody can see of a proxy from outside, and how long connections may be idle."""

    received: tuple[bytes, ...]
    closed: tuple[bool, ...]
    idle_until_s: tuple[float, ...]
    events: tuple[str, ...]
    counts: tuple[int, ...]


def _told(event: Event) -> list[Event]:
    """Return the events that the dispatcher tells of such hits; here none takes any time."""
    if not isinstance(event, HitsAnswered):
        return [event]
    assert event.latencies.sum_s == 0, "time passed at the door"
    hits = event.latencies.count
    each = RequestAnswered("GetItem", event.table, event.outcome, None, 200, 0.0)
    return [CapacitySaved(event.table, event.units / hits), each] * hits


class DoorRig:
    """A proxy with or without a door; it holds entries `a` and `gone`, the store has more."""

    def __init__(self, *, door: bool, cross_origin: bool = False, bodies_bytes_max: int) -> None:
        self.world = World(FencePolicy())
        on = self.world.policy
        modes = {"off": Mode.OFF, "shadow": Mode.SHADOW}
        self.world.policies = {name: replace(on, mode=mode) for name, mode in modes.items()}
        for name in modes:
            self.world.upstream.tables.add(name, pk="S")
        for pk in ("a", "b"):
            self.world.put_elsewhere(pk, "1")
        proxy = self.proxy = self.world.proxy()
        self.events: list[Event] = proxy.events
        now_s = self.world.clock.monotonic_s()
        self.held = {
            self.world.identity(pk).cache_key: HeldEntry(raw, now_s + FRESH_S)
            for pk, raw in HELD.items()
        }
        reads = NearReads(proxy.reads._ports, self.held)
        dispatcher = Dispatcher(replace(proxy.dispatcher._ports, reads=reads))
        emit, clock = self.events.append, self.world.clock
        tally = HitTally(emit)
        standing = Standing(proxy.near, proxy.hot, proxy.auditor, proxy.debts, proxy.watch.note)
        at_once = AtOnce(proxy.plans, reads.near, standing, clock=clock, tally=tally)
        hits = StoreHits(proxy.plans, reads, dispatcher.answer, clock=clock, tally=tally)
        self._tell = tally.tell
        self.at_once = 0
        limits = HttpLimits(
            *(BODY_BYTES_MAX, bodies_bytes_max, 2048),
            keepalive_s=KEEPALIVE_S,
            connections_max=PEERS,
        )
        self.server = DataServer(
            dispatcher.answer,
            is_loop=lambda request: ("X-Hop", "me") in request.headers,
            options=HttpOptions(
                limits, cache_status=True, server_name="Server", cross_origin=cross_origin
            ),
            emit=emit,
            answer_now=at_once.answer if door else None,
            look_up=hits.look_up if door else None,
        )
        self.peers = [MemoryPeer(self.server) for _ in range(PEERS)]

    def send(self, peer: int, data: bytes) -> None:
        """Let bytes of one client arrive."""
        self.at_once += self.peers[peer].send(data) != b""

    def seen(self) -> Seen:
        """Return all that can be seen; what the door sums up counts as what it sums up."""
        self._tell()
        return Seen(
            received=tuple(peer.received for peer in self.peers),
            closed=tuple(peer.transport.closing for peer in self.peers),
            idle_until_s=tuple(peer.connection._next_keepalive_close_time for peer in self.peers),
            events=tuple(sorted(repr(each) for event in self.events for each in _told(event))),
            counts=(
                self.server.in_flight,
                self.server.bodies.used,
                self.server.requests_count,
                len(self.server.connections),
            ),
        )

    @property
    def fetched(self) -> int:
        """How often upstream was asked."""
        return len(self.proxy.told(UpstreamAnswered))

    async def end(self) -> None:
        """Hang up and leave nothing behind."""
        for peer in self.peers:
            await peer.hang_up()
        await turns()
        await self.world.upstream.close()
