"""The launchers of sentinels and clusters do what they say, with the machine's own servers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from proxy.embedded.process import LOOPBACK
from proxy.embedded.valkey import redis_binary
from tests.support.store_topologies import (
    BUS_OFFSET,
    ClusterTopology,
    SentinelTopology,
    running_cluster,
)
from tests.support.tools import missing

pytestmark = pytest.mark.store


@pytest.fixture
def sentinels() -> Iterator[SentinelTopology]:
    if (binary := redis_binary()) is None:
        missing("redis-server", install="apt install redis-server")
    with closing(SentinelTopology(binary)) as topology:
        topology.start()
        yield topology


@pytest.fixture
def cluster() -> Iterator[ClusterTopology]:
    if (binary := redis_binary()) is None:
        missing("redis-server", install="apt install redis-server")
    with running_cluster(lambda: ClusterTopology(binary)) as topology:
        yield topology


def test_sentinels_choose_another_primary_when_told_and_when_it_dies(
    sentinels: SentinelTopology,
) -> None:
    """A fail-over by command and one after SIGKILL each end with a primary that takes writes."""
    first = sentinels.primary
    second = sentinels.fail_over(kill=False)
    assert second is not first
    third = sentinels.fail_over(kill=True)
    assert third is not second
    assert third.ask("SET", "a", "1") == b"+OK\r\n"


def test_a_cluster_keeps_every_slot_when_a_primary_hands_over_and_when_one_dies(
    cluster: ClusterTopology,
) -> None:
    """Three primaries hold all slots; after both kinds of fail-over three others do."""
    before = cluster.primaries
    assert len(before) == 3
    promoted = cluster.fail_over(0, kill=False)
    assert promoted not in before
    assert cluster.fail_over(1, kill=True) not in before
    assert len(cluster.primaries) == 3


def test_a_cluster_whose_bus_port_was_taken_meanwhile_is_started_on_other_ports() -> None:
    """Somebody took the port of a node's bus after we looked: all nodes get other ports."""
    if (binary := redis_binary()) is None:
        missing("redis-server", install="apt install redis-server")
    built: list[ClusterTopology] = []
    with socket.socket() as somebody:

        def build() -> ClusterTopology:
            built.append(ClusterTopology(binary))
            if len(built) == 1:
                somebody.bind((LOOPBACK, built[0].servers[1].port + BUS_OFFSET))
                somebody.listen()
            return built[-1]

        with running_cluster(build) as cluster:
            assert cluster.whole()
    assert built == [built[0], cluster]
    assert not built[0].servers[0].data.exists()
