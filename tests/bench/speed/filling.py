"""Puts entries where hits are to find them: through the server, or for a million, by copying."""

from __future__ import annotations

import itertools
import math
from typing import Final

from proxy.core.cache_key import KeySpace
from proxy.core.values import TableName
from tests.bench.speed.load import Load, key_of
from tests.bench.speed.plan import (
    HITS,
    PATHS,
    SIZES,
    SMALL,
    USUAL_CONNECTIONS,
    USUAL_KEYS,
    Path,
    Question,
)
from tests.bench.speed.world import World
from tests.support.proxy_process import REGION
from tests.support.raw_store import RawStore

COPIES_AT_ONCE: Final = 5_000


def fill(world: World, keys_max: int) -> None:
    """Make every path that answers from a cache find its keys there.

    Args:
        world: where the servers run.
        keys_max: the most keys that a cell of the hits asks for.
    """
    for path in PATHS:
        for size in SIZES:
            if (path.server, size) in world.endpoints and path.question is Question.READ:
                # What was missed is stored; a copy comes with the read after that.
                for _ in range(2 if path in HITS else 1):
                    read_each(world, path, size, min(USUAL_KEYS, keys_max))
    copy_entries(world, keys_max)
    for path in HITS:
        # The near cache may refuse what it sees for the first time.
        if path.server not in world.missing and path.server != "dynaside":
            for _ in range(2):
                read_each(world, path, SMALL, keys_max)


def read_each(world: World, path: Path, size_bytes: int, keys: int) -> None:
    """Read every key of a path once, in order."""
    load = Load(Question.NEW, path.table, size_bytes, USUAL_CONNECTIONS, keys=keys, count=keys)
    world.ask(path.server, load)


def copy_entries(world: World, keys: int) -> None:
    """Store entries for all keys of the small hits, made from that of the first one.

    Through a proxy a million would take minutes. Nothing in an entry tells its item but the
    digest.
    """
    space = KeySpace(world.namespaces[SMALL], REGION)
    table = TableName("items")
    first = space.item(table, key_of(0))
    with RawStore(world.store.address) as raw:
        record, left_ms = raw.pipeline([("GET", first.cache_key), ("PTTL", first.cache_key)])
        assert record is not None, "the first key was read through a proxy"
        assert record.count(first.digest) == 1, "an entry carries its digest"
        numbers = iter(range(1, keys))
        for _ in range(math.ceil((keys - 1) / COPIES_AT_ONCE)):
            items = [
                space.item(table, key_of(number))
                for number in itertools.islice(numbers, COPIES_AT_ONCE)
            ]
            raw.pipeline(
                (
                    "SET",
                    each.cache_key,
                    record.replace(first.digest, each.digest),
                    "PX",
                    int(left_ms),
                )
                for each in items
            )
