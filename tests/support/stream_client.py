"""Ask a DynamoDB endpoint about tables and streams, and read streams to their end.

No SDK and nothing of the proxy: what it finds is what the reader under test must find too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from tests.support.dynamo_wire import DATA, STREAMS, Call, Json, ask

STREAM_OPERATIONS = frozenset({"ListStreams", "DescribeStream", "GetShardIterator", "GetRecords"})


class Refused(Exception):
    """An error answer; its text is the name of the error."""


class Asks(Protocol):
    """Whoever answers an operation."""

    async def call(self, operation: str, body: Json) -> Json:
        """Return the answer, or raise Refused."""


class WireClient:
    """Asks over HTTP."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint

    async def call(self, operation: str, body: Json) -> Json:
        """Return the answer, or raise Refused."""
        service = STREAMS if operation in STREAM_OPERATIONS else DATA
        reply = await asyncio.to_thread(ask, self._endpoint, Call(operation, body, service=service))
        content: Json = reply.content
        if reply.status != 200:
            raise Refused(content["__type"].rpartition("#")[2])
        return content


class PlainClient:
    """Asks a function in this process."""

    def __init__(self, serve: Callable[[str, Json], Json], refusal: type[Exception]) -> None:
        self._serve = serve
        self._refusal = refusal

    async def call(self, operation: str, body: Json) -> Json:
        """Return the answer, or raise Refused."""
        service = STREAMS if operation in STREAM_OPERATIONS else DATA
        try:
            return self._serve(f"{service}.{operation}", body)
        except self._refusal as error:
            raise Refused(getattr(error, "body", {})["__type"].rpartition("#")[2]) from error


async def shards_of(client: Asks, arn: str, *, page: int = 100) -> list[Json]:
    """Return all shards of a stream, page by page."""
    shards: list[Json] = []
    body: Json = {"StreamArn": arn, "Limit": page}
    while True:
        shown = (await client.call("DescribeStream", body))["StreamDescription"]
        shards += shown["Shards"]
        if "LastEvaluatedShardId" not in shown:
            return shards
        body["ExclusiveStartShardId"] = shown["LastEvaluatedShardId"]


async def iterator_of(
    client: Asks, arn: str, shard_id: str, kind: str = "TRIM_HORIZON", number: str = ""
) -> str:
    """Return a shard iterator."""
    body = {"StreamArn": arn, "ShardId": shard_id, "ShardIteratorType": kind}
    if number:
        body["SequenceNumber"] = number
    token: str = (await client.call("GetShardIterator", body))["ShardIterator"]
    return token


async def pages_from(client: Asks, token: str, *, limit: int = 1000) -> AsyncIterator[Json]:
    """Yield the answers of GetRecords until the shard is closed and read, or a page is empty."""
    following: str | None = token
    while following is not None:
        reply = await client.call("GetRecords", {"ShardIterator": following, "Limit": limit})
        yield reply
        following = reply.get("NextShardIterator") if reply["Records"] else None


async def records_from(client: Asks, token: str, *, limit: int = 1000) -> list[Json]:
    """Return the records from an iterator on, to the first empty page or the end."""
    return [
        record
        async for reply in pages_from(client, token, limit=limit)
        for record in reply["Records"]
    ]


async def all_records(client: Asks, arn: str) -> list[Json]:
    """Return every record of a stream, shard by shard as they are listed."""
    records: list[Json] = []
    for shard in await shards_of(client, arn):
        records += await records_from(client, await iterator_of(client, arn, shard["ShardId"]))
    return records
