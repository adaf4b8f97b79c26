"""Composition root: builds every object once, owns every task, start and stop order.

Start: telemetry, credentials, upstream, store, flows, ops listener, data listener. The data
listener accepts before the store answers: until then everything goes to DynamoDB.
Stop (SIGTERM, SIGINT, SIGHUP): not ready, no new connections, requests in flight get their answers
within `http.drain_s`, debts are paid, then tasks, upstream and store end. A second SIGTERM or
SIGINT ends it at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Final

from proxy.core.lifecycle import ProcessEvent
from proxy.edge.clock import SystemClock
from proxy.edge.listeners import DataListener, OpsListener, listen_at
from proxy.edge.log import configure, logger
from proxy.event_loop import loop_factory
from proxy.services import Services, build_services
from proxy.settings import Settings
from proxy.stop_signals import StopSignals

EXIT_OK: Final = 0
EXIT_HURRIED: Final = 1
_DRAIN_POLL_S: Final = 0.02
_DEBTS_S: Final = 5.0  # with `http.drain_s` (20 s) still below Kubernetes' 30 s


def run(
    settings: Settings,
    *,
    on_ready: Callable[[], None] | None = None,
    ops_socket: Path | None = None,
) -> int:
    """Serve until a signal comes; return the process's exit code.

    Args:
        settings: checked settings.
        on_ready: called once both listeners accept.
        ops_socket: where the ops listener's unix socket is created, in place of its port: this
            process is one of several workers.

    Raises:
        SettingsInvalid: no region, an address in use: the operator must act.
    """
    configure(settings.log.level, settings.log.format)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_serve(settings, on_ready, ops_socket))


async def _serve(
    settings: Settings, on_ready: Callable[[], None] | None, ops_socket: Path | None
) -> int:
    stop = StopSignals()
    stop.install()
    log = logger("dynaside")
    async with AsyncExitStack() as stack:
        services = await build_services(settings, SystemClock(), stack)
        stack.enter_context(services.garbage.sought_rarely())
        ops = OpsListener(services.ops_app)
        stack.push_async_callback(ops.close)
        data = DataListener(services.data_server, port_shared=settings.workers > 1)
        stack.push_async_callback(data.close)
        if ops_socket is None:
            await listen_at("listen.ops", settings.listen.ops_address, ops.start)
        else:
            await ops.start_socket(ops_socket)
        await listen_at("listen.data", settings.listen.data_address, data.start)
        services.probes.move(ProcessEvent.ACCEPTING)
        log.info("ready", data=data.url, ops=ops.url)
        if on_ready is not None:
            on_ready()
        await stop.asked.wait()
        services.probes.move(ProcessEvent.STOP_ASKED)
        log.info("draining", in_flight=services.data_server.in_flight)
        await data.stop_accepting()
        drained = await _drain(services, settings.http.drain_s, stop)
        await _pay_debts(services, stop)
        # What has not ended by now is cut off, here and not one by one while things are closed.
        await services.tasks.settle(0, asyncio.sleep)
        services.probes.move(ProcessEvent.DRAINED)
        log.info("stopped", drained=drained, debts=len(services.debts))
    return EXIT_OK if drained else EXIT_HURRIED


async def _drain(services: Services, drain_s: float, stop: StopSignals) -> bool:
    """Let requests in flight end; False when a second signal cut that short."""
    services.data_server.draining = True
    try:
        async with asyncio.timeout(drain_s):
            while services.data_server.busy or len(services.tasks):
                if stop.hurried.is_set():
                    return False
                await asyncio.sleep(_DRAIN_POLL_S)
    except TimeoutError:
        return True  # the bound is the operator's; what is left is ended with the tasks
    return True


async def _pay_debts(services: Services, stop: StopSignals) -> None:
    """Give the store a last chance to hear of our writes: the next process knows of none."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_DEBTS_S):
            while services.debts.payable:
                if stop.hurried.is_set():
                    return
                await asyncio.sleep(_DRAIN_POLL_S)
