"""The bytes of one record in the store: four states for an item or a page, one for a scope.

The Lua scripts in `proxy/edge/scripts` read and write the same layouts; `tests/contracts` holds
both sides to them. All integers are big-endian, all times are milliseconds of the *store's* clock.

    state  then
    V      format, incarnation 8, generation 8, digest 16, filled 8, soft 8, hard 8, payload
    L      format, incarnation 8, token 16, deadline 8, strong 1 ("0"/"1"), kept V or no more
    P      format, count 2, count × (token 16, incarnation 8, deadline 8, solo 1), V or no more
    T      format, until 8
    G      format, incarnation 8, generation 8, raised 8, pages from 8, table id 16, checked 8,
           count 2, count × (token 16, deadline 8)

    payload of V: flags 1, item bytes 4, crc32 of the answer's body 4, the body as it is packed
    flags: bit 0 negative entry, bit 1 the body is one frame of zstd, bit 2 the body stands in the
    fields of a hash; other bits are unknown

A record is one string, or the field '' of a hash whose other fields are the top-level attributes of
the one entry in it: name, spelled as JSON, to value, as upstream spelled it. A record without an
entry in it is always a string.

Two releases may share one store: a record of unknown format or state decodes to FOREIGN, a writer
in flight that never ends, so that nobody takes it for "nothing there".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Final, NamedTuple

from proxy.core.values import Digest, Generation, Incarnation, Layout

RECORD_FORMAT: Final = 1

_ENTRY: Final = struct.Struct(">2s8s8s16sQQQBII")
_LEASE: Final = struct.Struct(">cB8s16sQc")
_PENDING: Final = struct.Struct(">cBH")
_TOMBSTONE: Final = struct.Struct(">cBQ")
_SCOPE: Final = struct.Struct(">cB8s8sQQ16sQH")
_SCOPE_MARKER: Final = struct.Struct(">16sQ")
_DEADLINE_IN_MARKER: Final = struct.Struct(">24xQx")
_PAYLOAD: Final = struct.Struct(">BII")
_NEGATIVE: Final = 1

_take_entry: Final = _ENTRY.unpack_from
_ENTRY_MARK: Final = b"V" + bytes([RECORD_FORMAT])

ENTRY_OVERHEAD_BYTES: Final = _ENTRY.size
"""What an entry adds to the answer's body."""


class Packing(IntEnum):
    """How a record holds its entry's body; the flags that say so."""

    PLAIN = 0
    ZSTD = 2
    FIELDS = 4


_PACKINGS: Final[dict[int, Packing]] = {packing.value: packing for packing in Packing}


class Entry(NamedTuple):
    """What the store holds for an item: the answer ready to send, or the item's absence.

    A tuple, since there is one with every lookup and a frozen dataclass takes several times as
    long.

    Args:
        incarnation: the store's primary that took it.
        generation: the table's generation it was filled under.
        digest: whose entry it is.
        filled_ms: when upstream was asked, on the store's clock; age counts from here.
        soft_ms: fresh before this time.
        hard_ms: never served from this time on.
        negative: True when the entry says that there is no such item.
        item_bytes: the item's size by DynamoDB's rules, for capacity sums; 0 for an absence.
        crc32: of `body` once it is unpacked, as `x-amz-crc32` gives it.
        body: the answer's body, `{"Item":{…}}` or `{}`, packed.
        packing: of `body`; anything but PLAIN never leaves the store's adapter.
        names: of a partial entry, the only attributes that were looked for; None for a whole one.
    """

    incarnation: Incarnation
    generation: Generation
    digest: Digest
    filled_ms: int
    soft_ms: int
    hard_ms: int
    negative: bool
    item_bytes: int
    crc32: int
    body: bytes
    packing: Packing = Packing.PLAIN
    names: tuple[str, ...] | None = None

    def covers(self, names: tuple[str, ...] | None) -> bool:
        """Tell whether these attributes, None for all, can be answered from the body as it is."""
        if self.packing is not Packing.PLAIN:
            return False
        return self.names is None or (names is not None and set(names) <= set(self.names))


class EntryDraft(NamedTuple):
    """An entry on its way into the store, which adds its own times.

    Args:
        age_s: seconds since upstream was asked.
        fresh_s: how long it is fresh, counted from then.
        hard_s: how long it may be served at all, counted from then; ≥ `fresh_s`.
        negative, item_bytes, crc32, body: as in `Entry`; the body is not packed yet.
        layout, compress_above_bytes: as in `TablePolicy`.
    """

    age_s: float
    fresh_s: float
    hard_s: float
    negative: bool
    item_bytes: int
    crc32: int
    body: bytes
    layout: Layout = Layout.BLOB
    compress_above_bytes: int | None = None

    def payload(self, packing: Packing, packed: bytes) -> bytes:
        """Return the part of the record that scripts never look into, for a packed body."""
        flags = packing | (_NEGATIVE if self.negative else 0)
        return _PAYLOAD.pack(flags, self.item_bytes, self.crc32) + packed


@dataclass(frozen=True, slots=True)
class Leased:
    """A proxy is filling; `kept` is the older entry that still serves meanwhile."""

    incarnation: Incarnation
    deadline_ms: int
    kept: Entry | None


@dataclass(frozen=True, slots=True)
class Pending:
    """Writes are in flight until `deadline_ms`: nobody is served, nobody fills."""

    deadline_ms: int


@dataclass(frozen=True, slots=True)
class Tombstone:
    """Invalidated a moment ago: a fill must read with ConsistentRead until `until_ms`."""

    until_ms: int


Record = Entry | Leased | Pending | Tombstone


@dataclass(frozen=True, slots=True)
class ScopeRecord:
    """A scope's generation, and until when each write in flight on all of it keeps it uncached.

    A scope is what a generation is kept for: a table, the items that share one key attribute's
    value, or all items of a table. A table's record also says which table it is and when that was
    checked, for the scripts alone.

    Args:
        incarnation: of the connection that wrote it.
        generation: what entries must have been filled under.
        deadlines_ms: of each write in flight.
        raised_ms: when the generation was made or raised last.
        pages_from_ms: in a table's record, from when on pages may be served; 0 while nobody asked
            for any. Until then some writer may still run that did not know of it.
    """

    incarnation: Incarnation
    generation: Generation
    deadlines_ms: tuple[int, ...]
    raised_ms: int = 0
    pages_from_ms: int = 0

    def stands(self, incarnation: Incarnation, store_now_ms: int) -> bool:
        """Tell whether a reader may go by the record; otherwise it must be learned anew.

        Not where every writer in it died. Nor where a connection of another incarnation wrote it:
        a fail-over may bring an older generation back, while entries filled under it live on a
        primary that did not fail.
        """
        died = bool(self.deadlines_ms) and max(self.deadlines_ms) <= store_now_ms
        return self.incarnation == incarnation and not died

    @property
    def settled(self) -> bool:
        """Whether the generation counts: no writer in flight, and none that died."""
        return not self.deadlines_ms


FOREIGN: Final = Pending(deadline_ms=2**63)
"""A record of another release, or damaged bytes."""


def decode_record(raw: bytes) -> Record:
    """Decode an item's record; FOREIGN for whatever this release does not know.

    Raises: nothing, whatever the bytes.
    """
    if len(raw) < 2 or raw[1] != RECORD_FORMAT:  # noqa: PLR2004 - state and format
        return FOREIGN
    try:
        match raw[:1]:
            case b"V":
                return _decode_entry(raw) or FOREIGN
            case b"L":
                _, _, incarnation, _, deadline_ms, _ = _LEASE.unpack_from(raw)
                kept = raw[_LEASE.size :]
                return Leased(
                    Incarnation(incarnation), deadline_ms, _decode_entry(kept) if kept else None
                )
            case b"P":
                _, _, count = _PENDING.unpack_from(raw)
                size = _DEADLINE_IN_MARKER.size
                deadlines = [
                    _DEADLINE_IN_MARKER.unpack_from(raw, _PENDING.size + size * i)[0]
                    for i in range(count)
                ]
                return Pending(max(deadlines, default=0))
            case b"T":
                _, _, until_ms = _TOMBSTONE.unpack_from(raw)
                return Tombstone(until_ms)
            case _:
                return FOREIGN
    except struct.error:
        return FOREIGN


@lru_cache(maxsize=128)  # every lookup reads its table's record, which seldom changes
def decode_scope(raw: bytes) -> ScopeRecord | None:
    """Decode a scope's record; None for a format this release does not know."""
    try:
        state, version, incarnation, generation, raised_ms, pages_from_ms, _, _, count = (
            _SCOPE.unpack_from(raw)
        )
        if state != b"G" or version != RECORD_FORMAT:
            return None
        deadlines = [
            _SCOPE_MARKER.unpack_from(raw, _SCOPE.size + _SCOPE_MARKER.size * i)[1]
            for i in range(count)
        ]
    except struct.error:
        return None
    return ScopeRecord(
        Incarnation(incarnation),
        Generation(generation),
        tuple(deadlines),
        raised_ms,
        pages_from_ms,
    )


def _decode_entry(raw: bytes) -> Entry | None:
    mark, incarnation, generation, digest, filled_ms, soft_ms, hard_ms, flags, item_bytes, crc32 = (
        _take_entry(raw)
    )
    packing = _PACKINGS.get(flags & ~_NEGATIVE)
    if mark != _ENTRY_MARK or packing is None:
        return None
    return Entry(
        *(incarnation, generation, digest, filled_ms, soft_ms, hard_ms, flags & _NEGATIVE != 0),
        *(item_bytes, crc32, raw[ENTRY_OVERHEAD_BYTES:], packing),
    )
