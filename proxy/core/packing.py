"""Packs an entry's body for its record, and unpacks what a lookup found.

A body lies in its record as it is, compressed, or beside it in the fields of a hash: there one
field per top-level attribute, so that a projection reads only what it needs. How it lies is told by
the record, never by a reader's settings. A body that cannot be unpacked is never served and never
raises: its record is taken for one of another release.

Compression itself is the edge's: it hands in two functions that return None where there is nothing
to gain, or nothing to trust.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from proxy.core.fence import RecordState, Sighting
from proxy.core.json_text import members
from proxy.core.record import Entry, EntryDraft, Packing
from proxy.core.responses import EMPTY_BODY
from proxy.core.values import Layout

FIELDS_MAX: Final = 1000
"""An item of more attributes is stored whole: a script takes them all as arguments of one call."""

_HASH: Final = b"hash"
_SPELL: Final = json.JSONEncoder(ensure_ascii=False).encode

Coder = Callable[[bytes], bytes | None]


@dataclass(frozen=True, slots=True)
class Attributes:
    """What was read of a hash beside its record.

    Args:
        texts: attribute name, as `field_of` spells it, to value as upstream spelled it.
        names: the only attributes that were asked for; None for all.
    """

    texts: Mapping[bytes, bytes]
    names: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record as it was found; `attributes` is None where it is a string."""

    raw: bytes
    attributes: Attributes | None


def field_of(name: str) -> bytes:
    """Return the field that holds an attribute: its name as JSON, so that joining is copying.

    Raises:
        UnicodeEncodeError: a lone surrogate, which only an escape can spell.
    """
    return _SPELL(name).encode()


def packed(draft: EntryDraft, compress: Coder) -> tuple[bytes, ...]:
    """Return a draft as scripts take it: its payload, and for a hash the word and the fields.

    Args:
        draft: the entry to store.
        compress: returns a frame, or None unless it is smaller than the body.
    """
    if draft.layout is Layout.HASH and (fields := split_item(draft.body)) is not None:
        return (draft.payload(Packing.FIELDS, b""), _HASH, *fields)
    above_bytes = draft.compress_above_bytes
    if above_bytes is not None and len(draft.body) > above_bytes:
        frame = compress(draft.body)
        if frame is not None:
            return (draft.payload(Packing.ZSTD, frame),)
    return (draft.payload(Packing.PLAIN, draft.body),)


def split_item(body: bytes) -> tuple[bytes, ...] | None:
    """Cut the item in an answer into fields: names and texts in turn, values as they are spelled.

    Returns:
        No field for "no such item"; None for a body that a hash cannot hold as it is: a name
        twice, or without UTF-8, or more than FIELDS_MAX attributes.
    """
    try:
        text = body.decode()
        parts = members(text)
        if not parts:
            return ()
        ((name, start, end),) = parts
        item = text[start:end]
        found = members(item)
        if name != "Item" or len(found) > FIELDS_MAX:
            return None
        fields = {field_of(each.name): item[each.start : each.end].encode() for each in found}
    except ValueError:
        return None
    if len(fields) < len(found):
        return None
    return tuple(word for field in fields.items() for word in field)


def unpacked(entry: Entry, attributes: Attributes | None, decompress: Coder) -> Entry | None:
    """Return the entry with its body, or with part of it; None when its bytes are damaged.

    Args:
        entry: as it was decoded.
        attributes: what was read beside it; None where its record is a string.
        decompress: returns a frame's content, or None for a damaged or too large one.
    """
    match entry.packing, attributes:
        case Packing.PLAIN, None:
            return entry
        case Packing.ZSTD, None:
            body = decompress(entry.body)
            # Damage may decompress all the same: the frame itself carries no checksum.
            if body is None or zlib.crc32(body) != entry.crc32:
                return None
            return entry._replace(body=body, packing=Packing.PLAIN)
        case Packing.FIELDS, Attributes(texts=texts, names=names):
            body = EMPTY_BODY if entry.negative else _joined(texts)
            crc32 = zlib.crc32(body)
            return entry._replace(body=body, crc32=crc32, packing=Packing.PLAIN, names=names)
        case _:
            return None


def unpacked_sighting(seen: Sighting, attributes: Attributes | None, decompress: Coder) -> Sighting:
    """Return a sighting whose entry may be served; PENDING where its body is damaged.

    As with a record of another release: fetched from upstream, and never filled over.
    """
    if seen.entry is None or (attributes is None and seen.entry.packing is Packing.PLAIN):
        return seen
    entry = unpacked(seen.entry, attributes, decompress)
    if entry is None:
        return seen._replace(state=RecordState.PENDING, entry=None)
    return seen if entry is seen.entry else seen._replace(entry=entry)


def _joined(texts: Mapping[bytes, bytes]) -> bytes:
    fields = [name + b":" + text for name, text in texts.items()]
    return b'{"Item":{' + b",".join(fields) + b"}}"
