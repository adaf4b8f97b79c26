"""One stream of the fake upstream: its tree of shards, their records, and what a test does to them.

Pure and synchronous; the time is what the caller says, so it runs on virtual time as well. A write
goes to the open shard of its partition key, so the records of an item stay in order along shard,
child, grandchild. Consumers see it through `fake_streams`.
"""

from __future__ import annotations

import copy
import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from decimal import Decimal
from operator import attrgetter
from typing import Final

from tests.fakes.fake_stream_records import SEQUENCE_STEP, Change, Json, record_of

HASHES: Final = 2**16
"""How many places there are for partition keys; shards divide them."""

RETENTION_S: Final = 24 * 3600.0

Spoil = Callable[[Json], None]


@dataclass(frozen=True)
class StreamRecord:
    """One record; `shown` is what GetRecords returns."""

    sequence: int
    at_s: float
    shown: Json


@dataclass
class Shard:
    """One shard: which partition keys it has, and its records in order.

    Args:
        first: the StartingSequenceNumber.
        last: the EndingSequenceNumber, None while the shard is open.
        seen_to: records after this sequence number are not visible yet.
        kept_from: what is before this sequence number was trimmed.
        closed_s: when it was closed, None while the shard is open.
        listed: whether DescribeStream shows the shard.
        begun: whether who reads it goes on after a record, and will be told if that is trimmed; who
            begins at either end is not.
    """

    shard_id: str
    parent_id: str | None
    hashes: range
    first: int
    last: int | None = None
    seen_to: int = 0
    kept_from: int = 0
    closed_s: float | None = None
    listed: bool = True
    begun: bool = False
    records: list[StreamRecord] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        """Whether records may still come."""
        return self.last is None

    def visible_from(self, sequence: int) -> list[StreamRecord]:
        """Return the records that consumers can see, from a sequence number on."""
        start = bisect_left(self.records, sequence, key=attrgetter("sequence"))
        end = bisect_right(self.records, self.seen_to, key=attrgetter("sequence"))
        return self.records[start:end]

    def has_from(self, sequence: int) -> bool:
        """Tell whether records come from a sequence number on, visible or not yet."""
        return bool(self.records) and self.records[-1].sequence >= sequence

    def description(self) -> Json:
        """Return what DescribeStream shows."""
        numbers = {"StartingSequenceNumber": str(self.first)}
        if self.last is not None:
            numbers["EndingSequenceNumber"] = str(self.last)
        shown: Json = {"ShardId": self.shard_id, "SequenceNumberRange": numbers}
        if self.parent_id is not None:
            shown["ParentShardId"] = self.parent_id
        return shown


class FakeStream:
    """The stream of one table, from its enabling on.

    Args:
        arn: names table and stream.
        view_type: what records show of the item.
        wall_s: dates the records; only ever rises.
        shards: how many there are at first.

    `status` is ENABLED, DISABLING or DISABLED; of a stream that is DISABLED every shard is closed,
    and a day later it is gone (`is_gone`). `lag_s` delays records, `hold` stops them until
    `release`. `way` is how many GetRecords an iterator takes that does not begin at the latest end
    until it finds what there is.
    """

    def __init__(
        self, arn: str, view_type: str, wall_s: Callable[[], float], *, shards: int = 1
    ) -> None:
        self.arn = arn
        self.label = arn.rpartition("/")[2]
        self.view_type = view_type
        self.created_s = wall_s()
        self.status = "ENABLED"
        self.lag_s = 0.0
        self.way = 0
        self.shards: dict[str, Shard] = {}
        self._wall_s = wall_s
        self._numbers = 0
        self._held: set[str] | None = set()  # None: all shards, future ones too
        self._listing = True
        self._spoils: list[Spoil] = []
        for place in range(shards):
            part = range(place * HASHES // shards, (place + 1) * HASHES // shards)
            self._open_shard(None, part)

    @property
    def is_gone(self) -> bool:
        """Whether it is forgotten, with all its shards."""
        self.settle()
        return self.status == "DISABLED" and not self.shards

    @property
    def next_number(self) -> int:
        """The sequence number of whatever comes next."""
        return _spelled(self._numbers + 1)

    @property
    def open_shards(self) -> list[Shard]:
        """The shards that take records, oldest first."""
        return [shard for shard in self.shards.values() if shard.is_open]

    def shard_of(self, partition: object) -> Shard:
        """Return the open shard that takes a partition key's records."""
        place = _place(partition)
        return next(shard for shard in self.open_shards if place in shard.hashes)

    def append(self, partition: object, change: Change) -> None:
        """Take one change of an item, unless the stream is off."""
        if self.status != "ENABLED":
            return
        shard, sequence, at_s = self.shard_of(partition), self._next_number(), self._wall_s()
        record = record_of(
            change, self.view_type, stream_arn=self.arn, sequence=sequence, at_s=at_s
        )
        shown = copy.deepcopy(record)
        if self._spoils:
            self._spoils.pop(0)(shown)
        shard.records.append(StreamRecord(sequence, at_s, shown))

    def settle(self) -> None:
        """Let time do what is due: show records whose lag is over, trim what is a day old."""
        now_s = self._wall_s()
        for shard in tuple(self.shards.values()):
            if self._held is not None and shard.shard_id not in self._held:
                due = bisect_right(shard.records, now_s - self.lag_s, key=attrgetter("at_s"))
                if due:
                    shard.seen_to = max(shard.seen_to, shard.records[due - 1].sequence)
            old = bisect_left(shard.records, now_s - RETENTION_S, key=attrgetter("at_s"))
            self._cut(shard, old)
            if shard.closed_s is not None and shard.closed_s < now_s - RETENTION_S:
                del self.shards[shard.shard_id]

    # What a test does

    def split(self, shard: Shard | None = None) -> tuple[Shard, Shard]:
        """Close an open shard (the oldest unless told) and give each half of it a child."""
        parent = shard or self.open_shards[0]
        middle = (parent.hashes.start + parent.hashes.stop) // 2
        self._close(parent)
        return (
            self._open_shard(parent.shard_id, range(parent.hashes.start, middle)),
            self._open_shard(parent.shard_id, range(middle, parent.hashes.stop)),
        )

    def roll_over(self, shard: Shard | None = None) -> Shard:
        """Close an open shard (the oldest unless told) and open its one child."""
        parent = shard or self.open_shards[0]
        self._close(parent)
        return self._open_shard(parent.shard_id, parent.hashes)

    def trim(self, before: str | None = None, *, shards: Collection[str] | None = None) -> None:
        """Trim what can be seen, all of it or what comes before a sequence number.

        As time does it: no shard before its parent. Closed shards of which nothing is left are
        gone. With `shards` only those are trimmed, by id.
        """
        self.settle()
        for shard_id, shard in tuple(self.shards.items()):
            parent = self.shards.get(shard.parent_id or "")
            if shards is not None and shard_id not in shards:
                continue
            if parent is None or not parent.records:
                limit = shard.seen_to + 1 if before is None else min(int(before), shard.seen_to + 1)
                self._cut(shard, bisect_left(shard.records, limit, key=attrgetter("sequence")))
            if not shard.is_open and not shard.records and parent is None:
                del self.shards[shard_id]

    def disable(self, *, at_once: bool = True) -> None:
        """Take no more records; close all shards, or leave it DISABLING until called again."""
        self.status = "DISABLED" if at_once else "DISABLING"
        for shard in self.open_shards if at_once else ():
            self._close(shard)

    def hold(self, shard: Shard | None = None) -> None:
        """Let the records to come, of one shard or of all, be invisible until released."""
        self.settle()
        if shard is None:
            self._held = None
        elif self._held is not None:
            self._held.add(shard.shard_id)

    def release(self, records: int | None = None) -> None:
        """Show what is held: all and from now on, or only the oldest few."""
        if records is None:
            self._held = set()
            return
        held = [
            (record.sequence, shard)
            for shard in self.shards.values()
            for record in shard.records
            if record.sequence > shard.seen_to
        ]
        for sequence, shard in sorted(held, key=lambda each: each[0])[:records]:
            shard.seen_to = sequence

    def hide_new_shards(self) -> None:
        """Keep shards to come out of DescribeStream, which real ones enter late."""
        self._listing = False

    def show_shards(self) -> None:
        """List every shard again."""
        self._listing = True
        for shard in self.shards.values():
            shard.listed = True

    def spoil(self, how: Spoil, *, times: int = 1) -> None:
        """Change the next records before anybody sees them, each once."""
        self._spoils += [how] * times

    def _open_shard(self, parent_id: str | None, hashes: range) -> Shard:
        first = self._next_number()
        tail = hashlib.md5(f"{self.arn} {first}".encode()).hexdigest()[:8]
        shard_id = f"shardId-{int(self._wall_s() * 1000):020d}-{tail}"
        shard = Shard(shard_id, parent_id, hashes, first, listed=self._listing)
        self.shards[shard_id] = shard
        return shard

    def _close(self, shard: Shard) -> None:
        assert shard.is_open, "a shard is closed once"
        trimmed_to = shard.kept_from - 1 if shard.kept_from else shard.first
        shard.last = shard.records[-1].sequence if shard.records else trimmed_to
        shard.closed_s = self._wall_s()

    def _cut(self, shard: Shard, count: int) -> None:
        """Trim the oldest records of a shard."""
        if count:
            shard.kept_from = shard.records[count - 1].sequence + 1
            del shard.records[:count]

    def _next_number(self) -> int:
        self._numbers += 1
        return _spelled(self._numbers)


def _spelled(number: int) -> int:
    return number * SEQUENCE_STEP + number


def _place(partition: object) -> int:
    """Return where a partition key belongs, the same for every spelling of a number."""
    text = str(partition.normalize() if isinstance(partition, Decimal) else partition)
    return int.from_bytes(hashlib.md5(text.encode()).digest()[:2], "big")
