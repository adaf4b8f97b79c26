"""A proxy's links: what servers tell of each other leads to links, whatever pieces it comes in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.chaos.links import Entrance, StoreLinks

NODES = (
    b"*2\r\n:0\r\n*2\r\n$9\r\n127.0.0.1\r\n:40001\r\n-MOVED 7 127.0.0.1:40002\r\n$5\r\n40001\r\n"
)
SENTINELS = b"%2\r\n$4\r\nport\r\n$5\r\n40001\r\n$5\r\nepoch\r\n$1\r\n4\r\n"


def pieces(said: bytes, size: int) -> Iterator[bytes]:
    return (said[at : at + size] for at in range(0, len(said), size))


async def heard(said: bytes, size: int, *, sentinel: bool, exchange: bool = True) -> bytes:
    """Return what a client hears of what a server says, a piece at a time."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces(said, size):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    entrances = [Entrance(address, 40001, sentinel), Entrance(address, 40002, sentinel)]
    links = StoreLinks(entrances, exchange=exchange)
    await links.listen()
    reader, writer = await asyncio.open_connection("127.0.0.1", links.all[0].port)
    told = await reader.read(-1)
    writer.close()
    await links.close()
    server.close()
    for at, link in enumerate(links.all, start=1):
        told = told.replace(b"%d" % link.port, b"<link %d>" % at)
    return told


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_node_tells_links_instead_of_nodes(size: int) -> None:
    """Numbers of maps and redirections are exchanged; a text that looks like a port is not."""
    told = await heard(NODES, size, sentinel=False)
    expected = NODES.replace(b":40001", b":<link 1>").replace(b":40002", b":<link 2>")
    assert told == expected


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_sentinel_tells_a_link_instead_of_the_primary(size: int) -> None:
    """Its ports are texts."""
    told = await heard(SENTINELS, size, sentinel=True)
    assert told == SENTINELS.replace(b"40001", b"<link 1>")


async def test_where_no_server_tells_of_others_nothing_is_changed() -> None:
    """An item may hold any bytes."""
    assert await heard(b":40001\r\nrest", 5, sentinel=False, exchange=False) == b":40001\r\nrest"


@pytest.mark.parametrize(
    ("sentinels", "sizes"), [([], [1]), ([False] * 3, [3, 1, 1, 1]), ([False, True], [2, 1, 1])]
)
def test_all_links_break_or_one_kind_or_one(sentinels: list[bool], sizes: list[int]) -> None:
    """The ways of a store of one server, of a cluster, of servers with sentinels."""
    kinds = sentinels or [False]
    entrances = [Entrance(("127.0.0.1", 1), 40001, each) for each in kinds]
    links = StoreLinks(entrances, exchange=False)
    assert [len(way) for way in links.ways()] == sizes
