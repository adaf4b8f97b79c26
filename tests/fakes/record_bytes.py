"""Packs and unpacks records as the scripts do, so that tests can build, read and age them.

Written apart from `proxy.core.record`, which only reads: two readings of one layout check each
other. Times are milliseconds of the store's clock.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

FORMAT: Final = b"\x01"
PAST_MS: Final = 1
"""A time that was over long ago."""

UNKNOWN_TABLE: Final = bytes(16)

_ENTRY_HEAD: Final = struct.Struct(">2s8s8s16sQQQ")
_ENTRY_BYTES_MIN: Final = 67
_LEASE: Final = struct.Struct(">2s8s16sQc")
_MARKER: Final = struct.Struct(">16s8sQc")
_SCOPE: Final = struct.Struct(">2s8s8sQQ16sQH")
_SCOPE_MARKER: Final = struct.Struct(">16sQ")


@dataclass(frozen=True, slots=True)
class EntryBytes:
    """State V; `payload` is whatever follows the times."""

    incarnation: bytes
    generation: bytes
    digest: bytes
    filled_ms: int
    soft_ms: int
    hard_ms: int
    payload: bytes

    def pack(self) -> bytes:
        """Return the record."""
        identity = (self.incarnation, self.generation, self.digest)
        times = (self.filled_ms, self.soft_ms, self.hard_ms)
        return _ENTRY_HEAD.pack(b"V" + FORMAT, *identity, *times) + self.payload

    def usable(self, incarnation: bytes, now_ms: int) -> bool:
        """Tell whether somebody may still be served with it."""
        return self.incarnation == incarnation and self.hard_ms > now_ms


@dataclass(frozen=True, slots=True)
class LeaseBytes:
    """State L; `kept` is the entry that serves meanwhile."""

    incarnation: bytes
    token: bytes
    deadline_ms: int
    strong: bool
    kept: EntryBytes | None = None

    def pack(self) -> bytes:
        """Return the record."""
        fields = (self.incarnation, self.token, self.deadline_ms, _flag(self.strong))
        head = _LEASE.pack(b"L" + FORMAT, *fields)
        return head + (self.kept.pack() if self.kept else b"")


@dataclass(frozen=True, slots=True)
class Marker:
    """One writer of a P record."""

    token: bytes
    incarnation: bytes
    deadline_ms: int
    solo: bool


@dataclass(frozen=True, slots=True)
class PendingBytes:
    """State P; `hidden` is the entry that comes back when nothing was changed."""

    markers: tuple[Marker, ...]
    hidden: EntryBytes | None = None

    def pack(self) -> bytes:
        """Return the record."""
        packed = [
            _MARKER.pack(each.token, each.incarnation, each.deadline_ms, _flag(each.solo))
            for each in self.markers
        ]
        head = b"P" + FORMAT + len(packed).to_bytes(2, "big")
        return head + b"".join(packed) + (self.hidden.pack() if self.hidden else b"")


@dataclass(frozen=True, slots=True)
class TombstoneBytes:
    """State T."""

    until_ms: int

    def pack(self) -> bytes:
        """Return the record."""
        return b"T" + FORMAT + self.until_ms.to_bytes(8, "big")


@dataclass(frozen=True, slots=True)
class ScopeBytes:
    """State G; each marker is a token and a deadline."""

    incarnation: bytes
    generation: bytes
    markers: tuple[tuple[bytes, int], ...] = ()
    raised_ms: int = 0
    pages_from_ms: int = 0
    table_id: bytes = UNKNOWN_TABLE
    checked_ms: int = 0

    def pack(self) -> bytes:
        """Return the record."""
        head = _SCOPE.pack(
            b"G" + FORMAT,
            self.incarnation,
            self.generation,
            self.raised_ms,
            self.pages_from_ms,
            self.table_id,
            self.checked_ms,
            len(self.markers),
        )
        return head + b"".join(_SCOPE_MARKER.pack(*each) for each in self.markers)


ItemBytes = EntryBytes | LeaseBytes | PendingBytes | TombstoneBytes
AnyBytes = ItemBytes | ScopeBytes


def unpack(raw: bytes) -> AnyBytes | None:
    """Return the record's parts; None for a record of another release."""
    if raw[1:2] != FORMAT:
        return None
    match raw[:1]:
        case b"V":
            return _entry(raw)
        case b"L":
            _, incarnation, token, deadline_ms, strong = _LEASE.unpack_from(raw)
            kept = raw[_LEASE.size :]
            return LeaseBytes(incarnation, token, deadline_ms, strong == b"1", _entry(kept))
        case b"P":
            end = 4 + int.from_bytes(raw[2:4], "big") * _MARKER.size
            markers = tuple(
                Marker(token, incarnation, deadline_ms, solo == b"1")
                for token, incarnation, deadline_ms, solo in _MARKER.iter_unpack(raw[4:end])
            )
            return PendingBytes(markers, _entry(raw[end:]))
        case b"T":
            return TombstoneBytes(int.from_bytes(raw[2:10], "big"))
        case b"G":
            _, incarnation, generation, raised_ms, pages_from_ms, *table, _ = _SCOPE.unpack_from(
                raw
            )
            writers = tuple(_SCOPE_MARKER.iter_unpack(raw[_SCOPE.size :]))
            times = (raised_ms, pages_from_ms)
            return ScopeBytes(incarnation, generation, writers, *times, *table)
        case _:
            return None


def _entry(raw: bytes) -> EntryBytes | None:
    if len(raw) < _ENTRY_BYTES_MIN:
        return None
    _, incarnation, generation, digest, filled_ms, soft_ms, hard_ms = _ENTRY_HEAD.unpack_from(raw)
    payload = raw[_ENTRY_HEAD.size :]
    return EntryBytes(incarnation, generation, digest, filled_ms, soft_ms, hard_ms, payload)


def expired(record: AnyBytes) -> AnyBytes:
    """Return the record with the deadline of its lease or markers in the past, entries as fresh."""
    match record:
        case LeaseBytes():
            return replace(record, deadline_ms=PAST_MS)
        case PendingBytes(markers=markers):
            dead = tuple(replace(each, deadline_ms=PAST_MS) for each in markers)
            return replace(record, markers=dead)
        case ScopeBytes(markers=writers):
            return replace(record, markers=tuple((token, PAST_MS) for token, _ in writers))
        case _:
            return record


def timed(record: AnyBytes, change: Callable[[int], int]) -> AnyBytes:
    """Return the record with every time in it replaced by what `change` makes of it."""

    def entry(old: EntryBytes) -> EntryBytes:
        times = (change(old.filled_ms), change(old.soft_ms), change(old.hard_ms))
        return EntryBytes(old.incarnation, old.generation, old.digest, *times, old.payload)

    match record:
        case EntryBytes():
            return entry(record)
        case LeaseBytes(kept=kept):
            moved = entry(kept) if kept else None
            return replace(record, deadline_ms=change(record.deadline_ms), kept=moved)
        case PendingBytes(markers=markers, hidden=hidden):
            changed = tuple(replace(each, deadline_ms=change(each.deadline_ms)) for each in markers)
            return PendingBytes(changed, entry(hidden) if hidden else None)
        case TombstoneBytes():
            return TombstoneBytes(change(record.until_ms))
        case ScopeBytes(pages_from_ms=pages_from_ms, checked_ms=checked_ms):
            until = tuple((token, change(deadline_ms)) for token, deadline_ms in record.markers)
            return replace(
                record,
                markers=until,
                raised_ms=change(record.raised_ms),
                pages_from_ms=change(pages_from_ms) if pages_from_ms else 0,
                checked_ms=change(checked_ms) if checked_ms else 0,
            )


def _flag(given: bool) -> bytes:  # noqa: FBT001 - one value
    return b"1" if given else b"0"
