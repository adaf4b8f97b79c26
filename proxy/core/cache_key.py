"""Names records in the store: canonical, injective, of one length.

The identity of an item is the length-prefixed table name followed by the canonical primary key
(`proxy.core.attributes`). Its keyed hash is the record's name, so nothing an application puts into
a key can collide with a separator of ours; a second hash, the digest, travels inside the entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from hashlib import blake2b
from typing import Final

from proxy.core.attributes import canonical_primary_key
from proxy.core.fence import ItemIdentity
from proxy.core.pages import PageIdentity
from proxy.core.values import DIGEST_BYTES, CacheKey, Digest, TableName

_HASH_BYTES: Final = DIGEST_BYTES
_BUCKET_BYTES: Final = 2


class KeySpace:
    """All records of one namespace and region.

    Args:
        namespace: the operator's name for everything that shares entries; proxies of different
            AWS accounts on one store must have different ones.
        region: AWS region; one table name in two regions is two tables.
    """

    def __init__(self, namespace: str, region: str) -> None:
        self._prefix = b"ds:" + namespace.encode() + b":"
        scope = f"{len(namespace)}:{namespace}:{region}".encode()
        self._hash_key = blake2b(scope, digest_size=32).digest()
        self._table_keys: dict[TableName, CacheKey] = {}
        self._hashers: dict[bytes, blake2b] = {}

    @property
    def prefix(self) -> bytes:
        """What every record's name begins with."""
        return self._prefix

    def item(self, table: TableName, primary_key: Mapping[str, object]) -> ItemIdentity:
        """Name one item.

        Args:
            table: plain table name.
            primary_key: the key attributes in DynamoDB JSON, in any order and spelling.

        Raises:
            NotCanonical: the key is not one that DynamoDB would accept for sure.
        """
        identity = _of_table(table, canonical_primary_key(primary_key))
        scopes = partial(self.item_scopes, table, primary_key)
        digest = self._digest(identity, b"digest")
        name = self._name(self._hash(identity, b"item"))
        return ItemIdentity(table, name, self.table_key(table), digest, scopes)

    def page(self, table: TableName, request: bytes, scope_key: CacheKey) -> PageIdentity:
        """Name one page of a Query or Scan.

        Args:
            table: plain table name.
            request: the whole request in its one normal spelling, the operation included.
            scope_key: of the scope that every write which may change the page raises.
        """
        digest = self.page_digest(table, request)
        name = self._name(self._hash(_of_table(table, request), b"page"))
        record = ItemIdentity(table, name, self.table_key(table), digest)
        return PageIdentity(record, scope_key)

    def page_digest(self, table: TableName, request: bytes) -> Digest:
        """Return what a page carries to prove whose answer it is; arguments as of `page`."""
        return self._digest(_of_table(table, request), b"page digest")

    def partition_key(self, table: TableName, name: str, value: object) -> CacheKey:
        """Name the scope of all items that have one value in one attribute of their primary key.

        For the partition key that is a partition. Sort keys have scopes too, so that neither a
        writer nor a reader has to know which attribute is which.

        Raises:
            NotCanonical: the value is not one that DynamoDB would accept in a key for sure.
        """
        identity = _of_table(table, canonical_primary_key({name: value}))
        return self._name(self._hash(identity, b"partition"))

    def scan_key(self, table: TableName) -> CacheKey:
        """Name the scope of all items of a table."""
        return self._name(self._hash(table.encode(), b"scan"))

    def item_scopes(
        self, table: TableName, primary_key: Mapping[str, object]
    ) -> tuple[CacheKey, ...]:
        """Name every scope, beside its table, that a write of one item changes."""
        values = (self.partition_key(table, name, value) for name, value in primary_key.items())
        return (*values, self.scan_key(table))

    def table_key(self, table: TableName) -> CacheKey:
        """Name the record that holds a table's generation."""
        if (known := self._table_keys.get(table)) is None:
            known = self._name(self._hash(table.encode(), b"table"))
            if len(self._table_keys) < 10_000:  # noqa: PLR2004 - AWS's own limit of tables per region
                self._table_keys[table] = known
        return known

    def stream_key(self, table: TableName) -> CacheKey:
        """Name the record that holds the shards, leases and checkpoints of a table's stream."""
        return self._name(self._hash(table.encode(), b"stream"))

    def parked_key(self, table: TableName) -> CacheKey:
        """Name the list of a table's stream records that could not be applied."""
        return self._name(self._hash(table.encode(), b"parked"))

    def gate_key(self, incarnation: bytes, tag: bytes | None = None) -> CacheKey:
        """Name the record that says from when on an incarnation of the store may serve.

        Args:
            incarnation: whose.
            tag: the hash tag that keeps the record on the node it is about; None for any.
        """
        hashed = self._hash(incarnation, b"gate")
        return self._name(hashed) if tag is None else self._tagged(tag, hashed)

    def _hash(self, content: bytes, kind: bytes) -> bytes:
        # A copy of one that has its key already takes half the time of a new one.
        hasher = self._hashers.get(kind)
        if hasher is None:
            hasher = blake2b(digest_size=_HASH_BYTES, key=self._hash_key, person=kind)
            self._hashers[kind] = hasher
        hasher = hasher.copy()
        hasher.update(content)
        return hasher.digest()

    def _digest(self, identity: bytes, kind: bytes) -> Digest:
        return Digest(self._hash(identity, kind))

    def _name(self, hashed: bytes) -> CacheKey:
        # The braces make a Redis Cluster hash tag: a record and whatever is later kept beside it
        # can share a slot by sharing the tag.
        return self._tagged(hashed[:_BUCKET_BYTES].hex().encode(), hashed)

    def _tagged(self, tag: bytes, hashed: bytes) -> CacheKey:
        return CacheKey(self._prefix + b"{" + tag + b"}:" + hashed)


def _of_table(table: TableName, identity: bytes) -> bytes:
    name = table.encode()
    return len(name).to_bytes(2, "big") + name + identity
