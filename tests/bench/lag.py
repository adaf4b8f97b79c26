"""Measures whether large items hold up small ones: `python -m tests.bench.lag --out FILE`.

One proxy process on a core of its own answers small hits at a steady pace, first alone, then beside
large answers that another process asks for at a steady pace too. A small hit is late from the
moment at which it was due, so a stop counts for all that was due meanwhile. Beside the latencies
stands what the proxy itself says of its event loop.
"""

from __future__ import annotations

import argparse
import http.client
import json
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from proxy.core.cache_control import FIELD
from proxy.embedded.process import log_path, new_folder, spawn
from proxy.embedded.valkey import RunningStore, start_valkey
from tests.bench.layouts import Shape, body_of
from tests.bench.setting import setting
from tests.bench.speed.costs import Cores, on_core
from tests.support.proxy_process import ROOT, RunningProxy, running_proxy
from tests.support.serving import post

TABLE: Final = "items"
PACKED: Final = "packed"
SMALL_BYTES: Final = 300
LARGE_BYTES: Final = 400_000  # DynamoDB's limit is 400 KiB, names included
BATCHED_BYTES: Final = 100_000
BATCH: Final = 100
SMALL_VALUES: Final = 9_000  # as many maps of two values are 350 KB of answer
ATTRIBUTES: Final = 100
SMALL_PER_S: Final = 500
SILENCE_S_MAX: Final = 30.0
WARM_TIMES: Final = 3
NEAR_BYTES: Final = 256 << 20

SETTINGS: Final[dict[str, Any]] = {
    "defaults.fresh_ttl_s": 86400,
    "defaults.jitter": 0,
    "near.table_share_max": 1,
    "tables": {PACKED: {"compress_above_bytes": 1024}},
    "store.heartbeat_age_s_max": 10,
}
REFRESH: Final[dict[str, Any]] = {FIELD.replace("-", "_"): "refresh"}


@dataclass(frozen=True, slots=True)
class Case:
    """What is asked for beside the small hits.

    Args:
        name: says so.
        large: the request.
        per_s: how often.
        near: whether there is a near cache, so that the small hits, and the large, are near hits.
    """

    name: str
    large: bytes = field(repr=False)
    per_s: int
    near: bool = False


def key_of(name: str) -> dict[str, Any]:
    """Return a primary key."""
    return {"pk": {"S": name}}


def read(name: str, table: str = TABLE, **fields: Any) -> bytes:
    """Return the request of one read."""
    return post("GetItem", {"TableName": table, "Key": key_of(name)}, **fields)


def batch() -> bytes:
    """Return the request for all batched items."""
    keys = [key_of(f"batched {number}") for number in range(BATCH)]
    return post("BatchGetItem", {"RequestItems": {TABLE: {"Keys": keys}}})


CASES: Final = (
    Case("400 KB near hits", read("large"), 50, near=True),
    Case("400 KB Redis hits", read("large"), 50),
    Case("400 KB fetched and filled", read("large", **REFRESH), 20),
    Case("350 KB of small values, fetched and filled", read("deep", **REFRESH), 10),
    Case("400 KB Redis hits, zstd", read("large", PACKED), 50),
    Case("400 KB fetched and filled, zstd", read("large", PACKED, **REFRESH), 20),
    Case("100 x 100 KB in a batch, Redis hits", batch(), 2),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one case found; latencies in µs.

    Args:
        case: its name.
        alone_p50_us, alone_p99_us: of the small hits, without the large answers.
        beside_p50_us, beside_p99_us, beside_max_us: of the small hits beside them.
        large_bytes: of one large answer.
        large_p50_us: how long it took.
        large_per_s: how many came.
        loop_lag_ms: the longest delay that the proxy saw of its event loop, looking once a second.
    """

    case: str
    alone_p50_us: int
    alone_p99_us: int
    beside_p50_us: int
    beside_p99_us: int
    beside_max_us: int
    large_bytes: int
    large_p50_us: int
    large_per_s: float
    loop_lag_ms: float


class Asker:
    """One connection to the proxy.

    Args:
        address: its host and port.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, SILENCE_S_MAX)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> bytes:
        """Send a request and return the answer's body."""
        self._socket.sendall(request)
        with closing(http.client.HTTPResponse(self._socket, method="POST")) as reply:
            reply.begin()
            body = reply.read()
            assert reply.status == http.client.OK, body
            return body

    def paced(self, request: bytes, per_s: float, seconds: float) -> tuple[list[float], int]:
        """Ask at a steady pace; return how late each answer was, in µs, and a body's length."""
        late_us, size, began_s = [], 0, time.perf_counter()
        for number in range(max(1, round(per_s * seconds))):
            due_s = began_s + number / per_s
            if (left_s := due_s - time.perf_counter()) > 0:
                time.sleep(left_s)
                due_s = time.perf_counter()  # what the sleep took too long is not the proxy's
            size = len(self.ask(request))
            late_us.append(1e6 * (time.perf_counter() - due_s))
        return late_us, size

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def share(values: Sequence[float], which: float) -> int:
    """Return the value below which a share of them lies, in whole µs."""
    return round(sorted(values)[min(len(values) - 1, int(which * len(values)))])


def put(name: str, body_bytes: int, attributes: int, table: str = TABLE) -> bytes:
    """Return the request that writes an item whose answer has about this size."""
    item = json.loads(body_of(Shape(body_bytes, attributes)))["Item"]
    return post("PutItem", {"TableName": table, "Item": {**item, **key_of(name)}})


def put_deep() -> bytes:
    """Return the request that writes an item of a great many small values."""
    maps = [{"M": {"a": {"N": str(number)}, "b": {"S": "x"}}} for number in range(SMALL_VALUES)]
    return post("PutItem", {"TableName": TABLE, "Item": {**key_of("deep"), "l": {"L": maps}}})


def fill(asker: Asker, case: Case) -> None:
    """Write what the case reads, and read it until it is where hits find it."""
    asker.ask(put("small", SMALL_BYTES, 5))
    asker.ask(put_deep())
    if case.large == batch():
        for number in range(BATCH):
            asker.ask(put(f"batched {number}", BATCHED_BYTES, ATTRIBUTES))
    else:
        for table in (TABLE, PACKED):
            asker.ask(put("large", LARGE_BYTES, ATTRIBUTES, table))
    for _ in range(WARM_TIMES):
        asker.ask(read("small"))
        asker.ask(case.large)


def measure(case: Case, store: RunningStore, seconds: float) -> Measured:
    """Run one case in a process of its own."""
    cores = Cores.of_this_machine()
    settings = {
        **SETTINGS,
        "near.bytes_max": NEAR_BYTES if case.near else 0,
        "store.namespace": f"lag-{uuid.uuid4().hex[:8]}",
    }
    with _upstream(cores) as endpoint, _pinned(cores, endpoint, store, settings) as proxy:
        asker = Asker(proxy.address)
        with closing(asker):
            fill(asker, case)
            alone_us, _ = asker.paced(read("small"), SMALL_PER_S, seconds)
            with _large(cores, proxy, case, seconds) as large:
                beside_us, _ = asker.paced(read("small"), SMALL_PER_S, seconds)
            lag_s = proxy.metric("dynaside_event_loop_lag_seconds")
    return Measured(
        case=case.name,
        alone_p50_us=share(alone_us, 0.5),
        alone_p99_us=share(alone_us, 0.99),
        beside_p50_us=share(beside_us, 0.5),
        beside_p99_us=share(beside_us, 0.99),
        beside_max_us=share(beside_us, 1),
        large_bytes=large["size"],
        large_p50_us=share(large["late_us"], 0.5),
        large_per_s=round(len(large["late_us"]) / seconds, 1),
        loop_lag_ms=round(1000 * lag_s, 1),
    )


@contextmanager
def _pinned(
    cores: Cores, endpoint: str, store: RunningStore, settings: dict[str, Any]
) -> Iterator[RunningProxy]:
    with on_core(cores.server):
        running = running_proxy(upstream=endpoint, store=store.url, settings=settings)
        proxy = running.__enter__()
    with on_core(cores.load):
        try:
            yield proxy
        finally:
            running.__exit__(None, None, None)


@contextmanager
def _upstream(cores: Cores) -> Iterator[str]:
    folder = new_folder()
    command = [sys.executable, "-m", "tests.fakes.fake_upstream"]
    command += ["--table", f"{TABLE}:pk=S", "--table", f"{PACKED}:pk=S"]
    with on_core(cores.load):
        child = spawn("upstream", command, folder=folder, environ={"PYTHONPATH": str(ROOT)})
    try:
        child.wait_until(lambda: log_path(folder).read_text().endswith("\n"))
        yield log_path(folder).read_text().strip()
    finally:
        child.stop()


@contextmanager
def _large(
    cores: Cores, proxy: RunningProxy, case: Case, seconds: float
) -> Iterator[dict[str, Any]]:
    """Ask for large answers in another process, so that taking them does not hold up the small."""
    found: dict[str, Any] = {}
    host, port = proxy.address
    order = {
        "address": [host, port],
        "request": case.large.decode(),
        "per_s": case.per_s,
        "seconds": seconds,
    }
    command = [sys.executable, "-m", "tests.bench.lag", "--large"]
    with (
        on_core(cores.load),
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as child,
    ):
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(order).encode() + b"\n")
        child.stdin.flush()
        child.stdout.readline()  # it is about to begin
        yield found
        found |= json.loads(child.stdout.readline())


def ask_large() -> None:
    """Do what an order on standard input says."""
    order = json.loads(sys.stdin.readline())
    asker = Asker(tuple(order["address"]))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    late_us, size = asker.paced(order["request"].encode(), order["per_s"], order["seconds"])
    sys.stdout.write(json.dumps({"late_us": late_us, "size": size}) + "\n")


def line_of(measured: Measured) -> str:
    """Return one line for the terminal."""
    return (
        f"{measured.case}: small p50 {measured.alone_p50_us:,} p99 {measured.alone_p99_us:,} us,"
        f" beside p50 {measured.beside_p50_us:,} p99 {measured.beside_p99_us:,}"
        f" max {measured.beside_max_us:,} us; large {measured.large_bytes:,} B,"
        f" {measured.large_per_s}/s, p50 {measured.large_p50_us:,} us;"
        f" loop late by {measured.loop_lag_ms} ms at most"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all cases and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--cases", default="", help="only those whose name contains this")
    parser.add_argument("--large", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.large:
        ask_large()
        return
    found = []
    with closing(start_valkey()) as store:
        for case in CASES:
            if given.cases in case.name:
                found.append(measure(case, store, given.seconds))
                sys.stdout.write(line_of(found[-1]) + "\n")
                sys.stdout.flush()
    if given.out is not None:
        result = {**setting("hiredis", "uvloop"), "cases": [asdict(each) for each in found]}
        given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
