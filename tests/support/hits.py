"""Hits as some copy or entry would give them."""

from __future__ import annotations

from proxy.core.hits import Hit
from proxy.core.record import Entry
from proxy.core.values import Digest, Generation, Incarnation, TableName


def hit_entry(body: bytes = b'{"Item":{}}', *, negative: bool = False, crc32: int = 7) -> Entry:
    """Return an entry of which only the answer matters."""
    return Entry(
        *(Incarnation(bytes(8)), Generation(bytes(8)), Digest(bytes(16)), 0, 0, 0),
        *(negative, 0, crc32, body),
    )


def hit_of(
    body: bytes = b'{"Item":{}}',
    *,
    table: str = "orders",
    negative: bool = False,
    near: bool = True,
    ttl_s: int = 9,
) -> Hit:
    """Return a hit that saved half a unit."""
    return Hit(hit_entry(body, negative=negative), TableName(table), near=near, ttl_s=ttl_s)
