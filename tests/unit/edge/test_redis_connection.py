"""Connections of every kind, and one question."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.edge.redis_connection import Access, Address, ask_once, connection_to, url_connect
from proxy.embedded.valkey import RunningStore, redis_binary
from tests.support.redis_server import RedisServer
from tests.support.scripted_redis import OK, scripted_redis
from tests.support.tools import missing

PATIENT_S = 20.0


def test_an_address_is_written_as_people_write_it() -> None:
    """An IPv6 host stands in brackets."""
    assert str(Address("h", 1)) == "h:1"
    assert str(Address("::1", 1)) == "[::1]:1"


@pytest.mark.store
async def test_a_connection_by_url_and_one_by_address_reach_the_same_server(
    valkey: RunningStore,
) -> None:
    """Both ask the server that was meant."""
    assert isinstance(valkey.address, tuple)
    by_url = await url_connect(valkey.url, Access())()
    by_address = connection_to(Address(*valkey.address), Access())
    question = ("INFO", "server")
    ((told,), (told_too,)) = [
        await ask_once(each, question, timeout_s=PATIENT_S) for each in (by_url, by_address)
    ]
    pid = f"process_id:{valkey.child.pid}\r\n".encode()
    assert pid in told
    assert pid in told_too


async def test_a_silent_server_is_given_up() -> None:
    """The time-out bounds connecting and asking together."""
    async with scripted_redis(lambda _: b"") as silent:
        with pytest.raises(StoreUnavailable, match="TimeoutError") as told:
            await ask_once(connection_to(silent, Access()), ("PING",), timeout_s=0.05)
        assert told.value.failure is StoreFailure.CONNECT


async def test_an_error_reply_and_a_refused_connection_are_failures() -> None:
    """What cannot be asked, or will not answer, raises the port's own error with the reason."""
    async with scripted_redis(lambda words: OK if words == ("A",) else b"-ERR no\r\n") as server:
        assert await ask_once(connection_to(server, Access()), ("A",), timeout_s=PATIENT_S)
        with pytest.raises(StoreUnavailable, match="no"):
            await ask_once(connection_to(server, Access()), ("A",), ("B",), timeout_s=PATIENT_S)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        nobody = Address(*bound.getsockname())
        with pytest.raises(StoreUnavailable, match="ConnectionError"):
            await ask_once(connection_to(nobody, Access()), ("A",), timeout_s=PATIENT_S)


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[tuple[RedisServer, str]]:
    """Run a server that speaks TLS only; with the one certificate that vouches for it."""
    if (openssl := shutil.which("openssl")) is None:
        missing("openssl", install="apt install openssl")
    if (binary := redis_binary()) is None:
        missing("redis-server", install="apt install redis-server")
    key, cert = str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")
    request = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    request += ["-subj", "/CN=store", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*request, "-keyout", key, "-out", cert], check=True, capture_output=True)
    with closing(RedisServer(binary)) as server:
        server.flags = {
            "port": "0",
            "tls-port": str(server.port),
            "tls-cert-file": cert,
            "tls-key-file": key,
            "tls-ca-cert-file": cert,
            "tls-auth-clients": "no",
            "save": "",
        }
        server.start()
        server.child.wait_until(lambda: _listens(server.address))
        yield server, cert


def _listens(address: tuple[str, int]) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(address) == 0


@pytest.mark.store
async def test_tls_trusts_the_given_authorities_and_no_others(
    tls_server: tuple[RedisServer, str],
) -> None:
    """With the file of its authority the server is talked to, by URL and by address."""
    server, ca_file = tls_server
    address = Address(*server.address)
    for trusted in (Access(tls=True, ca_file=ca_file), Access(tls=True)):
        by_url = await url_connect(f"rediss://{address}/0", trusted)()
        for connection in (by_url, connection_to(address, trusted)):
            if trusted.ca_file is not None:
                assert await ask_once(connection, ("PING",), timeout_s=PATIENT_S) == [b"PONG"]
                continue
            with pytest.raises(StoreUnavailable, match=r"certificate|ConnectionError"):
                await ask_once(connection, ("PING",), timeout_s=PATIENT_S)
