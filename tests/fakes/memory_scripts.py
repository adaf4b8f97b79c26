"""The executable specification of the Lua scripts: the same steps, in plain Python.

`tests/model/test_scripts_against_model.py` drives both in parallel and compares each reply and each
record they leave.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from proxy.core.policy import FencePolicy
from tests.fakes.record_bytes import (
    UNKNOWN_TABLE,
    EntryBytes,
    ItemBytes,
    LeaseBytes,
    Marker,
    PendingBytes,
    ScopeBytes,
    TombstoneBytes,
    unpack,
)

PENDING_MAX: Final = 1024


Fields = tuple[tuple[bytes, bytes], ...]
"""The attributes in a hash, in the order of their names."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A record's bytes, and when the store drops it (None: never).

    `fields` are the attributes of a hash; None for a string.
    """

    raw: bytes
    expires_ms: int | None
    fields: Fields | None = None


@dataclass(frozen=True, slots=True)
class NewEntry:
    """What fill and a storing end bring: times in milliseconds, counted from `age_ms` ago.

    `sent_ms` is a time of the store's clock at which the command was not sent yet.

    `fields` are those of an entry that is to be a hash.
    """

    generation: bytes
    digest: bytes
    sent_ms: int
    age_ms: int
    soft_ms: int
    hard_ms: int
    payload: bytes
    fields: Fields | None = None


@dataclass(frozen=True, slots=True)
class Granted:
    """The reply of lease: its word, the record with "hit", strong with "leased", ms with "wait"."""

    word: str
    detail: bytes | int = 0
    fields: Fields | None = None


@dataclass(frozen=True, slots=True)
class ScopeCall:
    """What every step on a scope's record brings; `keep_ms` is 0 for a table's."""

    step: str
    incarnation: bytes
    fresh: bytes
    token: bytes = b""
    keep_ms: int = 0


class Records(dict[bytes, Stored]):
    """Records by name; tells whoever watches of each that is written or deleted."""

    def __init__(self, records: Mapping[bytes, Stored] = MappingProxyType({})) -> None:
        super().__init__(records)
        self.watchers: list[Callable[[bytes | None], None]] = []

    def __setitem__(self, key: bytes, stored: Stored) -> None:
        super().__setitem__(key, stored)
        self._tell(key)

    def __delitem__(self, key: bytes) -> None:
        super().__delitem__(key)
        self._tell(key)

    def clear(self) -> None:
        """Drop all; watchers are told of none by name."""
        super().clear()
        self._tell(None)

    def _tell(self, key: bytes | None) -> None:
        for watcher in self.watchers:
            watcher(key)


class MemoryScripts:
    """All steps over a dict of records.

    Args:
        now_ms: the store's clock.
        fence: lease, marker and tombstone times.
    """

    def __init__(self, now_ms: Callable[[], int], fence: FencePolicy) -> None:
        self.records = Records()
        self._now_ms = now_ms
        self._lease_ms = round(fence.lease_s * 1000)
        self._marker_ms = round(fence.marker_s * 1000)
        self._tombstone_ms = round(fence.tombstone_s * 1000)

    def get(self, key: bytes) -> bytes | None:
        """Return a record's bytes unless its time is over."""
        stored = self.stored(key)
        return stored.raw if stored is not None else None

    def stored(self, key: bytes) -> Stored | None:
        """Return a record unless its time is over."""
        stored = self.records.get(key)
        if stored is None or (
            stored.expires_ms is not None and stored.expires_ms <= self._now_ms()
        ):
            return None
        return stored

    def lease(
        self,
        key: bytes,
        incarnation: bytes,
        *,
        generation: bytes,
        digest: bytes,
        token: bytes,
        force: bool,
    ) -> Granted:
        """Ask for permission to fill."""
        now_ms = self._now_ms()

        def counts(entry: EntryBytes | None) -> bool:
            return (
                entry is not None
                and entry.usable(incarnation, now_ms)
                and (entry.generation, entry.digest) == (generation, digest)
            )

        raw, record = self._read(key)
        strong, kept = False, None
        match record:
            case None if raw is not None:
                return Granted("pending")
            case PendingBytes(markers=markers):
                if any(each.deadline_ms > now_ms for each in markers):
                    return Granted("pending")
                strong = True  # every writer died: a replica may not know yet what they wrote
            case TombstoneBytes(until_ms=until_ms):
                strong = until_ms > now_ms
            case LeaseBytes(deadline_ms=deadline_ms):
                if record.incarnation == incarnation and deadline_ms > now_ms:
                    return Granted("wait", deadline_ms - now_ms)
                strong, kept = record.strong, record.kept
            case EntryBytes(soft_ms=soft_ms):
                if counts(record) and soft_ms > now_ms and not force:
                    return Granted("hit", record.pack(), self._fields(key))
                kept = record
        lifetime_ms = self._lease_ms + (self._tombstone_ms if strong else 0)
        if kept is not None and counts(kept):
            lifetime_ms = max(lifetime_ms, kept.hard_ms - now_ms)
        else:
            kept = None
        lease = LeaseBytes(incarnation, token, now_ms + self._lease_ms, strong, kept)
        self._put(key, lease, lifetime_ms, self._fields(key) if kept else None)
        return Granted("leased", int(strong))

    def fill(self, key: bytes, incarnation: bytes, *, token: bytes, new: NewEntry) -> bool:
        """Store an entry under its lease."""
        if self._leased_to(key, incarnation, token) is None:
            return False
        if self._put_new_entry(key, incarnation, new):
            return True
        del self.records[key]
        return False

    def release(self, key: bytes, incarnation: bytes, *, token: bytes) -> bool:
        """Give a lease back unused."""
        lease = self._leased_to(key, incarnation, token)
        if lease is None:
            return False
        if lease.kept is not None and lease.kept.usable(incarnation, self._now_ms()):
            self._put_entry(key, lease.kept, self._fields(key))
        elif lease.strong:
            self._put_tombstone(key)
        else:
            del self.records[key]
        return True

    def begin(self, key: bytes, incarnation: bytes, *, token: bytes, gate_open: bool) -> bool:
        """Mark a write in flight."""
        deadline_ms = self._now_ms() + self._marker_ms
        raw, record = self._read(key)
        mine = Marker(token, incarnation, deadline_ms, gate_open)
        hidden: EntryBytes | None = None
        markers: tuple[Marker, ...] = ()
        match record:
            case PendingBytes() if any(each.token == token for each in record.markers):
                again = tuple(
                    replace(each, deadline_ms=deadline_ms) if each.token == token else each
                    for each in record.markers
                )
                self._put_pending(key, PendingBytes(again, record.hidden))
                return True
            case PendingBytes():
                live = [each for each in record.markers if each.deadline_ms > self._now_ms()]
                if len(live) >= PENDING_MAX:
                    return False
                markers = _none_solo(tuple(live))
                mine = replace(mine, solo=False)
            case EntryBytes():
                hidden = record
            case LeaseBytes():
                hidden = record.kept
            case None if raw is not None:
                mine = replace(mine, solo=False)  # perhaps a writer of another release
        if hidden is not None and not hidden.usable(incarnation, self._now_ms()):
            hidden = None
        self._put_pending(key, PendingBytes((*markers, mine), hidden))
        return True

    def end(
        self,
        key: bytes,
        incarnation: bytes,
        *,
        token: bytes,
        outcome: str,
        new: NewEntry | None = None,
    ) -> str:
        """End a write of known outcome S, I or A; return the name of a FenceResult."""
        _, record = self._read(key)
        markers = record.markers if isinstance(record, PendingBytes) else ()
        hidden = record.hidden if isinstance(record, PendingBytes) else None
        mine = next((each for each in markers if each.token == token), None)
        others = tuple(each for each in markers if each.token != token)
        if any(each.deadline_ms > self._now_ms() for each in others):
            self._put_pending(key, PendingBytes(_none_solo(others)))
            return "overlapped" if mine else "lost"
        if mine is None:
            self._put_tombstone(key)
            return "lost"
        if mine.solo and mine.incarnation == incarnation:
            if outcome == "S" and new is not None and self._put_new_entry(key, incarnation, new):
                return "stored"
            if outcome == "A" and hidden and hidden.usable(incarnation, self._now_ms()):
                self._put_entry(key, hidden, self._fields(key))
                return "restored"
        self._put_tombstone(key)
        return "invalidated"

    def invalidate(self, key: bytes) -> None:
        """Replace whatever is there by a tombstone; keep writers in flight, but none is solo."""
        _, record = self._read(key)
        if isinstance(record, PendingBytes):
            self._put_pending(key, PendingBytes(_none_solo(record.markers)))
        else:
            self._put_tombstone(key)

    def scope(self, key: bytes, call: ScopeCall) -> bytes | None:
        """Take any other step on a scope's record; None when it is full."""
        now_ms, step = self._now_ms(), call.step
        raw, known = self._scope(key)
        before = self._counting(known, call)
        announces = step == "announce" and before.pages_from_ms == 0
        reads = step in ("learn", "announce")
        if reads and raw is not None and known is None:
            return raw
        mine = known is not None and any(each == call.token for each, _ in known.markers)
        others = [each for each in known.markers if each[0] != call.token] if known else []
        live = [each for each in others if each[1] > now_ms]
        dead = len(live) < len(others)
        if reads and before is known and not dead and not announces:
            return raw
        if step == "begin":
            if len(live) >= PENDING_MAX:
                return None
            live.append((call.token, now_ms + self._marker_ms))
        after = replace(before, markers=tuple(live))
        ends = step in ("abort", "end")
        if dead or step == "remake" or (ends and not mine):
            after = replace(after, generation=call.fresh, raised_ms=now_ms)
        elif step == "end":
            raised = (int.from_bytes(before.generation[4:], "big") + 1) % 2**32
            generation = before.generation[:4] + raised.to_bytes(4, "big")
            after = replace(after, generation=generation, raised_ms=now_ms)
        if announces:
            after = replace(after, pages_from_ms=now_ms + self._marker_ms)
        kept = before is known and after.generation == before.generation
        if call.keep_ms and ends and not live and not kept:
            if key in self.records:
                del self.records[key]
        else:
            lives_ms = now_ms + call.keep_ms + self._marker_ms if call.keep_ms else None
            self.records[key] = Stored(after.pack(), lives_ms)
        return after.pack()

    def due(self, key: bytes, call: ScopeCall, *, interval_ms: int) -> int | bytes:
        """Claim a table's check and return its record, or return how long nobody need check."""
        raw, known = self._scope(key)
        if raw is not None and known is None:
            return interval_ms
        before = self._counting(known, call)
        left_ms = before.checked_ms + interval_ms - self._now_ms()
        if left_ms > 0:
            return left_ms
        return self._put_table(key, replace(before, checked_ms=self._now_ms()), call)

    def identify(
        self, key: bytes, call: ScopeCall, *, table_id: bytes, sure_ms: int
    ) -> int | bytes:
        """Remember which table this is; return its record where that made it another, else 0."""
        now_ms = self._now_ms()
        raw, known = self._scope(key)
        before = self._counting(known, call)
        if before.table_id == table_id or (raw is not None and known is None):
            return 0
        after = replace(before, table_id=table_id)
        other = before.table_id != UNKNOWN_TABLE or now_ms - before.raised_ms > sure_ms
        if other:
            after = replace(after, generation=call.fresh, raised_ms=now_ms)
        written = self._put_table(key, after, call)
        return written if other else 0

    def _put_table(self, key: bytes, record: ScopeBytes, call: ScopeCall) -> bytes:
        """Put a table's record; a writer in it that died raises."""
        now_ms = self._now_ms()
        live = tuple(each for each in record.markers if each[1] > now_ms)
        if len(live) < len(record.markers):
            record = replace(record, markers=live, generation=call.fresh, raised_ms=now_ms)
        self.records[key] = Stored(record.pack(), None)
        return record.pack()

    def _scope(self, key: bytes) -> tuple[bytes | None, ScopeBytes | None]:
        raw = self.get(key)
        record = unpack(raw) if raw is not None else None
        return raw, record if isinstance(record, ScopeBytes) else None

    def _counting(self, known: ScopeBytes | None, call: ScopeCall) -> ScopeBytes:
        """Return a record that counts: the known one itself, or one anew with its markers."""
        if known is not None and known.incarnation == call.incarnation:
            return known
        markers = known.markers if known is not None else ()
        return ScopeBytes(call.incarnation, call.fresh, markers, raised_ms=self._now_ms())

    def _read(self, key: bytes) -> tuple[bytes | None, ItemBytes | None]:
        raw = self.get(key)
        record = unpack(raw) if raw is not None else None
        return raw, None if isinstance(record, ScopeBytes) else record

    def _leased_to(self, key: bytes, incarnation: bytes, token: bytes) -> LeaseBytes | None:
        _, record = self._read(key)
        if isinstance(record, LeaseBytes) and (record.incarnation, record.token) == (
            incarnation,
            token,
        ):
            return record
        return None

    def _fields(self, key: bytes) -> Fields | None:
        """Return the attributes of the entry that is in a record now."""
        stored = self.stored(key)
        return stored.fields if stored is not None else None

    def _put(
        self, key: bytes, record: ItemBytes, lifetime_ms: int, fields: Fields | None = None
    ) -> None:
        expires_ms = self._now_ms() + max(1, lifetime_ms)
        self.records[key] = Stored(record.pack(), expires_ms, fields)

    def _put_entry(self, key: bytes, entry: EntryBytes, fields: Fields | None) -> None:
        self._put(key, entry, entry.hard_ms - self._now_ms(), fields)

    def _put_tombstone(self, key: bytes) -> None:
        until_ms = self._now_ms() + self._tombstone_ms
        self._put(key, TombstoneBytes(until_ms), self._tombstone_ms)

    def _put_pending(self, key: bytes, pending: PendingBytes) -> None:
        now_ms = self._now_ms()
        last_ms = max([now_ms, *(each.deadline_ms for each in pending.markers)])
        fields = self._fields(key) if pending.hidden else None
        self._put(key, pending, last_ms - now_ms + self._tombstone_ms, fields)

    def _put_new_entry(self, key: bytes, incarnation: bytes, new: NewEntry) -> bool:
        """Store an entry whose age counts from its fetch; False when its time is over."""
        filled_ms = min(self._now_ms(), new.sent_ms) - new.age_ms
        soft_ms, hard_ms = filled_ms + new.soft_ms, filled_ms + new.hard_ms
        if hard_ms <= self._now_ms():
            return False
        entry = EntryBytes(
            incarnation, new.generation, new.digest, filled_ms, soft_ms, hard_ms, new.payload
        )
        self._put_entry(key, entry, new.fields)
        return True


def _none_solo(markers: tuple[Marker, ...]) -> tuple[Marker, ...]:
    return tuple(replace(each, solo=False) for each in markers)
