"""Claims about `proxy.core.drafting`."""

from __future__ import annotations

import zlib

import pytest

from proxy.core.drafting import draft_entry
from proxy.core.policy import TablePolicy
from proxy.core.record import EntryDraft
from proxy.core.responses import FetchedBody
from proxy.core.values import FillResult, Layout

ITEM = FetchedBody(b'{"Item":{"pk":{"S":"a"}}}', {"pk": {"S": "a"}}, None)
ABSENCE = FetchedBody(b"{}", None, None)


def test_item_becomes_an_entry_with_its_checksum_and_size() -> None:
    """The body is kept as it is; crc32 and DynamoDB's item size go with it."""
    draft = draft_entry(ITEM, TablePolicy(fresh_ttl_s=100, grace_s=20), age_s=0.5, chance=0.0)
    assert draft == EntryDraft(
        age_s=0.5,
        fresh_s=100,
        hard_s=120,
        negative=False,
        item_bytes=3,
        crc32=zlib.crc32(ITEM.body),
        body=ITEM.body,
        layout=Layout.BLOB,
        compress_above_bytes=None,
    )


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("above_bytes", [None, 4096])
def test_the_table_decides_how_its_entries_are_stored(
    layout: Layout, above_bytes: int | None
) -> None:
    """The draft carries the table's word to the store."""
    policy = TablePolicy(layout=layout, compress_above_bytes=above_bytes)
    draft = draft_entry(ITEM, policy, age_s=0.0, chance=0.0)
    assert isinstance(draft, EntryDraft)
    assert (draft.layout, draft.compress_above_bytes) == (layout, above_bytes)


def test_absence_becomes_a_negative_entry() -> None:
    """It lives for the negative time only and has no size."""
    draft = draft_entry(ABSENCE, TablePolicy(negative_ttl_s=5), age_s=0.0, chance=0.0)
    assert isinstance(draft, EntryDraft)
    assert (draft.negative, draft.item_bytes, draft.hard_s) == (True, 0, 5)


@pytest.mark.parametrize(("room", "result"), [(0, EntryDraft), (-1, FillResult)])
def test_too_large_a_body_is_not_stored(room: int, result: type) -> None:
    """The bound is the last size that is stored."""
    policy = TablePolicy(entry_bytes_max=len(ITEM.body) + room)
    assert isinstance(draft_entry(ITEM, policy, age_s=0.0, chance=0.0), result)


def test_entry_without_a_time_to_live_is_not_stored() -> None:
    """A table may cache no absence at all."""
    drafted = draft_entry(ABSENCE, TablePolicy(negative_ttl_s=0), age_s=0.0, chance=0.0)
    assert drafted is FillResult.NOT_CACHEABLE


def test_jitter_shortens_both_times() -> None:
    """Entries filled together do not expire together."""
    policy = TablePolicy(fresh_ttl_s=100, grace_s=0, jitter=0.5)
    draft = draft_entry(ITEM, policy, age_s=0.0, chance=1.0)
    assert isinstance(draft, EntryDraft)
    assert (draft.fresh_s, draft.hard_s) == (50, 50)
