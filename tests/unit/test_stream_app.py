"""Claims of proxy.stream_app, run in this process."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from typing import Any, Final

import pytest
import structlog

from proxy.core.errors import SettingsInvalid
from proxy.edge.log import _ForeignHandler
from proxy.embedded.valkey import RunningStore
from proxy.stream_app import NO_TABLE, reading, run
from tests.support.conductor import Conductor, conducted, conductor_of
from tests.support.proxy_process import ENVIRON

pytestmark = pytest.mark.store

NOBODY: Final = "http://127.0.0.1:9"
TABLES: Final[dict[str, Any]] = {"orders": {"streams": True}}


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


def test_it_reads_until_a_signal_and_serves_nothing(valkey: RunningStore) -> None:
    """Ready at once, and nobody listens on the data port; status tells of its table."""
    conductor = conductor_of(NOBODY, {"store.url": valkey.url, "tables": TABLES})

    def score(conductor: Conductor) -> None:
        conductor.until_status("/readyz", 200)
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(conductor.settings.listen.data_address, timeout=10)

        def told() -> bool:
            shown = json.loads(conductor.get("/status")[1])["streams"]["orders"]
            return shown["state"] == "failed" and shown["readers"] == 1  # type: ignore[no-any-return]

        conductor.until(told)
        conductor.signal()

    with conducted(conductor, score):
        assert run(conductor.settings) == 0


def test_it_reads_where_those_that_serve_only_watch() -> None:
    """That is what it is there for; all else is as it was set."""
    settings = conductor_of(NOBODY, {"streams.reads": False, "streams.lease_s": 7}).settings
    assert (reading(settings).streams.reads, reading(settings).streams.lease_s) == (True, 7)
    assert reading(settings).store == settings.store


def test_without_a_table_there_is_nothing_to_do() -> None:
    """The operator must name one."""
    with pytest.raises(SettingsInvalid) as invalid:
        run(conductor_of(NOBODY).settings)
    assert invalid.value.problems == [NO_TABLE]
