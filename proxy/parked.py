"""Shows and replays parked stream records: `dynaside streams parked`, `dynaside streams replay`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

from proxy.core.cache_key import KeySpace
from proxy.core.errors import StoreUnavailable
from proxy.core.values import TableName
from proxy.edge.clock import SystemClock
from proxy.edge.endpoints import resolve_endpoints
from proxy.flow.events import Event
from proxy.flow.replaying import Replaying
from proxy.settings import Settings
from proxy.store_graph import build_store
from proxy.stream_graph import StreamGraph

T = TypeVar("T")

EXIT_OK: Final = 0
EXIT_LEFT: Final = 1
_CONNECT_S: Final = 10.0
_RETRY_S: Final = 0.05


def show(settings: Settings, table: str | None) -> int:
    """Write each parked record as one line of JSON, newest first; the items' keys are in it."""

    async def work(replaying: Replaying, tables: list[TableName]) -> int:
        for each in tables:
            for parked in await _connected(partial(replaying.parked, each)):
                sys.stdout.write(parked.decode("utf-8", "replace") + "\n")
        return EXIT_OK

    return asyncio.run(_with_store(settings, table, work))


def replay(settings: Settings, table: str | None) -> int:
    """Apply parked records; exit code 1 while some stay parked."""

    async def work(replaying: Replaying, tables: list[TableName]) -> int:
        left = 0
        for each in tables:
            await _connected(partial(replaying.parked, each))
            replayed = await replaying.replay(each)
            sys.stdout.write(f"{each}: {replayed.applied} applied, {replayed.left} left\n")
            left += replayed.left
        return EXIT_LEFT if left else EXIT_OK

    return asyncio.run(_with_store(settings, table, work))


async def _with_store(
    settings: Settings,
    table: str | None,
    work: Callable[[Replaying, list[TableName]], Awaitable[int]],
) -> int:
    """Connect to the store, and to nothing else, while the work runs."""
    upstream, clock = settings.upstream, SystemClock()
    endpoints = resolve_endpoints(os.environ, endpoint=upstream.endpoint, region=upstream.region)
    keys = KeySpace(settings.store.namespace, endpoints.region)
    built = build_store(settings, keys, clock, _unheard)
    graph = StreamGraph(settings, keys=keys, clock=clock, emit=_unheard)
    effects = graph.effects(built.store, built.streams)
    connecting = asyncio.ensure_future(built.keep_connected())
    try:
        tables = [TableName(table)] if table is not None else list(settings.streamed)
        return await work(Replaying(built.streams, effects, keys=keys), tables)
    finally:
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)


async def _connected(step: Callable[[], Awaitable[T]]) -> T:
    """Take the first step as soon as the store is connected.

    Raises:
        StoreUnavailable: it does not get so.
    """
    loop = asyncio.get_running_loop()
    until_s = loop.time() + _CONNECT_S
    while True:
        try:
            return await step()
        except StoreUnavailable:
            if loop.time() > until_s:
                raise
        await asyncio.sleep(_RETRY_S)


def _unheard(_event: Event) -> None:
    """Tell nobody: what went wrong is the command's error."""
