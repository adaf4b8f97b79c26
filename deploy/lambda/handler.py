"""The AWS Lambda function: invalidates what the records of a stream changed, as the reader does.

The settings are the proxies' own, from the environment (`DYNASIDE__STORE__URL` and so on) and the
file that `DYNASIDE_CONFIG` names, so that namespace and region, which every entry's name depends
on, agree.

Lambda stops the whole process between two invocations, its clocks perhaps too, but for the wall
clock. The loop and the connection to the store live on, but nobody proves meanwhile that it still
leads to the primary: so it is made anew when it is older than a proxy would trust it unasked.
"""

from __future__ import annotations

import asyncio
import functools
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from proxy.core.cache_key import KeySpace
from proxy.core.errors import SettingsInvalid
from proxy.core.lambda_batch import failure, read_batch
from proxy.core.stream_records import RecordResult
from proxy.edge.clock import SystemClock
from proxy.edge.log import EventLog, configure, logger
from proxy.flow.lambda_batches import BatchReport, LambdaBatches
from proxy.flow.parking import Parking
from proxy.flow.stream_effects import StreamEffects
from proxy.settings import Settings, load_settings
from proxy.store_graph import build_store

CONFIG_VARIABLE: Final = "DYNASIDE_CONFIG"

RESERVE_S: Final = 1.0
"""Kept of an invocation's time for its answer: a function that is cut off answers nothing."""

CONNECTION_S_MAX: Final = 5.0
"""As long as a proxy goes on with a primary before it asks the sentinels again."""


class Context(Protocol):
    """What Lambda says of an invocation, as far as it is used here."""

    def get_remaining_time_in_millis(self) -> int:
        """Return how much time is left."""
        ...


class Function:
    """All that is kept between invocations.

    Args:
        environ: the settings, and AWS_REGION.
        clock: time, sleep and chance.

    Raises:
        SettingsInvalid: no store, no region, or whatever else is wrong with the settings.
    """

    def __init__(self, environ: Mapping[str, str], clock: SystemClock | None = None) -> None:
        settings = _settings(environ)
        configure(settings.log.level, settings.log.format)
        self._log = logger("dynaside")
        self._clock = clock or SystemClock()
        self._loop = asyncio.new_event_loop()
        self._connected: asyncio.Task[None] | None = None
        self._connected_s = -math.inf
        keys = KeySpace(settings.store.namespace, settings.upstream.region or "")
        emit = EventLog(self._log, self._clock.monotonic_s).on_event
        self._built = build_store(settings, keys, self._clock, emit)
        effects = StreamEffects(
            self._built.store,
            self._built.streams,
            keys=keys,
            clock=self._clock,
            policy_of=settings.policy_of,
        )
        parking = Parking(self._built.streams, keys=keys, emit=emit)
        self._batches = LambdaBatches(
            effects, parking.park, clock=self._clock, tables=tuple(settings.policies)
        )

    def __call__(self, event: object, context: Context) -> dict[str, Any]:
        """Apply one batch and return what was not applied, as Lambda wants to hear it."""
        left_s = context.get_remaining_time_in_millis() / 1000 - RESERVE_S
        report = self._loop.run_until_complete(self._apply(event, left_s))
        return failure(report.unapplied)

    def close(self) -> None:
        """End the connection and the loop; Lambda never asks for it, it kills."""
        self._loop.run_until_complete(self._disconnect())
        self._loop.close()

    async def _apply(self, event: object, left_s: float) -> BatchReport:
        until_s = self._clock.monotonic_s() + left_s
        batch = read_batch(event)
        await self._connect()
        report = await self._batches.apply(batch, until_s=until_s)
        noteworthy = report.unapplied is not None or RecordResult.POISON in report.results
        tell = self._log.warning if noteworthy else self._log.info
        results = {result.value: count for result, count in report.results.items()}
        tell(
            "batch",
            records=len(batch),
            **results,
            done=report.unapplied is None,
            behind_s=report.behind_s,
        )
        return report

    async def _connect(self) -> None:
        """Keep the store connected from now on, by a connection that is young."""
        now_s = self._clock.wall_s()
        young = 0 <= now_s - self._connected_s < CONNECTION_S_MAX
        if self._connected is None or self._connected.done() or not young:
            await self._disconnect()
            self._connected_s = now_s
            self._connected = self._loop.create_task(self._built.keep_connected(), name="store")

    async def _disconnect(self) -> None:
        if self._connected is not None:
            self._connected.cancel()
            await asyncio.gather(self._connected, return_exceptions=True)
            self._connected = None


def _settings(environ: Mapping[str, str]) -> Settings:
    named = environ.get(CONFIG_VARIABLE)
    config_path = Path(__file__).parent / named if named else None
    settings = load_settings(config_path=config_path, environ=environ)
    wants = {
        "store: names none": settings.store.is_named,
        "upstream.region: set AWS_REGION": settings.upstream.region,
    }
    if problems := [problem for problem, given in wants.items() if not given]:
        raise SettingsInvalid(problems)
    return settings


@functools.cache
def function() -> Function:
    """Return this process's function; where the settings are wrong, each invocation says so."""
    return Function(os.environ)


def handler(event: object, context: Context) -> dict[str, Any]:
    """Answer one invocation."""
    return function()(event, context)
