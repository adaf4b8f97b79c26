"""What a GetItem costs its caller: `python -m tests.bench.speed.sdk_calls ENDPOINT SECONDS`.

aiobotocore asks an endpoint for items, some at once, and says what that cost this process.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from statistics import quantiles
from typing import Any, Final

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from tests.bench.speed.load import key_of
from tests.bench.speed.plan import USUAL_CONNECTIONS, USUAL_KEYS
from tests.support.proxy_process import ACCESS_KEY, REGION, SECRET_KEY

TABLE: Final = "passed"


async def ask(client: Any, until_s: float, took_us: list[float]) -> None:
    """Ask for one item after the other until a time of the monotonic clock."""
    while (began_s := time.monotonic()) < until_s:
        key = key_of(len(took_us) % USUAL_KEYS)
        reply = await client.get_item(TableName=TABLE, Key=key)
        assert "Item" in reply, "there is an item for every key"
        took_us.append(1e6 * (time.monotonic() - began_s))


async def measure(endpoint: str, seconds: float) -> dict[str, float]:
    """Return calls, CPU µs per call, calls per second and the median latency."""
    took_us: list[float] = []
    async with get_session().create_client(
        "dynamodb",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=AioConfig(max_pool_connections=USUAL_CONNECTIONS),
    ) as client:
        await client.get_item(TableName=TABLE, Key=key_of(0))
        began_s, cpu_s = time.monotonic(), time.process_time()
        until_s = began_s + seconds
        await asyncio.gather(*(ask(client, until_s, took_us) for _ in range(USUAL_CONNECTIONS)))
        cpu_s = time.process_time() - cpu_s
        elapsed_s = time.monotonic() - began_s
    return {
        "calls": len(took_us),
        "cpu_us": 1e6 * cpu_s / len(took_us),
        "per_s": len(took_us) / elapsed_s,
        "p50_us": quantiles(took_us, n=2)[0],
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(sys.argv[1], float(sys.argv[2])))))  # noqa: T201
