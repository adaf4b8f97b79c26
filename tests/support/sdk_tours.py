"""The same tour for every SDK: miss, hit, write, fresh read, refusal; and patience with failures.

A tour is a function of a mode (`tour` or `patient`), a table and the SDK's environment, which
holds nothing but `AWS_*` variables; it returns what the SDK saw as one dict.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final

import aiobotocore.session
import boto3

from tests.support.engines import NODE_MODULES
from tests.support.proxy_process import ACCESS_KEY, REGION, SECRET_KEY
from tests.support.tools import missing

Seen = dict[str, Any]
Tour = Callable[[str, str, Mapping[str, str]], Coroutine[Any, Any, Seen]]

CLIENTS: Final = Path(sys.prefix).parent / ".venv-clients" / "bin"
E2E: Final = Path(__file__).parents[1] / "e2e"
NEVER: Final = "attribute_not_exists(pk)"


def sdk_environ(endpoint: str) -> dict[str, str]:
    """Return the variables by which every SDK finds the proxy; ten attempts at most."""
    return {
        "AWS_ENDPOINT_URL_DYNAMODB": endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_RETRY_MODE": "standard",
        "AWS_MAX_ATTEMPTS": "10",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


async def boto3_tour(mode: str, table: str, environ: Mapping[str, str]) -> Seen:
    """Tour with boto3's client, in a thread; the process's environment must be `environ`."""
    assert os.environ["AWS_ENDPOINT_URL_DYNAMODB"] == environ["AWS_ENDPOINT_URL_DYNAMODB"]
    client = boto3.session.Session().client("dynamodb")

    async def call(name: str, **parameters: Any) -> Any:
        return await asyncio.to_thread(getattr(client, name), **parameters)

    return await _tour_by_client(mode, table, call, client.exceptions)


async def aiobotocore_tour(mode: str, table: str, environ: Mapping[str, str]) -> Seen:
    """Tour with aiobotocore's client; the process's environment must be `environ`."""
    assert os.environ["AWS_ENDPOINT_URL_DYNAMODB"] == environ["AWS_ENDPOINT_URL_DYNAMODB"]
    async with aiobotocore.session.get_session().create_client("dynamodb") as client:

        async def call(name: str, **parameters: Any) -> Any:
            return await getattr(client, name)(**parameters)

        return await _tour_by_client(mode, table, call, client.exceptions)


async def aioboto3_tour(mode: str, table: str, environ: Mapping[str, str]) -> Seen:
    """Tour with aioboto3's table resource, in the clients' environment."""
    python = _of_clients("python")
    return _last_json(await _run([python, str(E2E / "aioboto3_tour.py"), mode, table], environ))


async def javascript_tour(mode: str, table: str, environ: Mapping[str, str]) -> Seen:
    """Tour with the AWS SDK for JavaScript v3."""
    node = shutil.which("node")
    if node is None or not (NODE_MODULES / "@aws-sdk").is_dir():
        missing("AWS SDK for JavaScript", install="apt install nodejs npm, then make setup")
    return _last_json(await _run([node, str(E2E / "js" / "tour.mjs"), mode, table], environ))


async def cli_tour(mode: str, table: str, environ: Mapping[str, str]) -> Seen:
    """Tour with the aws CLI, one process for each call."""
    aws = _of_clients("aws")
    key = {"pk": {"S": f"cli-{mode}"}}

    async def call(verb: str, **parameters: Any) -> Seen:
        arguments = [f"--{name.replace('_', '-')}" for name in parameters]
        texts = [
            each if isinstance(each, str) else json.dumps(each) for each in parameters.values()
        ]
        words = [word for pair in zip(arguments, texts, strict=True) for word in pair]
        out = await _run([aws, "dynamodb", verb, "--debug", "--table-name", table, *words], environ)
        return {"value": _cli_value(out), **_cli_seen(out)}

    async def read() -> Seen:
        return await call("get-item", key=key)

    async def write(value: str, **condition: str) -> Seen:
        return await call("put-item", item={**key, "v": {"S": value}}, **condition)

    if mode == "patient":
        return {"written": await write("patience"), "read": await read()}
    await write("old")
    seen = {"miss": await read(), "hit": await read()}
    seen |= {"written": await write("new"), "fresh": await read()}
    refused = await write("never", condition_expression=NEVER)
    return {**seen, "refusal": refused["error"]}


async def _tour_by_client(
    mode: str, table: str, call: Callable[..., Awaitable[Any]], errors: Any
) -> Seen:
    key = {"pk": {"S": f"{call.__qualname__}-{mode}"}}

    def seen(reply: Any) -> Seen:
        metadata = reply["ResponseMetadata"]
        says = metadata["HTTPHeaders"].get("cache-status", "")
        return {"says": says, "attempts": metadata["RetryAttempts"] + 1}

    async def read() -> Seen:
        reply = await call("get_item", TableName=table, Key=key)
        return {"value": reply.get("Item", {}).get("v", {}).get("S"), **seen(reply)}

    async def write(value: str, **condition: str) -> Seen:
        item = {**key, "v": {"S": value}}
        return seen(await call("put_item", TableName=table, Item=item, **condition))

    async def refusal() -> str:
        try:
            await write("never", ConditionExpression=NEVER)
        except errors.ConditionalCheckFailedException as error:
            return type(error).__name__
        return ""

    if mode == "patient":
        return {"written": await write("patience"), "read": await read()}
    await write("old")
    shown = {"miss": await read(), "hit": await read(), "written": await write("new")}
    return {**shown, "fresh": await read(), "refusal": await refusal()}


def _of_clients(program: str) -> str:
    found = CLIENTS / program
    if not found.exists():
        missing(".venv-clients", install="make setup")
    return str(found)


async def _run(command: list[str], environ: Mapping[str, str]) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"PATH": os.environ["PATH"], **environ},
    )
    out, _ = await process.communicate()
    return out.decode()


def _last_json(out: str) -> Seen:
    assert out.rstrip().endswith("}"), out
    seen: Seen = json.loads(out.rstrip().splitlines()[-1])
    return seen


def _cli_value(out: str) -> str | None:
    found = re.search(r'"v": \{\s*"S": "(\w*)"\s*\}\s*\}\s*\}\s*$', out)
    return found[1] if found else None


def _cli_seen(out: str) -> Seen:
    """Read what `--debug` tells of each attempt, and the error in the end."""
    says = re.findall(r"'cache-status': '([^']*)'", out, re.IGNORECASE)
    error = re.search(r"An error occurred \((\w+)\)", out)
    return {
        "says": says[-1] if says else "",
        "attempts": len(re.findall(r"Sending http request: ", out)),
        "error": error[1] if error else "",
    }
