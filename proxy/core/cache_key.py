"""Names records in the store: canonical, injective, of one length.

The identity of an item is the length-prefixed table name followed by the canonical primary key
(`proxy.core.attributes`). Its keyed hash is the record's name, so nothing an application puts into
a key can collide with a separator of ours; a second hash, the digest, travels inside the entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

from proxy.core.attributes import canonical_primary_key
from proxy.core.fence import ItemIdentity
from proxy.core.values import DIGEST_BYTES, CacheKey, Digest, TableName

_HASH_BYTES: Final = 16
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
        name = table.encode()
        identity = len(name).to_bytes(2, "big") + name + canonical_primary_key(primary_key)
        hashed = self._hash(identity, b"item")
        digest = blake2b(
            identity, digest_size=DIGEST_BYTES, key=self._hash_key, person=b"digest"
        ).digest()
        return ItemIdentity(table, self._name(hashed), self.table_key(table), Digest(digest))

    def table_key(self, table: TableName) -> CacheKey:
        """Name the record that holds a table's generation."""
        if (known := self._table_keys.get(table)) is None:
            known = self._name(self._hash(table.encode(), b"table"))
            if len(self._table_keys) < 10_000:  # noqa: PLR2004 - AWS's own limit of tables per region
                self._table_keys[table] = known
        return known

    def gate_key(self, incarnation: bytes) -> CacheKey:
        """Name the record that says from when on an incarnation of the store may serve."""
        return self._name(self._hash(incarnation, b"gate"))

    def _hash(self, content: bytes, kind: bytes) -> bytes:
        return blake2b(content, digest_size=_HASH_BYTES, key=self._hash_key, person=kind).digest()

    def _name(self, hashed: bytes) -> CacheKey:
        # The braces make a Redis Cluster hash tag: a record and whatever is later kept beside it
        # can share a slot by sharing the tag.
        tag = hashed[:_BUCKET_BYTES].hex().encode()
        return CacheKey(self._prefix + b"{" + tag + b"}:" + hashed)
