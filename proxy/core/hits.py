"""What an entry answers to a read that asks for the whole item and nothing else."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from proxy.core.item_size import read_units
from proxy.core.record import Entry
from proxy.core.request import Answer
from proxy.core.values import Outcome, TableName

NEAR: Final = "near"
"""What Cache-Status says of a hit on a copy; of one on an absence, the other."""

NEAR_NEGATIVE: Final = "near-negative"


class HitKind(IntEnum):
    """Where an entry was found, and whether it is an absence; numbers, to choose a form by."""

    STORED = 0
    STORED_NEGATIVE = 1
    NEAR = 2
    NEAR_NEGATIVE = 3


_OUTCOMES: Final = (Outcome.HIT, Outcome.NEGATIVE_HIT) * 2
_DETAILS: Final = (None, None, NEAR, NEAR_NEGATIVE)


class Hit:
    """An answer of status 200 without fields of its own.

    Args:
        entry: a whole one.
        table: of the entry.
        near: whether it was found in this process.
        ttl_s: how long the entry stays fresh.

    Attributes:
        kind: as HitKind.
        crc32: of `body`.
        units: read capacity that was saved.
    """

    __slots__ = ("body", "crc32", "kind", "table", "ttl_s", "units")

    def __init__(self, entry: Entry, table: TableName, *, near: bool, ttl_s: int) -> None:
        self.kind = 2 * near + entry.negative
        self.body = entry.body
        self.crc32 = entry.crc32
        self.table = table
        self.units = read_units(entry.item_bytes, consistent=False)
        self.ttl_s = ttl_s

    @property
    def outcome(self) -> Outcome:
        """How the read was answered."""
        return _OUTCOMES[self.kind]

    @property
    def answer(self) -> Answer:
        """The same answer as any path gives it."""
        answer = hit_answer(self.kind, self.body, self.ttl_s)
        return answer._replace(table=self.table, crc32=self.crc32)


def hit_answer(kind: int, body: bytes, ttl_s: int) -> Answer:
    """Return the answer of a hit of some kind."""
    return Answer(200, (), body, _OUTCOMES[kind], ttl_s=ttl_s, detail=_DETAILS[kind])
