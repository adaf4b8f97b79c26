"""Claims about `proxy.core.packing`; compression is stood in for by functions that can be read."""

from __future__ import annotations

import json
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.core.fence import RecordState, Sighting
from proxy.core.json_text import compact
from proxy.core.packing import (
    FIELDS_MAX,
    Attributes,
    field_of,
    packed,
    split_item,
    unpacked,
    unpacked_sighting,
)
from proxy.core.record import Entry, EntryDraft, Packing
from proxy.core.values import Digest, Generation, Incarnation, Layout

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
COMPRESSED = ENTRY._replace(body=FRAME, packing=Packing.ZSTD)
APART = ENTRY._replace(body=b"", packing=Packing.FIELDS)
WHOLE = Attributes({b'"pk"': b'{"S":"aaaaaaaaaa"}'}, None)


def compress(body: bytes) -> bytes | None:
    assert body == BODY
    return FRAME


def decompress(frame: bytes) -> bytes | None:
    return BODY if frame == FRAME else None


def nothing(_given: bytes) -> bytes | None:
    return None


def sighting(entry: Entry | None) -> Sighting:
    return Sighting(RecordState.ENTRY, entry, Generation(b"G" * 8), False, 2)


def pairs(words: tuple[bytes, ...]) -> dict[bytes, bytes]:
    return dict(zip(words[::2], words[1::2], strict=True))


# Compression


@pytest.mark.parametrize("above_bytes", [None, len(BODY)])
def test_a_body_that_is_not_above_the_bound_is_stored_as_it_is(above_bytes: int | None) -> None:
    """Without a bound nothing is compressed; the bound itself is the last size that is not."""
    draft = DRAFT._replace(compress_above_bytes=above_bytes)
    assert packed(draft, compress) == (draft.payload(Packing.PLAIN, BODY),)


def test_a_large_body_is_compressed() -> None:
    """The payload says so, and keeps the checksum of the body, not of the frame."""
    draft = DRAFT._replace(compress_above_bytes=len(BODY) - 1)
    assert packed(draft, compress) == (b"\x02" + DRAFT.payload(Packing.PLAIN, FRAME)[1:],)


def test_a_body_that_does_not_get_smaller_is_stored_as_it_is() -> None:
    """Compression is taken only where it helps."""
    draft = DRAFT._replace(compress_above_bytes=0)
    assert packed(draft, nothing) == (draft.payload(Packing.PLAIN, BODY),)


def test_a_compressed_entry_comes_back_as_it_was_drafted() -> None:
    """Nobody behind the store's adapter can tell how an entry was stored."""
    assert unpacked(COMPRESSED, None, decompress) == ENTRY
    assert unpacked(ENTRY, None, nothing) is ENTRY


# Hashes


def test_an_entry_for_a_hash_becomes_fields() -> None:
    """The payload says so and holds no body; the attributes follow the word `hash`."""
    draft = DRAFT._replace(layout=Layout.HASH, compress_above_bytes=0)
    payload, word, *fields = packed(draft, compress)
    assert payload == b"\x04" + DRAFT.payload(Packing.PLAIN, b"")[1:]
    assert word == b"hash"
    assert pairs(tuple(fields)) == WHOLE.texts


@given(
    st.dictionaries(
        st.text(max_size=5), st.recursive(st.text(max_size=4), lambda v: st.lists(v, max_size=2))
    )
)
@example({'"': "", "\\": "\n", "ä\u2028": "€", "": ""})
def test_an_item_comes_back_from_its_fields(item: dict[str, object]) -> None:
    """What was split and joined is the same item, each value as it was spelled."""
    body = compact({"Item": item})
    words = split_item(body)
    assert words is not None
    entry = unpacked(APART, Attributes(pairs(words), None), nothing)
    assert entry is not None
    assert json.loads(entry.body) == {"Item": item}
    assert (entry.crc32, entry.packing) == (zlib.crc32(entry.body), Packing.PLAIN)
    assert entry.names is None


def test_values_keep_their_spelling() -> None:
    """Numbers, escapes and blanks are upstream's; only names are spelled in one way."""
    spelled = b' {"Item" : {"\\u0061": {"N" : "1.00"} , "b":{"S":"\\u00e4"}}}'
    assert split_item(spelled) == (b'"a"', b'{"N" : "1.00"}', b'"b"', b'{"S":"\\u00e4"}')


@pytest.mark.parametrize("body", [b"{}", b'{"Item":{}}'])
def test_an_item_without_attributes_has_no_field(body: bytes) -> None:
    """An absence has none either; the payload tells them apart."""
    assert split_item(body) == ()
    negative = body == b"{}"
    entry = unpacked(APART._replace(negative=negative), Attributes({}, None), nothing)
    assert entry is not None
    assert entry.body == body


@pytest.mark.parametrize(
    "body",
    [
        b'{"Item":{"a":{"S":""},"a":{"S":""}}}',
        b'{"Item":{"a":{"S":""},"\\u0061":{"S":""}}}',
        b'{"Item":{"\\ud800":{"S":""}}}',
        b'{"Item":{"a":{"S":""}},"Other":{}}',
        b'{"Other":{"a":{"S":""}}}',
        b'{"Item":[]}',
        b"\xff",
        b"",
    ],
)
def test_a_body_that_a_hash_cannot_hold_is_stored_whole(body: bytes) -> None:
    """A name twice, a name without UTF-8, anything but one item: one string holds it all."""
    assert split_item(body) is None
    draft = DRAFT._replace(layout=Layout.HASH, body=body)
    assert packed(draft, nothing) == (draft.payload(Packing.PLAIN, body),)


@pytest.mark.parametrize(("count", "split"), [(FIELDS_MAX, True), (FIELDS_MAX + 1, False)])
def test_a_hash_has_a_largest_number_of_fields(count: int, *, split: bool) -> None:
    """The bound is the last number that is split."""
    body = compact({"Item": {str(i): {"S": ""} for i in range(count)}})
    assert (split_item(body) is not None) is split


def test_a_partial_entry_knows_what_it_is_part_of() -> None:
    """It holds what was found of what was asked for, and answers for no more."""
    entry = unpacked(APART, Attributes(WHOLE.texts, ("pk", "none")), nothing)
    assert entry is not None
    assert entry.body == BODY
    assert entry.names == ("pk", "none")
    assert not entry.covers(None)


def test_a_field_is_an_attribute_name_as_json() -> None:
    """So no attribute can be taken for the record itself, whose field is empty."""
    assert [field_of(name) for name in ("a", "", 'a"b', "ä")] == [
        b'"a"',
        b'""',
        b'"a\\"b"',
        '"ä"'.encode(),
    ]


# Damage


@pytest.mark.parametrize(
    ("damaged", "beside"),
    [
        (COMPRESSED._replace(body=b"other"), None),
        (COMPRESSED._replace(crc32=ENTRY.crc32 ^ 1), None),
        (COMPRESSED, WHOLE),
        (ENTRY, WHOLE),
        (APART, None),
    ],
    ids=["frame", "content", "frame in a hash", "body in a hash", "fields in a string"],
)
def test_a_damaged_entry_is_a_write_in_flight(damaged: Entry, beside: Attributes | None) -> None:
    """It is not served, whether bytes are broken or do not belong together."""
    assert unpacked(damaged, beside, decompress) is None
    seen = unpacked_sighting(sighting(damaged), beside, decompress)
    assert (seen.state, seen.entry) == (RecordState.PENDING, None)
    assert seen._replace(state=RecordState.ENTRY, entry=damaged) == sighting(damaged)


@pytest.mark.parametrize(
    ("found", "beside", "served"),
    [
        (None, None, None),
        (None, WHOLE, None),
        (ENTRY, None, ENTRY),
        (COMPRESSED, None, ENTRY),
        (APART, WHOLE, ENTRY),
    ],
)
def test_a_sighting_shows_unpacked_entries_only(
    found: Entry | None, beside: Attributes | None, served: Entry | None
) -> None:
    """All else in it stays."""
    assert unpacked_sighting(sighting(found), beside, decompress) == sighting(served)
