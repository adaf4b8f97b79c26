"""Claims of proxy.worker; what it starts is replaced by functions that record."""

from __future__ import annotations

import io
import pickle
import runpy
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from proxy import worker
from proxy.settings import Settings, load_settings


def given(monkeypatch: pytest.MonkeyPatch, sent: object) -> list[Any]:
    """Give a worker its arguments and its input; returns what it did."""
    did: list[Any] = []

    def run(settings: Settings, *, ops_socket: Path) -> int:
        did.append((settings, ops_socket))
        return 7

    monkeypatch.setattr(sys, "argv", ["worker", "42", "/run/0.sock"])
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(pickle.dumps(sent))))
    monkeypatch.setattr(worker, "tie_to_parent", lambda *tie: did.append(tie))
    monkeypatch.setattr(worker, "run", run)
    return did


def test_settings_arrive_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting comes through the pipe, secrets and tables too; the tie is made first."""
    flags = {
        "store.url": "redis://h",
        "store.password": "secret",
        "workers": 3,
        "tables": {"orders": {"level": "strict", "fresh_ttl_s": 7}},
    }
    settings = load_settings(flags=flags, environ={})
    assert settings.policies  # computed and kept: must not hinder the journey
    did = given(monkeypatch, settings)
    assert worker.main() == 7
    tie, (received, ops_socket) = did
    assert tie == (42, signal.SIGTERM)
    assert (received, ops_socket) == (settings, Path("/run/0.sock"))
    assert received.store.password.get_secret_value() == "secret"
    assert received.policy_of("orders") == settings.policy_of("orders")


def test_anything_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing runs on what are no settings."""
    did = given(monkeypatch, {"store": {}})
    with pytest.raises(AssertionError, match="settings"):
        worker.main()
    assert did == [(42, signal.SIGTERM)]


def test_module_run_ends_with_the_workers_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m proxy.worker` exits as the worker did."""
    did = given(monkeypatch, load_settings(environ={}))
    monkeypatch.setattr("proxy.app.run", vars(worker)["run"])
    monkeypatch.setattr("proxy.embedded.tether.tie_to_parent", vars(worker)["tie_to_parent"])
    monkeypatch.delitem(sys.modules, "proxy.worker")
    with pytest.raises(SystemExit, match="7"):
        runpy.run_module("proxy.worker", run_name="__main__")
    assert len(did) == 2
