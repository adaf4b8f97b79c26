"""Launch several servers that look after each other: sentinels with a primary, or a cluster.

Everything listens on loopback. Both know how to lose their primary, and tell who follows it.

Servers may tell others to reach them at *told* ports instead of their own, where the caller has put
links to them before they start: so they can be cut off from each other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from proxy.embedded.process import (
    LOOPBACK,
    POLL_S,
    PORT_ATTEMPTS_MAX,
    EngineEndedError,
    EngineError,
    port_is_free,
)
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer, data_server

SETTLE_S: Final = 60.0
SLOTS: Final = 16384
MASTER_NAME: Final = "dynaside"

BUS_OFFSET: Final = 10_000
"""A node's bus listens so far above its port."""

_SHARDS: Final = 3
_PORT_MAX: Final = 65535 - BUS_OFFSET


class SentinelTopology:
    """A primary, two replicas, three sentinels; two of these must agree on a fail-over.

    Args:
        binary: the program, which is server and sentinel.
        apart: whether the servers tell each other ports that are not their own.

    Attributes:
        told: each server's port, by its own, that it tells the others.
    """

    def __init__(self, binary: Path, *, apart: bool = False) -> None:
        self.servers = [data_server(binary) for _ in range(3)]
        self.told = _told_ports(self.servers, apart=apart)
        first = self.told[self.servers[0].port]
        for server in self.servers:
            server.flags = {**server.flags, "replica-announce-port": str(self.told[server.port])}
        for replica in self.servers[1:]:
            replica.flags = {**replica.flags, "replicaof": f"{LOOPBACK} {first}"}
        self.sentinels = [_sentinel(binary, first) for _ in range(3)]

    def start(self) -> None:
        """Start everything and return once every sentinel knows all of it."""
        for wait in self.stages():
            wait()

    def stages(self) -> Iterator[Callable[[], None]]:
        """Start everything, a part at a time; what is yielded waits for it, in any thread."""
        _launch(self.servers)
        yield self._wait_for_servers
        _launch(self.sentinels)
        yield self._wait_for_sentinels

    @property
    def primary(self) -> RedisServer:
        """The server that the first sentinel calls the primary."""
        return self._named_by(self.sentinels[0])

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
            until("a replica is good enough", lambda: accepts_failover(self.sentinels[0]))
        until("another primary", lambda: self.primary is not old and is_primary(self.primary))
        return self.primary

    def close(self) -> None:
        """End everything."""
        for server in [*self.sentinels, *self.servers]:
            server.close()

    def whole(self) -> bool:
        """Tell whether all sentinels name the same primary, and both others follow it."""
        (primary, *others) = {self._named_by(each).port for each in self.sentinels}
        roles = [is_primary(server) for server in self.servers]
        return (
            not others
            and all(map(self._knows_all, self.sentinels))
            and roles == [server.port == primary for server in self.servers]
            and all(_follows(each, self.told[primary]) for each in self._others(primary))
        )

    def _others(self, primary: int) -> list[RedisServer]:
        return [server for server in self.servers if server.port != primary]

    def _named_by(self, sentinel: RedisServer) -> RedisServer:
        reply = sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME)
        port = int(reply.split(b"\r\n")[4])
        return next(server for server in self.servers if self.told[server.port] == port)

    def _wait_for_servers(self) -> None:
        _wait(self.servers)
        until("replicas are in step", lambda: all(map(_in_step, self.servers[1:])))

    def _wait_for_sentinels(self) -> None:
        _wait(self.sentinels)
        until("sentinels know each other", lambda: all(map(self._knows_all, self.sentinels)))

    def _knows_all(self, sentinel: RedisServer) -> bool:
        told = sentinel.ask("INFO", "sentinel")
        return b"status=ok" in told and b"slaves=2" in told and b"sentinels=3" in told


class ClusterTopology:
    """Three primaries with a third of the slots each, and a replica of each.

    Args:
        binary: the program.
        apart: whether the nodes tell each other ports that are not their own.

    Attributes:
        told, told_bus: each node's port, and its bus's, by its own port, that it tells the others.
    """

    def __init__(self, binary: Path, *, apart: bool = False) -> None:
        self.servers = [_node(binary) for _ in range(2 * _SHARDS)]
        self.told = _told_ports(self.servers, apart=apart)
        own = {server.port: server.port + BUS_OFFSET for server in self.servers}
        self.told_bus = _told_ports(self.servers, apart=True) if apart else own
        for server in self.servers:
            server.flags = {
                **server.flags,
                "cluster-announce-port": str(self.told[server.port]),
                "cluster-announce-bus-port": str(self.told_bus[server.port]),
            }

    def start(self) -> None:
        """Start everything and return once each node says that the cluster is whole."""
        for wait in self.stages():
            wait()

    def stages(self) -> Iterator[Callable[[], None]]:
        """Start everything, a part at a time; what is yielded waits for it, in any thread."""
        _launch(self.servers)
        yield self._join

    def _join(self) -> None:
        _wait(self.servers)
        primaries, replicas = self.servers[:_SHARDS], self.servers[_SHARDS:]
        bounds = [SLOTS * shard // _SHARDS for shard in range(_SHARDS + 1)]
        for shard, primary in enumerate(primaries):
            first, last = bounds[shard], bounds[shard + 1] - 1
            primary.ask("CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
            primary.ask("CLUSTER", "SET-CONFIG-EPOCH", str(shard + 1))
        for other in self.servers[1:]:
            ports = (str(self.told[other.port]), str(self.told_bus[other.port]))
            self.servers[0].ask("CLUSTER", "MEET", LOOPBACK, *ports)
        until("all nodes have met", lambda: all(map(self._knows_all, self.servers)))
        for primary, replica in zip(primaries, replicas, strict=True):
            replica.ask("CLUSTER", "REPLICATE", _node_id(primary))
        until("the cluster is whole", lambda: all(map(_is_whole, self.servers)))
        until("replicas are in step", lambda: all(map(_in_step, replicas)))

    @property
    def primaries(self) -> list[RedisServer]:
        """The nodes that say they are primaries, those that do not answer left out."""
        return [server for server in self.servers if is_primary(server)]

    def fail_over(self, shard: int, *, kill: bool) -> RedisServer:
        """Let a shard's replica take over and return it, once the cluster is whole again.

        Args:
            shard: 0 … 2, as started.
            kill: end the primary by SIGKILL, so that the others notice; else the replica is told.
        """
        pair = (self.servers[shard], self.servers[shard + _SHARDS])
        old = pair[0] if is_primary(pair[0]) else pair[1]
        new = self.twin(old)
        if kill:
            old.kill(keep_data=True)
        else:
            new.ask("CLUSTER", "FAILOVER")
        left = [server for server in self.servers if not (kill and server is old)]
        until("another primary", lambda: is_primary(new) and all(map(_is_whole, left)))
        return new

    def twin(self, server: RedisServer) -> RedisServer:
        """Return the other server of the same shard."""
        at = self.servers.index(server)
        return self.servers[(at + _SHARDS) % len(self.servers)]

    def whole(self) -> bool:
        """Tell whether each shard has a primary and a replica that follows it, and all know it."""
        primaries = self.primaries
        return (
            len(primaries) == _SHARDS
            and all(map(_is_whole, self.servers))
            and not any(b"fail" in node.ask("CLUSTER", "NODES") for node in self.servers)
            and all(_follows(self.twin(each), self.told[each.port]) for each in primaries)
        )

    def close(self) -> None:
        """End everything."""
        for server in self.servers:
            server.close()

    def _knows_all(self, node: RedisServer) -> bool:
        nodes = node.ask("CLUSTER", "NODES").decode()
        return nodes.count("connected") == len(self.servers) and "handshake" not in nodes


@contextmanager
def running_cluster(build: Callable[[], ClusterTopology]) -> Iterator[ClusterTopology]:
    """Start a cluster and end it; start another one when a node of the first ended at once.

    Between our look at a port, or at its bus's, and the node's bind somebody else may take it.

    Args:
        build: makes a cluster, each time on other ports.
    """
    for attempts_left in reversed(range(PORT_ATTEMPTS_MAX)):
        topology = build()
        try:
            try:
                topology.start()
            except EngineEndedError:
                if not attempts_left:
                    raise
                continue
            yield topology
            return
        finally:
            topology.close()


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
    while node.port > _PORT_MAX or not port_is_free(LOOPBACK, node.port + BUS_OFFSET):
        node.port = free_port()
    node.flags = {
        **node.flags,
        "cluster-enabled": "yes",
        "cluster-config-file": "nodes.conf",
        "cluster-node-timeout": "1000",
        "cluster-replica-validity-factor": "0",
    }
    return node


def _told_ports(servers: Sequence[RedisServer], *, apart: bool) -> dict[int, int]:
    return {server.port: free_port() if apart else server.port for server in servers}


def _launch(servers: Sequence[RedisServer]) -> None:
    for server in servers:
        server.start()


def _wait(servers: Sequence[RedisServer]) -> None:
    for server in servers:
        server.wait()


def until(what: str, holds: Callable[[], bool], *, for_s: float = SETTLE_S) -> None:
    """Ask servers until they say yes: they have no way to tell by themselves."""
    deadline_s = time.monotonic() + for_s
    while not holds():
        if time.monotonic() > deadline_s:
            raise EngineError(f"not within {for_s:g} s: {what}")
        time.sleep(POLL_S)


def _in_step(replica: RedisServer) -> bool:
    return replica.info("replication").get("master_link_status") == "up"


def _follows(replica: RedisServer, told_port: int) -> bool:
    shown = replica.info("replication")
    in_step = shown.get("master_link_status") == "up"
    return in_step and shown.get("master_port") == str(told_port)


def is_primary(server: RedisServer) -> bool:
    """Tell whether a server says that it is a primary."""
    try:
        return server.info("replication").get("role") == "master"
    except OSError:
        return False


def _is_whole(node: RedisServer) -> bool:
    shown = node.ask("CLUSTER", "INFO").decode()
    return "cluster_state:ok" in shown and f"cluster_known_nodes:{2 * _SHARDS}" in shown


def accepts_failover(sentinel: RedisServer) -> bool:
    """Order a fail-over, and tell whether it was accepted.

    It is refused while the sentinel has not looked at the replicas lately.
    """
    try:
        sentinel.ask("SENTINEL", "FAILOVER", MASTER_NAME)
    except EngineError:
        return False
    return True


def _node_id(node: RedisServer) -> str:
    return node.ask("CLUSTER", "MYID").decode().split("\r\n")[1]
