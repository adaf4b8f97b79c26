"""Sequences the begin and end of one write on what it may change: an item, or a whole table."""

from __future__ import annotations

from typing import Protocol

from proxy.core.errors import StoreUnavailable
from proxy.core.fence import ItemIdentity, WriteOutcome
from proxy.core.record import EntryDraft
from proxy.core.values import CacheKey, FenceResult, Generation, TableName, Token
from proxy.flow.ports import Store


class Fence(Protocol):
    """One write's hold on what it may change. `begin` may be repeated; `end` never stores twice."""

    @property
    def table(self) -> TableName:
        """The table written to."""
        ...

    @property
    def keys(self) -> tuple[CacheKey, ...]:
        """Records whose readers must bypass the store while this fence is owed to it."""
        ...

    async def begin(self) -> None:
        """Mark the write in flight; raises StoreUnavailable."""
        ...

    async def end(self, outcome: WriteOutcome, draft: EntryDraft | None) -> FenceResult:
        """End it; raises StoreUnavailable."""
        ...


class ItemFence:
    """A fence around one item."""

    def __init__(self, store: Store, identity: ItemIdentity, token: Token) -> None:
        self._store = store
        self._identity = identity
        self._token = token
        self._generation: Generation | None = None

    @property
    def table(self) -> TableName:
        """The table written to."""
        return self._identity.table

    @property
    def keys(self) -> tuple[CacheKey, ...]:
        """The item's record."""
        return (self._identity.cache_key,)

    async def begin(self) -> None:
        """Put the marker, or move its deadline."""
        self._generation = await self._store.begin(self._identity, token=self._token)

    async def end(self, outcome: WriteOutcome, draft: EntryDraft | None) -> FenceResult:
        """Remove the marker and leave an entry, the hidden entry or a tombstone."""
        if outcome is WriteOutcome.UNKNOWN:
            return FenceResult.KEPT
        stored = None
        if outcome is WriteOutcome.STORED:
            if draft is not None and self._generation is not None:
                stored = (self._generation, draft)
            else:
                outcome = WriteOutcome.INVALIDATED
        return await self._store.end(
            self._identity, token=self._token, outcome=outcome, stored=stored
        )


class TableFence:
    """A fence around a whole table, for a write that may touch any of its items.

    Args:
        store: holds the table's record.
        table: its plain name.
        table_key: its record's name.
        token: of this write.
        remakes: whether the write may delete the table or make it anew.
    """

    def __init__(
        self,
        store: Store,
        table: TableName,
        table_key: CacheKey,
        token: Token,
        *,
        remakes: bool = False,
    ) -> None:
        self._remakes = remakes
        self._store = store
        self._table = table
        self._table_key = table_key
        self._token = token

    @property
    def table(self) -> TableName:
        """The table written to."""
        return self._table

    @property
    def keys(self) -> tuple[CacheKey, ...]:
        """The table's record."""
        return (self._table_key,)

    async def begin(self) -> None:
        """Keep the table unserved."""
        await self._store.begin_table(self._table_key, token=self._token)

    async def end(self, outcome: WriteOutcome, draft: EntryDraft | None) -> FenceResult:
        """Serve the table again, its older entries only if nothing changed."""
        assert draft is None, "a whole table has no entry"
        if outcome is WriteOutcome.UNKNOWN:
            return FenceResult.KEPT
        await self._store.end_table(
            self._table_key, token=self._token, outcome=outcome, remade=self._remakes
        )
        if outcome is WriteOutcome.ABORTED:
            return FenceResult.RESTORED
        return FenceResult.INVALIDATED


async def end_quietly(
    fence: Fence, outcome: WriteOutcome, draft: EntryDraft | None
) -> FenceResult | None:
    """End a fence; None when the store is out and the end is still owed."""
    try:
        return await fence.end(outcome, draft)
    except StoreUnavailable:
        return None
