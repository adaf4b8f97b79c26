"""Claims about the embedded DynamoDB engines."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from proxy.embedded.dynamodb import (
    RunningDynamoDB,
    lists_tables,
    ministack_python,
    start_dynalite,
    start_ministack,
)
from proxy.embedded.process import EngineError
from tests.support.ports import free_port

pytestmark = pytest.mark.engine


def listening_addresses(pid: int) -> set[str]:
    """Return the local IPv4 and IPv6 addresses, in the kernel's hex, a process listens on."""
    inodes = {
        link.readlink().name
        for link in Path(f"/proc/{pid}/fd").iterdir()
        if link.readlink().name.startswith("socket:")
    }
    rows = [
        row.split()
        for table in ("tcp", "tcp6")
        for row in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    ]
    listening = "0A"
    return {
        row[1].split(":")[0]
        for row in rows
        if row[3] == listening and f"socket:[{row[9]}]" in inodes
    }


def test_ministack_listens_on_loopback_only(dynamodb: RunningDynamoDB) -> None:
    """The embedded DynamoDB listens on 127.0.0.1 and on no other address."""
    assert listening_addresses(dynamodb.child.pid) == {"0100007F"}


def test_dynalite_listens_on_loopback_only(dynalite: RunningDynamoDB) -> None:
    """The second engine listens on 127.0.0.1 and on no other address."""
    assert listening_addresses(dynalite.child.pid) == {"0100007F"}


def test_engines_answer_at_their_endpoint(
    dynamodb: RunningDynamoDB, dynalite: RunningDynamoDB
) -> None:
    """Both engines list tables at the endpoint they name."""
    for engine in (dynamodb, dynalite):
        assert lists_tables(int(engine.endpoint.rpartition(":")[2]))


def test_silent_port_lists_no_tables() -> None:
    """A port where nobody listens is not ready, and that is no error."""
    assert not lists_tables(free_port())


def test_close_leaves_no_folder() -> None:
    """A closed engine leaves nothing in the temporary folder."""
    engine = start_ministack()
    engine.close()
    engine.close()
    assert not engine.child.folder.exists()


def test_missing_environment_names_both_ways_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without `.venv-dynamodb` the message says how to get it and how to do without."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    assert ministack_python() is None
    with pytest.raises(EngineError, match=r"make run.*UPSTREAM_ENDPOINT="):
        start_ministack()


def test_missing_dynalite_is_an_error(tmp_path: Path) -> None:
    """Without dynalite in the folder the error says what is needed."""
    with pytest.raises(EngineError, match=r"needs node and cli\.js of dynalite"):
        start_dynalite(tmp_path)
