"""One step of the protocol as a value, performed by the executable specification.

Scripts are pure functions of a record, their arguments and the store's clock. With a clock that
stands still, a step is a value: (record before, call) → (reply, record after). The model explores
with these values; what it has used is then compared with the real scripts, call by call.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

from proxy.core.packing import unpacked
from proxy.core.policy import FencePolicy
from proxy.core.record import Entry, Leased, Packing, decode_record
from tests.fakes.memory_scripts import (
    Fields,
    MemoryScripts,
    NewEntry,
    Records,
    ScopeCall,
    Stored,
)
from tests.fakes.memory_store import beside, not_compressed

UNIT_MS: Final = 10_000_000
"""Times of records are compared in this unit, so exploring and comparing may take that long."""

LEASE_MS: Final = 3 * UNIT_MS
MARKER_MS: Final = 7 * UNIT_MS
TOMBSTONE_MS: Final = 5 * UNIT_MS
SOFT_MS: Final = 11 * UNIT_MS
HARD_MS: Final = 19 * UNIT_MS
KEEP_MS: Final = 23 * UNIT_MS
AT_ONCE_MS: Final = 2**53  # sent so late that the command cannot have waited
INTERVAL_MS: Final = 13 * UNIT_MS
SURE_MS: Final = 2 * UNIT_MS

FENCE: Final = FencePolicy(
    lease_s=LEASE_MS / 1000, marker_s=MARKER_MS / 1000, tombstone_s=TOMBSTONE_MS / 1000
)
DIGEST: Final = b"the item's digest"[:16]
PAYLOAD_HEAD: Final = bytes(9)
PAYLOAD_OF_HASH: Final = bytes([Packing.FIELDS]) + bytes(8)


class Call(NamedTuple):
    """A script's name and its ARGV."""

    step: str
    arguments: tuple[Any, ...]


class Done(NamedTuple):
    """A script's reply without the clock in it, and the record it left."""

    reply: Any
    after: Stored | None


def lease(incarnation: bytes, generation: bytes, token: bytes, *, force: bool) -> Call:
    """Ask for permission to fill."""
    arguments = (incarnation, generation, DIGEST, token, LEASE_MS, TOMBSTONE_MS, int(force))
    return Call("lease", arguments)


def fill(
    incarnation: bytes, generation: bytes, token: bytes, value: int, *, as_hash: bool = False
) -> Call:
    """Store `value` under a lease."""
    return Call("fill", (incarnation, token, *draft(generation, value, as_hash=as_hash)))


def release(incarnation: bytes, token: bytes) -> Call:
    """Give a lease back."""
    return Call("release", (incarnation, token, TOMBSTONE_MS))


def begin(incarnation: bytes, token: bytes, *, gate_open: bool = True) -> Call:
    """Mark a write in flight."""
    return Call("begin", (incarnation, token, MARKER_MS, int(gate_open), TOMBSTONE_MS))


def end(incarnation: bytes, token: bytes, outcome: str, *stored: Any) -> Call:
    """End a write; `stored` as `draft` returns it for outcome S."""
    return Call("end", (incarnation, token, outcome, TOMBSTONE_MS, *stored))


def invalidate() -> Call:
    """Replace whatever is there by a tombstone."""
    return Call("invalidate", (TOMBSTONE_MS,))


def scope(
    step: str, incarnation: bytes, fresh: bytes, token: bytes = b"", *, keep_ms: int = 0
) -> Call:
    """Take a step on a scope's record; without `keep_ms` on a table's."""
    return Call("scope", (step, fresh, token, MARKER_MS, keep_ms, incarnation))


def due(incarnation: bytes, fresh: bytes) -> Call:
    """Claim a table's check."""
    return Call("scope", ("due", fresh, b"", MARKER_MS, 0, incarnation, INTERVAL_MS))


def identify(incarnation: bytes, fresh: bytes, table_id: bytes) -> Call:
    """Say which table it is."""
    return Call("scope", ("identify", fresh, b"", MARKER_MS, 0, incarnation, table_id, SURE_MS))


def draft(
    generation: bytes,
    value: int,
    *,
    sent_ms: int = AT_ONCE_MS,
    age_ms: int = 0,
    hard_ms: int = HARD_MS,
    as_hash: bool = False,
) -> tuple[Any, ...]:
    """Return what fill and end take for a new entry that says `value`."""
    times = (generation, DIGEST, sent_ms, age_ms, SOFT_MS, hard_ms)
    if as_hash:
        words = (word for field in fields_of(value) for word in field)
        return (*times, PAYLOAD_OF_HASH, b"hash", *words)
    return (*times, PAYLOAD_HEAD + b'{"Item":{"value":%d}}' % value)


def fields_of(value: int) -> Fields:
    """Return the attributes of an entry that says `value`; one is in no other's."""
    return (b'"only in %d"' % value, b"0"), (b'"value"', b"%d" % value)


def value_of(raw: bytes, fields: Fields | None) -> int:
    """Return what an entry says to whoever decodes it."""
    record = decode_record(raw)
    inside = record.kept if isinstance(record, Leased) else record
    assert isinstance(inside, Entry), "no entry"
    entry = unpacked(inside, beside(fields, None), not_compressed)
    assert entry is not None, "an entry that does not belong to its fields"
    item = json.loads(entry.body)["Item"]
    assert fields is None or len(item) == len(fields_of(0)), "attributes of two entries"
    return int(item["value"])


class Specification:
    """Performs calls on records in memory and remembers all it was asked.

    Args:
        now_ms: where the store's clock stands still.
    """

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.performed: dict[tuple[Stored | None, Call], Done] = {}
        self._scripts = MemoryScripts(lambda: now_ms, FENCE)

    def perform(self, before: Stored | None, call: Call) -> Done:
        """Return what a call does to a record."""
        if (done := self.performed.get((before, call))) is None:
            self._scripts.records = Records({} if before is None else {b"": before})
            reply = self._run(call)
            done = Done(reply, self._scripts.records.get(b""))
            self.performed[before, call] = done
        return done

    def _run(self, call: Call) -> Any:
        scripts, arguments = self._scripts, call.arguments
        match call.step:
            case "lease":
                incarnation, generation, digest, token, _, _, force = arguments
                granted = scripts.lease(
                    b"",
                    incarnation,
                    generation=generation,
                    digest=digest,
                    token=token,
                    force=bool(force),
                )
                return (granted.word, granted.detail, granted.fields)
            case "fill":
                incarnation, token, *new = arguments
                return int(scripts.fill(b"", incarnation, token=token, new=_new_entry(*new)))
            case "release":
                return int(scripts.release(b"", arguments[0], token=arguments[1]))
            case "begin":
                incarnation, token, _, gate, _ = arguments
                return int(scripts.begin(b"", incarnation, token=token, gate_open=bool(gate)))
            case "end":
                incarnation, token, outcome, _, *new = arguments
                stored = _new_entry(*new) if new else None
                return scripts.end(b"", incarnation, token=token, outcome=outcome, new=stored)
            case "invalidate":
                scripts.invalidate(b"")
                return 1
            case "scope":
                return _run_on_scope(scripts, *arguments)
            case unknown:
                raise ValueError(unknown)


def _run_on_scope(scripts: MemoryScripts, *arguments: Any) -> Any:
    step, fresh, token, _, keep_ms, incarnation, *more = arguments
    call = ScopeCall(step, incarnation, fresh, token, keep_ms)
    match step, more:
        case "due", [interval_ms]:
            return scripts.due(b"", call, interval_ms=interval_ms)
        case "identify", [table_id, sure_ms]:
            return scripts.identify(b"", call, table_id=table_id, sure_ms=sure_ms)
        case _:
            return scripts.scope(b"", call) or 0


def _new_entry(*arguments: Any) -> NewEntry:
    *times, payload = arguments[:7]
    rest = arguments[8:]  # after the word
    fields = tuple(sorted(zip(rest[::2], rest[1::2], strict=True)))
    generation, digest, sent_ms, age_ms, soft_ms, hard_ms = times
    as_hash = len(arguments) > 7
    return NewEntry(
        generation, digest, sent_ms, age_ms, soft_ms, hard_ms, payload, fields if as_hash else None
    )
