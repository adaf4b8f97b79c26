"""Launch several servers that look after each other: sentinels with a primary, or a cluster.

Everything listens on loopback. Both know how to lose their primary, and tell who follows it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from proxy.embedded.process import LOOPBACK, POLL_S, EngineError, free_port
from tests.support.redis_server import RedisServer, data_server

SETTLE_S: Final = 60.0
SLOTS: Final = 16384
MASTER_NAME: Final = "dynaside"

_SHARDS: Final = 3
_BUS_OFFSET: Final = 10_000
_PORT_MAX: Final = 65535 - _BUS_OFFSET


class SentinelTopology:
    """A primary, two replicas, three sentinels; two of these must agree on a fail-over.

    Args:
        binary: the program, which is server and sentinel.
    """

    def __init__(self, binary: Path) -> None:
        first = data_server(binary)
        self.servers = [first, *(data_server(binary, replica_of=first.port) for _ in range(2))]
        self.sentinels = [_sentinel(binary, first.port) for _ in range(3)]

    def start(self) -> None:
        """Start everything and return once every sentinel knows all of it."""
        _start(self.servers)
        _until("replicas are in step", lambda: all(map(_in_step, self.servers[1:])))
        _start(self.sentinels)
        _until("sentinels know each other", lambda: all(map(self._knows_all, self.sentinels)))

    @property
    def primary(self) -> RedisServer:
        """The server that the first sentinel calls the primary."""
        reply = self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME)
        port = int(reply.split(b"\r\n")[4])
        return next(server for server in self.servers if server.port == port)

    def fail_over(self, *, kill: bool) -> RedisServer:
        """Let the sentinels choose another primary and return it, once it is one.

        Args:
            kill: end the old one by SIGKILL, so that they notice by themselves; else they are
                told to.
        """
        old = self.primary
        if kill:
            old.kill(keep_data=True)
        else:
            _until("a replica is good enough", lambda: _accepts_failover(self.sentinels[0]))
        _until("another primary", lambda: self.primary is not old and _is_primary(self.primary))
        return self.primary

    def close(self) -> None:
        """End everything."""
        for server in [*self.sentinels, *self.servers]:
            server.close()

    def _knows_all(self, sentinel: RedisServer) -> bool:
        told = sentinel.ask("INFO", "sentinel")
        return b"status=ok" in told and b"slaves=2" in told and b"sentinels=3" in told


class ClusterTopology:
    """Three primaries with a third of the slots each, and a replica of each.

    Args:
        binary: the program.
    """

    def __init__(self, binary: Path) -> None:
        self.servers = [_node(binary) for _ in range(2 * _SHARDS)]

    def start(self) -> None:
        """Start everything and return once each node says that the cluster is whole."""
        _start(self.servers)
        primaries, replicas = self.servers[:_SHARDS], self.servers[_SHARDS:]
        bounds = [SLOTS * shard // _SHARDS for shard in range(_SHARDS + 1)]
        for shard, primary in enumerate(primaries):
            first, last = bounds[shard], bounds[shard + 1] - 1
            primary.ask("CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
            primary.ask("CLUSTER", "SET-CONFIG-EPOCH", str(shard + 1))
        for other in self.servers[1:]:
            self.servers[0].ask("CLUSTER", "MEET", LOOPBACK, str(other.port))
        _until("all nodes have met", lambda: all(map(self._knows_all, self.servers)))
        for primary, replica in zip(primaries, replicas, strict=True):
            replica.ask("CLUSTER", "REPLICATE", _node_id(primary))
        _until("the cluster is whole", lambda: all(map(_is_whole, self.servers)))
        _until("replicas are in step", lambda: all(map(_in_step, replicas)))

    @property
    def primaries(self) -> list[RedisServer]:
        """The nodes that say they are primaries, those that do not answer left out."""
        return [server for server in self.servers if _is_primary(server)]

    def fail_over(self, shard: int, *, kill: bool) -> RedisServer:
        """Let a shard's replica take over and return it, once the cluster is whole again.

        Args:
            shard: 0 … 2, as started.
            kill: end the primary by SIGKILL, so that the others notice; else the replica is told.
        """
        pair = (self.servers[shard], self.servers[shard + _SHARDS])
        old, new = pair if _is_primary(pair[0]) else pair[::-1]
        if kill:
            old.kill(keep_data=True)
        else:
            new.ask("CLUSTER", "FAILOVER")
        left = [server for server in self.servers if not (kill and server is old)]
        _until("another primary", lambda: _is_primary(new) and all(map(_is_whole, left)))
        return new

    def close(self) -> None:
        """End everything."""
        for server in self.servers:
            server.close()

    def _knows_all(self, node: RedisServer) -> bool:
        nodes = node.ask("CLUSTER", "NODES").decode()
        return nodes.count("connected") == len(self.servers) and "handshake" not in nodes


def _sentinel(binary: Path, primary_port: int) -> RedisServer:
    config = "\n".join(
        [
            f"sentinel monitor {MASTER_NAME} {LOOPBACK} {primary_port} 2",
            f"sentinel down-after-milliseconds {MASTER_NAME} 500",
            f"sentinel failover-timeout {MASTER_NAME} 3000",
            f"sentinel parallel-syncs {MASTER_NAME} 2",
        ]
    )
    return RedisServer(binary, sentinel=config)


def _node(binary: Path) -> RedisServer:
    node = data_server(binary)
    while node.port > _PORT_MAX:  # its bus listens 10,000 ports above
        node.port = free_port()
    node.flags = {
        **node.flags,
        "cluster-enabled": "yes",
        "cluster-config-file": "nodes.conf",
        "cluster-node-timeout": "1000",
        "cluster-replica-validity-factor": "0",
    }
    return node


def _start(servers: list[RedisServer]) -> None:
    for server in servers:
        server.start()
    for server in servers:
        server.wait()


def _until(what: str, holds: Callable[[], bool]) -> None:
    """Ask servers until they say yes: they have no way to tell by themselves."""
    deadline_s = time.monotonic() + SETTLE_S
    while not holds():
        if time.monotonic() > deadline_s:
            raise EngineError(f"not within {SETTLE_S:g} s: {what}")
        time.sleep(POLL_S)


def _in_step(replica: RedisServer) -> bool:
    return replica.info("replication").get("master_link_status") == "up"


def _is_primary(server: RedisServer) -> bool:
    try:
        return server.info("replication").get("role") == "master"
    except OSError:
        return False


def _is_whole(node: RedisServer) -> bool:
    shown = node.ask("CLUSTER", "INFO").decode()
    return "cluster_state:ok" in shown and f"cluster_known_nodes:{2 * _SHARDS}" in shown


def _accepts_failover(sentinel: RedisServer) -> bool:
    """Order a fail-over; refused while the sentinel has not looked at the replicas lately."""
    try:
        sentinel.ask("SENTINEL", "FAILOVER", MASTER_NAME)
    except EngineError:
        return False
    return True


def _node_id(node: RedisServer) -> str:
    return node.ask("CLUSTER", "MYID").decode().split("\r\n")[1]
