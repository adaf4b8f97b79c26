"""Claims about several worker processes behind one data port and one ops port."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from proxy.edge.fleet_ops import WorkerClient, WorkerSlot
from proxy.embedded.valkey import RunningStore
from tests.fakes.fake_upstream import FakeUpstream
from tests.support.ports import free_port
from tests.support.proxy_process import ENVIRON, ROOT, RunningProxy, start_proxy
from tests.support.serving import Reply, Wire, item, key, post, total, until, until_told

pytestmark = pytest.mark.store

PASSWORD = "password-of-the-store"
REQUESTS = 60


@pytest.fixture
async def fake() -> AsyncIterator[FakeUpstream]:
    """A DynamoDB with table `t` that holds the item `a`."""
    async with FakeUpstream() as upstream:
        upstream.tables.add("t", pk="S")
        upstream.tables.call("PutItem", item("a", 1))
        yield upstream


@pytest.fixture
def fleet(fake: FakeUpstream, empty_valkey: RunningStore) -> Iterator[RunningProxy]:
    """Two workers; the store wants a password."""
    empty_valkey.ask("ACL", "SETUSER", "fleet", "on", f">{PASSWORD}", "~*", "&*", "+@all")
    environ = {
        "DYNASIDE__STORE__URL": empty_valkey.url,
        "DYNASIDE__STORE__USERNAME": "fleet",
        "DYNASIDE__STORE__PASSWORD": PASSWORD,
    }
    proxy = start_proxy(
        upstream=fake.endpoint, store=None, settings={"workers": 2}, environ=environ
    )
    yield proxy
    proxy.child.stop(grace_s=0)


async def get(proxy: RunningProxy, table: str = "t") -> Reply:
    """Read the item over a connection of its own, so that any worker may get it."""
    async with Wire(*proxy.address) as wire:
        await wire.send(post("GetItem", {**key("a"), "TableName": table}))
        return await wire.reply()


async def answered(proxy: RunningProxy) -> bool:
    """Tell whether a new connection gets an answer."""
    try:
        return (await get(proxy)).status == 200
    except ConnectionResetError:
        return False


def pids(proxy: RunningProxy) -> list[int]:
    """Return the workers' process ids, without those that are being replaced."""
    return [worker["pid"] for worker in proxy.status()["workers"] if worker["ready"]]


def is_running(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def requests_of(scrape: str) -> float:
    """Return how many GetItem a scrape counts."""
    return total(scrape, "dynaside_requests_total", 'operation="GetItem"')


async def all_serving(proxy: RunningProxy) -> None:
    """Wait until every worker has the store."""

    async def told() -> bool:
        workers = proxy.status()["workers"]
        return all(each["status"] and each["status"]["store"]["serving"] for each in workers)

    await until_told(told)


async def test_workers_share_port_store_and_metrics(
    fleet: RunningProxy, fake: FakeUpstream
) -> None:
    """Each worker answers some connections; together they fetch once and count everything."""
    await all_serving(fleet)
    for _ in range(REQUESTS):
        assert (await get(fleet)).content["Item"]["n"] == {"N": "1"}
    assert fake.count("GetItem") == 1
    scrape = fleet.ops("/metrics")[1]
    assert requests_of(scrape) == REQUESTS
    assert total(scrape, "dynaside_requests_total", 'outcome="hit"') == REQUESTS - 1
    assert total(scrape, "dynaside_request_duration_seconds_bucket", 'le="+Inf"') == REQUESTS
    assert total(scrape, "dynaside_store_serving") == 1
    assert total(scrape, "dynaside_store_breaker_state", 'state="closed"') == 1
    assert total(scrape, "dynaside_build_info") == 1
    assert total(scrape, "dynaside_workers_ready") == 2
    async with WorkerClient() as client:
        slots = [WorkerSlot(index, path) for index, path in enumerate(sockets(fleet))]
        parts = [requests_of(await client.ask(slot, "/metrics") or "") for slot in slots]
    # A hash of the addresses decides who gets what: 2**-59 that one of them got none.
    assert sum(parts) == REQUESTS
    assert min(parts) > 0


def sockets(proxy: RunningProxy) -> list[Path]:
    """Return the workers' own ops sockets."""
    ready = (line["ops"] for line in proxy.log() if line["event"] == "ready")
    return [Path(url.removeprefix("unix:")) for url in sorted(ready)]


def command_line(pid: int) -> bytes:
    """Return what the process list shows of a process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes()


async def test_secrets_do_not_show_in_the_process_list(fleet: RunningProxy) -> None:
    """Settings reach the workers through a pipe: no argument and no file holds the password."""
    await all_serving(fleet)  # which needs the password
    for pid in pids(fleet):
        assert PASSWORD.encode() not in command_line(pid)
    folder = sockets(fleet)[0].parent
    assert folder.stat().st_mode & 0o077 == 0
    assert {path.suffix for path in folder.iterdir()} == {".sock"}


async def test_dead_worker_is_replaced(fleet: RunningProxy) -> None:
    """Its place is taken again, the other one serves meanwhile, and no counter falls."""
    for _ in range(REQUESTS):
        await get(fleet)
    assert requests_of(fleet.ops("/metrics")[1]) == REQUESTS
    before = pids(fleet)
    os.kill(before[0], signal.SIGKILL)
    await until(lambda: not is_running(before[0]))
    assert fleet.ops("/readyz")[0] == 200
    # The kernel may still hand connections to the dead worker's socket for a moment and reset them;
    # SDKs connect again.
    await until_told(lambda: answered(fleet))
    await until(lambda: len(set(pids(fleet)) - {before[0]}) == 2)
    scrape = fleet.ops("/metrics")[1]
    assert requests_of(scrape) == REQUESTS + 1
    assert total(scrape, "dynaside_worker_restarts_total") == 1
    (line,) = [line for line in fleet.log() if line["event"] == "worker ended"]
    assert line["status"] == -signal.SIGKILL
    assert sorted(worker["restarts"] for worker in fleet.status()["workers"]) == [0, 1]


async def switch(proxy: RunningProxy, mode: str) -> Reply:
    """Switch the mode of table `orders` on the common ops port."""
    ops = urlsplit(proxy.ops_url)
    body = f'{{"mode": "{mode}"}}'
    head = f"POST /tables/orders/mode HTTP/1.1\r\nHost: ops\r\nContent-Length: {len(body)}\r\n\r\n"
    async with Wire(ops.hostname or "", ops.port or 0) as wire:
        await wire.send((head + body).encode())
        return await wire.reply()


async def test_mode_is_switched_in_all_workers(fleet: RunningProxy, fake: FakeUpstream) -> None:
    """At once in those that run, and from its first request on in one that replaces another."""
    fake.tables.add("orders", pk="S")
    fake.tables.call("PutItem", {**item("a", 1), "TableName": "orders"})
    await all_serving(fleet)
    await get(fleet, "orders")
    reply = await switch(fleet, "off")
    assert reply.status == 200
    assert [each["switched"] for each in reply.content["workers"]] == [True, True]
    before, asked = pids(fleet), fake.count("GetItem")
    for _ in range(REQUESTS):
        assert (await get(fleet, "orders")).cache == "dynaside; fwd=bypass; detail=table-off"
    assert fake.count("GetItem") == asked + REQUESTS
    os.kill(before[0], signal.SIGKILL)
    await until(lambda: len(set(pids(fleet)) - {before[0]}) == 2)
    await until_told(lambda: answered(fleet))
    for _ in range(REQUESTS):
        assert (await get(fleet, "orders")).cache == "dynaside; fwd=bypass; detail=table-off"
    shown = json.loads(fleet.ops("/tables/orders/mode")[1])["workers"]
    assert [(each["mode"], each["switched"]) for each in shown] == [("off", True)] * 2
    assert (await switch(fleet, "on")).status == 200
    await all_serving(fleet)
    for _ in range(REQUESTS):
        assert (await get(fleet, "orders")).content["Item"]["n"] == {"N": "1"}
    assert total(fleet.ops("/metrics")[1], "dynaside_requests_total", 'outcome="hit"') > 0


async def test_workers_end_with_their_supervisor(fleet: RunningProxy) -> None:
    """A supervisor that is killed leaves no worker behind."""
    workers = pids(fleet)
    assert len(workers) == 2
    fleet.child.process.kill()
    await until(lambda: not any(is_running(pid) for pid in workers))


async def test_stop_while_a_worker_is_replaced(fleet: RunningProxy) -> None:
    """SIGTERM during the pause before a new worker ends everything, with status 0."""
    for pid in pids(fleet):
        os.kill(pid, signal.SIGKILL)
    await until(lambda: sum(line["event"] == "worker ended" for line in fleet.log()) == 2)
    assert fleet.ops("/readyz")[0] == 503
    assert fleet.ops("/livez")[0] == 200
    assert fleet.stop() == 0


def test_worker_that_cannot_start_is_one_clear_line() -> None:
    """What the operator must correct is said once, not once a worker; the status is 2."""
    environ = {**os.environ, **ENVIRON, "AWS_REGION": ""}
    flags = ["--workers", "3", "--listen", f"127.0.0.1:{free_port()}"]
    ended = subprocess.run(
        [sys.executable, "-m", "proxy", "serve", *flags, "--ops-listen", "127.0.0.1:0"],
        env=environ,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("dynaside: no AWS region")
