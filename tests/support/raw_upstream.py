"""A server that says exactly what a test tells it to, byte for byte."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.support.tools import missing

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def receive(self, last: bytes) -> bytes:
        """Return what came, up to and with these bytes."""
        return await self._reader.readuntil(last)

    async def send(self, raw: bytes) -> None:
        """Send these bytes."""
        self._writer.write(raw)
        await self._writer.drain()

    async def answer(self, last: bytes, raw: bytes = OK) -> None:
        """Wait for a request that ends so, and send these bytes."""
        await self.receive(last)
        await self.send(raw)

    def end(self) -> None:
        """Close the connection."""
        self._writer.close()

    def reset(self) -> None:
        """Break the connection."""
        self._writer.transport.abort()

    async def gone(self) -> bool:
        """Wait until the client has closed, and tell that nothing came before that."""
        try:
            return await self._reader.read() == b""
        except ConnectionError:
            return True


class RawUpstream:
    """Peers in the order in which they were connected to."""

    def __init__(self) -> None:
        self.port = 0
        self._peers: asyncio.Queue[Peer] = asyncio.Queue()
        self._all: list[Peer] = []

    async def peer(self) -> Peer:
        """Wait for the next connection."""
        return await self._peers.get()

    @property
    def connections(self) -> int:
        """How many connections were made."""
        return len(self._all)

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection; called by asyncio's server."""
        peer = Peer(reader, writer)
        self._all.append(peer)
        await self._peers.put(peer)

    def reset(self) -> None:
        """Break every connection."""
        for peer in self._all:
            peer.reset()


@asynccontextmanager
async def raw_upstream(
    tls: ssl.SSLContext | None = None, *, second: str | None = None
) -> AsyncIterator[RawUpstream]:
    """Listen on loopback, perhaps on a second address of it, for as long as the block lasts."""
    made = RawUpstream()
    async with AsyncExitStack() as stack:
        for host in ("127.0.0.1", second):
            if host is not None:
                server = await asyncio.start_server(made.take, host, made.port, ssl=tls)
                await stack.enter_async_context(server)
                made.port = int(server.sockets[0].getsockname()[1])
        try:
            yield made
        finally:
            made.reset()


def self_signed(folder: Path, *, name: str = "IP:127.0.0.1") -> tuple[Path, Path]:
    """Make a certificate that vouches for itself; return its file and its key's."""
    if (openssl := shutil.which("openssl")) is None:
        missing("openssl", install="apt install openssl")
    made, key = folder / "certificate.pem", folder / "key.pem"
    options = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
        f" -subj /CN=fake -addext subjectAltName={name} -keyout {key} -out {made}"
    )
    subprocess.run([openssl, *options.split()], check=True, capture_output=True)
    return made, key


def serving_tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    """Return a server's TLS with a certificate from `self_signed`."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*certificate)
    return tls
