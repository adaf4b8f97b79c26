"""The peer that anybody would write first; arguments: PORT STORE UPSTREAM.

An aiohttp Application that keeps DynamoDB's answers in Redis by table and key, with redis-py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from typing import Final

import aiohttp
from aiohttp import web
from redis.asyncio import Redis

FRESH_S: Final = 3600
STORE: Final = web.AppKey("store", Redis)
SESSION: Final = web.AppKey("session", aiohttp.ClientSession)
UPSTREAM: Final = web.AppKey("upstream", str)


async def answer(request: web.Request) -> web.Response:
    """Answer from the store; ask upstream and store what it says where it has nothing."""
    body = await request.read()
    asked = json.loads(body)
    item = json.dumps(asked["Key"], sort_keys=True)
    key = f"{request.app[UPSTREAM]}:{asked['TableName']}:{item}"
    found = await request.app[STORE].get(key)
    if found is None:
        headers = {"X-Amz-Target": request.headers["X-Amz-Target"]}
        session, upstream = request.app[SESSION], request.app[UPSTREAM]
        async with session.post(upstream, data=body, headers=headers) as reply:
            found = await reply.read()
        await request.app[STORE].set(key, found, ex=FRESH_S)
    return web.Response(body=found, content_type="application/x-amz-json-1.0")


def application(store: str, upstream: str) -> web.Application:
    """Return the application.

    Args:
        store: URL of the store.
        upstream: URL of DynamoDB.
    """

    async def clients(app: web.Application) -> AsyncIterator[None]:
        # By default redis-py refuses a request that would need a connection more than 100.
        app[STORE] = Redis.from_url(store, max_connections=4096)
        app[UPSTREAM] = upstream
        async with aiohttp.ClientSession() as app[SESSION]:
            yield
        await app[STORE].aclose()

    app = web.Application(client_max_size=2**24)
    app.cleanup_ctx.append(clients)
    app.router.add_post("/", answer)
    return app


if __name__ == "__main__":
    web.run_app(
        application(sys.argv[2], sys.argv[3]),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        access_log=None,
        keepalive_timeout=600.0,
    )
