"""Claims of proxy.parked: an operator sees parked records, and has them applied once more."""

from __future__ import annotations

import json

import pytest

from proxy import parked
from proxy.core.cache_key import KeySpace
from proxy.core.errors import StoreUnavailable
from proxy.core.values import TableName
from proxy.embedded.valkey import RunningStore
from proxy.settings import Settings, load_settings
from tests.support.raw_store import RawStore

pytestmark = pytest.mark.store

TABLE = TableName("orders")
GOOD = {"eventName": "MODIFY", "dynamodb": {"Keys": {"pk": {"S": "a"}}}}


def settings_of(url: str) -> Settings:
    """Return settings of a proxy that reads one table's stream."""
    flags: dict[str, object] = {
        "store.url": url,
        "upstream.region": "us-east-1",
        "tables": {TABLE: {"streams": True}, "other": {"streams": True}},
    }
    return load_settings(flags=flags, environ={})


def park(store: RunningStore, *records: object) -> None:
    """Park records of the table."""
    key = KeySpace("default", "us-east-1").parked_key(TABLE)
    with RawStore(store.address) as raw:
        for record in records:
            raw.run("LPUSH", key, json.dumps({"table": TABLE, "record": record}))


def test_parked_records_are_shown_newest_first(
    empty_valkey: RunningStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line of JSON each, of all tables or of one."""
    park(empty_valkey, 1, 2)
    settings = settings_of(empty_valkey.url)
    assert parked.show(settings, None) == 0
    shown = [json.loads(line)["record"] for line in capsys.readouterr().out.splitlines()]
    assert shown == [2, 1]
    assert parked.show(settings, "other") == 0
    assert capsys.readouterr().out == ""


def test_replaying_tells_what_is_left(
    empty_valkey: RunningStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its exit code too."""
    settings = settings_of(empty_valkey.url)
    park(empty_valkey, GOOD, "poison")
    assert parked.replay(settings, None) == 1
    assert capsys.readouterr().out == "orders: 1 applied, 1 left\nother: 0 applied, 0 left\n"
    assert parked.replay(settings, "other") == 0


def test_a_store_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while."""
    monkeypatch.setattr(parked, "_CONNECT_S", 0.1)
    with pytest.raises(StoreUnavailable):
        parked.show(settings_of("redis://127.0.0.1:1"), None)
