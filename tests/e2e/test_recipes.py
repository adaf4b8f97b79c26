"""README's recipes for steering a read run as they stand there, on the real SDKs."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import textwrap
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiobotocore.session
import boto3
import pytest

from proxy.embedded.dynamodb import RunningDynamoDB
from proxy.embedded.valkey import RunningStore
from tests.support.engines import NODE_MODULES
from tests.support.proxy_process import running_proxy
from tests.support.sdk import boto3_client
from tests.support.sdk_tours import CLIENTS, sdk_environ
from tests.support.tools import missing

pytestmark = pytest.mark.engine

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "README.md").read_text().partition("## Steer one read\n")[2].partition("\n## ")[0]
RECIPES = dict(re.findall(r"^(\w+)[^\n]*\n\n```\w+\n(.*?)```", SECTION, re.MULTILINE | re.DOTALL))
REFRESHED = "dynaside; fwd=request; stored"
KEY = {"pk": {"S": "a"}}

JAVASCRIPT = """
import { DynamoDBClient, GetItemCommand } from "@aws-sdk/client-dynamodb";
%s
const { Item } = await client.send(new GetItemCommand({ TableName: process.argv[2], Key: %s }));
console.log(Item.v.S);
"""
AIOBOTO3 = """
import aioboto3, asyncio, sys
async def main():
    async with aioboto3.Session().resource("dynamodb") as resource:
        client = resource.meta.client
%s
        reply = await (await resource.Table(sys.argv[1])).get_item(Key={"pk": "a"})
        print(reply["Item"]["v"])
asyncio.run(main())
"""


class Stage:
    """A table whose one item is cached as "old" and has become "new" behind the proxy's back."""

    def __init__(self, endpoint: str, upstream: str) -> None:
        self.table = f"recipe-{uuid.uuid4().hex[:8]}"
        self.environ = sdk_environ(endpoint)
        self._through = boto3_client(endpoint)
        client = boto3_client(upstream)
        client.create_table(
            TableName=self.table,
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
        client.get_waiter("table_exists").wait(TableName=self.table)
        client.put_item(TableName=self.table, Item={**KEY, "v": {"S": "old"}})
        self.read()
        client.put_item(TableName=self.table, Item={**KEY, "v": {"S": "new"}})
        assert self.read() == "old"

    def read(self) -> str:
        """Read the item as everybody does."""
        reply = self._through.get_item(TableName=self.table, Key=KEY)
        value: str = reply["Item"]["v"]["S"]
        return value

    async def run(self, *command: str | Path, text: str) -> str:
        """Run a program that reads its source; return the last line that it prints."""
        process = await asyncio.create_subprocess_exec(
            *command,
            self.table,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=NODE_MODULES.parent,
            env=self.environ,
        )
        out, _ = await process.communicate(text.encode())
        return out.decode().strip().rpartition("\n")[2]  # behind warnings of the program's own


@pytest.fixture
def stage(
    dynamodb: RunningDynamoDB, valkey: RunningStore, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stage]:
    """Give a stage, and its environment to the SDKs that run in this process."""
    with running_proxy(upstream=dynamodb.endpoint, store=valkey.url) as proxy:
        proxy.wait_serving()
        made = Stage(proxy.endpoint, dynamodb.endpoint)
        for name, text in made.environ.items():
            monkeypatch.setenv(name, text)
        yield made


def test_every_recipe_is_found() -> None:
    """README has a recipe for each SDK, and says which of them nobody runs."""
    assert list(RECIPES) == ["boto3", "aiobotocore", "JavaScript", "Go", "Java"]
    assert SECTION.count("(not run by the tests)") == 2


def test_boto3_recipe(stage: Stage) -> None:
    """The read shows the new item, and so does everybody's after it."""
    names: dict[str, Any] = {"boto3": boto3}
    exec(RECIPES["boto3"], names)
    reply = names["client"].get_item(TableName=stage.table, Key=KEY)
    assert reply["ResponseMetadata"]["HTTPHeaders"]["cache-status"] == REFRESHED
    assert (reply["Item"]["v"]["S"], stage.read()) == ("new", "new")


async def test_aiobotocore_recipe(stage: Stage) -> None:
    """The same, inside the recipe's own block."""
    lines = ["async def read(table, key):", textwrap.indent(RECIPES["aiobotocore"], "    ")]
    names: dict[str, Any] = {"aiobotocore": aiobotocore}
    returned = "        return await client.get_item(TableName=table, Key=key)"
    exec("\n".join([*lines, returned]), names)
    reply = await names["read"](stage.table, KEY)
    assert reply["ResponseMetadata"]["HTTPHeaders"]["cache-status"] == REFRESHED
    assert (reply["Item"]["v"]["S"], stage.read()) == ("new", "new")


async def test_aioboto3_recipe(stage: Stage) -> None:
    """The same two lines steer the client that a resource works with."""
    if not (CLIENTS / "python").exists():
        missing(".venv-clients", install="make setup")
    lines = textwrap.dedent(RECIPES["aiobotocore"].partition("\n")[2])
    source = AIOBOTO3 % textwrap.indent(lines, " " * 8)
    assert await stage.run(CLIENTS / "python", "-", text=source) == "new"
    assert stage.read() == "new"


async def test_javascript_recipe(stage: Stage) -> None:
    """The middleware adds the field before the request is signed."""
    node = shutil.which("node")
    if node is None or not (NODE_MODULES / "@aws-sdk").is_dir():
        missing("AWS SDK for JavaScript", install="apt install nodejs npm, then make setup")
    source = JAVASCRIPT % (RECIPES["JavaScript"], json.dumps(KEY))
    out = await stage.run(node, "--input-type=module", "-", text=source)
    assert (out, stage.read()) == ("new", "new")
