"""Claims of proxy.supervisor, run in this process with real workers."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import structlog

from proxy import supervisor
from proxy.core.errors import SettingsInvalid
from proxy.core.values import Mode, TableName
from proxy.edge.fleet_modes import FleetModes
from proxy.edge.fleet_ops import WorkerClient, WorkerSlot
from proxy.edge.log import _ForeignHandler
from proxy.edge.merged_metrics import MergedMetrics
from proxy.edge.ops_modes import ModeOrder
from proxy.settings import load_settings
from proxy.supervisor import run
from tests.support.conductor import Conductor, conducted, conductor_of
from tests.support.proxy_process import ENVIRON
from tests.support.silent_upstream import silent_upstream

NOBODY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give fixed credentials, and leave the log of other tests alone."""
    for name, text in ENVIRON.items():
        monkeypatch.setenv(name, text)
    yield
    structlog.reset_defaults()
    root = logging.getLogger()
    root.handlers = [each for each in root.handlers if not isinstance(each, _ForeignHandler)]
    root.setLevel(logging.WARNING)


def fleet(upstream: str = NOBODY, settings: Mapping[str, Any] | None = None) -> Conductor:
    """Return a conductor of two workers."""
    return conductor_of(upstream, {"workers": 2, **(settings or {})})


def workers(conductor: Conductor) -> list[dict[str, Any]]:
    """Return what `/status` shows of the workers."""
    found: list[dict[str, Any]] = json.loads(conductor.get("/status")[1])["workers"]
    return found


def test_workers_are_kept_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that dies is replaced, again and again; a signal ends all with status 0."""
    monkeypatch.setattr(supervisor, "_PAUSES_S", (0.01,))
    monkeypatch.setattr(supervisor, "_STEADY_S", 0.0)

    def score(conductor: Conductor) -> None:
        conductor.until_status("/readyz", 200)
        for count in (1, 2):
            os.kill(workers(conductor)[1]["pid"], signal.SIGKILL)

            def replaced(count: int = count) -> bool:
                found = workers(conductor)[1]
                return bool(found["restarts"] == count and found["ready"])

            conductor.until(replaced)
        conductor.signal()

    conductor = fleet()
    with conducted(conductor, score):
        assert run(conductor.settings) == 0


def test_stop_during_the_start() -> None:
    """A signal before the first worker is ready ends it with status 0: nothing was cut off."""

    def score(conductor: Conductor) -> None:
        conductor.until_status("/readyz", 503)
        conductor.signal()

    conductor = fleet()
    with conducted(conductor, score):
        assert run(conductor.settings) == 0


def test_stop_during_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is about to be replaced is not started any more."""
    monkeypatch.setattr(supervisor, "_PAUSES_S", (60.0,))

    def score(conductor: Conductor) -> None:
        conductor.until_status("/readyz", 200)
        os.kill(workers(conductor)[0]["pid"], signal.SIGKILL)
        conductor.until(lambda: workers(conductor)[0]["restarts"] == 1)
        conductor.signal()

    conductor = fleet()
    with conducted(conductor, score):
        assert run(conductor.settings) == 0


def test_second_signal_hurries_the_workers() -> None:
    """With a request in flight the second signal ends all, with status 1."""
    with silent_upstream() as upstream:

        def score(conductor: Conductor) -> None:
            conductor.until_status("/readyz", 200)
            with conductor.begin_request() as connection:
                assert upstream.asked.wait(10)
                conductor.signal()
                conductor.until_status("/readyz", 503)
                conductor.signal()
                assert connection.recv(1) == b""

        conductor = fleet(upstream.endpoint)
        with conducted(conductor, score):
            assert run(conductor.settings) == 1


def test_worker_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stuck worker cannot keep the others from ending; the status says so by 1."""
    monkeypatch.setattr(supervisor, "_KILL_MARGIN_S", 0.1)
    monkeypatch.setattr(supervisor, "_HURRIED_S", 0.1)

    def score(conductor: Conductor) -> None:
        conductor.until_status("/readyz", 200)
        os.kill(workers(conductor)[0]["pid"], signal.SIGSTOP)
        conductor.signal()

    conductor = fleet(settings={"http.drain_s": 0.1})
    with conducted(conductor, score):
        assert run(conductor.settings) == 1


async def test_stop_overtakes_the_start_of_a_process(tmp_path: Path) -> None:
    """A stop that comes while a process is being created reaches that process all the same."""
    async with WorkerClient() as client:
        worker = supervisor._Worker(
            WorkerSlot(0, tmp_path / "0.sock"),
            settings=fleet().settings,
            client=client,
            metrics=MergedMetrics(1),
            modes=FleetModes([], client=client),
        )
        assert await worker.stop() == 0  # never started
        worker = supervisor._Worker(
            WorkerSlot(0, tmp_path / "0.sock"),
            settings=fleet().settings,
            client=client,
            metrics=MergedMetrics(1),
            modes=FleetModes([], client=client),
        )
        worker.start()
        assert await worker.stop() == 0


def test_worker_that_cannot_start_ends_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The worker's own status comes back, and its words are said once."""
    monkeypatch.delenv("AWS_REGION")
    conductor = fleet(settings={"upstream.endpoint": None})
    assert run(conductor.settings) == 2
    assert capfd.readouterr().err.count("no AWS region") == 1


def test_worker_killed_before_it_was_ready_ends_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A worker that dies by a signal while it starts gives status 1."""
    killed = tmp_path / "python"
    killed.write_text("#!/bin/sh\nkill -9 $$\n")
    killed.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(killed))
    assert run(fleet().settings) == 1


@pytest.mark.parametrize("name", ["data", "ops"])
@pytest.mark.parametrize("shared", [False, True])
def test_address_in_use_is_the_operators_to_correct(name: str, *, shared: bool) -> None:
    """Also an address that another group of workers shares."""
    conductor = fleet()
    address = getattr(conductor.settings.listen, f"{name}_address")
    with (
        socket.create_server(address, reuse_port=shared),
        pytest.raises(SettingsInvalid, match=f"listen.{name}: cannot listen on"),
    ):
        run(conductor.settings)


def test_read_only_root_has_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any folder for temporary files the sockets go to /dev/shm, closed to others."""

    def nowhere() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    with supervisor._private_folder() as folder:
        assert folder.parent == Path("/dev/shm")
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()


async def test_worker_starts_with_the_modes_that_were_ordered(tmp_path: Path) -> None:
    """Its very first request is in the mode that operators chose, not in that of the settings."""
    async with WorkerClient() as client:
        modes = FleetModes([], client=client)
        worker = supervisor._Worker(
            WorkerSlot(0, tmp_path / "0.sock"),
            settings=fleet().settings,
            client=client,
            metrics=MergedMetrics(1),
            modes=modes,
        )
        assert worker._settings_now() is worker.settings
        table = TableName("orders")
        modes.orders[table] = ModeOrder(table, Mode.SHADOW, 10.0)
        policy = worker._settings_now().policy_of("orders")
        assert (policy.mode, policy.mode_percent) == (Mode.SHADOW, 10)


def test_of_several_workers_one_reads_streams(tmp_path: Path) -> None:
    """The others watch how far it is; where none is to read, none does."""
    slots = [WorkerSlot(index, tmp_path / "x.sock") for index in range(2)]
    settings = load_settings(
        flags={"store.url": "redis://h:1", "streams.lag_max_s": 40}, environ={}
    )
    first, second = (supervisor._settings_of(slot, settings) for slot in slots)
    assert first is settings
    assert (second.streams.reads, second.streams.lag_max_s) == (False, 40)
    assert second.store == settings.store
    watching = load_settings(flags={"streams.reads": False}, environ={})
    assert supervisor._settings_of(slots[1], watching) is watching
