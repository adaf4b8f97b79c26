"""Claims about asking DynamoDB Streams."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from proxy.core import shard_tree
from proxy.core.errors import UpstreamFailed, UpstreamFailure
from proxy.core.shard_tree import Checkpoint, Start
from proxy.core.stream_answers import StreamRefused, StreamTrouble
from proxy.flow import stream_client
from proxy.flow.events import UpstreamAnswered, UpstreamSilent
from proxy.flow.ports import UpstreamReply, UpstreamRequest
from proxy.flow.stream_client import StreamClient
from tests.support.flow_world import TABLE, World
from tests.support.stream_world import Reading, StreamRig

HORIZON = Checkpoint(Start.HORIZON)


@pytest.fixture
async def rig(world: World) -> AsyncIterator[StreamRig]:
    """Give a table with a stream."""
    made = StreamRig(world)
    yield made
    await made.close()


class Upstream:
    """Answers as told."""

    def __init__(self, *replies: UpstreamReply | UpstreamFailed) -> None:
        self.replies = list(replies)
        self.asked: list[UpstreamRequest] = []

    async def send(self, request: UpstreamRequest) -> UpstreamReply:
        """Give the next answer."""
        self.asked.append(request)
        reply = self.replies.pop(0)
        if isinstance(reply, UpstreamFailed):
            raise reply
        return reply


def client_of(rig: StreamRig, upstream: Upstream, reading: Reading) -> StreamClient:
    """Return a client of another upstream."""
    emit = reading.events.append
    return StreamClient(upstream, clock=rig.world.clock, emit=emit, timeout_s=5.0)


async def test_a_table_tells_its_stream_and_that_its_shards(rig: StreamRig) -> None:
    """DescribeTable goes to DynamoDB, all else to its Streams."""
    client = rig.reading().client
    arn = await client.stream_of(TABLE)
    assert arn == rig.stream.arn
    listing = await client.shards(TABLE, arn)
    assert listing.enabled
    assert [shard.shard_id for shard in listing.shards] == list(rig.stream.shards)
    assert [each.streams for each in rig.world.upstream.sent] == [False, True]


async def test_records_come_from_an_iterator(rig: StreamRig) -> None:
    """Dated by the answer, or by the own clock where it has no date."""
    client = rig.reading().client
    rig.world.put_elsewhere("a", "1")
    (shard_id,) = rig.stream.shards
    iterator = await client.iterator(TABLE, rig.stream.arn, shard_id, HORIZON)
    got = await client.records(TABLE, iterator)
    assert [each["eventName"] for each in got.batch.records] == ["INSERT"]
    assert got.size_bytes > 100
    assert got.now_s == pytest.approx(rig.world.clock.wall_s(), abs=1.0)


async def test_an_answers_own_date_counts(rig: StreamRig) -> None:
    """It and the records are dated by one clock."""
    dated = UpstreamReply(200, (("date", "Thu, 01 Jan 1970 00:01:00 GMT"),), b"{}")
    client = client_of(rig, Upstream(dated), rig.reading())
    assert (await client.records(TABLE, "it")).now_s == 60.0


async def test_a_long_description_is_read_page_by_page(
    rig: StreamRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a pause between, since the whole account shares its limit; up to a bound."""
    page = b'{"StreamDescription":{"Shards":[{"ShardId":"a"},{"ShardId":"b"}],%b}}'
    more, last = page % b'"LastEvaluatedShardId":"b"', page % b'"StreamStatus":"DISABLED"'
    pages = [UpstreamReply(200, (), more), UpstreamReply(200, (), last)]
    upstream = Upstream(*pages)
    before_s = rig.world.clock.monotonic_s()
    listing = await client_of(rig, upstream, rig.reading()).shards(TABLE, "arn")
    assert (listing.enabled, len(listing.shards)) == (False, 4)
    assert b"ExclusiveStartShardId" in upstream.asked[1].body
    assert rig.world.clock.monotonic_s() > before_s
    monkeypatch.setattr(stream_client, "SHARDS_MAX", 1)
    with pytest.raises(StreamRefused) as refused:
        await client_of(rig, Upstream(*pages), rig.reading()).shards(TABLE, "arn")
    assert refused.value.trouble is StreamTrouble.TOO_MANY
    assert shard_tree.SHARDS_MAX > 1


async def test_every_exchange_is_told(rig: StreamRig) -> None:
    """Answers, throttles and silence, by operation."""
    reading = rig.reading()
    throttle = UpstreamReply(400, (), b'{"__type":"x#ThrottlingException"}')
    silence = UpstreamFailed(UpstreamFailure.TIMEOUT, "silent", maybe_applied=True)
    client = client_of(rig, Upstream(throttle, silence), reading)
    troubles = []
    for _ in range(2):
        with pytest.raises(StreamRefused) as refused:
            await client.records(TABLE, "it")
        troubles.append(refused.value.trouble)
    assert troubles == [StreamTrouble.THROTTLED, StreamTrouble.FAILED]
    (answered,) = reading.told(UpstreamAnswered)
    assert (answered.operation, answered.throttled) == ("GetRecords", True)
    assert reading.told(UpstreamSilent) == [
        UpstreamSilent("GetRecords", TABLE, UpstreamFailure.TIMEOUT)
    ]
