"""Claims about `proxy.edge.upstream_dialer`."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from proxy.edge import upstream_dialer
from proxy.edge.upstream_connection import UpstreamConnection
from proxy.edge.upstream_dialer import NAMES_S, Dialer, Origin
from tests.support.raw_upstream import RawUpstream, raw_upstream, self_signed, serving_tls
from tests.support.serving import until

HOST = "dynamodb.example"


@asynccontextmanager
async def dialing(
    *, connect_timeout_s: float = 20.0, ca_bundle: Path | None = None
) -> AsyncIterator[Dialer]:
    """Give a dialer."""
    bundle = None if ca_bundle is None else str(ca_bundle)
    dialer = Dialer(connect_timeout_s=connect_timeout_s, ca_bundle=bundle)
    try:
        yield dialer
    finally:
        await dialer.close()


async def ended(*connections: UpstreamConnection) -> None:
    """End connections and wait until they have gone."""
    for connection in connections:
        connection.abort()
        await until(lambda gone=connection: gone._lost)  # type: ignore[misc]


class Names:
    """Stands in for the system's resolver: gives the same addresses to every name, and counts."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def getaddrinfo(self, _host: str, port: int, **_options: Any) -> list[Any]:
        """Answer as the loop's method."""
        self.asked += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        kind = socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, ""
        return [(*kind, (address, port)) for address in self.addresses]


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Give the resolver of this test's loop."""
    made = Names("127.0.0.1", "127.0.0.2", "127.0.0.3")
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", made.getaddrinfo)
    return made


async def first_addresses(dialer: Dialer, count: int) -> list[str]:
    """Return the address that each of so many connections would try first."""
    origin = Origin(False, HOST, 80)
    return [(await dialer._addresses(origin))[0][4][0] for _ in range(count)]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_addresses_and_names_are_connected_to(host: str) -> None:
    """A host may be named either way."""
    async with raw_upstream() as upstream, dialing() as dialer:
        connection = await dialer.dial(Origin(False, host, upstream.port))
        assert connection.open
        dialer.remember(connection, Origin(False, host, upstream.port))
        await ended(connection)


async def test_addresses_take_turns(names: Names) -> None:
    """Connections spread over all addresses of a name, and one question serves many of them."""
    async with dialing() as dialer:
        tried = await first_addresses(dialer, 4)
    assert tried == ["127.0.0.2", "127.0.0.3", "127.0.0.1", "127.0.0.2"]
    assert names.asked == 1


async def test_names_are_asked_for_again(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    """After NAMES_S a name may have moved."""
    loop = asyncio.get_running_loop()
    async with dialing() as dialer:
        await first_addresses(dialer, 1)
        later_s = loop.time() + NAMES_S
        names.addresses = ("127.0.0.9",)
        assert await first_addresses(dialer, 1) == ["127.0.0.3"]
        with monkeypatch.context() as patch:
            patch.setattr(loop, "time", lambda: later_s)
            assert await first_addresses(dialer, 1) == ["127.0.0.9"]


async def test_many_ask_once(names: Names) -> None:
    """Who needs a name that is being asked for waits for that answer; one may go away."""
    names.gate.clear()
    async with dialing() as dialer:
        asking = [asyncio.create_task(first_addresses(dialer, 1)) for _ in range(3)]
        await until(lambda: names.asked == 1)
        asking[0].cancel()
        await asyncio.wait([asking[0]])
        names.gate.set()
        assert [len(each) for each in await asyncio.gather(*asking[1:])] == [1, 1]
    assert names.asked == 1


@pytest.mark.parametrize("error", [socket.gaierror(8, "unknown"), UnicodeError("label too long")])
async def test_unknown_names_are_errors_and_asked_for_again(names: Names, error: Exception) -> None:
    """A name without address is an OSError, and is not remembered."""
    names.error = error
    async with dialing() as dialer:
        for asked in (1, 2):
            with pytest.raises(OSError):
                await dialer.dial(Origin(False, HOST, 80))
            assert names.asked == asked


async def test_questions_end_with_the_dialer(names: Names) -> None:
    """A resolver that hangs does not hold up the end."""
    names.gate.clear()
    async with dialing() as dialer:
        asking = asyncio.create_task(first_addresses(dialer, 1))
        await until(lambda: names.asked == 1)
    with pytest.raises(ConnectionAbortedError):
        await asking


async def test_errors_of_uvloop_are_os_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """For some of the system's errors uvloop has another class."""

    async def fails(*_arguments: Any, **_options: Any) -> socket.socket:
        raise RuntimeError(errno.EADDRNOTAVAIL)

    monkeypatch.setattr(upstream_dialer, "start_connection", fails)
    async with dialing() as dialer:
        with pytest.raises(OSError, match=str(errno.EADDRNOTAVAIL)):
            await dialer.dial(Origin(False, "127.0.0.1", 1))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Make a certificate for loopback."""
    return self_signed(tmp_path_factory.mktemp("tls"), name="DNS:localhost")


async def served(dialer: Dialer, upstream: RawUpstream, origin: Origin) -> UpstreamConnection:
    """Open a connection and have one request answered on it."""
    connection = await dialer.dial(origin)
    peer = await upstream.peer()
    answering = asyncio.create_task(peer.answer(b"\r\n\r\n"))
    await connection.exchange("GET", b"GET / HTTP/1.1\r\n\r\n", b"")
    await answering
    return connection


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_tls_sessions_are_resumed(
    certificate: tuple[Path, Path], loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """The second connection to a host goes on with the first one's session."""

    async def twice() -> None:
        tls = serving_tls(certificate)
        async with raw_upstream(tls) as upstream, dialing(ca_bundle=certificate[0]) as dialer:
            origin = Origin(True, "localhost", upstream.port)
            first = await served(dialer, upstream, origin)
            assert first.tls is not None
            assert not first.tls.session_reused
            dialer.remember(first, origin)
            second = await served(dialer, upstream, origin)
            assert second.tls is not None
            assert second.tls.session_reused
            await ended(first, second)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(twice())


async def test_a_final_dot_is_no_part_of_the_name(
    certificate: tuple[Path, Path], names: Names
) -> None:
    """A name may be given as DNS ends it; certificates do not."""
    names.addresses = ("127.0.0.1",)
    async with (
        raw_upstream(serving_tls(certificate)) as upstream,
        dialing(ca_bundle=certificate[0]) as dialer,
    ):
        await ended(await dialer.dial(Origin(True, "localhost.", upstream.port)))


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize(
    ("host", "trusted"), [("127.0.0.1", True), ("localhost", False)], ids=["host", "authority"]
)
def test_tls_refuses_a_stranger(
    certificate: tuple[Path, Path],
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
    *,
    host: str,
    trusted: bool,
) -> None:
    """Another host's certificate, or one that nobody vouches for, is an OSError."""

    async def once() -> None:
        bundle = certificate[0] if trusted else None
        async with (
            raw_upstream(serving_tls(certificate)) as upstream,
            dialing(ca_bundle=bundle) as dialer,
        ):
            with pytest.raises(OSError, match="certificate verify failed"):
                await dialer.dial(Origin(True, host, upstream.port))

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(once())


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_silent_tls_ends_in_time(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """A peer that accepts and says nothing is given up, and leaves nothing open."""

    async def once() -> None:
        async with raw_upstream() as upstream, dialing(connect_timeout_s=0.05) as dialer:
            with pytest.raises(TimeoutError):
                await dialer.dial(Origin(True, "127.0.0.1", upstream.port))
            peer = await upstream.peer()
            await peer.receive(b"\x16")  # TLS's first byte
            await peer.gone()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(once())
