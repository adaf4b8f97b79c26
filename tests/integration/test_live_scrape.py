"""Claims about what a running proxy tells its operator: a live scrape, and the log beside it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.embedded.valkey import RunningStore
from tests.deploy.conftest import DEPLOY, Exposed
from tests.deploy.promql import unknown_names
from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.fake_upstream_script import RESET_AFTER, THROTTLED
from tests.support.proxy_process import RunningProxy, running_proxy
from tests.support.serving import Reply, Wire, key, post, total

pytestmark = pytest.mark.store

SECRET_KEY = "key-of-a-customer"
SECRET_CONTENT = "content-of-an-item"
PASSWORD = "password-of-the-store"
SECRETS = (SECRET_KEY, SECRET_CONTENT, PASSWORD)


@pytest.fixture
async def fake() -> AsyncIterator[FakeUpstream]:
    """A DynamoDB with table `t`."""
    async with FakeUpstream() as upstream:
        upstream.tables.add("t", pk="S")
        yield upstream


@pytest.fixture
def user(empty_valkey: RunningStore) -> str:
    """A user of the store with a password; returns a URL with both."""
    empty_valkey.ask("ACL", "SETUSER", "dynaside", "on", f">{PASSWORD}", "~*", "&*", "+@all")
    return empty_valkey.url.replace("//", f"//dynaside:{PASSWORD}@")


def proxy_of(
    fake: FakeUpstream, store: str, **settings: object
) -> AbstractContextManager[RunningProxy]:
    """Run a proxy that may not have found its store yet."""
    # In the environment: `running_proxy` would wait for it, and asks a single process only.
    environ = {"DYNASIDE__STORE__URL": store}
    return running_proxy(upstream=fake.endpoint, store=None, settings=settings, environ=environ)


async def call(proxy: RunningProxy, operation: str, body: object) -> Reply:
    """Make one call of the proxy."""
    async with Wire(*proxy.address) as wire:
        await wire.send(post(operation, json.dumps(body).encode()))
        return await wire.reply()


async def drive(proxy: RunningProxy, fake: FakeUpstream) -> None:
    """Make one call of every kind: misses, hits, writes, errors of the client and of upstream."""
    item = {"pk": {"S": SECRET_KEY}, "note": {"S": SECRET_CONTENT * 300}}
    written = {"TableName": "t", "Item": item}
    get = key(SECRET_KEY)
    await call(proxy, "PutItem", written)
    for _ in range(4):
        await call(proxy, "GetItem", get)  # one miss, three hits
    await call(proxy, "GetItem", get | {"ProjectionExpression": "note"})
    for _ in range(2):
        await call(proxy, "GetItem", key(f"{SECRET_KEY}-of-nobody"))
    await call(proxy, "GetItem", get | {"ConsistentRead": True})
    await call(proxy, "DeleteItem", get | {"ConditionExpression": "attribute_not_exists(pk)"})
    await call(proxy, "BatchGetItem", {"RequestItems": {"t": {"Keys": [get["Key"]]}}})
    await call(proxy, "ListTables", {})
    await call(proxy, "GetItem", {"TableName": "t", "Key": SECRET_KEY})
    update = {
        "UpdateExpression": "SET note = :n",
        "ExpressionAttributeValues": {":n": item["note"]},
    }
    await call(proxy, "UpdateItem", get | update)
    await call(proxy, "Mystery", {"x": SECRET_KEY})
    for fault in (THROTTLED, RESET_AFTER):
        fake.fail("PutItem", fault)
        await call(proxy, "PutItem", written)
    async with Wire(*proxy.address) as wire:
        await wire.send(f"POST /{SECRET_KEY} HTTP/1.1\r\n{SECRET_CONTENT}\r\n\r\n".encode())
        await wire.reply()


def exposed(text: str) -> Exposed:
    """Return every sample of a scrape: name to label to the members seen."""
    found: Exposed = {}
    for family in text_string_to_metric_families(text):
        found.setdefault(family.name, {})
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, member in sample.labels.items():
                labels.setdefault(label, set()).add(member)
    return found


@pytest.mark.parametrize("workers", [1, 2])
async def test_live_scrape_has_every_metric_that_is_watched(
    fake: FakeUpstream, user: str, workers: int
) -> None:
    """All names in the alert rules and in the dashboard are in a scrape of a running proxy."""
    fake.tables.add("orders", pk="S")
    streams = {"orders": {"streams": True}}
    with proxy_of(fake, user, workers=workers, tables=streams) as proxy:
        await drive(proxy, fake)
        found = exposed(proxy.ops("/metrics")[1])
    watched = (DEPLOY / "prometheus" / "dynaside.rules.yaml", DEPLOY / "grafana" / "dynaside.json")
    for path in watched:
        names = unknown_names(path.read_text(), found)
        # To people a histogram goes by its own name, which is no sample's.
        assert {name for name in names if f"{name}_bucket" not in found} == set(), path.name


async def test_scrape_counts_what_happened(fake: FakeUpstream, user: str) -> None:
    """Hits, misses, saved capacity, fills, throttles and failures are those that were made."""
    with proxy_of(fake, user) as proxy:
        proxy.wait_serving()
        await drive(proxy, fake)
        scrape = proxy.ops("/metrics")[1]

    def counted(name: str, **labels: str) -> float:
        wanted = (f'{label}="{member}"' for label, member in labels.items())
        return total(scrape, f"dynaside_{name}", *wanted)

    assert counted("requests_total", operation="GetItem", outcome="hit", table="t") == 4
    assert counted("requests_total", operation="GetItem", outcome="negative_hit") == 1
    assert counted("requests_total", operation="GetItem", outcome="miss") == 2
    assert counted("bypasses_total", reason="consistent-read") == 1
    # 5.4 KiB: two units of 4 KiB, half each when eventually consistent; an absence: half.
    assert counted("read_capacity_units_saved_total", table="t") == 5 * 1.0 + 0.5
    assert counted("batch_items_total", table="t", outcome="hit") == 1
    # Fills are consistent: 2 and 1; the ConsistentRead: 2.
    assert counted("read_capacity_units_consumed_total", table="t") == 5
    assert counted("fills_total", result="stored") == 3
    assert counted("upstream_throttles_total", operation="PutItem", table="t") == 1
    assert counted("upstream_failures_total", operation="PutItem", failure="reset") == 1
    assert counted("http_responses_total", operation="other") == 1
    assert counted("store_serving") == 1
    assert counted("invariant_violations_total") == 0
    assert counted("debts") == 0
    # Each of nine reads asked the store, but for those that a copy answered.
    near = counted("near_hits_total")
    assert near > 0
    assert counted("store_duration_seconds_count", step="lookup") + near == 9
    # Two misses, the ConsistentRead, and the malformed one, which is upstream's to refuse.
    assert counted("upstream_duration_seconds_count", operation="GetItem") == 4


@pytest.mark.parametrize("level", ["debug", "info"])
async def test_nothing_secret_is_told(fake: FakeUpstream, user: str, level: str) -> None:
    """No key, no item content and no password is in the log, the metrics or the status."""
    with proxy_of(fake, user, **{"log.level": level}) as proxy:
        proxy.wait_serving()
        await drive(proxy, fake)
        pages = {path: proxy.ops(path)[1] for path in ("/metrics", "/status", "/hot", "/")}
        proxy.stop()
    told = {**pages, "log": proxy.last_words or ""}
    assert "upstream silent" in told["log"]
    for where, text in told.items():
        assert [secret for secret in SECRETS if secret in text] == [], where


async def test_openmetrics_is_there_for_those_who_ask(fake: FakeUpstream) -> None:
    """Prometheus asks for OpenMetrics; it gets it, complete."""
    with running_proxy(upstream=fake.endpoint, store=None) as proxy:
        host, _, port = proxy.ops_url.removeprefix("http://").partition(":")
        async with Wire(host, int(port)) as wire:
            accept = "application/openmetrics-text;version=1.0.0"
            await wire.send(
                f"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n".encode()
            )
            reply = await wire.reply()
    assert reply.fields["content-type"].startswith("application/openmetrics-text")
    assert reply.body.endswith(b"# EOF\n")
