"""Packs an entry's body for its record, and unpacks what a lookup found.

Compression itself is the edge's: it hands in two functions that return None where there is nothing
to gain, or nothing to trust. A body that cannot be unpacked is never served and never raises: its
record is taken for one of another release.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace

from proxy.core.fence import RecordState, Sighting
from proxy.core.record import Entry, EntryDraft, Packing

Coder = Callable[[bytes], bytes | None]


def packed(draft: EntryDraft, compress: Coder) -> bytes:
    """Return a draft's payload, its body compressed where the table wants that and it helps.

    Args:
        draft: the entry to store.
        compress: returns a frame, or None unless it is smaller than the body.
    """
    above_bytes = draft.compress_above_bytes
    if above_bytes is not None and len(draft.body) > above_bytes:
        frame = compress(draft.body)
        if frame is not None:
            return draft.payload(Packing.ZSTD, frame)
    return draft.payload(Packing.PLAIN, draft.body)


def unpacked(entry: Entry, decompress: Coder) -> Entry | None:
    """Return the entry with the body that was drafted, or None when its bytes are damaged.

    Args:
        entry: as it was decoded.
        decompress: returns a frame's content, or None for a damaged or too large one.
    """
    if entry.packing is Packing.PLAIN:
        return entry
    body = decompress(entry.body)
    # Damage may decompress all the same: the frame itself carries no checksum.
    if body is None or zlib.crc32(body) != entry.crc32:
        return None
    return replace(entry, body=body, packing=Packing.PLAIN)


def unpacked_sighting(seen: Sighting, decompress: Coder) -> Sighting:
    """Return a sighting whose entry may be served; PENDING where its body is damaged.

    As with a record of another release: fetched from upstream, and never filled over.
    """
    if seen.entry is None:
        return seen
    entry = unpacked(seen.entry, decompress)
    if entry is None:
        return replace(seen, state=RecordState.PENDING, entry=None)
    return replace(seen, entry=entry)
