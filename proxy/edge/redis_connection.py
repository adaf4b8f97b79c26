"""Makes redis-py connections to whatever server of the store is meant, and asks one question.

Who may call it: the lanes' topologies (`redis_sentinel`, `redis_cluster`, `redis_topology`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import redis.exceptions
from redis.asyncio import ConnectionPool, SSLConnection
from redis.asyncio.connection import AbstractConnection, Connection
from redis.maint_notifications import MaintNotificationsConfig

from proxy.core.errors import StoreFailure, StoreUnavailable

_REASON_CHARACTERS_MAX: Final = 120

Connect = Callable[[], Awaitable[AbstractConnection]]
"""Finds the server that is meant now and makes an unconnected connection to it.

Raises StoreUnavailable where nobody can tell which server that is.
"""


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Access:
    """How to be let in.

    Args:
        username, password: override what a URL says.
        tls: for servers that are not named by a URL.
        ca_file: certificates to trust with TLS instead of the system's.
        connect_timeout_s: for the socket alone.
    """

    username: str | None = None
    password: str | None = None
    tls: bool = False
    ca_file: str | None = None
    connect_timeout_s: float = 0.5


def url_connect(url: str, access: Access) -> Connect:
    """Return what connects to the one server that a URL names."""

    async def connect() -> AbstractConnection:
        options = _options(access, tls=url.startswith("rediss:"))
        return _new(ConnectionPool.from_url(url, **options))

    return connect


def connection_to(address: Address, access: Access) -> AbstractConnection:
    """Make an unconnected connection to one server."""
    kind = SSLConnection if access.tls else Connection
    options = _options(access, tls=access.tls)
    host, port = address
    return _new(ConnectionPool(connection_class=kind, host=host, port=port, **options))


async def ask_once(
    connection: AbstractConnection, *commands: tuple[str, ...], timeout_s: float
) -> list[Any]:
    """Connect, ask, and close again; all within `timeout_s`.

    Raises:
        StoreUnavailable: no answer, or one of the replies is an error.
    """
    try:
        async with asyncio.timeout(timeout_s):
            await connection.connect()  # type: ignore[no-untyped-call]
            packed = connection.pack_commands(commands)
            await connection.send_packed_command(packed, check_health=False)
            return [await connection.read_response() for _ in commands]
    except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
        raise StoreUnavailable(StoreFailure.CONNECT, said_by(error)) from error
    finally:
        with suppress(redis.exceptions.RedisError, OSError):
            await connection.disconnect(nowait=True)


def said_by(error: BaseException) -> str:
    """Return what redis-py says: the address and the server's own words, never a password."""
    said = str(error)[:_REASON_CHARACTERS_MAX] or "no answer in time"
    return f"cannot connect to the store: {type(error).__name__}: {said}"


def _options(access: Access, *, tls: bool) -> dict[str, Any]:
    given = {
        "username": access.username,
        "password": access.password,
        "ssl_ca_certs": access.ca_file if tls else None,
    }
    return {
        "protocol": 3,
        "socket_timeout": None,
        "socket_connect_timeout": access.connect_timeout_s,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        **{name: text for name, text in given.items() if text is not None},
    }


def _new(pool: ConnectionPool) -> AbstractConnection:
    connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]
    return connection
