"""The Lambda function on a real store, beside a proxy that caches what the function invalidates."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import structlog

from proxy.core.cache_key import KeySpace
from proxy.core.errors import SettingsInvalid
from proxy.core.lambda_batch import StrangeEvent
from proxy.core.values import TableName
from proxy.edge.clock import SystemClock
from proxy.embedded.dynamodb import RunningDynamoDB
from proxy.embedded.valkey import RunningStore
from tests.fakes.fake_stream_records import without_keys
from tests.fakes.fake_upstream import FakeUpstream
from tests.support.dynamo_wire import Json
from tests.support.lambda_function import Invocation, lambda_event, load_handler
from tests.support.ports import free_port
from tests.support.proxy_process import REGION
from tests.support.serving import Serving, item, key, serving
from tests.support.stream_client import WireClient, all_records

pytestmark = pytest.mark.store

NAMESPACE = "test-lambda"
DONE: Json = {"batchItemFailures": []}


class ShiftedClock(SystemClock):
    """A clock whose wall time only a test moves, as Lambda does that stops a process for long."""

    def __init__(self) -> None:
        self.shift_s = 0.0
        self._since_s = super().wall_s()

    def wall_s(self) -> float:
        """Seconds since the epoch."""
        return self._since_s + self.shift_s


def environ_of(store: RunningStore) -> dict[str, str]:
    """Return a function's environment."""
    return {
        "AWS_REGION": REGION,
        "DYNASIDE__STORE__URL": store.url,
        "DYNASIDE__STORE__NAMESPACE": NAMESPACE,
        "DYNASIDE__STORE__LANES": "1",
        "DYNASIDE__STORE__QUARANTINE_S": "0",
    }


class Subject:
    """The function, the table's stream, and a proxy in front of the table."""

    def __init__(self, fake: FakeUpstream, proxy: Serving, store: RunningStore) -> None:
        self.fake = fake
        self.proxy = proxy
        self.store = store
        self.clock = ShiftedClock()
        self.environ = environ_of(store)
        self.function = load_handler().Function(self.environ, self.clock)
        self._seen = 0

    async def new_records(self) -> list[Json]:
        """Return the stream's records since the last time."""
        records = await all_records(
            WireClient(self.fake.endpoint), self.fake.tables.stream("t").arn
        )
        records, self._seen = records[self._seen :], len(records)
        return records

    async def invoke(self, event: Json, *, seconds: float = 20.0) -> Any:
        """Call the function as Lambda does, beside this loop."""
        return await asyncio.to_thread(self.function, event, Invocation(seconds))

    def clients(self) -> set[str]:
        """Return the identities of the store's connections, but for the one that asks."""
        listed = self.store.ask("CLIENT", "LIST").decode().partition("\r\n")[2].splitlines()
        return {line.split()[0] for line in listed if line and "cmd=client" not in line}

    async def read(self, name: str) -> tuple[str | None, str]:
        """Read an item through the proxy; return its number and whether that was a hit."""
        reply = await self.proxy.call("GetItem", key(name))
        found = reply.content.get("Item")
        return (None if found is None else found["n"]["N"]), reply.cache.split("; ")[1]


@pytest.fixture
def log_as_before() -> Iterator[None]:
    """Let the function's log go with its test."""
    yield
    structlog.reset_defaults()
    logging.getLogger().handlers = [
        handler
        for handler in logging.getLogger().handlers
        if not type(handler).__module__.startswith("proxy.")
    ]


@pytest.fixture
async def subject(empty_valkey: RunningStore, log_as_before: None) -> AsyncIterator[Subject]:
    """Give a table with a stream, where item a has n=1 and the proxy has read it."""
    settings = {
        "store.namespace": NAMESPACE,
        "defaults.write_mode": "through",
        "near.bytes_max": 0,  # what the store holds is what is looked at
    }
    async with (
        FakeUpstream() as fake,
        serving(fake.endpoint, store=empty_valkey.url, settings=settings) as proxy,
    ):
        fake.tables.add("t", pk="S")
        fake.tables.enable_stream("t")
        fake.tables.call("PutItem", item("a", 1))
        made = Subject(fake, proxy, empty_valkey)
        await made.new_records()
        assert await made.read("a") == ("1", "fwd=miss")
        assert await made.read("a") == ("1", "hit")
        yield made
        await asyncio.to_thread(made.function.close)


def from_stream(records: list[Json], table: str = "t") -> Json:
    """Return a table's records as Lambda hands them over."""
    arn = f"arn:aws:dynamodb:{REGION}:000000000000:table/{table}/stream/2026-11-30T00:48:05.899"
    return {"Records": [{**record, "eventSourceARN": arn} for record in records]}


def from_kinesis(records: list[Json], table: str = "t") -> Json:
    """Return the same as Lambda hands them over from Kinesis."""
    event = lambda_event("kinesis")
    frame, *_ = event["Records"]
    framed = []
    for number, record in enumerate(records):
        change = {**record["dynamodb"], "ApproximateCreationDateTime": 1796021285120}
        payload = {**record, "tableName": table, "recordFormat": "application/json"}
        data = base64.b64encode(json.dumps({**payload, "dynamodb": change}).encode()).decode()
        content = {**frame["kinesis"], "sequenceNumber": str(number), "data": data}
        framed.append({**frame, "kinesis": content})
    return {"Records": framed}


@pytest.mark.parametrize("framed", [from_stream, from_kinesis])
async def test_write_past_the_proxy_is_seen(subject: Subject, framed: Any) -> None:
    """After the invocation the proxy answers what was written."""
    subject.fake.tables.call("PutItem", item("a", 2))
    subject.fake.tables.call("PutItem", item("a", 3))
    assert await subject.read("a") == ("1", "hit")
    assert await subject.invoke(framed(await subject.new_records())) == DONE
    assert await subject.read("a") == ("3", "fwd=miss")


@pytest.mark.parametrize("framed", [from_stream, from_kinesis])
async def test_own_write_keeps_its_entry(subject: Subject, framed: Any) -> None:
    """An entry that shows the change already stays."""
    await subject.proxy.call("PutItem", item("a", 2))
    assert await subject.read("a") == ("2", "hit")
    records = await subject.new_records()
    assert len(records) == 1
    assert await subject.invoke(framed(records)) == DONE
    assert await subject.read("a") == ("2", "hit")


@pytest.mark.engine
@pytest.mark.usefixtures("log_as_before")
@pytest.mark.parametrize("framed", [from_stream, from_kinesis])
async def test_records_of_an_engine_are_applied(
    dynamodb: RunningDynamoDB, empty_valkey: RunningStore, framed: Any
) -> None:
    """As they come from a DynamoDB that is not ours: written, changed and deleted."""
    client, table = WireClient(dynamodb.endpoint), f"lambda-{uuid.uuid4().hex[:8]}"
    specification = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    definition = {
        "TableName": table,
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
        "BillingMode": "PAY_PER_REQUEST",
        "StreamSpecification": specification,
    }
    arn = (await client.call("CreateTable", definition))["TableDescription"]["LatestStreamArn"]
    settings = {"store.namespace": NAMESPACE, "near.bytes_max": 0}
    function = load_handler().Function(environ_of(empty_valkey))
    wanted = {"TableName": table, "Key": {"pk": {"S": "a"}}}
    upstream = dynamodb.endpoint
    async with serving(upstream, store=empty_valkey.url, settings=settings) as proxy:
        for number in ("1", "2", None):
            before = await proxy.call("GetItem", wanted)
            item_now = {"pk": {"S": "a"}, "n": {"N": number}}
            if number is None:
                await client.call("DeleteItem", wanted)
            else:
                await client.call("PutItem", {"TableName": table, "Item": item_now})
            assert (await proxy.call("GetItem", wanted)).content == before.content
            records = await all_records(client, arn)
            event = framed(records[-1:], table)
            assert await asyncio.to_thread(function, event, Invocation()) == DONE
            after = (await proxy.call("GetItem", wanted)).content
            assert after == ({} if number is None else {"Item": item_now})
    await asyncio.to_thread(function.close)


async def test_deletion_by_time_to_live_is_seen(subject: Subject) -> None:
    """Nobody asked a proxy for it."""
    subject.fake.tables.expire("t", {"pk": {"S": "a"}})
    (record,) = await subject.new_records()
    assert record["userIdentity"]["principalId"] == "dynamodb.amazonaws.com"
    assert await subject.invoke(from_stream([record])) == DONE
    assert (await subject.read("a"))[0] is None


async def test_poison_voids_the_table_and_is_parked(subject: Subject) -> None:
    """What comes after it in the batch is applied."""
    subject.fake.tables.stream("t").spoil(without_keys)
    for number in (2, 3):
        subject.fake.tables.call("PutItem", item("b", number))
    records = await subject.new_records()
    assert await subject.invoke(from_stream(records)) == DONE
    assert await subject.read("a") == ("1", "fwd=miss")
    with redis.Redis.from_url(subject.store.url) as client:
        parked = client.lrange(KeySpace(NAMESPACE, REGION).parked_key(TableName("t")), 0, -1)
    assert [json.loads(each)["reason"] for each in parked] == ["no-keys"]


async def test_connection_is_used_again_while_it_is_young(subject: Subject) -> None:
    """And made anew when nobody has proved for seconds that it still leads to the primary."""
    others = subject.clients()
    seen: list[set[str]] = []
    for shift_s in (0.0, 4.0, 4.9, 5.1, 9.0, -60.0):
        subject.clock.shift_s = shift_s
        assert await subject.invoke(from_stream([])) == DONE
        subject.fake.tables.call("PutItem", item("a", len(seen) + 2))
        assert await subject.invoke(from_stream(await subject.new_records())) == DONE
        seen.append(subject.clients() - others)
    first, second, third, fourth, fifth, sixth = seen
    assert len(first) == 1
    assert first == second == third
    assert len(fourth) == len(sixth) == 1
    assert fourth == fifth
    assert not first & fourth
    assert not fourth & sixth


async def test_broken_connection_is_replaced_within_the_invocation(subject: Subject) -> None:
    """As after a long pause, when something between has dropped it."""
    others = subject.clients()
    assert await subject.invoke(from_stream([])) == DONE
    subject.fake.tables.call("PutItem", item("b", 2))
    assert await subject.invoke(from_stream(await subject.new_records())) == DONE
    (own,) = subject.clients() - others
    assert subject.store.ask("CLIENT", "KILL", "ID", own.removeprefix("id=")) == b":1\r\n"
    subject.fake.tables.call("PutItem", item("a", 2))
    assert await subject.invoke(from_stream(await subject.new_records())) == DONE
    assert await subject.read("a") == ("2", "fwd=miss")


async def test_first_record_is_named_where_the_store_is_out(subject: Subject) -> None:
    """So that Lambda hands over all of them again."""
    subject.fake.tables.call("PutItem", item("a", 2))
    (record,) = await subject.new_records()
    environ = {**subject.environ, "DYNASIDE__STORE__URL": f"redis://127.0.0.1:{free_port()}"}
    function = load_handler().Function(environ)
    answer = await asyncio.to_thread(function, from_stream([record]), Invocation(0.3))
    await asyncio.to_thread(function.close)
    number = record["dynamodb"]["SequenceNumber"]
    assert answer == {"batchItemFailures": [{"itemIdentifier": number}]}


async def test_invocation_without_a_batch_fails(subject: Subject) -> None:
    """As by the console's test button; the next one is served."""
    with pytest.raises(StrangeEvent):
        await subject.invoke({"key1": "value1"})
    assert await subject.invoke(from_stream([])) == DONE


def test_settings_are_checked(tmp_path: Path) -> None:
    """Every problem is told, by each invocation."""
    module = load_handler()
    with pytest.raises(SettingsInvalid, match=r"(?s)store.*AWS_REGION"):
        module.Function({})
    file = tmp_path / "dynaside.yaml"
    file.write_text("store: {lanez: 3}")
    with pytest.raises(SettingsInvalid, match="lanez"):
        module.Function({"AWS_REGION": REGION, "DYNASIDE_CONFIG": str(file)})


@pytest.mark.usefixtures("log_as_before")
def test_function_is_made_once(monkeypatch: pytest.MonkeyPatch, empty_valkey: RunningStore) -> None:
    """With the settings of the process's own environment."""
    module = load_handler()
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("DYNASIDE__STORE__URL", empty_valkey.url)
    for _ in range(2):
        assert module.handler(from_stream([]), Invocation()) == DONE
    assert module.function() is module.function()
    module.function().close()
