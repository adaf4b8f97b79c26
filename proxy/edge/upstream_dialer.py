"""Opens connections to upstream: names to addresses, TCP, TLS.

Addresses of a name are asked for anew after NAMES_S and taken in turn, so that new connections
follow DynamoDB's changes and spread over its machines. TLS trusts the system's authorities or a
bundle, checks the host's name, and resumes the latest session of a host: that spares a new
connection a round trip's worth of work on both sides.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from functools import partial
from ipaddress import ip_address
from typing import Any, Final, NamedTuple

from aiohappyeyeballs import start_connection

from proxy.edge.reply_layout import ReplyLayouts
from proxy.edge.upstream_connection import UpstreamConnection

NAMES_S: Final = 10.0
"""How long the addresses of a name are used; DynamoDB's names live 5 to 60 s."""

SECOND_ADDRESS_S: Final = 0.25  # RFC 8305 §5: when the next address is tried beside the first

Address = tuple[int, int, int, str, Any]  # as getaddrinfo gives it


class Origin(NamedTuple):
    """Who is connected to.

    Args:
        tls: whether the connection is encrypted.
        host: name or address; an IPv6 one without brackets.
        port: TCP port.
    """

    tls: bool
    host: str
    port: int


class Dialer:
    """Open connections, each within one bound.

    Args:
        connect_timeout_s: seconds for TCP and TLS together, names left out.
        ca_bundle: PEM file of the authorities to trust, or None for the system's.
    """

    def __init__(self, *, connect_timeout_s: float, ca_bundle: str | None) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._layouts = ReplyLayouts()
        self._sessions: dict[str, ssl.SSLSession] = {}
        self._tls = ssl.create_default_context(cafile=ca_bundle)
        self._tls.sslobject_class = _resuming(self._sessions)
        self._names: dict[Origin, tuple[float, list[Address]]] = {}
        self._asking: dict[Origin, asyncio.Task[list[Address]]] = {}

    async def dial(self, origin: Origin) -> UpstreamConnection:
        """Open one connection.

        Raises:
            OSError: nothing was sent but TLS's own messages; TimeoutError among them.
        """
        addresses = await self._addresses(origin)
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                connected = await start_connection(
                    addresses, happy_eyeballs_delay=SECOND_ADDRESS_S, interleave=1
                )
                return await self._on(connected, origin)
        except RuntimeError as error:  # uvloop's, for some errors of the system
            raise OSError(str(error)) from error

    def remember(self, connection: UpstreamConnection, origin: Origin) -> None:
        """Keep the connection's TLS session for the next one to the same host."""
        layer = connection.tls
        if layer is not None and layer.session is not None:
            self._sessions[origin.host] = layer.session

    async def close(self) -> None:
        """End what still asks for addresses."""
        asking = [*self._asking.values()]
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    async def _on(self, connected: socket.socket, origin: Origin) -> UpstreamConnection:
        _, connection = await asyncio.get_running_loop().create_connection(
            partial(UpstreamConnection, self._layouts),
            sock=connected,
            ssl=self._tls if origin.tls else None,
            server_hostname=origin.host.rstrip(".") if origin.tls else None,
        )
        return connection

    async def _addresses(self, origin: Origin) -> list[Address]:
        """Return the addresses, each time with another one first."""
        now_s = asyncio.get_running_loop().time()
        asked_s, addresses = self._names.get(origin, (-NAMES_S, []))
        if now_s - asked_s >= NAMES_S or not addresses:
            if (task := self._asking.get(origin)) is None:
                task = self._asking[origin] = asyncio.create_task(self._ask(origin))
                task.add_done_callback(partial(self._asked, origin))
            # wait() leaves the question to the others when this caller goes away.
            await asyncio.wait({task})
            if task.cancelled():
                raise ConnectionAbortedError("the dialer is closed")
            addresses = task.result()
        addresses.append(addresses.pop(0))
        return addresses.copy()

    def _asked(self, origin: Origin, task: asyncio.Task[list[Address]]) -> None:
        del self._asking[origin]
        if not task.cancelled():
            task.exception()  # known to whoever still waits; nobody may

    async def _ask(self, origin: Origin) -> list[Address]:
        loop = asyncio.get_running_loop()
        asked_s = loop.time()
        flags = socket.AI_NUMERICHOST if _is_address(origin.host) else socket.AI_ADDRCONFIG
        try:
            found = await loop.getaddrinfo(
                origin.host, origin.port, type=socket.SOCK_STREAM, flags=flags
            )
        except UnicodeError as error:  # a name that cannot be one
            raise OSError("not a host's name") from error
        self._names[origin] = asked_s, [*found]
        return self._names[origin][1]


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _resuming(sessions: dict[str, ssl.SSLSession]) -> type[ssl.SSLObject]:
    """Return a TLS layer that begins with the session kept for its host, if there is one."""

    class Resuming(ssl.SSLObject):
        begun = False

        def do_handshake(self) -> None:
            kept = sessions.get(self.server_hostname or "")
            if kept is not None and not self.begun:
                self.session = kept
            self.begun = True
            super().do_handshake()

    return Resuming
