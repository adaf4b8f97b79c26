"""Claims about `proxy.edge.redis_records`."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
import redis.exceptions

from proxy.core.errors import StoreUnavailable
from proxy.core.fence import LeaseReply, LeaseState
from proxy.core.packing import Attributes, StoredRecord
from proxy.core.record import FOREIGN, Entry, EntryDraft, Packing, decode_record
from proxy.core.values import CacheKey, Layout
from proxy.edge.redis_records import is_wrong_type, lease_reply, lookup_command, lookup_reply

KEY = CacheKey(b"key")
BODY = b'{"Item":{"a":{"S":"x"}}}'
ENTRY_HEAD = b"V\x01" + b"I" * 8 + b"G" * 8 + b"D" * 16 + bytes(24)
DRAFT = EntryDraft(0.0, 60.0, 90.0, False, 2, zlib.crc32(BODY), BODY)
PLAIN = ENTRY_HEAD + DRAFT.payload(Packing.PLAIN, BODY)
APART = ENTRY_HEAD + DRAFT.payload(Packing.FIELDS, b"")
ENTRY = decode_record(PLAIN)
assert isinstance(ENTRY, Entry)
WRONG_TYPE = redis.exceptions.ResponseError("WRONGTYPE Operation against a key holding ...")
OTHER = redis.exceptions.ResponseError("ERR something else")


@pytest.mark.parametrize(
    ("layout", "names", "command"),
    [
        (Layout.BLOB, None, ("GET", KEY)),
        (Layout.BLOB, ("a",), ("GET", KEY)),
        (Layout.HASH, None, ("HGETALL", KEY)),
        (Layout.HASH, ("a", "b c"), ("HMGET", KEY, b"", b'"a"', b'"b c"')),
    ],
)
def test_a_record_is_read_with_its_attributes_in_one_command(
    layout: Layout, names: tuple[str, ...] | None, command: tuple[object, ...]
) -> None:
    """Two commands could show a record of one entry with attributes of another."""
    assert lookup_command(layout, KEY, names) == command


@pytest.mark.parametrize(
    ("reply", "names", "found"),
    [
        (None, None, None),
        (b"V", None, StoredRecord(b"V", None)),
        (b"V", ("a",), StoredRecord(b"V", None)),
        ({}, None, None),
        ({b'"a"': b"1"}, None, None),
        ({b"": b"V", b'"a"': b"1"}, None, StoredRecord(b"V", Attributes({b'"a"': b"1"}, None))),
        ([None, None], ("a",), None),
        (
            [b"V", b"1", None],
            ("a", "b"),
            StoredRecord(b"V", Attributes({b'"a"': b"1"}, ("a", "b"))),
        ),
    ],
)
def test_replies_are_taken_apart(
    reply: object, names: tuple[str, ...] | None, found: StoredRecord | None
) -> None:
    """Strings and hashes, whole and in part; a hash without a record is no record."""
    assert lookup_reply(reply, names) == found


def test_a_record_that_keeps_changing_its_layout_is_foreign() -> None:
    """What nobody can read is fetched from upstream."""
    found = lookup_reply(WRONG_TYPE, None)
    assert found is not None
    assert decode_record(found.raw) is FOREIGN


def test_any_other_error_is_a_refusal() -> None:
    """It says nothing about the record."""
    with pytest.raises(StoreUnavailable):
        lookup_reply(OTHER, None)


@pytest.mark.parametrize(
    ("reply", "wrong"), [(WRONG_TYPE, True), (OTHER, False), (b"WRONGTYPE", False), (None, False)]
)
def test_the_wrong_type_is_told_from_other_replies(reply: Any, *, wrong: bool) -> None:
    """Only the store's own word for it counts, not a record that says so."""
    assert is_wrong_type(reply) is wrong


FIELDS = [b"", APART, b'"a"', b'{"S":"x"}']


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ([b"leased", 1, 9], LeaseReply(LeaseState.LEASED, strong=True, store_now_ms=9)),
        ([b"leased", 0, 9], LeaseReply(LeaseState.LEASED, strong=False, store_now_ms=9)),
        ([b"wait", 1500, 9], LeaseReply(LeaseState.WAIT, wait_s=1.5, store_now_ms=9)),
        ([b"pending", 0, 9], LeaseReply(LeaseState.PENDING, store_now_ms=9)),
        ([b"hit", PLAIN, 9], LeaseReply(LeaseState.HIT, entry=ENTRY, store_now_ms=9)),
        ([b"hit", APART, 9, FIELDS], LeaseReply(LeaseState.HIT, entry=ENTRY, store_now_ms=9)),
    ],
)
def test_a_leases_reply_is_taken_apart(reply: list[Any], expected: LeaseReply) -> None:
    """Each word has its own detail; a hit is a whole entry in either layout."""
    assert lease_reply(reply) == expected


@pytest.mark.parametrize(
    "reply",
    [
        [b"hit", APART, 9],
        [b"hit", PLAIN, 9, [b"", PLAIN]],
        [b"hit", ENTRY_HEAD + b"\x02" + PLAIN[59:], 9],
        [b"hit", ENTRY_HEAD + b"\x80" + PLAIN[59:], 9],
    ],
    ids=["without fields", "with fields", "damaged", "of another release"],
)
def test_a_hit_that_cannot_be_unpacked_is_a_write_in_flight(reply: list[Any]) -> None:
    """It is fetched from upstream and not filled over."""
    assert lease_reply(reply) == LeaseReply(LeaseState.PENDING, store_now_ms=9)
