"""Knows which node of a cluster has which slot, as one of the nodes tells it.

Every record lives in the slot that the hash tag of its name gives, and a slot belongs to one
primary at a time. Source: Redis Cluster specification, "Key distribution model", "Hash tags".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import count
from typing import Any, Final

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.values import CacheKey
from proxy.edge.redis_connection import Address
from proxy.edge.redis_primary import info_fields

MAP_QUESTIONS: Final = (("CLUSTER", "INFO"), ("CLUSTER", "SLOTS"))

Owners = list[Address | None]


def slot_of(cache_key: CacheKey) -> int:
    """Return the slot that a record lives in."""
    return key_slot(cache_key)


class SlotMap:
    """One node's view of the cluster.

    Args:
        owners: by slot, its primary; None where the node knows of none.
        whole: whether the node says that the cluster is in order.
        epoch: the newest configuration that the node has heard of.
    """

    def __init__(
        self, owners: Owners | None = None, *, whole: bool = False, epoch: int = -1
    ) -> None:
        self.owners: Owners = owners or [None] * REDIS_CLUSTER_HASH_SLOTS
        self.whole = whole
        self.epoch = epoch
        self.nodes = {node for node in self.owners if node is not None}
        """Every primary that has slots."""
        self.covers_all = None not in self.owners

    def move(self, slot: int, node: Address) -> None:
        """Note that a slot went to a node."""
        self.owners[slot] = node
        self.nodes.add(node)

    def gained(self, before: SlotMap) -> set[Address]:
        """Return the nodes that have slots here which they did not have before."""
        if self.owners == before.owners:
            return set()
        pairs = zip(self.owners, before.owners, strict=True)
        return {now for now, then in pairs if now is not None and now != then}

    def tag_of(self, node: Address) -> bytes | None:
        """Return the hash tag of a record that is surely kept on a node; None if it has no slots.

        The same for everybody who has the same map.
        """
        return tag_in(self.owners.index(node)) if node in self.owners else None


@cache
def tag_in(slot: int) -> bytes:
    """Return the first of the numbers, written in hex, that as a hash tag belongs to a slot."""
    return next(tag for tag in (b"%x" % number for number in count()) if key_slot(tag) == slot)


def parse_map(replies: Sequence[Any], asked: Address) -> SlotMap:
    """Read what a node said to `MAP_QUESTIONS`.

    Args:
        replies: to each of them.
        asked: the node; the map leaves out the host where it is the node's own.

    Raises:
        StoreUnavailable: it cannot be read.
    """
    info, ranges = replies
    try:
        fields = info_fields(info)
        whole, epoch = fields["cluster_state"] == "ok", int(fields["cluster_current_epoch"])
        owners: Owners = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, (host, port, *_), *_ in ranges:
            node = Address(host.decode() if host else asked.host, int(port))
            owners[first : last + 1] = [node] * (last + 1 - first)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StoreUnavailable(StoreFailure.REFUSED, "a node's map cannot be read") from error
    return SlotMap(owners, whole=whole, epoch=epoch)
