"""One proxy's ways to the servers of its store, with a link that can be broken on each.

Sentinels and cluster nodes tell their clients where servers are. So that a proxy stays on its own
links, the addresses in the replies it gets are exchanged for those of its links: each proxy can be
cut off from a server that all others still see.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from proxy.embedded.process import LOOPBACK
from tests.support.fault_proxy import FaultProxy, Source

RETRY_S: Final = 0.05
_MARK: Final = b"\r\n"
_BY_SENTINELS: Final = re.compile(rb"^()(\d+)\r$", re.MULTILINE)
"""A port as SENTINEL MASTER has it: a bulk string."""

_BY_NODES: Final = re.compile(rb"^(:|-(?:MOVED|ASK) \d+ [^:\r\n]*:)(\d+)\r$", re.MULTILINE)
"""A port as CLUSTER SLOTS has it, a number, and as redirections do."""


@dataclass(frozen=True, slots=True)
class Entrance:
    """One server that proxies speak to.

    Args:
        address: where it listens.
        told_port: where other servers say that it listens.
        sentinel: whether it is one.
    """

    address: tuple[str, int]
    told_port: int
    sentinel: bool = False


class StoreLink(FaultProxy):
    """A link in front of one entrance.

    Args:
        entrance: where to.
        ports: told ports to those of this proxy's links; all have equally many digits.
    """

    def __init__(self, entrance: Entrance, ports: Mapping[int, int]) -> None:
        super().__init__(entrance.address)
        self._pattern = _BY_SENTINELS if entrance.sentinel else _BY_NODES
        self._ports = ports

    async def _forward(self, source: Source, target: asyncio.StreamWriter, kind: str) -> None:
        if kind == "replies" and self._ports:
            source = _Lines(source, self._exchanged)
        await super()._forward(source, target, kind)

    def _exchanged(self, lines: bytes) -> bytes:
        return self._pattern.sub(self._port, lines)

    def _port(self, found: re.Match[bytes]) -> bytes:
        told = int(found[2])
        return b"%s%d\r" % (found[1], self._ports.get(told, told))


class _Lines:
    """Reads whole lines, changed: every reply ends with the end of a line."""

    def __init__(self, source: Source, change: Callable[[bytes], bytes]) -> None:
        self._source = source
        self._change = change
        self._rest = b""

    async def read(self, n: int = -1) -> bytes:
        """Return some whole lines, nothing at the end."""
        while chunk := await self._source.read(n):
            lines, mark, self._rest = (self._rest + chunk).rpartition(_MARK)
            if mark:
                return self._change(lines + mark)
        return b""


class StoreLinks:
    """All links of one proxy.

    Args:
        entrances: of the store.
        exchange: whether servers tell each other's addresses.
    """

    def __init__(self, entrances: Sequence[Entrance], *, exchange: bool) -> None:
        ports: dict[int, int] = {}
        self._exchange = exchange
        self._entrances = entrances
        self._ports = ports
        self.all = [StoreLink(each, ports) for each in entrances]
        pairs = list(zip(entrances, self.all, strict=True))
        self.servers = [link for entrance, link in pairs if not entrance.sentinel]
        self.sentinels = [link for entrance, link in pairs if entrance.sentinel]

    async def listen(self) -> None:
        """Accept connections; the links' ports are known from now on."""
        for entrance, link in zip(self._entrances, self.all, strict=True):
            await link.listen()
            if self._exchange:
                assert len(str(link.port)) == len(str(entrance.told_port)), "as many digits"
                self._ports[entrance.told_port] = link.port

    def ways(self) -> list[list[StoreLink]]:
        """Return what may break together: everything, one kind of server, or one server."""
        kinds = [self.all]
        if self.sentinels:
            kinds += [self.servers, self.sentinels]
        elif len(self.servers) > 1:
            kinds += [[each] for each in self.servers]
        return kinds

    def move(self, address: tuple[str, int]) -> None:
        """Lead all links elsewhere at once: no turn of the loop lies in between."""
        for link in self.all:
            link.replace_server(address)
            link.cut()

    def forget(self) -> None:
        """Forget what links keep for tests."""
        for link in self.all:
            link.requests.clear()

    async def close(self) -> None:
        """End all links."""
        for link in self.all:
            await link.close()


async def listen_again(link: FaultProxy) -> None:
    """Let a link accept connections again; for a moment somebody else may have its port."""
    while True:
        try:
            return await link.listen()
        except OSError:
            await asyncio.sleep(RETRY_S)


def told(links: Sequence[FaultProxy]) -> str:
    """Return where links are, as a setting has it."""
    return ",".join(f"{LOOPBACK}:{link.port}" for link in links)
