"""Claims about the demo's table."""

from __future__ import annotations

from typing import Any

import botocore.session
import pytest

from proxy.embedded.dynamodb import RunningDynamoDB
from proxy.embedded.sample import TABLE, fill_sample_table, sample_items
from tests.support.ports import free_port

pytestmark = pytest.mark.engine
REGION = "us-east-1"


def test_filling_twice_gives_the_same_table(
    dynamodb: RunningDynamoDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table holds exactly the sample items, however often it is filled."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    for _ in range(2):
        assert fill_sample_table(dynamodb.endpoint, REGION) == len(sample_items())
    client: Any = botocore.session.get_session().create_client(
        "dynamodb", region_name=REGION, endpoint_url=dynamodb.endpoint
    )
    stored = client.scan(TableName=TABLE)["Items"]
    client.close()
    assert sorted(stored, key=lambda item: item["sku"]["S"]) == sample_items()


def test_filling_uses_no_http_proxy(
    dynamodb: RunningDynamoDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies that the environment names are not asked: the engine is on this machine."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    nobody = f"http://127.0.0.1:{free_port()}"
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, nobody)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert fill_sample_table(dynamodb.endpoint, REGION) == len(sample_items())
