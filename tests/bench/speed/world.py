"""Every server of a run, started once and at rest while another one has its turn.

What a path needs and this machine or this version lacks is told in `missing`, by server.
"""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path as FilePath
from typing import Any, Final

from proxy.embedded.process import (
    LOOPBACK,
    Child,
    new_folder,
    port_is_free,
    spawn,
)
from proxy.embedded.valkey import RunningStore, start_valkey
from proxy.settings import setting_names
from tests.bench.speed.costs import Cores, on_core
from tests.bench.speed.load import Found, Load, run_wrk
from tests.bench.speed.nginx import (
    Upstream,
    missing_lua,
    missing_nginx,
    start_cache,
    start_floor,
    start_lua,
    start_upstream,
)
from tests.bench.speed.plan import SIZES
from tests.support.ports import free_port
from tests.support.proxy_process import ENVIRON, ROOT, RunningProxy, start_proxy
from tests.support.raw_store import RawStore

NEAR_SETTING: Final = "near.bytes_max"
NEAR_BYTES: Final = 4 << 30
"""Room for a million copies of the smallest items, at 1,600 bytes each, and for all other cells."""
STORE_BYTES: Final = "4gb"

SETTINGS: Final[Mapping[str, Any]] = {
    # Entries stay for the whole run, so that what is measured as a hit is one.
    "defaults.fresh_ttl_s": 86400,
    "defaults.jitter": 0,
    "near.table_share_max": 1,
    "audit.share": 0.001,  # as it is by default: audits are part of what a hit costs
    "tables": {
        # Millions of misses would fill the store: each entry is read once, and may go.
        "misses": {"fresh_ttl_s": 1, "grace_s": 0},
        "passed": {"mode": "off"},
    },
}
"""What differs from the defaults, beside the addresses."""


def missing_near() -> str | None:
    """Say why there are no near hits, or None where this version has them."""
    return None if NEAR_SETTING in setting_names() else f"there is no setting {NEAR_SETTING}"


@dataclass
class World:
    """What runs.

    Args:
        cores: where.
        folder: for files of ours.
        store: the one that all share.
        upstream: DynamoDB's stand-in.
        namespaces: of the proxies' entries, by size: those of one size share them.
    """

    cores: Cores
    folder: FilePath
    store: RunningStore
    upstream: Upstream
    endpoints: dict[tuple[str, int], str] = field(default_factory=dict)
    pids: dict[tuple[str, int], int] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    namespaces: dict[int, str] = field(default_factory=dict)

    def ask(self, server: str, load: Load) -> Found:
        """Let wrk ask a server, from the other core."""
        return run_wrk(
            self.endpoints[server, load.size_bytes],
            load,
            script=self.folder / "load.lua",
            pin=lambda pid: os.sched_setaffinity(pid, {self.cores.load}),
        )

    def upstream_requests(self) -> int:
        """Return how many requests DynamoDB's stand-in has had."""
        return self.upstream.requests()

    def store_commands(self) -> int:
        """Return how many commands the store has had."""
        with RawStore(self.store.address) as raw:
            lines = raw.run("INFO", "stats").decode().splitlines()
        found = dict(line.split(":", 1) for line in lines if ":" in line)
        return int(found["total_commands_processed"])

    def proxy(self, size_bytes: int, *, near_bytes: int, **settings: Any) -> RunningProxy:
        """Start a proxy on the servers' core; the caller stops it.

        Args:
            size_bytes: of the items that its upstream has.
            near_bytes: what its near cache may hold, 0 for none; ignored by versions without one.
            settings: further ones, `__` for the dot in their names.
        """
        near = {} if missing_near() else {NEAR_SETTING: near_bytes}
        more = {name.replace("__", "."): given for name, given in settings.items()}
        with on_core(self.cores.server):
            return start_proxy(
                upstream=self.upstream.endpoint(size_bytes),
                store=self.store.url,
                settings={
                    **SETTINGS,
                    "store.namespace": self.namespaces[size_bytes],
                    **near,
                    **more,
                },
            )

    def add(self, server: str, size_bytes: int, endpoint: str, child: Child) -> None:
        """Take note of a server that answers."""
        self.endpoints[server, size_bytes] = endpoint
        self.pids[server, size_bytes] = child.pid


@contextmanager
def running_world() -> Iterator[World]:
    """Run every server that can be had for as long as the block lasts.

    Raises:
        RuntimeError: there is no nginx: without it nothing can be measured.
    """
    if problem := missing_nginx():
        raise RuntimeError(problem)
    cores = Cores.of_this_machine()
    with ExitStack() as stack:
        with on_core(cores.load):
            store = start_valkey(maxmemory=STORE_BYTES, unix_socket=True)
            stack.enter_context(closing(store))
            with RawStore(store.address) as raw:
                # By default a store tells of changes to a million records at most, all proxies
                # taken together, and takes back what it told beyond that.
                raw.run("CONFIG", "SET", "tracking-table-max-keys", "0")
            upstream = start_upstream(SIZES)
            stack.callback(upstream.child.stop)
        world = World(cores, new_folder(), store, upstream)
        stack.callback(shutil.rmtree, world.folder)
        world.namespaces = {size: f"bench-{uuid.uuid4().hex[:8]}" for size in SIZES}
        for size in SIZES:
            world.add("upstream", size, upstream.endpoint(size), upstream.child)
        _start_peers(world, stack)
        _start_proxies(world, stack)
        yield world


def _start_peers(world: World, stack: ExitStack) -> None:
    servers = {"nginx-floor": partial(start_floor, SIZES)}
    cache = partial(start_cache, world.upstream, SIZES)
    servers["nginx-cache"] = partial(cache, files_open=False)
    servers["nginx-cache-open"] = partial(cache, files_open=True)
    if problem := missing_lua():
        world.missing["nginx-lua"] = problem
    else:
        address = str(world.store.address)
        servers["nginx-lua"] = partial(start_lua, world.upstream, address, SIZES)
    with on_core(world.cores.server):
        for name, start in servers.items():
            running = start()
            stack.callback(running.child.stop)
            for size in SIZES:
                world.add(name, size, running.endpoint(size), running.child)
        for size in SIZES:
            port = free_port()
            child = start_obvious(port, world.store.url, world.upstream.endpoint(size))
            stack.callback(child.stop)
            world.add("obvious", size, f"http://{LOOPBACK}:{port}", child)


def start_obvious(port: int, store: str, upstream: str) -> Child:
    """Start the application that anybody would write first, and wait until it listens."""
    command = [sys.executable, "-m", "tests.bench.speed.obvious", str(port), store, upstream]
    environ = {**ENVIRON, "PYTHONPATH": str(ROOT)}
    child = spawn("obvious", command, folder=new_folder(), environ=environ)
    child.wait_until(lambda: not port_is_free(LOOPBACK, port))
    return child


def _start_proxies(world: World, stack: ExitStack) -> None:
    variants = {"dynaside": 0, "dynaside-near": NEAR_BYTES}
    if problem := missing_near():
        world.missing["dynaside-near"] = problem
        del variants["dynaside-near"]
    for name, near_bytes in variants.items():
        for size in SIZES:
            started = world.proxy(size, near_bytes=near_bytes)
            stack.callback(started.child.stop)
            world.add(name, size, started.endpoint, started.child)
