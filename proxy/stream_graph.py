"""Builds the part of the object graph that reads streams, from a process's settings."""

from __future__ import annotations

from collections.abc import Callable

from proxy.core.cache_key import KeySpace
from proxy.core.policy import TablePolicy
from proxy.flow.events import Emit
from proxy.flow.ports import Clock, Store, StreamStore, Upstream
from proxy.flow.shard_reader import Pace, ShardPorts
from proxy.flow.stream_client import StreamClient
from proxy.flow.stream_effects import StreamEffects
from proxy.flow.stream_policies import StreamPolicies
from proxy.flow.streams import Streams
from proxy.settings import Settings


class StreamGraph:
    """What streams share with the rest of a process.

    Args:
        settings: of the process.
        keys: names records.
        clock: time and randomness.
        emit: takes events.
    """

    def __init__(self, settings: Settings, *, keys: KeySpace, clock: Clock, emit: Emit) -> None:
        self._settings = settings
        self._keys = keys
        self._clock = clock
        self._emit = emit

    def streams(
        self,
        upstream: Upstream,
        store: Store,
        stream_store: StreamStore,
        policy_of: Callable[[str], TablePolicy],
    ) -> Streams | None:
        """Put the streams together; None where no table has one.

        Args:
            upstream: DynamoDB and its Streams.
            store: invalidates.
            stream_store: the same store's records of streams.
            policy_of: gives a table's policy, its lag left out.
        """
        settings = self._settings
        if not settings.streamed:
            return None
        given = settings.streams
        ports = ShardPorts(
            client=StreamClient(
                upstream,
                clock=self._clock,
                emit=self._emit,
                timeout_s=settings.upstream.read_timeout_s,
            ),
            streams=stream_store,
            effects=self.effects(store, stream_store),
            keys=self._keys,
            clock=self._clock,
            emit=self._emit,
            pace=Pace(
                lease_s=given.lease_s,
                idle_poll_s=given.idle_poll_s,
                discover_s=given.discover_s,
            ),
        )
        return Streams(
            ports,
            settings.streamed,
            reader=self._clock.token() if given.reads else None,
            policies=StreamPolicies(policy_of, lag=given.lag_policy(), emit=self._emit),
        )

    def effects(self, store: Store, stream_store: StreamStore) -> StreamEffects:
        """Return what applies records."""
        return StreamEffects(
            store,
            stream_store,
            keys=self._keys,
            clock=self._clock,
            policy_of=self._settings.policy_of,
        )
