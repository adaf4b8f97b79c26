"""Composition root: builds every object once, owns every task, start and stop order.

Start: telemetry, credentials, upstream, store, flows, ops listener, data listener. The data
listener accepts before the store answers: until then everything goes to DynamoDB.
Stop (SIGTERM, SIGINT): not ready, no new connections, requests in flight get their answers within
`http.drain_s`, then tasks, upstream and store end. A second signal ends it at once.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final

from proxy.core.errors import SettingsInvalid
from proxy.core.lifecycle import ProcessEvent
from proxy.edge.clock import SystemClock
from proxy.edge.listeners import Listeners
from proxy.edge.log import configure, logger
from proxy.services import Services, build_services
from proxy.settings import Settings

EXIT_OK: Final = 0
EXIT_HURRIED: Final = 1
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_DRAIN_POLL_S: Final = 0.02


def run(settings: Settings, *, on_ready: Callable[[], None] | None = None) -> int:
    """Serve until a signal comes; return the process's exit code.

    Args:
        settings: checked settings.
        on_ready: called once both listeners accept.

    Raises:
        SettingsInvalid: no region, an address in use: the operator must act.
    """
    configure(settings.log.level, settings.log.format)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(settings, on_ready))


async def _serve(settings: Settings, on_ready: Callable[[], None] | None) -> int:
    stop = _Stop()
    stop.install()
    log = logger("dynaside")
    async with AsyncExitStack() as stack:
        services = await build_services(settings, SystemClock(), stack)
        listeners = Listeners(
            services.data_server, services.ops_app, port_shared=settings.workers > 1
        )
        stack.push_async_callback(listeners.close)
        await _listen(listeners, settings)
        services.probes.move(ProcessEvent.ACCEPTING)
        log.info("ready", data=listeners.data_url, ops=listeners.ops_url)
        if on_ready is not None:
            on_ready()
        await stop.asked.wait()
        services.probes.move(ProcessEvent.STOP_ASKED)
        log.info("draining", in_flight=services.data_server.in_flight)
        drained = await _drain(services, listeners, settings.http.drain_s, stop)
        services.probes.move(ProcessEvent.DRAINED)
        log.info("stopped", drained=drained)
    return EXIT_OK if drained else EXIT_HURRIED


async def _listen(listeners: Listeners, settings: Settings) -> None:
    for name, address, start in (
        ("listen.ops", settings.listen.ops_address, listeners.start_ops),
        ("listen.data", settings.listen.data_address, listeners.start_data),
    ):
        host, port = address
        try:
            await start(host, port)
        except OSError as error:
            reason = f"{name}: cannot listen on {host}:{port}: {error.strerror or error}"
            raise SettingsInvalid([reason]) from error


async def _drain(services: Services, listeners: Listeners, drain_s: float, stop: _Stop) -> bool:
    """Let requests in flight end; False when a second signal cut that short."""
    await listeners.stop_accepting()
    services.data_server.draining = True
    try:
        async with asyncio.timeout(drain_s):
            while services.data_server.in_flight or len(services.tasks):
                if stop.hurried.is_set():
                    return False
                await asyncio.sleep(_DRAIN_POLL_S)
    except TimeoutError:
        return True  # the bound is the operator's; what is left is ended with the tasks
    return True


class _Stop:
    """The signals received so far."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()

    def install(self) -> None:
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._received)

    def _received(self) -> None:
        if self.asked.is_set():
            self.hurried.set()
        self.asked.set()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform != "linux":
        return None
    import uvloop  # noqa: PLC0415 - not there on other systems

    return uvloop.new_event_loop
