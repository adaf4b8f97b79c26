"""Connections that redis-py made go over to a receiver, or stay redis-py's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import hiredis
import pytest
from redis.asyncio import Connection
from redis.exceptions import ResponseError

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.edge.redis_connection import Access, connection_to
from proxy.edge.redis_wire import PublicWire, Receiver, take_over
from tests.support.scripted_redis import scripted_redis


class Taken(Receiver):
    """What a receiver got, in the order in which it came."""

    def __init__(self) -> None:
        self.parts: asyncio.Queue[object] = asyncio.Queue()

    def data_received(self, data: bytes) -> None:
        self.parts.put_nowait(data)

    def take(self, reply: object) -> None:
        self.parts.put_nowait(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self.parts.put_nowait("lost")


class Changed:
    """A connection of a redis-py whose names behind the public ones are others."""

    def __init__(self, connection: Any) -> None:
        self.send_packed_command = connection.send_packed_command
        self.read_response = connection.read_response


def answer(words: tuple[str, ...]) -> bytes:
    """Echo a command, refuse it, or answer it twice."""
    match words:
        case ("NO",):
            return b"-ERR no\r\n"
        case ("TWICE",):
            return b"+read\r\n+unread\r\n"
        case (word, *_):
            return b"+%b\r\n" % word.encode()
    raise AssertionError(words)


@asynccontextmanager
async def connected() -> AsyncIterator[Any]:
    """Yield a connection of redis-py to a scripted server."""
    async with scripted_redis(answer) as address:
        connection = connection_to(address, Access())
        await connection.connect()  # type: ignore[no-untyped-call]
        try:
            yield connection
        finally:
            await connection.disconnect(nowait=True)


async def test_the_transport_goes_over_to_the_receiver() -> None:
    """Its bytes, and its end."""
    taken = Taken()
    async with connected() as connection:
        wire = await take_over(connection, taken)
        assert not isinstance(wire, PublicWire)
        wire.write(hiredis.pack_command(("HELLO-YOU",)))
        assert await taken.parts.get() == b"+HELLO-YOU\r\n"
        wire.close()
        assert await taken.parts.get() == "lost"


async def test_a_connection_that_broke_at_once_is_not_taken_over() -> None:
    """Nobody would be told of its end."""
    async with connected() as connection:
        transport = await take_over(connection, Taken())
        transport.close()
        with pytest.raises(StoreUnavailable) as broken:
            await take_over(connection, Taken())
        assert broken.value.failure is StoreFailure.CONNECT


async def test_a_connection_that_said_what_nobody_asked_for_is_not_taken_over() -> None:
    """Its bytes are in redis-py's hands, and would be missing."""
    async with connected() as connection:
        await connection.send_command("TWICE", check_health=False)
        assert await connection.read_response() == b"read"
        with pytest.raises(StoreUnavailable):
            await take_over(connection, Taken())


async def test_where_redis_py_has_changed_its_public_methods_do() -> None:
    """Commands in order, replies one by one, refusals among them, and an end that is told."""
    taken = Taken()
    async with connected() as connection:
        wire = await take_over(Changed(connection), taken)  # type: ignore[arg-type]
        assert isinstance(wire, PublicWire)
        for word in ("ONE", "NO", "TWO"):
            wire.write(hiredis.pack_command((word,)))
        assert await taken.parts.get() == b"ONE"
        assert isinstance(await taken.parts.get(), ResponseError)
        assert await taken.parts.get() == b"TWO"
        wire.close()
        assert await taken.parts.get() == "lost"


async def test_a_connection_that_stays_redis_pys_tells_when_it_breaks() -> None:
    """Whether reading finds out, or writing."""
    taken = Taken()
    async with connected() as connection:
        await take_over(Changed(connection), taken)  # type: ignore[arg-type]
        await asyncio.sleep(0)
        await connection.disconnect(nowait=True)
        assert await taken.parts.get() == "lost"
    async with connected() as connection:
        changed = Changed(connection)
        changed.read_response = lambda **_: asyncio.get_running_loop().create_future()
        wire = await take_over(changed, taken)  # type: ignore[arg-type]
        transport = connection._writer.transport
        transport.abort()
        wire.write(b"x")
        assert await taken.parts.get() == "lost"


def test_this_redis_py_shows_its_transport() -> None:
    """The slower way is for versions that this one is not: a new version fails here first."""
    assert hasattr(Connection(), "_writer")
