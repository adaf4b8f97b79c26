"""Applies parked records once more, as an operator asks after whatever was in their way is gone."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.core.cache_key import KeySpace
from proxy.core.json_text import NotJson, load_object
from proxy.core.stream_records import RecordResult
from proxy.core.values import TableName
from proxy.flow.ports import StreamStore
from proxy.flow.stream_effects import StreamEffects


@dataclass(frozen=True, slots=True)
class Replayed:
    """How many parked records of a table took effect now, and how many stay parked."""

    applied: int
    left: int


class Replaying:
    """Looks at parked records and applies them.

    Args:
        streams: keeps them.
        effects: applies them.
        keys: names their lists.
    """

    def __init__(self, streams: StreamStore, effects: StreamEffects, *, keys: KeySpace) -> None:
        self._streams = streams
        self._effects = effects
        self._keys = keys

    async def parked(self, table: TableName) -> list[bytes]:
        """Return the parked records of a table, as JSON, newest first.

        Raises:
            StoreUnavailable: as of `replay`.
        """
        return await self._streams.parked(self._keys.parked_key(table))

    async def replay(self, table: TableName) -> Replayed:
        """Apply what is parked, oldest first; what still cannot be applied stays.

        Of a record whose place alone was kept the table is voided.
        """
        applied = left = 0
        key = self._keys.parked_key(table)
        for parked in reversed(await self.parked(table)):
            if await self._takes_effect(table, parked):
                await self._streams.unpark(key, parked)
                applied += 1
            else:
                left += 1
        return Replayed(applied, left)

    async def _takes_effect(self, table: TableName, parked: bytes) -> bool:
        try:
            told, _ = load_object(parked)
        except NotJson:
            return False
        if "record" not in told:
            await self._effects.void(table)
            return True
        (result,) = (await self._effects.apply(table, [told["record"]])).results
        return result not in (RecordResult.POISON, RecordResult.FAILED)
