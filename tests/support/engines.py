"""Session fixtures: real stores and real DynamoDB engines, each started once when first asked for.

Each of them is tied to the test process and ends with it, whatever ends it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from proxy.embedded.dynamodb import (
    RunningDynamoDB,
    ministack_python,
    start_dynalite,
    start_ministack,
)
from proxy.embedded.valkey import RunningStore, redis_binary, start_valkey
from tests.support.store_topologies import ClusterTopology, SentinelTopology, running_cluster
from tests.support.tools import missing

NODE_MODULES = Path(__file__).parents[1] / "e2e" / "js" / "node_modules"


@pytest.fixture(scope="session")
def valkey() -> Iterator[RunningStore]:
    """Run the embedded Valkey 9; `.url`, `.ask("CONFIG", …)`, `.flush()`; shared by all tests."""
    with closing(start_valkey()) as store:
        yield store


@pytest.fixture
def empty_valkey(valkey: RunningStore) -> RunningStore:
    """Give the same Valkey without any key."""
    valkey.flush()
    return valkey


@pytest.fixture(scope="session")
def redis7() -> Iterator[RunningStore]:
    """Run the machine's own `redis-server`, the second kind of store."""
    if (binary := redis_binary()) is None:
        missing("redis-server", install="apt install redis-server")
    with closing(start_valkey(binary)) as store:
        yield store


@pytest.fixture(scope="session")
def sentinel_store() -> Iterator[SentinelTopology]:
    """Run a primary with replicas and sentinels, of the machine's own `redis-server`."""
    if (binary := redis_binary()) is None:
        missing("redis-server", install="apt install redis-server")
    with closing(SentinelTopology(binary)) as topology:
        topology.start()
        yield topology


@pytest.fixture(scope="session")
def cluster_store() -> Iterator[ClusterTopology]:
    """Run a cluster of three primaries with a replica each, of the machine's `redis-server`."""
    if (binary := redis_binary()) is None:
        missing("redis-server", install="apt install redis-server")
    with running_cluster(lambda: ClusterTopology(binary)) as topology:
        yield topology


@pytest.fixture(scope="session")
def dynamodb() -> Iterator[RunningDynamoDB]:
    """Run ministack, a DynamoDB with Streams; `.endpoint`. Tests create tables of unique names."""
    if ministack_python() is None:
        missing(".venv-dynamodb", install="make setup")
    with closing(start_ministack()) as engine:
        yield engine


@pytest.fixture(scope="session")
def dynalite() -> Iterator[RunningDynamoDB]:
    """Run dynalite, the DynamoDB with the more faithful errors; `.endpoint`, no Streams."""
    if shutil.which("node") is None:
        missing("node", install="apt install nodejs npm, then make setup")
    if not (NODE_MODULES / "dynalite").is_dir():
        missing("dynalite", install="apt install npm, then make setup")
    with closing(start_dynalite(NODE_MODULES)) as engine:
        yield engine
