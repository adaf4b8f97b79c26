"""Claims of proxy.event_loop."""

from __future__ import annotations

import sys

import pytest
import uvloop

from proxy.event_loop import loop_factory


def test_other_systems_use_asyncios_own_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without uvloop there is no factory."""
    assert loop_factory() is uvloop.new_event_loop
    monkeypatch.setattr(sys, "platform", "darwin")
    assert loop_factory() is None
