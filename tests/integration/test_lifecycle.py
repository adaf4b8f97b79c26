"""Claims about the start and the end of a real proxy process."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.embedded.process import LOOPBACK
from proxy.embedded.valkey import start_valkey
from tests.fakes.fake_upstream import FakeUpstream
from tests.support.ports import free_port
from tests.support.proxy_process import ENVIRON, ROOT, RunningProxy, start_proxy
from tests.support.serving import Wire, item, key, post, until, until_told

PATIENT = {
    "upstream.read_timeout_s": 60,
    "upstream.write_timeout_s": 60,
    "http.drain_s": 60,
    "fence.marker_s": 120,
    "store.quarantine_s": 120,
}

Start = Callable[..., RunningProxy]


@pytest.fixture
async def fake() -> AsyncIterator[FakeUpstream]:
    """A DynamoDB with table `t` that holds the item `a`."""
    async with FakeUpstream() as upstream:
        upstream.tables.add("t", pk="S")
        upstream.tables.call("PutItem", item("a", 1))
        yield upstream


@pytest.fixture
def start(fake: FakeUpstream) -> Iterator[Start]:
    """Start a proxy without a store in front of the fake; it ends with the test."""
    started: list[RunningProxy] = []

    def starter(**arguments: Any) -> RunningProxy:
        given: dict[str, Any] = {"upstream": fake.endpoint, "store": None, **arguments}
        started.append(start_proxy(**given))
        return started[-1]

    yield starter
    for proxy in started:
        proxy.child.stop(grace_s=0)


def words(proxy: RunningProxy) -> list[str]:
    """Return the events logged so far."""
    return [line["event"] for line in proxy.log()]


async def exit_status(proxy: RunningProxy) -> int:
    """Wait for a process that was told to end."""
    await until(lambda: proxy.child.process.poll() is not None)
    return int(proxy.child.process.returncode)


@pytest.mark.parametrize("workers", [1, 2])
async def test_first_signal_drains(start: Start, fake: FakeUpstream, workers: int) -> None:
    """After SIGTERM requests in flight are answered, new ones refused, and the status is 0."""
    proxy = start(settings={"workers": workers})
    gate = fake.hold("PutItem")
    async with Wire(*proxy.address) as wire, Wire(*proxy.address) as idle:
        await idle.send(post("GetItem", key("a")))
        await idle.reply()
        await wire.send(post("PutItem", item("a", 2)))
        await gate.reached()
        proxy.child.process.send_signal(signal.SIGTERM)
        await until(lambda: words(proxy).count("draining") == workers)
        status, _ = await asyncio.to_thread(proxy.ops, "/readyz")
        assert status == 503
        assert (await asyncio.to_thread(proxy.ops, "/livez"))[0] == 200
        assert (await asyncio.to_thread(proxy.ops, "/startupz"))[0] == 200
        with pytest.raises(ConnectionRefusedError):
            await Wire(*proxy.address).__aenter__()
        gate.release()
        reply = await wire.reply()
        assert (reply.status, reply.fields["connection"]) == (200, "close")
        assert await exit_status(proxy) == 0
        assert await idle.closed()
    assert fake.tables.newest("t", {"pk": {"S": "a"}}) == item("a", 2)["Item"]


@pytest.mark.parametrize("operation", ["PutItem", "GetItem", "ListTables"])
@pytest.mark.parametrize("workers", [1, 2])
async def test_second_signal_ends_it(
    start: Start, fake: FakeUpstream, operation: str, workers: int
) -> None:
    """With a request still in flight the second signal ends the process, and it says so by 1."""
    proxy = start(settings={"workers": workers, **PATIENT})
    fake.hold(operation)
    body = {"PutItem": item("a", 2), "GetItem": key("a"), "ListTables": {}}[operation]
    async with Wire(*proxy.address) as wire:
        await wire.send(post(operation, body))
        await fake.counted(operation, 1)
        proxy.child.process.send_signal(signal.SIGINT)
        await until(lambda: words(proxy).count("draining") == workers)
        assert proxy.child.process.poll() is None
        proxy.child.process.send_signal(signal.SIGTERM)
        assert await exit_status(proxy) == 1
        assert await wire.closed()
    assert "Traceback" not in str(proxy.log())


async def test_drain_has_a_bound(start: Start, fake: FakeUpstream) -> None:
    """A request that outlasts `http.drain_s` is cut off; the status is 0 all the same."""
    proxy = start(settings={"http.drain_s": 0.1})
    fake.hold("PutItem")
    async with Wire(*proxy.address) as wire:
        await wire.send(post("PutItem", item("a", 2)))
        await fake.counted("PutItem", 1)
        proxy.child.process.send_signal(signal.SIGTERM)
        assert await exit_status(proxy) == 0
        assert await wire.closed()


async def test_what_is_owed_to_the_store_is_paid_before_the_end(
    start: Start, fake: FakeUpstream
) -> None:
    """A write that the silent store has not heard of: the next process must not serve its past."""
    shared = {"store.namespace": "owed", "store.timeout_s": 0.2}
    with closing(start_valkey()) as store:
        proxy = start(store=store.url, settings=shared)
        async with Wire(*proxy.address) as wire:
            for outcome in ("fwd=miss; stored", "hit"):
                await wire.send(post("GetItem", key("a")))
                assert outcome in (await wire.reply()).cache
            store.child.process.send_signal(signal.SIGSTOP)
            await wire.send(post("PutItem", item("a", 2)))
            assert "write-debt" in (await wire.reply()).cache
        proxy.child.process.send_signal(signal.SIGTERM)
        await until(lambda: "draining" in words(proxy))
        store.child.process.send_signal(signal.SIGCONT)
        assert await exit_status(proxy) == 0
        assert proxy.log()[-1]["debts"] == 0
        following = start(store=store.url, settings=shared)
        async with Wire(*following.address) as wire:
            await wire.send(post("GetItem", key("a")))
            assert b'"2"' in (await wire.reply()).body


async def test_drain_waits_for_slow_readers(start: Start, fake: FakeUpstream) -> None:
    """An answer that the client has only begun to read is not cut off."""
    big = {"pk": {"S": "big"}, "blob": {"S": "x" * (16 * 1024 * 1024)}}
    fake.tables.call("PutItem", {"TableName": "t", "Item": big})
    proxy = start()
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(proxy.address)
        slow.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=slow)
        writer.write(post("GetItem", key("big")))
        head = await reader.readuntil(b"\r\n\r\n")
        proxy.child.process.send_signal(signal.SIGTERM)
        await until(lambda: "draining" in words(proxy))
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        body = await reader.readexactly(length)
        assert body.endswith(b'"}}}')
        writer.close()
    assert await exit_status(proxy) == 0


async def test_ready_without_store_and_upstream(start: Start) -> None:
    """No probe depends on Redis or DynamoDB: an outage there takes no pod out of service."""
    nobody = f"redis://127.0.0.1:{free_port()}/0"
    proxy = start(
        upstream=f"http://127.0.0.1:{free_port()}", environ={"DYNASIDE__STORE__URL": nobody}
    )
    assert not proxy.status()["store"]["serving"]
    assert [proxy.ops(path)[0] for path in ("/readyz", "/livez", "/startupz")] == [200] * 3
    async with Wire(*proxy.address) as wire:
        await wire.send(post("GetItem", key("a")))
        assert (await wire.reply()).status == 503
    assert proxy.ops("/readyz")[0] == 200


@contextmanager
def port_in_use(*, shared: bool) -> Iterator[int]:
    """Listen on a port, as another server would; `shared`: as another group of workers would."""
    with socket.socket() as other:
        if shared:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind((LOOPBACK, 0))
        other.listen()
        yield other.getsockname()[1]


def serve(*flags: str, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run `dynaside serve` until it ends by itself."""
    return subprocess.run(
        [sys.executable, *python, "-m", "proxy", "serve", *flags],
        env={**os.environ, **ENVIRON},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    ("flag", "setting"), [("--listen", "listen.data"), ("--ops-listen", "listen.ops")]
)
def test_port_in_use_is_one_clear_line(
    flag: str, setting: str, workers: str, *, shared: bool
) -> None:
    """The line names the setting and the port; the status is 2 and no stack trace is shown."""
    free = f"127.0.0.1:{free_port()}"
    given = {"--listen": free, "--ops-listen": "127.0.0.1:0", "--workers": workers}
    with port_in_use(shared=shared) as port:
        flags = {**given, flag: f"127.0.0.1:{port}"}
        ended = serve(*(word for pair in flags.items() for word in pair))
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"dynaside: {setting}: cannot listen on 127.0.0.1:{port}: ")
    assert "in use" in line


def test_python_without_assertions_is_refused() -> None:
    """`python -O` would serve without the checks that guard the cache."""
    ended = serve(python=("-O",))
    assert ended.returncode == 2
    assert ended.stderr == "dynaside: refuses python -O: its assertions guard the cache\n"


async def test_rotated_credentials_are_used_without_a_restart(
    start: Start, fake: FakeUpstream, tmp_path: Path
) -> None:
    """A profile that changes on disk signs the requests that follow."""
    profile = tmp_path / "credentials"

    def write(access_key: str) -> None:
        fresh = tmp_path / "fresh"
        fresh.write_text(
            f"[default]\naws_access_key_id = {access_key}\naws_secret_access_key = s\n"
        )
        fresh.replace(profile)

    write("AKIDFIRST")
    proxy = start(
        environ={
            "AWS_ACCESS_KEY_ID": "",
            "AWS_SECRET_ACCESS_KEY": "",
            "AWS_SHARED_CREDENTIALS_FILE": str(profile),
        }
    )

    async def signed_by() -> str:
        async with Wire(*proxy.address) as wire:
            await wire.send(post("GetItem", key("a")))
            assert (await wire.reply()).status == 200
        signature = fake.log[-1].header("authorization") or ""
        return signature.partition("Credential=")[2].partition("/")[0]

    assert await signed_by() == "AKIDFIRST"
    write("AKIDSECOND")

    async def rotated() -> bool:
        return await signed_by() == "AKIDSECOND"

    await until_told(rotated)
