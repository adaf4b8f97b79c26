"""Lets records of a stream take effect: no older entry and no older page survives them.

What a record does to its item follows from a look at the item's record in the store (`peek`). All
entries are judged at that moment, and what comes after it is judged by others; record R of a write
that is over upstream, fills F:

Nothing there
    No fill is under way: F needs a lease, which would be there. Whatever is filled later was
    fetched later, and shows R's write, if fetched consistently. So nothing is done, and a batch
    job's keys leave no tombstones. Where fills may read from a replica a tombstone is left.
An entry like R's new image, or an absence after R's removal
    It shows R's write: own writes do not lose what they stored, or what readers filled since. It
    stays as it is. A fill that replaces it later has fetched later.
Anything else
    Another entry, a lease (F may have fetched before the write), markers (their writers lose the
    right to store): the item is invalidated. So is one that cannot be looked at, or compared.

Then the item's scopes are raised where anybody caches pages: after its fence's rules a page that is
filled later shows the write, and one that was filled before does not count any more. Whether
pages are cached is asked before: a page that nobody had announced by then is fetched later.

Every step may be repeated, and records may come late, twice, and in any order between items.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from proxy.core.attributes import NotCanonical
from proxy.core.audit import same_answer
from proxy.core.cache_key import KeySpace
from proxy.core.errors import StoreUnavailable
from proxy.core.fence import ItemIdentity, WriteOutcome
from proxy.core.policy import TablePolicy
from proxy.core.record import Entry
from proxy.core.stream_records import (
    PoisonReason,
    PoisonRecord,
    RecordResult,
    StreamRecord,
    read_record,
)
from proxy.core.values import CacheKey, TableName
from proxy.flow.ports import Clock, Store, StreamStore

T = TypeVar("T")

AT_ONCE_MAX: Final = 128
"""Items whose steps are under way together: a batch must not fill the queues to the store."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a batch.

    Args:
        results: of each record, in their order.
        poison: why, by the record's place in the batch.
    """

    results: tuple[RecordResult, ...]
    poison: dict[int, PoisonReason]

    @property
    def failed(self) -> list[int]:
        """The places of those records that must be applied once more."""
        return [at for at, result in enumerate(self.results) if result is RecordResult.FAILED]


class StreamEffects:
    """Applies records.

    Args:
        store: invalidates items and raises generations.
        streams: looks at items.
        keys: names records.
        clock: gives tokens.
        policy_of: tells whether a table's fills are consistent.
    """

    def __init__(
        self,
        store: Store,
        streams: StreamStore,
        *,
        keys: KeySpace,
        clock: Clock,
        policy_of: Callable[[str], TablePolicy],
    ) -> None:
        self._store = store
        self._streams = streams
        self._keys = keys
        self._clock = clock
        self._policy_of = policy_of

    async def apply(self, table: TableName, records: Sequence[object]) -> Applied:
        """Apply a batch; of several records of one item the last one's image counts.

        Args:
            table: whose records they are, whatever they say.
            records: as parsed from JSON, or read already.

        Returns:
            What became of each; nothing of what FAILED is certain.
        """
        results = [RecordResult.FAILED] * len(records)
        poison: dict[int, PoisonReason] = {}
        items: dict[CacheKey, _Item] = {}
        for at, raw in enumerate(records):
            try:
                record = raw if isinstance(raw, StreamRecord) else read_record(raw)
                identity = self._keys.item(table, record.keys)
            except PoisonRecord as error:
                poison[at] = error.reason
            except NotCanonical:
                poison[at] = PoisonReason.STRANGE_KEY
            else:
                item = items.setdefault(identity.cache_key, _Item(identity, record, []))
                item.last = record
                item.places.append(at)
        if poison and await _done(self.void(table)):
            for at in poison:
                results[at] = RecordResult.POISON
        await self._apply_items(table, list(items.values()), results)
        return Applied(tuple(results), poison)

    async def void(self, table: TableName) -> None:
        """Let no entry and no page of a table from before count any more.

        Raises:
            StoreUnavailable: it is not certain.
        """
        await self._store.end_table(
            self._keys.table_key(table),
            token=self._clock.token(),
            outcome=WriteOutcome.INVALIDATED,
            remade=False,
        )

    async def _apply_items(
        self, table: TableName, items: list[_Item], results: list[RecordResult]
    ) -> None:
        pages = items and await self._pages_cached(table)
        consistent = self._policy_of(table).fill_consistent
        ended = await _in_turns([self._apply_item(item, skips_absent=consistent) for item in items])
        unraised: set[CacheKey] = set()
        if pages:
            unraised = await self._raise({each for item in items for each in item.scopes()})
        for item, result in zip(items, ended, strict=True):
            if unraised and not unraised.isdisjoint(item.scopes()):
                continue
            for at in item.places:
                results[at] = result

    async def _apply_item(self, item: _Item, *, skips_absent: bool) -> RecordResult:
        try:
            there, entry = await self._streams.peek(item.identity)
        except StoreUnavailable:
            there, entry = True, None  # hits are not allowed now, invalidations may well be
        if not there and skips_absent:
            return RecordResult.ABSENT
        if entry is not None and _shows(entry, item.last):
            return RecordResult.SAME
        if await _done(self._store.invalidate(item.identity)):
            return RecordResult.INVALIDATED
        return RecordResult.FAILED

    async def _pages_cached(self, table: TableName) -> bool:
        try:
            return await self._streams.pages_cached(self._keys.table_key(table))
        except StoreUnavailable:
            return True

    async def _raise(self, scopes: Iterable[CacheKey]) -> set[CacheKey]:
        """Raise scopes; return those of which that is not certain."""
        listed = sorted(scopes)
        raised = await _in_turns([_done(self._raise_one(each)) for each in listed])
        return {scope for scope, done in zip(listed, raised, strict=True) if not done}

    async def _raise_one(self, scope: CacheKey) -> None:
        token, outcome = self._clock.token(), WriteOutcome.INVALIDATED
        await self._store.end_scope(scope, token=token, outcome=outcome)


@dataclass(slots=True, eq=False)
class _Item:
    """One item of a batch, its last record, and the places of all its records."""

    identity: ItemIdentity
    last: StreamRecord
    places: list[int]

    def scopes(self) -> tuple[CacheKey, ...]:
        return self.identity.name_scopes()


def _shows(entry: Entry, record: StreamRecord) -> bool:
    after = record.body_after()
    return after is not None and same_answer(entry.body, after) is True


async def _done(step: Awaitable[None]) -> bool:
    """Take a step; False where the store does not say that it was taken."""
    try:
        await step
    except StoreUnavailable:
        return False
    return True


async def _in_turns(steps: Sequence[Awaitable[T]]) -> list[T]:
    """Take steps, so many at a time."""
    ended: list[T] = []
    for at in range(0, len(steps), AT_ONCE_MAX):
        ended += await asyncio.gather(*steps[at : at + AT_ONCE_MAX])
    return ended
