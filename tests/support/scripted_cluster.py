"""Nodes of a cluster that answer as a test wants it: old maps, redirects, silence, new epochs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from proxy.edge.redis_connection import Address
from proxy.edge.scripts import load_script
from tests.support.scripted_redis import OK, bulk, scripted_redis

SLOTS_MAX: Final = 16384
_HEARTBEAT: Final = load_script("heartbeat").sha.decode()

NOWHERE: Final = Address("127.0.0.1", 1)

Range = tuple[int, int, Address | None]
"""First and last slot, and whose they are; None stands for the node that tells it."""


@dataclass
class ScriptedNode:
    """One node.

    Attributes:
        ranges: the map that it tells.
        whole, epoch, own_epoch: what it says of the cluster, and of itself.
        redirects: by a command's first word, the errors it answers, one after the other.
        gate_ms: until its gate opens.
        traits: more lines of its INFO.
        seen: every command that is not part of connecting, in order.
        silent: it answers nothing at all.
        maps_told: how often it was asked for the map.
        at_heartbeat: called before it answers one.
    """

    ranges: list[Range] = field(default_factory=list)
    whole: bool = True
    epoch: int = 1
    own_epoch: int = 1
    redirects: dict[str, list[str]] = field(default_factory=dict)
    gate_ms: int = 0
    traits: str = ""
    seen: list[tuple[str, ...]] = field(default_factory=list)
    silent: bool = False
    maps_told: int = 0
    at_heartbeat: Callable[[], None] = lambda: None
    address: Address = NOWHERE

    def answer(self, words: tuple[str, ...]) -> bytes:
        """Answer a command as a node would, or as the test says."""
        if self.silent:
            return b""
        match words:
            case ("SCRIPT", *_):
                return bulk("sha")
            case ("CONFIG", *_):
                return b"-NOPERM denied\r\n"
            case ("INFO", *_):
                told = f"role:master\r\nrun_id:{self.address.port}\r\nevicted_keys:1\r\n"
                return bulk(told + self.traits)
            case ("CLUSTER", "INFO"):
                state = "ok" if self.whole else "fail"
                fields = f"cluster_state:{state}\r\ncluster_current_epoch:{self.epoch}\r\n"
                return bulk(f"{fields}cluster_my_epoch:{self.own_epoch}\r\n")
            case ("CLUSTER", "SLOTS"):
                self.maps_told += 1
                return b"*%d\r\n" % len(self.ranges) + b"".join(map(self._range, self.ranges))
            case ("EVALSHA", sha, *_) if sha == _HEARTBEAT:
                self.at_heartbeat()
                return b"*2\r\n:1000\r\n:%d\r\n" % self.gate_ms
            case ("TIME",):
                return b"*2\r\n" + bulk("1") + bulk("0")
        self.seen.append(words)
        if self.redirects.get(words[0]):
            return f"-{self.redirects[words[0]].pop(0)}\r\n".encode()
        return OK

    def _range(self, told: Range) -> bytes:
        first, last, owner = told
        host = bulk(owner.host) if owner is not None else b"_\r\n"
        port = (owner or self.address).port
        return b"*3\r\n:%d\r\n:%d\r\n*3\r\n%b:%d\r\n" % (first, last, host, port) + bulk("id")


@asynccontextmanager
async def scripted_cluster(*nodes: ScriptedNode) -> AsyncIterator[list[ScriptedNode]]:
    """Run nodes; without ranges of their own they share the slots evenly, and all say so."""
    async with AsyncExitStack() as stack:
        for node in nodes:
            node.address = await stack.enter_async_context(scripted_redis(node.answer))
        bounds = [SLOTS_MAX * i // len(nodes) for i in range(len(nodes) + 1)]
        fair: list[Range] = [
            (bounds[i], bounds[i + 1] - 1, node.address) for i, node in enumerate(nodes)
        ]
        for node in nodes:
            node.ranges = node.ranges or list(fair)
        yield list(nodes)
