"""Claims about `proxy.core.packing`; compression is stood in for by functions that can be read."""

from __future__ import annotations

import zlib
from dataclasses import replace

import pytest

from proxy.core.fence import RecordState, Sighting
from proxy.core.packing import packed, unpacked, unpacked_sighting
from proxy.core.record import Entry, EntryDraft, Packing
from proxy.core.values import Digest, Generation, Incarnation

BODY = b'{"Item":{"pk":{"S":"aaaaaaaaaa"}}}'
DRAFT = EntryDraft(0.0, 60.0, 90.0, False, 12, zlib.crc32(BODY), BODY)
ENTRY = Entry(
    incarnation=Incarnation(b"I" * 8),
    generation=Generation(b"G" * 8),
    digest=Digest(b"D" * 16),
    filled_ms=1,
    soft_ms=2,
    hard_ms=3,
    negative=False,
    item_bytes=12,
    crc32=zlib.crc32(BODY),
    body=BODY,
)
FRAME = b"frame"
PACKED = replace(ENTRY, body=FRAME, packing=Packing.ZSTD)


def compress(body: bytes) -> bytes | None:
    assert body == BODY
    return FRAME


def decompress(frame: bytes) -> bytes | None:
    return BODY if frame == FRAME else None


def nothing(_given: bytes) -> bytes | None:
    return None


@pytest.mark.parametrize("above_bytes", [None, len(BODY)])
def test_a_body_that_is_not_above_the_bound_is_stored_as_it_is(above_bytes: int | None) -> None:
    """Without a bound nothing is compressed; the bound itself is the last size that is not."""
    draft = replace(DRAFT, compress_above_bytes=above_bytes)
    assert packed(draft, compress) == draft.payload(Packing.PLAIN, BODY)


def test_a_large_body_is_compressed() -> None:
    """The payload says so, and keeps the checksum of the body, not of the frame."""
    draft = replace(DRAFT, compress_above_bytes=len(BODY) - 1)
    assert packed(draft, compress) == b"\x02" + DRAFT.payload(Packing.PLAIN, FRAME)[1:]


def test_a_body_that_does_not_get_smaller_is_stored_as_it_is() -> None:
    """Compression is taken only where it helps."""
    draft = replace(DRAFT, compress_above_bytes=0)
    assert packed(draft, nothing) == draft.payload(Packing.PLAIN, BODY)


def test_a_compressed_entry_comes_back_as_it_was_drafted() -> None:
    """Nobody behind the store's adapter can tell how an entry was stored."""
    assert unpacked(PACKED, decompress) == ENTRY
    assert unpacked(ENTRY, nothing) is ENTRY


@pytest.mark.parametrize(
    "damaged",
    [replace(PACKED, body=b"other"), replace(PACKED, crc32=ENTRY.crc32 ^ 1)],
    ids=["frame", "content"],
)
def test_a_damaged_entry_is_a_write_in_flight(damaged: Entry) -> None:
    """It is not served, whether its frame is broken or only what came out of it."""
    assert unpacked(damaged, decompress) is None
    seen = unpacked_sighting(sighting(damaged), decompress)
    assert (seen.state, seen.entry) == (RecordState.PENDING, None)
    assert replace(seen, state=RecordState.ENTRY, entry=damaged) == sighting(damaged)


@pytest.mark.parametrize(("found", "served"), [(None, None), (ENTRY, ENTRY), (PACKED, ENTRY)])
def test_a_sighting_shows_unpacked_entries_only(found: Entry | None, served: Entry | None) -> None:
    """All else in it stays."""
    assert unpacked_sighting(sighting(found), decompress) == sighting(served)


def sighting(entry: Entry | None) -> Sighting:
    return Sighting(RecordState.ENTRY, entry, Generation(b"G" * 8), False, 2)
