"""The stores that a run may use, by name; a table says which of them the product can speak to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.support.fault_proxy import FaultProxy
from tests.support.redis_server import data_server, promote


class TopologyRefused(Exception):
    """The product has no settings for this topology."""


class Single:
    """One primary; beside it a replica, over a link that can be cut, to fail over to.

    Args:
        binary: the servers' program.
    """

    def __init__(self, binary: Path) -> None:
        self.primary = data_server(binary)
        self._binary = binary
        self._replication = FaultProxy(self.primary.address)
        self._replica = self.primary

    async def start(self) -> None:
        """Start both and return once the replica is in step."""
        self.primary.start()
        await asyncio.to_thread(self.primary.wait)
        await self._replication.listen()
        await self._add_replica()

    async def restart(self) -> None:
        """Start the killed primary again, on the same port, over what it left."""
        self.primary.start()
        await asyncio.to_thread(self.primary.wait)

    async def cut_replication(self) -> None:
        """Let the replica miss what comes from now on."""
        await self._replication.refuse()

    async def fail_over(self, move: Callable[[tuple[str, int]], None]) -> None:
        """Promote the replica, let everybody `move` to it, and give it a replica of its own.

        Between the promotion and the move nobody talks to the new primary; after it nobody talks to
        the old one, which is killed: an old primary that goes on answering is another story.
        """
        old, new = self.primary, self._replica
        await asyncio.to_thread(promote, new)
        self.primary = new
        move(new.address)
        old.close()
        self._replication.replace_server(new.address)
        await self._replication.listen()
        await self._add_replica()

    async def close(self) -> None:
        """End everything."""
        await self._replication.close()
        for server in (self.primary, self._replica):
            server.close()

    async def _add_replica(self) -> None:
        self._replica = data_server(self._binary, replica_of=self._replication.port)
        self._replica.start()
        await asyncio.to_thread(self._replica.wait)
        await asyncio.to_thread(self._replica.child.wait_until, self._in_step)

    def _in_step(self) -> bool:
        return self._replica.info("replication").get("master_link_status") == "up"


REFUSED: Final = {
    "sentinel": "the product has no setting that names sentinels",
    "cluster": "the product has no setting for a cluster",
}
"""Launched by tests/support/store_topologies.py; off this list once the product speaks to them."""

TOPOLOGIES: Final[dict[str, Callable[[Path], Single]]] = {"single": Single}

NAMES: Final = (*TOPOLOGIES, *REFUSED)


def topology(name: str, binary: Path) -> Single:
    """Return a topology, not yet started.

    Raises:
        TopologyRefused: the product cannot use it.
    """
    if name in REFUSED:
        raise TopologyRefused(f"topology {name}: {REFUSED[name]}; choose {', '.join(TOPOLOGIES)}")
    return TOPOLOGIES[name](binary)
