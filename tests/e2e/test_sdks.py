"""Real SDKs find the proxy by their usual settings and notice nothing but speed.

Every SDK makes the same tour (`tests/support/sdk_tours.py`).
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

import boto3
import pytest

from proxy.embedded.dynamodb import RunningDynamoDB
from proxy.embedded.valkey import RunningStore
from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.fake_upstream_script import RESET_BEFORE
from tests.support.ports import free_port
from tests.support.proxy_process import ENVIRON, REGION, RunningProxy, running_proxy
from tests.support.sdk import boto3_client
from tests.support.sdk_tours import (
    Tour,
    aioboto3_tour,
    aiobotocore_tour,
    boto3_tour,
    cli_tour,
    javascript_tour,
    sdk_environ,
)

pytestmark = pytest.mark.engine

TOURS = [boto3_tour, aiobotocore_tour, aioboto3_tour, cli_tour, javascript_tour]
EVERY_SDK = pytest.mark.parametrize("tour", TOURS, ids=lambda tour: tour.__name__)


@dataclass(frozen=True)
class Site:
    """A proxy in front of a DynamoDB with one table, partition key `pk` of type S."""

    proxy: RunningProxy
    table: str


@pytest.fixture(scope="module")
def site(dynamodb: RunningDynamoDB, valkey: RunningStore) -> Iterator[Site]:
    """Give a proxy in front of ministack; the table is created through it."""
    table = f"sdk-{uuid.uuid4().hex[:8]}"
    with running_proxy(upstream=dynamodb.endpoint, store=valkey.url) as proxy:
        client = boto3_client(proxy.endpoint)
        client.create_table(
            TableName=table,
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
        client.get_waiter("table_exists").wait(TableName=table)
        yield Site(proxy, table)


def adopt(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> dict[str, str]:
    """Make an SDK's environment this process's own as well, for the SDKs that run in it."""
    environ = sdk_environ(endpoint)
    for name, text in environ.items():
        monkeypatch.setenv(name, text)
    return environ


@EVERY_SDK
async def test_sdk_reads_writes_and_is_refused(
    site: Site, tour: Tour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Miss, hit, write, fresh read; a failed condition is the SDK's own exception class."""
    seen = await tour("tour", site.table, adopt(monkeypatch, site.proxy.endpoint))
    assert seen["miss"]["value"] == seen["hit"]["value"] == "old"
    assert seen["miss"]["says"] == "dynaside; fwd=miss; stored"
    assert seen["hit"]["says"].startswith("dynaside; hit; ttl=")
    assert seen["written"]["says"] == "dynaside; fwd=bypass; detail=write-invalidated"
    assert seen["fresh"]["value"] == "new"
    assert seen["fresh"]["says"] == "dynaside; fwd=miss; stored"
    assert seen["refusal"] == "ConditionalCheckFailedException"
    assert {each["attempts"] for each in seen.values() if isinstance(each, dict)} == {1}


@EVERY_SDK
async def test_sdk_repeats_after_a_500_of_the_proxy(
    valkey: RunningStore, tour: Tour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write whose upstream connection broke is answered 500; the SDK repeats it and succeeds."""
    async with FakeUpstream() as fake:
        fake.tables.add("orders", pk="S")
        fake.fail("PutItem", RESET_BEFORE)
        with running_proxy(upstream=fake.endpoint, store=valkey.url) as proxy:
            seen = await tour("patient", "orders", adopt(monkeypatch, proxy.endpoint))
            answered = await metric(proxy, "dynaside_http_responses_total", status="500")
    assert answered == 1
    assert seen["written"]["attempts"] == 2
    assert fake.count("PutItem") == 2
    assert seen["read"]["value"] == "patience"


@pytest.fixture
async def late(valkey: RunningStore) -> AsyncIterator[tuple[RunningProxy, int]]:
    """Give a proxy whose upstream does not listen yet, and the port where it is expected."""
    port = free_port()
    with running_proxy(upstream=f"http://127.0.0.1:{port}", store=valkey.url) as proxy:
        yield proxy, port


@EVERY_SDK
async def test_sdk_repeats_after_a_503_of_the_proxy(
    late: tuple[RunningProxy, int], tour: Tour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While upstream cannot be reached the answer is 503; the SDK goes on until it can be."""
    proxy, port = late
    environ = adopt(monkeypatch, proxy.endpoint)
    running = asyncio.create_task(tour("patient", "orders", environ))
    failed = partial(
        proxy.metric, "dynaside_upstream_failures_total", operation="PutItem", failure="connect"
    )
    await asyncio.to_thread(proxy.child.wait_until, lambda: running.done() or failed() > 0)
    async with FakeUpstream(port) as fake:
        fake.tables.add("orders", pk="S")
        seen = await running
        assert fake.count("PutItem") == 1
    assert seen["written"]["attempts"] > 1
    assert seen["read"]["value"] == "patience"


def test_boto3_resource_reads_python_values(site: Site) -> None:
    """The resource's own types, numbers, sets, bytes, survive on misses and hits alike."""
    resource: Any = boto3.resource(
        "dynamodb",
        endpoint_url=site.proxy.endpoint,
        region_name=REGION,
        aws_access_key_id=ENVIRON["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=ENVIRON["AWS_SECRET_ACCESS_KEY"],
    )
    table = resource.Table(site.table)
    item = {
        "pk": "resource",
        "number": Decimal("1.50"),
        "set": {"a", "b"},
        "binary": b"\x00\xff",
        "nested": {"list": [True, None, Decimal(7)]},
    }
    table.put_item(Item=item)
    for says in ("miss", "hit"):
        reply = table.get_item(Key={"pk": "resource"})
        assert reply["Item"] == item
        assert says in reply["ResponseMetadata"]["HTTPHeaders"]["cache-status"]
    table.update_item(
        Key={"pk": "resource"},
        UpdateExpression="ADD #n :one",
        ExpressionAttributeNames={"#n": "number"},
        ExpressionAttributeValues={":one": Decimal(1)},
    )
    assert table.get_item(Key={"pk": "resource"})["Item"]["number"] == Decimal("2.5")


def test_boto3_batch_writer_and_paginators(site: Site) -> None:
    """Batches invalidate what was cached; paginators page through the proxy."""
    client = boto3_client(site.proxy.endpoint)
    key = {"pk": {"S": "page-3"}}
    assert "Item" not in client.get_item(TableName=site.table, Key=key)
    names = [f"page-{number}" for number in range(10)]
    puts = [{"PutRequest": {"Item": {"pk": {"S": name}}}} for name in names]
    client.batch_write_item(RequestItems={site.table: puts})
    assert client.get_item(TableName=site.table, Key=key)["Item"] == key
    pages = client.get_paginator("scan").paginate(
        TableName=site.table, PaginationConfig={"PageSize": 4}
    )
    found = [item["pk"]["S"] for page in pages for item in page["Items"]]
    assert set(names) <= set(found)
    assert len(found) == len(set(found))
    tables = client.get_paginator("list_tables").paginate(PaginationConfig={"PageSize": 1})
    assert site.table in [name for page in tables for name in page["TableNames"]]


def test_boto3_maps_the_errors_of_transactions(site: Site) -> None:
    """A cancelled transaction keeps its reasons, with the item that was in the way."""
    client = boto3_client(site.proxy.endpoint)
    item = {"pk": {"S": "transaction"}}
    client.put_item(TableName=site.table, Item=item)
    put = {
        "TableName": site.table,
        "Item": item,
        "ConditionExpression": "attribute_not_exists(pk)",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    with pytest.raises(client.exceptions.TransactionCanceledException) as caught:
        client.transact_write_items(TransactItems=[{"Put": put}])
    (reason,) = caught.value.response["CancellationReasons"]
    assert reason["Code"] == "ConditionalCheckFailed"
    assert reason["Item"] == item


def test_boto3_reads_streams_through_the_proxy(site: Site) -> None:
    """A DynamoDB Streams client works with the proxy as its endpoint too."""
    client = boto3_client(site.proxy.endpoint, service="dynamodbstreams")
    assert client.list_streams(TableName=site.table)["Streams"] == []


async def metric(proxy: RunningProxy, name: str, **labels: str) -> float:
    """Read a metric without holding up the loop that serves the fake upstream."""
    return await asyncio.to_thread(lambda: proxy.metric(name, **labels))
