"""Asks one server who it is, what time it has and whether its quarantine is over.

A write-capable script does it, so that a demoted primary cannot pass for one. Owned by
`RedisLanes`, which decides when to ask, and what follows from the answer.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from proxy.core.values import CacheKey, FailOver, Incarnation
from proxy.edge.redis_command import Command, Replies, checked, milliseconds
from proxy.edge.redis_fitness import FitnessWatch
from proxy.edge.redis_options import StoreOptions
from proxy.edge.redis_primary import PrimaryView, ServerInfo, parse_info, parse_lag
from proxy.edge.scripts import load_script
from proxy.flow.events import Emit, StoreEvictions
from proxy.flow.ports import Clock

_GATE_KEPT_MS: Final = 7 * 24 * 3600 * 1000
_INFO: Final[Command] = ("INFO", "server", "replication", "stats", "memory")
_LAG: Final[Command] = ("CONFIG", "GET", "min-replicas-max-lag")
_CLUSTER_INFO: Final[Command] = ("CLUSTER", "INFO")

GateKey = Callable[[Incarnation], CacheKey | None]
"""Names the gate's record of an incarnation; None where its server can hold none."""

RoundTrip = Callable[..., Awaitable[Replies]]
"""Sends commands on the connection in question, and returns their replies."""


class _Gate(NamedTuple):
    """The store's clock, when its answer was there, and in how many seconds the gate opens."""

    store_ms: int
    received_s: float
    opens_in_s: float


class Heartbeat:
    """The questions to one server.

    Args:
        options: how far to trust it.
        gate_key: names the gate's record.
        clock: monotonic time.
        emit: takes how many keys the server evicted, and what it lacks.
    """

    def __init__(
        self, options: StoreOptions, *, gate_key: GateKey, clock: Clock, emit: Emit
    ) -> None:
        self._options = options
        self._gate_key = gate_key
        self._clock = clock
        self._emit = emit
        self._config_denied = False
        self.fitness = FitnessWatch(
            clock, emit, demanded=options.fitness_demanded, healed_s=options.quarantine_s
        )

    def connected(self) -> None:
        """Note a new connection: its user may be allowed more than the last one's."""
        self._config_denied = False

    async def ask(self, round_trip: RoundTrip) -> PrimaryView:
        """Return what the server says now.

        Raises:
            StoreUnavailable: it is a replica, does not say who it is, or does not answer.
        """
        options, sent_s = self._options, self._clock.monotonic_s()
        server = await self._ask_server(round_trip)
        gate = await self._ask_gate(server, round_trip)
        self._emit(StoreEvictions(server.evicted_total))
        self.fitness.see(server.incarnation, server.traits)
        # Both count from when the incarnation was first seen: it settles first, by the difference.
        settles_in_s = gate.opens_in_s - (options.quarantine_s - options.unsettled_s)
        if options.fail_over is FailOver.AVAILABLE:
            settles_in_s = 0.0
        return PrimaryView(
            server.incarnation,
            sent_s,
            gate.received_s,
            gate.store_ms,
            gate.opens_in_s,
            settles_in_s,
        )

    async def _ask_server(self, round_trip: RoundTrip) -> ServerInfo:
        """Ask the server about itself; once CONFIG was denied, not for that: denials are logged."""
        questions = [_INFO]
        if self._options.cluster:
            questions.append(_CLUSTER_INFO)
        if self._config_denied:
            return parse_info(*checked(await round_trip(*questions)))
        *replies, lag = await round_trip(*questions, _LAG)
        lag_s_max = parse_lag(lag)
        self._config_denied = lag_s_max is None
        return parse_info(*checked(replies), lag_s_max=lag_s_max)

    async def _ask_gate(self, server: ServerInfo, round_trip: RoundTrip) -> _Gate:
        gate_key = self._gate_key(server.incarnation)
        if gate_key is None:
            ((seconds, microseconds),) = checked(await round_trip(("TIME",)))
            store_ms = int(seconds) * 1000 + int(microseconds) // 1000
            return _Gate(store_ms, self._clock.monotonic_s(), math.inf)
        ((store_ms, opens_in_ms),) = checked(await round_trip(self._beat(server, gate_key)))
        return _Gate(store_ms, self._clock.monotonic_s(), opens_in_ms / 1000)

    def _beat(self, server: ServerInfo, gate_key: CacheKey) -> tuple[Any, ...]:
        whole_s = self._options.quarantine_s
        if whole_s:
            # Writes may have begun at an older primary while this one was there already.
            whole_s += server.traits.old_primary_s
        quarantine_ms = milliseconds(max(0.0, whole_s - server.primary_for_s))
        return ("EVALSHA", load_script("heartbeat").sha, 1, gate_key, quarantine_ms, _GATE_KEPT_MS)
