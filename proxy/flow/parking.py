"""Parks stream records that cannot be applied: a bounded list of each table, for the operator.

What a record says of its table was voided before. Of one that is too large, or cannot be spelled,
its place is kept.
"""

from __future__ import annotations

from typing import Final

from proxy.core.cache_key import KeySpace
from proxy.core.json_text import compact
from proxy.core.stream_records import PoisonReason, PoisonRecord, read_record
from proxy.core.values import TableName
from proxy.flow.events import Emit, StreamParked
from proxy.flow.ports import StreamStore

PARKED_BYTES_MAX: Final = 16 * 1024
"""Of a larger record only its place is parked."""


class Parking:
    """Parks records.

    Args:
        streams: keeps them.
        keys: names their lists.
        emit: takes events.
    """

    def __init__(self, streams: StreamStore, *, keys: KeySpace, emit: Emit) -> None:
        self._streams = streams
        self._keys = keys
        self._emit = emit

    async def park(
        self, table: TableName, record: object, reason: PoisonReason, *, shard_id: str = ""
    ) -> None:
        """Park one record.

        Args:
            table: whose it is.
            record: as parsed from JSON, whatever it is.
            reason: why it cannot be applied.
            shard_id: where it came from; "" where that is not known.

        Raises:
            StoreUnavailable: it is not certain.
        """
        parked = _parked({"table": table, "shard": shard_id, "reason": reason.value}, record)
        pushed_out = await self._streams.park(self._keys.parked_key(table), parked)
        self._emit(StreamParked(table, reason, pushed_out))


def _parked(told: dict[str, object], record: object) -> bytes:
    try:
        parked = compact({**told, "record": record})
    except ValueError:  # NaN, which some parsers let in
        parked = b""
    if 0 < len(parked) <= PARKED_BYTES_MAX:
        return parked
    return compact({**told, "sequence": _sequence(record)})


def _sequence(record: object) -> str:
    try:
        return read_record(record).sequence
    except PoisonRecord as poison:
        return poison.sequence
