"""What aioboto3 sees of the proxy: aioboto3_tour.py tour|patient TABLE.

Runs in the environment of the SDK clients. Endpoint, region and credentials come from the
environment variables that every SDK reads. Prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import aioboto3  # type: ignore[import-not-found,import-untyped,unused-ignore]  # lives in .venv-clients


class Tour:
    """The steps, on one table resource."""

    def __init__(self, table: Any, name: str) -> None:
        self._table = table
        self._key = {"pk": name}

    async def read(self) -> dict[str, Any]:
        """Read the item."""
        reply = await self._table.get_item(Key=self._key)
        return {"value": reply.get("Item", {}).get("v"), **_seen(reply)}

    async def write(self, value: str, **condition: str) -> dict[str, Any]:
        """Put the item."""
        return _seen(await self._table.put_item(Item={**self._key, "v": value}, **condition))

    async def refusal(self, errors: Any) -> str:
        """Return the name of the exception class of a failed condition."""
        try:
            await self.write("never", ConditionExpression="attribute_not_exists(pk)")
        except errors.ConditionalCheckFailedException as error:
            return type(error).__name__
        return ""


def _seen(reply: Any) -> dict[str, Any]:
    metadata = reply["ResponseMetadata"]
    says = metadata["HTTPHeaders"].get("cache-status", "")
    return {"says": says, "attempts": metadata["RetryAttempts"] + 1}


async def _main(mode: str, table_name: str) -> dict[str, Any]:
    async with aioboto3.Session().resource("dynamodb") as resource:
        tour = Tour(await resource.Table(table_name), f"aioboto3-{mode}")
        if mode == "patient":
            return {"written": await tour.write("patience"), "read": await tour.read()}
        await tour.write("old")
        return {
            "miss": await tour.read(),
            "hit": await tour.read(),
            "written": await tour.write("new"),
            "fresh": await tour.read(),
            "refusal": await tour.refusal(resource.meta.client.exceptions),
        }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(_main(*sys.argv[1:]))) + "\n")
