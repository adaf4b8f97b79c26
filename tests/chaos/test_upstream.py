"""The upstream's stream under its faults: what is left out because real ones do not do it."""

from __future__ import annotations

import random
from typing import Any

from tests.chaos.upstream import OPEN_SHARDS_MAX, ChaosUpstream
from tests.fakes.fake_stream import FakeStream
from tests.fakes.fake_streams import TARGET_PREFIX
from tests.sim.rig import TABLE

SEED = 1


class Upstream:
    """An upstream that does not listen, with one item that is written again and again."""

    def __init__(self) -> None:
        self.fake = ChaosUpstream(random.Random(SEED))

    @property
    def stream(self) -> FakeStream:
        return self.fake.tables.stream(TABLE)

    def write(self) -> None:
        value = {"S": str(len(self.fake.command({"effects_from": 0})["effects"]))}
        item = {"pk": {"S": "0"}, "v": value}
        self.fake.tables.call("PutItem", {"TableName": TABLE, "Item": item})
        self.stream.settle()

    def disturb(self, how: str) -> None:
        self.fake.command({"disturb": how})

    def ask(self, operation: str, **body: Any) -> Any:
        return self.fake.tables.serve(TARGET_PREFIX + operation, body)

    def iterator(self, kind: str) -> str:
        shard_id = self.stream.shard_of("0").shard_id
        where = {"StreamArn": self.stream.arn, "ShardId": shard_id, "ShardIteratorType": kind}
        return str(self.ask("GetShardIterator", **where)["ShardIterator"])

    def read(self, iterator: str) -> str:
        return str(self.ask("GetRecords", ShardIterator=iterator)["NextShardIterator"])

    def kept(self) -> int:
        return len(self.stream.shard_of("0").records)


def test_only_shards_whose_reader_is_told_are_trimmed() -> None:
    """Real ones lose records after a day: nobody stands at a beginning for so long."""
    upstream = Upstream()
    upstream.write()
    iterator = upstream.read(upstream.iterator("TRIM_HORIZON"))
    upstream.disturb("trim")
    assert upstream.kept() == 1, "who read it may have died before it kept its place"
    upstream.read(iterator)
    upstream.disturb("trim")
    assert upstream.kept() == 0
    upstream.write()
    upstream.iterator("LATEST")
    upstream.disturb("trim")
    assert upstream.kept() == 1, "it is begun anew"


def test_nothing_is_trimmed_while_shards_are_not_listed() -> None:
    """A shard lasts for a day after its end; by then its children are listed."""
    upstream = Upstream()
    upstream.write()
    upstream.read(upstream.read(upstream.iterator("TRIM_HORIZON")))
    upstream.stream.hide_new_shards()
    upstream.stream.roll_over()
    upstream.stream.roll_over()
    upstream.disturb("trim")
    assert sum(len(shard.records) for shard in upstream.stream.shards.values()) == 1


def test_shards_split_while_they_are_few() -> None:
    """Then they are rolled over; a stream that is off has none, and is switched on once."""
    upstream = Upstream()
    for _ in range(2 * OPEN_SHARDS_MAX):
        upstream.disturb("split")
    first = upstream.stream
    assert len(first.open_shards) == OPEN_SHARDS_MAX
    first.disable()
    upstream.disturb("split")
    assert not first.open_shards
    upstream.disturb("turn on")
    second = upstream.stream
    upstream.disturb("turn on")
    assert upstream.stream is second is not first
