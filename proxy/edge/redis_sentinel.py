"""Asks the sentinels which server is the primary now, and notices when they name another.

A sentinel may be cut off, or not have heard of a fail-over yet. So all are asked at the same time;
the answer counts once more than half of them gave theirs, and of these the one with the highest
configuration epoch wins, as it does among the sentinels themselves: any two majorities share a
sentinel. Whoever is named must still prove by its role, and by every heartbeat, that it is one.
Source: Redis documentation, "High availability with Sentinel", "Configuration propagation".
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from redis.asyncio.connection import AbstractConnection

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.edge.redis_connection import Access, Address, ask_once, connection_to


@dataclass(frozen=True, slots=True)
class SentinelOptions:
    """Where the sentinels are and what they call the primary.

    Args:
        addresses: of all of them, whether or not they are up.
        primary_name: of the primary that is meant.
        username, password: for the sentinels themselves.
    """

    addresses: tuple[Address, ...]
    primary_name: str
    username: str | None = None
    password: str | None = None


class _Answer(NamedTuple):
    epoch: int
    address: Address


class Sentinels:
    """All sentinels of one primary.

    Args:
        options: where they are.
        access: how to be let in by the store's servers; its TLS is the sentinels' too.
        timeout_s: for the answers of a majority.
    """

    def __init__(self, options: SentinelOptions, access: Access, *, timeout_s: float) -> None:
        self._options = options
        self._servers = access
        self._sentinels = Access(
            options.username,
            options.password,
            tls=access.tls,
            ca_file=access.ca_file,
            connect_timeout_s=access.connect_timeout_s,
        )
        self._timeout_s = timeout_s
        self._used: set[Address] = set()

    async def connect(self) -> AbstractConnection:
        """Make an unconnected connection to the present primary; see `redis_connection.Connect`."""
        address = await self.primary()
        self._used.add(address)
        return connection_to(address, self._servers)

    async def name_another(self) -> bool:
        """Tell, once, that a majority names another primary than some `connect` went to."""
        try:
            address = await self.primary()
        except StoreUnavailable:
            return False  # without a majority nobody knows better
        if self._used <= {address}:
            return False
        self._used.clear()
        return True

    async def primary(self) -> Address:
        """Return where the primary is.

        Raises:
            StoreUnavailable: no majority of the sentinels answered.
        """
        asked = [asyncio.ensure_future(self._ask(each)) for each in self._options.addresses]
        try:
            return await self._judge(asked)
        finally:
            for each in asked:
                each.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    async def _judge(self, asked: Sequence[asyncio.Future[_Answer]]) -> Address:
        answers: list[_Answer] = []
        problem = ""
        for each in asyncio.as_completed(asked):
            try:
                answers.append(await each)
            except StoreUnavailable as unavailable:
                problem = str(unavailable)
            if 2 * len(answers) > len(asked):
                return max(answers).address
        reason = f"{len(answers)} of {len(asked)} sentinels answered: {problem}"
        raise StoreUnavailable(StoreFailure.CONNECT, reason)

    async def _ask(self, sentinel: Address) -> _Answer:
        connection = connection_to(sentinel, self._sentinels)
        question = ("SENTINEL", "MASTER", self._options.primary_name)
        (told,) = await ask_once(connection, question, timeout_s=self._timeout_s)
        return _parse(told)


def _parse(told: Any) -> _Answer:
    """Read what a sentinel says of the primary; a map in RESP3."""
    try:
        address = Address(told[b"ip"].decode(), int(told[b"port"]))
        return _Answer(int(told[b"config-epoch"]), address)
    except (KeyError, TypeError, ValueError) as error:
        reason = "a sentinel's answer cannot be read"
        raise StoreUnavailable(StoreFailure.REFUSED, reason) from error
