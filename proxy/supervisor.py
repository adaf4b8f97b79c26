"""Runs several worker processes that share the data port: `dynaside serve --workers N`.

Start: ops port, then one worker alone, so that what the operator must correct is said once; when
it is ready, the others. A worker that ends unasked is replaced, after a growing pause.
Stop: SIGTERM goes to every worker, which drains; a second signal ends them at once. Workers are
tied to this process: if it dies, by SIGKILL too, they drain and end.

The kernel spreads new connections over the workers' listening sockets (SO_REUSEPORT). This
process holds the port bound, without listening, so that nobody else can take it meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from proxy.core.errors import SettingsInvalid
from proxy.core.lifecycle import Probes, ProcessEvent
from proxy.edge.fleet_modes import FleetModes
from proxy.edge.fleet_ops import FleetOps, WorkerClient, WorkerSlot
from proxy.edge.listeners import OpsListener, listen_at
from proxy.edge.log import configure, logger
from proxy.edge.merged_metrics import MergedMetrics
from proxy.settings import Settings
from proxy.stop_signals import StopSignals

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
_POLL_S: Final = 0.05
_PAUSES_S: Final = (0.1, 0.5, 1.0, 2.0, 5.0)
_STEADY_S: Final = 30.0  # a worker that ran for longer was well: the next pause is short again
_KILL_MARGIN_S: Final = 8.0  # a worker may pay its debts for 5 s after its drain
_HURRIED_S: Final = 2.0
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - only for a private folder in it


def run(settings: Settings) -> int:
    """Serve with `settings.workers` processes until a signal comes; return the exit code.

    Raises:
        SettingsInvalid: an address is in use: the operator must act.
    """
    configure(settings.log.level, settings.log.format)
    return asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> int:
    stop = StopSignals()
    stop.install()
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(_private_folder())
        stack.enter_context(_port_held(*settings.listen.data_address))
        slots = [WorkerSlot(i, folder / f"{i}.sock") for i in range(settings.workers)]
        client = await stack.enter_async_context(WorkerClient())
        metrics, probes = MergedMetrics(settings.workers), Probes()
        modes = FleetModes(slots, client=client)
        pages = FleetOps(probes, slots, client=client, metrics=metrics).app()
        modes.add_to(pages)
        ops = OpsListener(pages)
        stack.push_async_callback(ops.close)
        await listen_at("listen.ops", settings.listen.ops_address, ops.start)
        workers = [
            _Worker(
                slot,
                settings=_settings_of(slot, settings),
                client=client,
                metrics=metrics,
                modes=modes,
            )
            for slot in slots
        ]
        stack.push_async_callback(_end_all, workers)
        failed = await _until_stop(workers, probes, stop, ops_url=ops.url)
        if failed is not None:
            return failed
        probes.move(ProcessEvent.STOP_ASKED)
        drained = await _drain(workers, settings.http.drain_s + _KILL_MARGIN_S, stop)
        logger("dynaside").info("all workers stopped", drained=drained)
        return EXIT_OK if drained else EXIT_FAILED


def _settings_of(slot: WorkerSlot, settings: Settings) -> Settings:
    """Return a worker's settings: the first one reads streams, the others only watch."""
    if slot.index == 0 or not settings.streams.reads:
        return settings
    given = settings.model_dump(exclude_unset=True)
    given["streams"] = {**given.get("streams", {}), "reads": False}
    return Settings.model_validate(given)


async def _until_stop(
    workers: list[_Worker], probes: Probes, stop: StopSignals, *, ops_url: str
) -> int | None:
    """Start the workers and keep them; return an exit code if one could not start at all."""
    stopped = asyncio.ensure_future(stop.asked.wait())
    for group in (workers[:1], workers[1:]):
        for worker in group:
            worker.start()
        started = asyncio.gather(*(worker.first_start for worker in group))
        either: set[asyncio.Future[Any]] = {stopped, started}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if stopped.done():
            return None
        if any(started.result()):
            stopped.cancel()
            return max(status or EXIT_OK for status in started.result())
    probes.move(ProcessEvent.ACCEPTING)
    data = f"http://{workers[0].settings.listen.data}"
    logger("dynaside").info("all workers ready", workers=len(workers), data=data, ops=ops_url)
    await stopped
    return None


async def _drain(workers: list[_Worker], bound_s: float, stop: StopSignals) -> bool:
    """Let all workers end; False when a second signal or the bound cut that short."""
    ends = asyncio.gather(*(worker.stop() for worker in workers))
    hurried = asyncio.ensure_future(stop.hurried.wait())
    either: set[asyncio.Future[Any]] = {ends, hurried}
    await asyncio.wait(either, timeout=bound_s, return_when=asyncio.FIRST_COMPLETED)
    hurried.cancel()
    if ends.done():
        return not any(ends.result())
    for worker in workers:
        worker.signal(signal.SIGTERM)
    await asyncio.wait({ends}, timeout=_HURRIED_S)
    for worker in workers:
        worker.signal(signal.SIGKILL)
    await ends
    return False


async def _end_all(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.signal(signal.SIGKILL)
    await asyncio.gather(*(worker.stop() for worker in workers))


class _Worker:
    """Keeps one slot filled with a running process.

    Args:
        slot: told what is running.
        settings: sent to every process.
        client: asks whether a process is ready.
        metrics: told when a process ended unasked.
        modes: what operators ordered, for every process that starts.

    `first_start` becomes None when the first process is ready, or its status when it ended first.
    """

    def __init__(
        self,
        slot: WorkerSlot,
        *,
        settings: Settings,
        client: WorkerClient,
        metrics: MergedMetrics,
        modes: FleetModes,
    ) -> None:
        self.settings = settings
        self.first_start: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._slot = slot
        self._client = client
        self._metrics = metrics
        self._modes = modes
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[int] | None = None
        self._stopping = asyncio.Event()
        self._pauses = 0

    def start(self) -> None:
        """Start a process, and another one whenever it ends."""
        self._keeper = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> int:
        """Ask the process to drain and wait for its end; return its exit status."""
        if self._keeper is None:
            return EXIT_OK
        if not self._stopping.is_set():
            self._stopping.set()
            self.signal(signal.SIGTERM)
        return await asyncio.shield(self._keeper)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if there is one."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _keep(self) -> int:
        loop = asyncio.get_running_loop()
        while True:
            started_s = loop.time()
            status = await self._run_once()
            if self._stopping.is_set():
                # Python itself may still have been starting: then nothing was cut off.
                return EXIT_OK if status == -signal.SIGTERM else status
            if not self.first_start.done():
                self.first_start.set_result(status if status > 0 else EXIT_FAILED)
                return status
            self._slot.restarts += 1
            self._metrics.ended(self._slot.index)
            self._pauses = 0 if loop.time() - started_s > _STEADY_S else self._pauses
            pause_s = _PAUSES_S[min(self._pauses, len(_PAUSES_S) - 1)]
            self._pauses += 1
            logger("dynaside").error(
                "worker ended", worker=self._slot.index, status=status, restart_in_s=pause_s
            )
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()
                    return EXIT_OK

    async def _run_once(self) -> int:
        self._slot.ops_socket.unlink(missing_ok=True)
        process = self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "proxy.worker"),
            *(str(os.getpid()), str(self._slot.ops_socket)),
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches us alone, and each worker gets one signal
        )
        self._slot.pid = process.pid
        if self._stopping.is_set():
            self.signal(signal.SIGTERM)
        assert process.stdin is not None, "asked for a pipe"
        process.stdin.write(pickle.dumps(self._settings_now()))
        process.stdin.close()
        ended = asyncio.ensure_future(process.wait())
        await self._until_ready(ended)
        status = await ended
        self._slot.pid, self._slot.ready = None, False
        return status

    def _settings_now(self) -> Settings:
        orders = self._modes.orders.values()
        return self.settings.with_modes({each.table: (each.mode, each.percent) for each in orders})

    async def _until_ready(self, ended: asyncio.Future[int]) -> None:
        while not ended.done():
            if await self._client.ask(self._slot, "/readyz") is not None:
                await self._modes.repeat(self._slot)
                self._slot.ready = not ended.done()
                if self._slot.ready and not self.first_start.done():
                    self.first_start.set_result(None)
                return
            await asyncio.wait({ended}, timeout=_POLL_S)


@contextmanager
def _private_folder() -> Iterator[Path]:
    """Make a folder for the workers' sockets that nobody else can enter.

    A read-only root may have no folder for temporary files, but Kubernetes and Docker give every
    container a /dev/shm.
    """
    try:
        parent = tempfile.gettempdir()
    except FileNotFoundError:
        parent = str(_SHARED_MEMORY)
    with tempfile.TemporaryDirectory(prefix="dynaside-", dir=parent) as folder:
        yield Path(folder)


@contextmanager
def _port_held(host: str, port: int) -> Iterator[None]:
    """Keep the data port bound without listening, so that it stays ours between two workers.

    Raises:
        SettingsInvalid: somebody else listens there.
    """
    with ExitStack() as stack:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            # Without SO_REUSEPORT first: with it another group of workers would not be noticed.
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
            holder = stack.enter_context(socket.socket(family, kind, protocol))
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.bind(address)
        except OSError as error:
            reason = f"listen.data: cannot listen on {host}:{port}: {error.strerror or error}"
            raise SettingsInvalid([reason]) from error
        yield
