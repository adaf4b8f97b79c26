"""Measures what streams bring and cost: `python -m tests.bench.streams --out FILE`.

*Time until fresh*: somebody writes to an engine with Streams past the proxy, which has the item
cached; how long until the proxy answers with it, with the proxy's other doings nil. The engine's
own stream has no lag; DynamoDB's adds what it takes, mostly below half a second.
*Records a second*: batches of 1,000 records take effect on a Valkey of our own, as in a reader
whose shards bring as much as it can take: nothing of their items cached, an entry that shows the
change, an older entry.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
import uuid
import zlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

import uvloop

from proxy.core.policy import FencePolicy, TablePolicy
from proxy.core.record import EntryDraft
from proxy.core.stream_records import RecordResult
from proxy.core.values import Layout, TableName
from proxy.edge.clock import SystemClock
from proxy.edge.log import configure
from proxy.edge.redis_store import RedisStore
from proxy.edge.redis_stream_store import RedisStreamStore
from proxy.embedded.dynamodb import start_ministack
from proxy.embedded.valkey import RunningStore, start_valkey
from proxy.flow.stream_effects import StreamEffects
from tests.bench.setting import setting
from tests.support.dynamo_wire import Call, Json, ask
from tests.support.live_lanes import KEYS, live_lanes, options
from tests.support.serving import Serving, serving, until_told

TABLE: Final = TableName("measured")
BATCH: Final = 1000
CLOCK: Final = SystemClock()
FILLER: Final = "x" * 250
_LOOK_S: Final = 0.002


def record(number: int, v: str) -> Json:
    """Return a stream record of an item of some 300 bytes."""
    key = {"pk": {"S": f"user#{number}"}}
    image = {**key, "v": {"S": v}, "filler": {"S": FILLER}}
    change = {"Keys": key, "NewImage": image, "SequenceNumber": "1"}
    change["StreamViewType"] = "NEW_AND_OLD_IMAGES"
    return {"eventName": "MODIFY", "dynamodb": change}


async def fill(store: RedisStore, v: str) -> None:
    """Fill the entries of one batch."""

    async def fill_one(number: int) -> None:
        identity = KEYS.item(TABLE, {"pk": {"S": f"user#{number}"}})
        generation, token = (await store.lookup(identity)).generation, CLOCK.token()
        await store.lease(identity, token=token, generation=generation, force=False)
        image = record(number, v)["dynamodb"]["NewImage"]
        body = json.dumps({"Item": image}, separators=(",", ":")).encode()
        draft = EntryDraft(0.0, 600.0, 600.0, False, len(body), zlib.crc32(body), body)
        assert await store.fill(identity, token=token, generation=generation, draft=draft)

    for at in range(0, BATCH, 100):
        await asyncio.gather(*(fill_one(number) for number in range(at, at + 100)))


async def rates(running: RunningStore, *, rounds: int) -> dict[str, dict[str, float]]:
    """Return records a second, and CPU time of a record, by what they find."""
    taken: dict[str, list[tuple[float, float]]] = {}
    async with live_lanes(options(running.url)) as live:
        await live.until(lambda: live.lanes.serving)
        store = live.store(FencePolicy())
        effects = StreamEffects(
            store,
            RedisStreamStore(live.routes),
            keys=KEYS,
            clock=CLOCK,
            policy_of=lambda _: TablePolicy(layout=Layout.BLOB),
        )
        batch = [record(number, "1") for number in range(BATCH)]

        async def nothing() -> None:
            running.flush()

        ways: dict[RecordResult, Callable[[], Awaitable[None]]] = {
            RecordResult.ABSENT: nothing,
            RecordResult.SAME: lambda: fill(store, "1"),
            RecordResult.INVALIDATED: lambda: fill(store, "0"),
        }
        for _ in range(rounds):
            for result, prepare in ways.items():
                await nothing()
                await prepare()
                wall_s, cpu_s = time.perf_counter(), time.process_time()
                applied = await effects.apply(TABLE, batch)
                times = time.perf_counter() - wall_s, time.process_time() - cpu_s
                assert set(applied.results) == {result}
                taken.setdefault(result.value, []).append(times)
    return {
        result: {
            "records_per_s": round(BATCH / median(wall for wall, _ in times)),
            "cpu_us": round(median(cpu for _, cpu in times) / BATCH * 1e6, 1),
        }
        for result, times in taken.items()
    }


async def freshness(endpoint: str, store_url: str, *, writes: int) -> dict[str, dict[str, float]]:
    """Return how long until a write past the proxy is seen, in ms, by `idle_poll_s`."""
    found: dict[str, dict[str, float]] = {}
    for idle_poll_s in (0.25, 1.0):
        table = f"fresh-{uuid.uuid4().hex[:8]}"
        await asyncio.to_thread(_create, endpoint, table)
        settings = {"streams.idle_poll_s": idle_poll_s, "tables": {table: {"streams": True}}}
        async with serving(endpoint, store=store_url, settings=settings) as proxy:
            await until_told(partial(_trusted, proxy, table))
            waits = [await _until_fresh(proxy, endpoint, table, n) for n in range(writes)]
        cuts = quantiles(waits, n=100, method="inclusive")
        found[str(idle_poll_s)] = {
            "p50_ms": round(1000 * median(waits)),
            "p99_ms": round(1000 * cuts[98]),
            "max_ms": round(1000 * max(waits)),
        }
    return found


def _create(endpoint: str, table: str) -> None:
    _call(
        endpoint,
        "CreateTable",
        TableName=table,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )


async def _trusted(proxy: Serving, table: str) -> bool:
    shown = (await proxy.ops("/status")).content["streams"][table]
    return not shown["over"]


async def _until_fresh(proxy: Serving, endpoint: str, table: str, number: int) -> float:
    """Cache an item, change it past the proxy, and return the seconds until that is seen."""
    key, v = {"pk": {"S": "a"}}, str(number)
    await _read(proxy, table, key)
    await asyncio.sleep(random.uniform(0.1, 1.5))
    await _read(proxy, table, key)
    item = {**key, "v": {"S": v}}
    await asyncio.to_thread(_call, endpoint, "PutItem", TableName=table, Item=item)
    written_s = time.perf_counter()
    while await _read(proxy, table, key) != v:  # noqa: ASYNC110 - what is measured has no event
        await asyncio.sleep(_LOOK_S)
    return time.perf_counter() - written_s


async def _read(proxy: Serving, table: str, key: Json) -> str | None:
    reply = await proxy.call("GetItem", {"TableName": table, "Key": key})
    shown: Json = reply.content.get("Item", {})
    return shown["v"]["S"] if shown else None


def _call(endpoint: str, operation: str, **body: Any) -> None:
    reply = ask(endpoint, Call(operation, body))
    assert reply.status == 200, reply.content


def run(*, rounds: int, writes: int) -> dict[str, Any]:
    """Measure with an engine and a store of our own; return the result file's content."""
    with (
        closing(start_valkey(unix_socket=True)) as running,
        closing(start_ministack()) as engine,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        applied = runner.run(rates(running, rounds=rounds))
        running.flush()
        fresh = runner.run(freshness(engine.endpoint, running.url, writes=writes))
    result = setting("redis", "hiredis", "uvloop")
    sums = {"rounds": rounds, "writes": writes, "batch": BATCH}
    return result | sums | {"applied": applied, "until_fresh_by_idle_poll_s": fresh}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where the result goes, as JSON")
    parser.add_argument("--rounds", type=int, default=9, help="batches of each kind")
    parser.add_argument("--writes", type=int, default=25, help="writes past the proxy, each way")
    given = parser.parse_args(arguments)
    configure("error")  # the proxies run in this process, and what is printed is the result
    result = run(rounds=given.rounds, writes=given.writes)
    for name in ("applied", "until_fresh_by_idle_poll_s"):
        for what, figures in result[name].items():
            print(f"{what:>12} {figures}")  # noqa: T201
    given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
