"""Every kind of record × every kind of call: also the pairs that no small scenario comes to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Final

from tests.fakes.memory_scripts import PENDING_MAX, Stored
from tests.fakes.record_bytes import (
    PAST_MS,
    UNKNOWN_TABLE,
    EntryBytes,
    ItemBytes,
    LeaseBytes,
    Marker,
    PendingBytes,
    ScopeBytes,
    TombstoneBytes,
)
from tests.model import steps
from tests.model.steps import (
    DIGEST,
    HARD_MS,
    KEEP_MS,
    LEASE_MS,
    MARKER_MS,
    PAYLOAD_HEAD,
    SOFT_MS,
    SURE_MS,
    TOMBSTONE_MS,
    Call,
    Specification,
)
from tests.model.world import generation_of, incarnation_of, token_of

HERE: Final = incarnation_of(0)
ELSEWHERE: Final = incarnation_of(1)
NOW: Final = generation_of(1)
FORMERLY: Final = generation_of(0)
ME: Final = token_of("me", 0)
OTHER: Final = token_of("other", 0)
THIRD: Final = token_of("third", 0)
TABLE_ID: Final = b"this is a table."
OTHER_ID: Final = b"this is another."


def explore_grid(specification: Specification) -> None:
    """Perform every call on every record."""
    now_ms = specification.now_ms
    for before, call in product([None, *_items(now_ms)], _calls(now_ms)):
        specification.perform(before, call)
    for before, call in product([None, *_scopes(now_ms)], _scope_calls()):
        specification.perform(before, call)


def _items(now_ms: int) -> Iterator[Stored]:
    fresh = EntryBytes(
        HERE, NOW, DIGEST, now_ms, now_ms + SOFT_MS, now_ms + HARD_MS, PAYLOAD_HEAD + b"7"
    )
    entries = [
        fresh,
        replace(fresh, soft_ms=PAST_MS),
        replace(fresh, soft_ms=PAST_MS, hard_ms=PAST_MS),
        replace(fresh, incarnation=ELSEWHERE),
        replace(fresh, generation=FORMERLY),
        replace(fresh, digest=bytes(16)),
    ]
    leases = [
        LeaseBytes(holder, token, deadline_ms, strong, kept)
        for holder, token, deadline_ms, strong, kept in product(
            (HERE, ELSEWHERE), (ME, OTHER), (PAST_MS, now_ms + LEASE_MS), (False, True), [None]
        )
    ] + [
        LeaseBytes(HERE, token, deadline_ms, strong=False, kept=kept)
        for token, deadline_ms, kept in product((ME, OTHER), (PAST_MS, now_ms + LEASE_MS), entries)
    ]
    live_ms = now_ms + MARKER_MS // 2
    mine = [
        Marker(ME, incarnation, deadline_ms, solo)
        for incarnation, deadline_ms, solo in product(
            (HERE, ELSEWHERE), (PAST_MS, live_ms), (False, True)
        )
    ]
    other = [Marker(OTHER, HERE, deadline_ms, solo=False) for deadline_ms in (PAST_MS, live_ms)]
    third = Marker(THIRD, HERE, live_ms, solo=True)
    pending = [PendingBytes((each,), hidden) for each, hidden in product(mine, [None, *entries])]
    pending += [PendingBytes(pair) for pair in product(mine, other)]
    pending += [PendingBytes((each,), fresh) for each in other]
    pending += [PendingBytes((other[0], other[1], third)), PendingBytes((other[0], third))]
    pending += [PendingBytes(_crowd(live_ms)), PendingBytes((*_crowd(live_ms)[1:], mine[-1]))]
    tombstones = [TombstoneBytes(PAST_MS), TombstoneBytes(now_ms + TOMBSTONE_MS)]
    records: list[ItemBytes] = [*entries, *leases, *pending, *tombstones]
    for record in records:
        yield Stored(record.pack(), now_ms + 2 * HARD_MS)
    for record in records:
        if (hashed := _as_hash(record)) is not None:
            yield Stored(hashed.pack(), now_ms + 2 * HARD_MS, steps.fields_of(7))
    yield Stored(b"V\x02", now_ms + HARD_MS, steps.fields_of(7))
    foreign = [b"V\x02", b"P\x02 of a later release", b"X\x01", b"", b"V"]
    yield from (Stored(raw, now_ms + HARD_MS) for raw in foreign)


def _as_hash(record: ItemBytes) -> ItemBytes | None:
    """Return the record with its entry's body beside it; None where there is no entry in it."""
    match record:
        case EntryBytes():
            return replace(record, payload=steps.PAYLOAD_OF_HASH)
        case LeaseBytes(kept=EntryBytes() as kept):
            return replace(record, kept=replace(kept, payload=steps.PAYLOAD_OF_HASH))
        case PendingBytes(hidden=EntryBytes() as hidden):
            return replace(record, hidden=replace(hidden, payload=steps.PAYLOAD_OF_HASH))
        case _:
            return None


def _crowd(deadline_ms: int) -> tuple[Marker, ...]:
    return tuple(
        Marker(token_of("many", i), HERE, deadline_ms, solo=False) for i in range(PENDING_MAX)
    )


def _calls(now_ms: int) -> Iterator[Call]:
    for incarnation, generation, force in product((HERE, ELSEWHERE), (NOW, FORMERLY), (0, 1)):
        yield steps.lease(incarnation, generation, ME, force=bool(force))
    for incarnation in (HERE, ELSEWHERE):
        yield steps.fill(incarnation, NOW, ME, 8)
        yield steps.fill(incarnation, NOW, ME, 8, as_hash=True)
        yield steps.release(incarnation, ME)
        yield steps.begin(incarnation, ME, gate_open=True)
        yield steps.begin(incarnation, ME, gate_open=False)
        yield steps.end(incarnation, ME, "I")
        yield steps.end(incarnation, ME, "A")
        yield steps.end(incarnation, ME, "S", *steps.draft(NOW, 9))
        yield steps.end(incarnation, ME, "S", *steps.draft(NOW, 9, as_hash=True))
    too_old = steps.draft(NOW, 9, age_ms=HARD_MS, hard_ms=HARD_MS)
    aged = steps.draft(NOW, 9, age_ms=LEASE_MS)
    late = steps.draft(NOW, 9, sent_ms=now_ms - 2 * LEASE_MS)
    for draft in (too_old, aged, late):
        yield Call("fill", (HERE, ME, *draft))
        yield steps.end(HERE, ME, "S", *draft)
    yield steps.invalidate()


def _scopes(now_ms: int) -> Iterator[Stored]:
    live_ms = now_ms + MARKER_MS // 2
    markers: list[tuple[tuple[bytes, int], ...]] = [()]
    markers += [((token, at),) for token, at in product((ME, OTHER), (PAST_MS, live_ms))]
    markers += [
        ((ME, at), (OTHER, other_at)) for at, other_at in product((PAST_MS, live_ms), repeat=2)
    ]
    markers += [((OTHER, PAST_MS), (THIRD, live_ms), (ME, live_ms))]
    markers += [tuple((token_of("many", i), live_ms) for i in range(PENDING_MAX))]
    for each in markers:
        for pages_from_ms, here in ((0, HERE), (live_ms, HERE), (live_ms, ELSEWHERE)):
            table = ScopeBytes(here, NOW, each, PAST_MS, pages_from_ms, TABLE_ID, checked_ms=now_ms)
            yield Stored(table.pack(), None)
        yield Stored(ScopeBytes(HERE, NOW, each, PAST_MS).pack(), now_ms + HARD_MS)
    for raised_ms, at_ms in product((PAST_MS, now_ms - SURE_MS // 2), (0, PAST_MS, now_ms)):
        for table_id in (UNKNOWN_TABLE, TABLE_ID, OTHER_ID):
            table = ScopeBytes(HERE, NOW, (), raised_ms, 0, table_id, checked_ms=at_ms)
            yield Stored(table.pack(), None)
    yield Stored(b"G\x02 of a later release", None)


def _scope_calls() -> Iterator[Call]:
    words = (("learn", b""), ("announce", b""), ("begin", ME), ("abort", ME), ("end", ME))
    for keep_ms, (step, token) in product((0, KEEP_MS), words):
        yield steps.scope(step, HERE, generation_of(2), token, keep_ms=keep_ms)
    yield steps.scope("remake", HERE, generation_of(2), ME)
    yield steps.due(HERE, generation_of(2))
    yield steps.identify(HERE, generation_of(2), TABLE_ID)
