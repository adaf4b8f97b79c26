"""Reads streams and does nothing else: `dynaside streams`; no data port, ops port as ever.

For a fleet whose proxies only watch (`streams.reads: false`), or have no network to Streams.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Final

from proxy.core.errors import SettingsInvalid
from proxy.core.lifecycle import ProcessEvent
from proxy.edge.clock import SystemClock
from proxy.edge.listeners import OpsListener, listen_at
from proxy.edge.log import configure, logger
from proxy.event_loop import loop_factory
from proxy.services import build_services
from proxy.settings import Settings
from proxy.stop_signals import StopSignals

EXIT_OK: Final = 0
NO_TABLE: Final = "tables: none has streams: true, so there is nothing to read"


def run(settings: Settings) -> int:
    """Read until a signal comes; return the exit code.

    Raises:
        SettingsInvalid: no table to read, no region, an address in use.
    """
    if not settings.streamed:
        raise SettingsInvalid([NO_TABLE])
    configure(settings.log.level, settings.log.format)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_read(reading(settings)))


def reading(settings: Settings) -> Settings:
    """Return settings of a process that reads, whatever is said of those that serve."""
    given = settings.model_dump(exclude_unset=True)
    given["streams"] = {**given.get("streams", {}), "reads": True}
    return Settings.model_validate(given)


async def _read(settings: Settings) -> int:
    stop = StopSignals()
    stop.install()
    async with AsyncExitStack() as stack:
        services = await build_services(settings, SystemClock(), stack)
        ops = OpsListener(services.ops_app)
        stack.push_async_callback(ops.close)
        await listen_at("listen.ops", settings.listen.ops_address, ops.start)
        services.probes.move(ProcessEvent.ACCEPTING)
        logger("dynaside").info("reading streams", tables=len(settings.streamed), ops=ops.url)
        await stop.asked.wait()
        services.probes.move(ProcessEvent.STOP_ASKED)
    logger("dynaside").info("stopped")
    return EXIT_OK
