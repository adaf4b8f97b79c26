"""Sequences the begin and end of one write on what it may change: an item, or a whole table."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Protocol, TypeVar

from proxy.core.errors import StoreUnavailable
from proxy.core.fence import Begun, ItemIdentity, WriteOutcome, stamp_of
from proxy.core.record import EntryDraft
from proxy.core.values import CacheKey, FenceResult, TableName, Token
from proxy.flow.ports import Store

R = TypeVar("R")


class Fence(Protocol):
    """One write's hold on what it may change. `begin` may be repeated; `end` never stores twice."""

    @property
    def table(self) -> TableName:
        """The table written to."""
        ...

    @property
    def record(self) -> CacheKey:
        """The item's record, or the table's."""
        ...

    @property
    def keys(self) -> tuple[CacheKey, ...]:
        """Records whose readers must bypass the store while this fence is owed to it."""
        ...

    async def begin(self, *, settled: bool = False) -> None:
        """Mark the write in flight; raises StoreUnavailable. `settled` as in `ports.Store`."""
        ...

    async def end(self, outcome: WriteOutcome, draft: EntryDraft | None) -> FenceResult:
        """End it; raises StoreUnavailable."""
        ...


class ItemFence:
    """A fence around one item, and around the pages it may be on where anybody caches pages.

    Whether pages are cached stands in the table's record, which begin reads just after its marker
    is there. So every write that does not see it stated there has ended before the first page
    counts. Where begin did not reach the store, pages are taken to be cached.
    """

    def __init__(self, store: Store, identity: ItemIdentity, token: Token) -> None:
        self._store = store
        self._identity = identity
        self._token = token
        self._begun: Begun | None = None

    @property
    def table(self) -> TableName:
        """The table written to."""
        return self._identity.table

    @property
    def record(self) -> CacheKey:
        """The item's record."""
        return self._identity.cache_key

    @property
    def keys(self) -> tuple[CacheKey, ...]:
        """The item's record, and those of its scopes unless no page is cached for sure."""
        return (self._identity.cache_key, *self._scopes())

    @property
    def stamp(self) -> bytes | None:
        """The table's stamp just after begin put the marker; None where that is not known."""
        generation = self._begun.generation if self._begun is not None else None
        return stamp_of(generation) if generation is not None else None

    async def begin(self, *, settled: bool = False) -> None:
        """Put the markers, or move their deadlines."""
        self._begun = await self._store.begin(self._identity, token=self._token, settled=settled)
        if scopes := self._scopes():
            token, store = self._scope_token, self._store
            await _all(*(store.begin_scope(each, token=token, settled=settled) for each in scopes))

    async def end(self, outcome: WriteOutcome, draft: EntryDraft | None) -> FenceResult:
        """Remove the markers; leave an entry, the hidden entry or a tombstone, and no old page."""
        if outcome is WriteOutcome.UNKNOWN:
            return FenceResult.KEPT
        stored = None
        if outcome is WriteOutcome.STORED:
            generation = self._begun.generation if self._begun else None
            if draft is not None and generation is not None:
                stored = (generation, draft)
            else:
                outcome = WriteOutcome.INVALIDATED
        # A write that was not sent, its begin having failed, has marked no scope either.
        unmarked = self._begun is None and outcome is WriteOutcome.ABORTED
        scopes = () if unmarked else self._scopes()
        ending = self._store.end(self._identity, token=self._token, outcome=outcome, stored=stored)
        if not scopes:
            return await ending
        token = self._scope_token
        result, *_ = await _all(
            ending,
            *(self._store.end_scope(scope, token=token, outcome=outcome) for scope in scopes),
        )
        assert result is not None, "the end of an item has a result"
        return result

    @property
    def _scope_token(self) -> Token:
        """A token for this item alone: another item of the same write may end otherwise."""
        pairs = zip(self._token, self._identity.digest, strict=True)
        return Token(bytes(mine ^ its for mine, its in pairs))

    def _scopes(self) -> tuple[CacheKey, ...]:
        if self._begun is not None and not self._begun.pages:
            return ()
        return self._identity.name_scopes()


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
    def record(self) -> CacheKey:
        """The table's record."""
        return self._table_key

    @property
    def keys(self) -> tuple[CacheKey, ...]:
        """The table's record."""
        return (self._table_key,)

    async def begin(self, *, settled: bool = False) -> None:
        """Keep the table unserved."""
        await self._store.begin_table(self._table_key, token=self._token, settled=settled)

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


async def _all(*steps: Awaitable[R]) -> list[R]:
    """Take steps at once and wait for every one; raises what the first of them raised."""
    ended = await asyncio.gather(*steps, return_exceptions=True)
    for each in ended:
        if isinstance(each, BaseException):
            raise each
    return [each for each in ended if not isinstance(each, BaseException)]


async def end_quietly(
    fence: Fence, outcome: WriteOutcome, draft: EntryDraft | None
) -> FenceResult | None:
    """End a fence; None when the store is out and the end is still owed."""
    try:
        return await fence.end(outcome, draft)
    except StoreUnavailable:
        return None
