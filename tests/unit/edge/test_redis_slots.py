"""Which node has which slot."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.core.errors import StoreUnavailable
from proxy.core.values import CacheKey
from proxy.edge.redis_connection import Address
from proxy.edge.redis_slots import SlotMap, parse_map, slot_of, tag_in

ASKED, OTHER = Address("asked", 1), Address("other", 2)
INFO = b"cluster_state:ok\r\ncluster_current_epoch:7\r\n"
HALVES = [
    [0, 8191, [b"other", 2, b"id", []], [b"replica", 3, b"id"]],
    [8192, 16383, [b"", 1, b"id"]],
]


def test_a_record_lives_where_its_hash_tag_says() -> None:
    """Records that share a tag share a slot; the numbers are those of the specification."""
    assert slot_of(CacheKey(b"123456789")) == 0x31C3
    assert slot_of(CacheKey(b"a{123456789}b")) == 0x31C3


def test_a_map_names_the_primary_of_every_slot() -> None:
    """Replicas do not count; a node that does not name its own host is the one that was asked."""
    slots = parse_map([INFO, HALVES], ASKED)
    assert (slots.owners[0], slots.owners[8191]) == (OTHER, OTHER)
    assert (slots.owners[8192], slots.owners[16383]) == (ASKED, ASKED)
    assert slots.nodes == {ASKED, OTHER}
    assert slots.covers_all
    assert (slots.whole, slots.epoch) == (True, 7)


def test_a_map_may_have_holes() -> None:
    """Slots of a lost node belong to nobody."""
    slots = parse_map([INFO.replace(b"ok", b"fail"), HALVES[:1]], ASKED)
    assert slots.owners[16383] is None
    assert not slots.covers_all
    assert not slots.whole


@pytest.mark.parametrize(
    "replies",
    [
        [b"", HALVES],
        [b"cluster_state:ok\r\ncluster_current_epoch:x\r\n", HALVES],
        [INFO, [[0, 1]]],
        [INFO, [[0, 1, [b"h", b"x"]]]],
        [INFO, None],
        [None, HALVES],
    ],
)
def test_a_map_that_cannot_be_read_is_refused(replies: list[Any]) -> None:
    """Nonsense is not taken for a map."""
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        parse_map(replies, ASKED)


def test_a_move_is_noted() -> None:
    """The slot is the other node's, which has gained it, and nothing else has changed."""
    before, after = parse_map([INFO, HALVES], ASKED), parse_map([INFO, HALVES], ASKED)
    assert after.gained(before) == set()
    after.move(0, ASKED)
    assert after.owners[:2] == [ASKED, OTHER]
    assert after.gained(before) == {ASKED}
    assert before.gained(SlotMap()) == {ASKED, OTHER}
    assert SlotMap().gained(before) == set()


def test_a_node_with_slots_has_a_tag_of_its_own() -> None:
    """A record with this tag is kept by the node; a node without slots can keep none."""
    slots = parse_map([INFO, HALVES], ASKED)
    for node in (ASKED, OTHER):
        tag = slots.tag_of(node)
        assert tag is not None
        assert slots.owners[slot_of(CacheKey(b"{%b}x" % tag))] == node
    assert slots.tag_of(Address("nobody", 3)) is None
    assert slot_of(CacheKey(tag_in(0))) == 0
