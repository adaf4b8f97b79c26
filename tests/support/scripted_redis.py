"""A server that speaks RESP3 and answers as its script says, for answers that no real one gives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import hiredis

from proxy.edge.redis_connection import Address

Script = Callable[[tuple[str, ...]], bytes]
"""Takes a command's words and returns the raw reply; an empty one is silence."""

OK = b"+OK\r\n"
_HELLO = b"%1\r\n$5\r\nproto\r\n:3\r\n"


@asynccontextmanager
async def scripted_redis(script: Script) -> AsyncIterator[Address]:
    """Serve on a free port of loopback while the block runs."""
    writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        commands = hiredis.Reader(encoding="latin-1")
        while chunk := await reader.read(65536):
            commands.feed(chunk)
            while (words := commands.gets()) is not False:
                match words[0]:
                    case "HELLO":
                        writer.write(_HELLO)
                    case "CLIENT":
                        writer.write(OK)
                    case _:
                        writer.write(script(tuple(words)))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield Address(*server.sockets[0].getsockname()[:2])
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()


def bulk(text: str) -> bytes:
    """Return a text as RESP has it."""
    raw = text.encode()
    return b"$%d\r\n%b\r\n" % (len(raw), raw)


def mapping(**fields: object) -> bytes:
    """Return a map of texts as RESP3 has it; `_` in names stands for `-`."""
    pairs = [bulk(name.replace("_", "-")) + bulk(str(text)) for name, text in fields.items()]
    return b"%%%d\r\n" % len(pairs) + b"".join(pairs)
