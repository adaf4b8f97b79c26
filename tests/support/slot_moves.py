"""Moves one slot of a cluster from node to node, as `redis-cli --cluster reshard` does."""

from __future__ import annotations

from tests.support.raw_store import RawStore
from tests.support.redis_server import RedisServer

_KEYS_AT_ONCE = 10


def move_slot(slot: int, giver: RedisServer, taker: RedisServer, others: list[RedisServer]) -> None:
    """Hand a slot over with all that is in it; both nodes and all others know it afterwards."""
    with RawStore(giver.address) as source, RawStore(taker.address) as target:
        taken_by, given_by = (
            _told(target.run("CLUSTER", "MYID")),
            _told(source.run("CLUSTER", "MYID")),
        )
        _ok(target.run("CLUSTER", "SETSLOT", slot, "IMPORTING", given_by))
        _ok(source.run("CLUSTER", "SETSLOT", slot, "MIGRATING", taken_by))
        while names := source.run("CLUSTER", "GETKEYSINSLOT", slot, _KEYS_AT_ONCE):
            host, port = taker.address
            to = (host, port, "", 0, 5000, "REPLACE", "KEYS", *names)
            _ok(source.run("MIGRATE", *to))
        _ok(target.run("CLUSTER", "SETSLOT", slot, "NODE", taken_by))
        _ok(source.run("CLUSTER", "SETSLOT", slot, "NODE", taken_by))
    for other in others:
        other.ask("CLUSTER", "SETSLOT", str(slot), "NODE", taken_by.decode())


def epoch_of(node: RedisServer) -> int:
    """Return a node's configuration epoch."""
    shown = node.ask("CLUSTER", "INFO").decode().splitlines()
    return next(int(line.split(":")[1]) for line in shown if line.startswith("cluster_my_epoch:"))


def _told(reply: object) -> bytes:
    assert isinstance(reply, bytes), reply
    return reply


def _ok(reply: object) -> None:
    assert reply in {b"OK", b"NOKEY"}, reply
