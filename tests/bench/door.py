"""Measures the fast door: `python -m tests.bench.door --out FILE`, or `make bench-door`.

CPU time of the server's process per request, for hits that the process holds itself: through the
door, by aiohttp's own way, and nginx answering a constant as the floor. The server has one core,
the generator (wrk) another; the variants take turns, and medians are told as ratios to nginx. A
ratio is what survives a busy machine, so nothing else is kept. A peer that is not installed is
named as missing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.bench.door_server import TABLE, item_body, key_of
from tests.bench.setting import setting
from tests.support.door_requests import raw_request
from tests.support.ports import free_port

NGINX: Final = "nginx return 200"
DOOR: Final = "fast door"
READ: Final = "fast door, each head read"
LONG: Final = "aiohttp's own way"
TOOLS: Final = {"wrk": "wrk", "nginx": "nginx"}
"""Debian's packages, by command."""

_TICKS_S: Final = os.sysconf("SC_CLK_TCK")
_BUSY_LOAD: Final = 1.0
_REQUESTS: Final = re.compile(r"(\d+) requests in")
_ERRORS: Final = re.compile(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)")


@dataclass(frozen=True, slots=True)
class Load:
    """What the generator does in one turn."""

    seconds: int
    connections: int
    keys: int
    item_bytes: int


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that runs: which process's time counts, where it listens, what it is asked."""

    pid: int
    url: str
    script: Path


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process used so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_S


def cores() -> tuple[int, int]:
    """Return the cores of server and generator; the same one where there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


def requests(keys: int, *, alike: bool) -> list[bytes]:
    """Return one request per key, signed and counted as SDKs do.

    Args:
        keys: how many items there are.
        alike: whether their heads differ only in what every SDK varies.
    """
    return [
        raw_request(
            json.dumps({"TableName": TABLE, "Key": key_of(number)}).encode(),
            X_Amz_Date=f"20261123T{number % 1_000_000:06d}Z",
            amz_sdk_invocation_id=f"390e1849-0f2d-4dce-86f0-{number:012d}",
            amz_sdk_request="attempt=1" if alike else f"attempt={number % 7}; max={number % 10}",
        )
        for number in range(keys)
    ]


def script(requests_: Sequence[bytes]) -> str:
    """Return a wrk script that sends these one after the other, each connection mixed with all."""
    texts = ",\n".join(f'"{lua_text(each)}"' for each in requests_)
    return f"""local requests = {{{texts}}}
local at = 0
function request()
  at = at % #requests + 1
  return requests[at]
end
"""


def lua_text(raw: bytes) -> str:
    """Return bytes as the inside of a Lua string."""
    return "".join(f"\\{byte:03d}" if byte in b'"\\\r\n' else chr(byte) for byte in raw)


@contextmanager
def started(command: Sequence[str], core: int) -> Iterator[subprocess.Popen[str]]:
    """Run a process on one core for as long as the block."""
    pinned = ["taskset", "-c", str(core), *command]
    with subprocess.Popen(pinned, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def wait_open(port: int) -> None:
    """Wait until somebody listens on a port, 10 s at most."""
    for _ in range(500):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise TimeoutError(port)


@contextmanager
def ours(load: Load, core: int, name: str, folder: Path) -> Iterator[Peer]:
    """Run our server."""
    command = [sys.executable, "-m", "tests.bench.door_server", "--keys", str(load.keys)]
    command += ["--item-bytes", str(load.item_bytes), *(["--door"] if name != LONG else [])]
    path = folder / f"{'unlike' if name == READ else 'alike'}.lua"
    path.write_text(script(requests(load.keys, alike=name != READ)))
    with started(command, core) as process:
        assert process.stdout is not None
        yield Peer(process.pid, process.stdout.readline().strip(), path)


@contextmanager
def nginx(load: Load, core: int, _: str, folder: Path) -> Iterator[Peer]:
    """Run nginx with one process, which answers what a hit would be as long as."""
    port = free_port()
    answer = item_body(0, load.item_bytes).decode().replace('"', '\\"')
    config = folder / "nginx.conf"
    config.write_text(f"""daemon off; master_process off; pid {folder}/pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {folder}/body;
proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u;
scgi_temp_path {folder}/s;
server {{ listen 127.0.0.1:{port}; default_type application/x-amz-json-1.0;
location / {{ return 200 "{answer}"; }} }} }}
""")
    path = folder / "nginx.lua"
    path.write_text(script(requests(load.keys, alike=True)))
    with started(["nginx", "-p", str(folder), "-c", str(config)], core) as process:
        wait_open(port)
        yield Peer(process.pid, f"http://127.0.0.1:{port}", path)


VARIANTS: Final[dict[str, Callable[..., Any]]] = {
    NGINX: nginx,
    DOOR: ours,
    READ: ours,
    LONG: ours,
}


def turn(peer: Peer, load: Load, core: int) -> float:
    """Load one server for a while; return its CPU time per request, in µs."""
    command = ["taskset", "-c", str(core), "wrk", "-t1", f"-c{load.connections}"]
    command += [f"-d{load.seconds}s", "-s", str(peer.script), peer.url]
    before_s = cpu_s(peer.pid)
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    spent_s = cpu_s(peer.pid) - before_s
    found, errors = _REQUESTS.search(told), _ERRORS.search(told)
    assert found, told
    assert not errors, told
    return 1e6 * spent_s / int(found[1])


def missing() -> list[str]:
    """Name the tools that are not installed."""
    return [f"{command} (Debian: {name})" for command, name in TOOLS.items() if not has(command)]


def has(command: str) -> bool:
    """Tell whether a tool is installed."""
    return shutil.which(command) is not None


def run(load: Load, rounds: int) -> dict[str, Any]:
    """Let the variants take turns; return medians as ratios to nginx, or to the door without it."""
    absent = missing()
    names = [name for name in VARIANTS if has("wrk") and (name != NGINX or has("nginx"))]
    server_core, generator_core = cores()
    times_us: dict[str, list[float]] = {name: [] for name in names}
    load_before = os.getloadavg()[0]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        peers = {
            name: stack.enter_context(VARIANTS[name](load, server_core, name, folder))
            for name in names
        }
        for name, _ in itertools.product(names, range(2)):
            turn(peers[name], load, generator_core)  # memos and caches get warm
        for _, name in itertools.product(range(rounds), names):
            times_us[name].append(turn(peers[name], load, generator_core))
    medians = {name: statistics.median(times) for name, times in times_us.items()}
    floor = medians.get(NGINX) or medians.get(DOOR)
    return {
        **setting("aiohttp", "uvloop"),
        "load": {
            "connections": load.connections,
            "keys": load.keys,
            "item_bytes": load.item_bytes,
            "rounds": rounds,
            "seconds": load.seconds,
        },
        "machine_was_busy": load_before > _BUSY_LOAD,
        "missing": absent,
        "cpu_per_request_to_floor": {
            name: round(median / floor, 2) for name, median in medians.items() if floor
        },
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the ratios, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where the result goes, as JSON")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument("--item-bytes", type=int, default=300)
    given = parser.parse_args(arguments)
    load = Load(given.seconds, given.connections, given.keys, given.item_bytes)
    result = run(load, given.rounds)
    for name, ratio in result["cpu_per_request_to_floor"].items():
        print(f"{name:28} {ratio:6.2f}")  # noqa: T201
    for tool in result["missing"]:
        print(f"missing: {tool}")  # noqa: T201
    given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
