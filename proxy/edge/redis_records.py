"""Asks for records in either layout, and takes the store's replies apart."""

from __future__ import annotations

from typing import Any, Final, assert_never

import redis.exceptions

from proxy.core.fence import LeaseReply, LeaseState
from proxy.core.packing import Attributes, StoredRecord, field_of, unpacked
from proxy.core.record import Entry, decode_record
from proxy.core.values import CacheKey, Layout
from proxy.edge.redis_command import Command, checked
from proxy.edge.zstd import decompress

_LEASE_STATES: Final = {state.value.encode(): state for state in LeaseState}


def lookup_command(layout: Layout, cache_key: CacheKey, names: tuple[str, ...] | None) -> Command:
    """Return the one command that reads a record with the attributes of these names, None for all.

    One, so that no write comes between a record and its attributes.
    """
    if layout is Layout.BLOB:
        return ("GET", cache_key)
    if names is None:
        return ("HGETALL", cache_key)
    return ("HMGET", cache_key, b"", *map(field_of, names))


def is_wrong_type(reply: object) -> bool:
    """Tell whether a record is of the other layout than it was asked for in."""
    return isinstance(reply, redis.exceptions.ResponseError) and str(reply).startswith("WRONGTYPE")


def lookup_reply(reply: object, names: tuple[str, ...] | None) -> StoredRecord | None:
    """Return what `lookup_command` found, None for nothing.

    A record whose layout changed again between two attempts, and whatever else stands in its
    place, is one of another release: fetched from upstream.

    Raises:
        StoreUnavailable: the reply is any other error.
    """
    if is_wrong_type(reply):
        return StoredRecord(b"", None)
    match checked([reply])[0]:
        case bytes(raw):
            return StoredRecord(raw, None)
        case dict(fields) if b"" in fields:
            raw = fields.pop(b"")
            return StoredRecord(raw, Attributes(fields, None))
        case [bytes(raw), *texts]:
            assert names is not None, "HMGET without names"
            found = zip(map(field_of, names), texts, strict=True)
            wanted = {name: text for name, text in found if text is not None}
            return StoredRecord(raw, Attributes(wanted, names))
        case _:
            return None


def lease_reply(reply: list[Any]) -> LeaseReply:
    """Return what a lease request brought.

    Args:
        reply: word, detail and the store's clock; after a hit on a hash its fields, names and
            texts in turn, the record itself among them.

    Returns:
        PENDING for a hit on an entry that is damaged, or packed as only another release can read:
        fetch it, and do not fill.
    """
    word, detail, store_now_ms, *fields = reply
    match state := _LEASE_STATES[word]:
        case LeaseState.HIT:
            record, attributes = decode_record(detail), _hit_attributes(*fields)
            entry = None
            if isinstance(record, Entry):
                entry = unpacked(record, attributes, decompress)
            if entry is None:
                return LeaseReply(LeaseState.PENDING, store_now_ms=store_now_ms)
            return LeaseReply(state, entry=entry, store_now_ms=store_now_ms)
        case LeaseState.WAIT:
            return LeaseReply(state, wait_s=detail / 1000, store_now_ms=store_now_ms)
        case LeaseState.LEASED:
            return LeaseReply(state, strong=bool(detail), store_now_ms=store_now_ms)
        case LeaseState.PENDING:
            return LeaseReply(state, store_now_ms=store_now_ms)
        case _:
            assert_never(state)


def _hit_attributes(fields: list[bytes] | None = None) -> Attributes | None:
    if fields is None:
        return None
    texts = dict(zip(fields[::2], fields[1::2], strict=True))
    del texts[b""]
    return Attributes(texts, None)
