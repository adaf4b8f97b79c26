"""Claims of proxy.app, run in this process; `tests/integration/test_lifecycle.py` has the rest."""

from __future__ import annotations

import gc
import json
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from proxy.app import run
from proxy.core.errors import SettingsInvalid
from proxy.edge.log import _ForeignHandler
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


def events(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the events logged."""
    return [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]


def test_signal_ends_it_with_status_0(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing in flight: the first signal is enough, and every step is logged."""
    conductor = conductor_of(NOBODY)
    ready: list[int] = []

    def on_ready() -> None:
        ready.append(1)
        conductor.signal()

    assert run(conductor.settings, on_ready=on_ready) == 0
    assert ready == [1]
    told = events(capsys)
    assert [each for each in told if each in {"ready", "draining", "stopped"}] == [
        "ready",
        "draining",
        "stopped",
    ]


def test_second_signal_hurries() -> None:
    """With a request in flight the second signal ends it, with status 1."""
    with silent_upstream() as upstream:
        conductor = conductor_of(upstream.endpoint)

        def score(conductor: Conductor) -> None:
            conductor.until_status("/readyz", 200)
            with conductor.begin_request() as connection:
                assert upstream.asked.wait(10)
                conductor.signal()
                conductor.until_status("/readyz", 503)
                conductor.signal()
                assert connection.recv(1) == b""

        with conducted(conductor, score):
            assert run(conductor.settings) == 1


def test_drain_is_bounded() -> None:
    """A request that never ends is cut off after `http.drain_s`; the operator wanted it so."""
    with silent_upstream() as upstream:
        conductor = conductor_of(upstream.endpoint, {"http.drain_s": 0.05})

        def score(conductor: Conductor) -> None:
            conductor.until_status("/readyz", 200)
            with conductor.begin_request() as connection:
                assert upstream.asked.wait(10)
                conductor.signal()
                assert connection.recv(1) == b""

        with conducted(conductor, score):
            assert run(conductor.settings) == 0


def test_ops_may_be_a_unix_socket(tmp_path: Path) -> None:
    """A worker's ops pages are on a socket file, and its ops port stays free."""
    path = tmp_path / "ops.sock"
    conductor = conductor_of(NOBODY)

    def on_ready() -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
        assert conductor.get("/readyz")[0] == 0
        conductor.signal()

    assert run(conductor.settings, on_ready=on_ready, ops_socket=path) == 0


def test_garbage_is_sought_rarely_while_it_serves() -> None:
    """What it starts with is left out of the search; afterwards all is as it was."""
    conductor = conductor_of(NOBODY)
    before = gc.get_threshold()
    seen: list[tuple[int, int]] = []

    def on_ready() -> None:
        seen.append((gc.get_threshold()[0], gc.get_freeze_count()))
        conductor.signal()

    assert run(conductor.settings, on_ready=on_ready) == 0
    ((young_max, frozen),) = seen
    assert young_max > before[0]
    assert frozen > 0
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


@pytest.mark.parametrize("name", ["data", "ops"])
def test_address_in_use_is_the_operators_to_correct(name: str) -> None:
    """The error names the setting; whatever was started is ended."""
    conductor = conductor_of(NOBODY)
    with (
        socket.create_server(getattr(conductor.settings.listen, f"{name}_address")),
        pytest.raises(SettingsInvalid, match=f"listen.{name}: cannot listen on"),
    ):
        run(conductor.settings)
    assert run(conductor.settings, on_ready=conductor.signal) == 0


def test_no_region_is_the_operators_to_correct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens before the region is known."""
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delitem(os.environ, "AWS_DEFAULT_REGION", raising=False)
    conductor = conductor_of(NOBODY, {"upstream.endpoint": None})
    with pytest.raises(SettingsInvalid, match="no AWS region"):
        run(conductor.settings)
