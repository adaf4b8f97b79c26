"""Takes a connection over from redis-py once it is made, authenticated and speaks RESP3.

redis-py keeps the transport to itself, so this is the one place that looks behind its public names.
Where they have changed, commands and replies go through its public methods instead: slower, and
without what the store pushes by itself.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any, Protocol

import redis.exceptions
from redis.asyncio.connection import AbstractConnection

from proxy.core.errors import StoreFailure, StoreUnavailable


class Wire(Protocol):
    """What bytes go out on."""

    def write(self, data: bytes, /) -> None:
        """Send bytes behind all that was given before, without waiting."""
        ...

    def close(self) -> None:
        """End the connection; its receiver is told."""
        ...


class Receiver(asyncio.Protocol):
    """What takes the replies: as bytes, or one by one where redis-py reads them."""

    def take(self, reply: object) -> None:
        """Take one reply that redis-py has read; raises redis-py's errors where it is nobody's."""


async def take_over(connection: AbstractConnection, receiver: Receiver) -> Wire:
    """Let a receiver have all that comes from now on.

    Args:
        connection: connected, and nobody waits for a reply on it.
        receiver: what redis-py would have read.

    Returns:
        The transport; or a `PublicWire` where redis-py does not show it as it used to.

    Raises:
        StoreUnavailable: the connection has broken already, or said what nobody asked for.
    """
    writer = getattr(connection, "_writer", None)
    if not isinstance(writer, asyncio.StreamWriter):
        return PublicWire(connection, receiver)
    transport = writer.transport
    # No suspension from here on: what comes is either in redis-py's hands already or for us.
    if transport.is_closing() or await connection.can_read():
        raise StoreUnavailable(StoreFailure.CONNECT, "the store's connection broke at once")
    transport.set_protocol(receiver)
    return transport


class PublicWire:
    """A connection that goes on being redis-py's.

    Args:
        connection: connected.
        receiver: takes the replies.
    """

    def __init__(self, connection: AbstractConnection, receiver: Receiver) -> None:
        self._connection = connection
        self._receiver = receiver
        self._unsent: asyncio.Queue[bytes] = asyncio.Queue()
        self._tasks = [asyncio.ensure_future(each) for each in (self._send(), self._receive())]

    def write(self, data: bytes, /) -> None:
        """Send bytes behind all that was given before, without waiting."""
        self._unsent.put_nowait(data)

    def close(self) -> None:
        """End it."""
        self._end(ConnectionError())

    async def _send(self) -> None:
        try:
            while True:
                packed = [await self._unsent.get()]
                await self._connection.send_packed_command(packed, check_health=False)
        except (redis.exceptions.RedisError, OSError) as error:
            self._end(error)

    async def _receive(self) -> None:
        try:
            while True:
                self._receiver.take(await self._read())
        except (redis.exceptions.RedisError, OSError) as error:
            self._end(error)

    async def _read(self) -> Any:
        try:
            # math.inf: no time-out of redis-py's own; whoever waits has one.
            return await self._connection.read_response(timeout=math.inf, disconnect_on_error=False)
        except redis.exceptions.ResponseError as error:
            return error

    def _end(self, error: Exception) -> None:
        for task in self._tasks:
            task.cancel()
        self._receiver.connection_lost(error)
