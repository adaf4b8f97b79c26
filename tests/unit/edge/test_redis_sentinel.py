"""Who is the primary, when sentinels differ, are silent or talk nonsense."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from proxy.core.errors import StoreUnavailable
from proxy.edge.redis_connection import Access, Address
from proxy.edge.redis_sentinel import SentinelOptions, Sentinels
from tests.support.scripted_redis import mapping, scripted_redis

NAMED = mapping(ip="10.0.0.1", port=1, config_epoch=1)
NEWER = mapping(ip="10.0.0.2", port=2, config_epoch=2)
FIRST, SECOND = Address("10.0.0.1", 1), Address("10.0.0.2", 2)


@asynccontextmanager
async def sentinels(*replies: Callable[[], bytes], timeout_s: float) -> AsyncIterator[Sentinels]:
    """Run sentinels of which each answers what its function returns."""
    async with AsyncExitStack() as stack:
        addresses = [
            await stack.enter_async_context(scripted_redis(lambda _, reply=reply: reply()))  # type: ignore[misc]
            for reply in replies
        ]
        options = SentinelOptions(tuple(addresses), "mine", None, None)
        yield Sentinels(options, Access(), timeout_s=timeout_s)


@pytest.mark.parametrize("bad", [b"", b"-ERR No such master\r\n"], ids=["silent", "ignorant"])
async def test_a_majority_of_the_sentinels_is_enough(bad: bytes) -> None:
    """One of three that is silent, or does not know the primary, does not matter."""
    async with sentinels(lambda: NAMED, lambda: bad, lambda: NAMED, timeout_s=20.0) as three:
        assert await three.primary() == FIRST


async def test_without_a_majority_nobody_is_the_primary() -> None:
    """What a minority says may be old: it is not gone by."""
    two_bad = (lambda: b"-ERR a\r\n", lambda: b"-ERR a\r\n")
    async with sentinels(lambda: NAMED, *two_bad, timeout_s=20.0) as three:
        with pytest.raises(StoreUnavailable, match="1 of 3 sentinels answered"):
            await three.primary()
        with pytest.raises(StoreUnavailable):
            await three.connect()
        assert not await three.name_another()


async def test_the_newest_configuration_wins() -> None:
    """A sentinel that has not heard of the fail-over yet is overruled."""
    async with sentinels(lambda: NAMED, lambda: NEWER, timeout_s=20.0) as both:
        assert await both.primary() == SECOND


@pytest.mark.parametrize(
    "reply", [b"*0\r\n", mapping(ip="h", port="x", config_epoch=1), mapping(ip="h"), b"_\r\n"]
)
async def test_an_answer_that_cannot_be_read_is_none(reply: bytes) -> None:
    """Nonsense is not taken for an address."""
    async with sentinels(lambda: reply, timeout_s=20.0) as one:
        with pytest.raises(StoreUnavailable, match="cannot be read"):
            await one.primary()


async def test_another_primary_is_told_once_while_somebody_uses_the_former() -> None:
    """Of two connections one went to the former primary: both must ask again, but only once."""
    told = [NAMED]
    async with sentinels(lambda: told[0], timeout_s=20.0) as one:
        await one.connect()
        assert not await one.name_another()
        told[0] = NEWER
        await one.connect()
        assert await one.name_another()
        assert not await one.name_another()
        await one.connect()
        assert not await one.name_another()
