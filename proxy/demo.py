"""Run the proxy with everything it needs on this machine alone: `dynaside demo`, `make run`.

Starts an embedded Valkey and an embedded DynamoDB unless others are named, fills a small table,
serves in this process and prints lines to paste. The engines end with this process, however it
ends (`proxy.embedded.process`).
"""

from __future__ import annotations

import os
import secrets
import sys
from contextlib import ExitStack, closing
from typing import Final
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from proxy.app import run
from proxy.configuration.checks import PORT_MAX, masked_url
from proxy.edge.endpoints import resolve_endpoints
from proxy.embedded.dynamodb import start_ministack
from proxy.embedded.guide import Addresses, guide
from proxy.embedded.process import LOOPBACK, EngineError, free_port, port_is_free
from proxy.embedded.sample import TABLE, fill_sample_table
from proxy.embedded.valkey import start_valkey
from proxy.settings import Settings, load_settings

DATA_PORT: Final = 8111
OPS_PORT: Final = 8112
LOCAL_HOSTS: Final = frozenset({LOOPBACK, "localhost", "::1"})
EXIT_OPERATOR: Final = 2


def run_demo(
    *,
    redis_url: str | None = None,
    upstream_endpoint: str | None = None,
    listen: str | None = None,
    ops_listen: str | None = None,
) -> int:
    """Serve until a signal comes, then end every engine started here; return the exit code.

    Args:
        redis_url: a store to use instead of an embedded one.
        upstream_endpoint: a DynamoDB to use instead of an embedded one; the sample table is
            created there only when it is on this machine.
        listen: `HOST:PORT` for SDKs; when None, 127.0.0.1:8111 or a free port.
        ops_listen: `HOST:PORT` of metrics and probes; when None, 127.0.0.1:8112 or a free port.
    """
    try:
        flags: dict[str, object] = {
            "listen.data": _address(listen, DATA_PORT, flag="--listen or PORT="),
            "listen.ops": _address(ops_listen, OPS_PORT, flag="--ops-listen or OPS_PORT="),
            "log.level": "warning",
        }
        with ExitStack() as engines:
            flags["store.url"] = redis_url or _start_store(engines)
            endpoint = upstream_endpoint or _start_dynamodb(engines)
            flags["upstream.endpoint"] = endpoint
            flags |= _store_flags(is_new=not redis_url, dynamodb_is_new=not upstream_endpoint)
            settings = load_settings(flags=flags)
            if redis_url:
                _say_store(settings)
            if upstream_endpoint:
                _say(f"dynamodb {endpoint} (yours)")
            return _serve(settings, endpoint)
    except (EngineError, BotoCoreError, ClientError) as error:
        sys.stderr.write(f"dynaside: {error}\n")
        return EXIT_OPERATOR


def _store_flags(*, is_new: bool, dynamodb_is_new: bool) -> dict[str, object]:
    """Return how the store is used: as if it were empty, wherever that is true or can be made so.

    A named store may hold entries of an earlier demo, whose DynamoDB is gone: a new DynamoDB
    gets a namespace of its own. The quarantine protects against writers whose markers a store
    lost: in a new store, or under a new namespace, nobody ever wrote.
    """
    flags: dict[str, object] = {}
    if dynamodb_is_new:
        flags["store.namespace"] = f"demo-{secrets.token_hex(4)}"
    if is_new or dynamodb_is_new:
        flags["store.quarantine_s"] = 0
        flags["store.accept_unfit"] = True
    return flags


def _serve(settings: Settings, endpoint: str) -> int:
    """Fill the table where that is allowed, then run the proxy until a signal comes."""
    is_local = urlsplit(endpoint).hostname in LOCAL_HOSTS
    if is_local:
        _use_local_credentials()
    asked_region = settings.upstream.region
    region = resolve_endpoints(os.environ, endpoint=endpoint, region=asked_region).region
    if is_local:
        count = fill_sample_table(endpoint, region)
        _say(f"table    {TABLE} with {count} items")
    addresses = Addresses(str(settings.listen.data), str(settings.listen.ops), region)
    return run(settings, on_ready=lambda: _say(guide(addresses, has_table=is_local)))


def _start_store(engines: ExitStack) -> str:
    store = engines.enter_context(closing(start_valkey()))
    _say(f"store    embedded Valkey at {store.url}")
    return store.url


def _start_dynamodb(engines: ExitStack) -> str:
    _say("dynamodb embedded DynamoDB, starting (about 2 s)")
    engine = engines.enter_context(closing(start_ministack()))
    _say(f"dynamodb embedded DynamoDB at {engine.endpoint}")
    return engine.endpoint


def _say_store(settings: Settings) -> None:
    """Say which named store is used, and that it may have to wait for its first hit."""
    _say(f"store    {masked_url(str(settings.store.url))} (yours)")
    wait_s = settings.store.quarantine_s
    if wait_s:
        _say(f"         hits start up to {wait_s:g} s after the store started")


def _address(asked: str | None, default_port: int, *, flag: str) -> str:
    """Return where to listen: as asked, or on the default port, or on a free one, said aloud.

    Raises:
        EngineError: the port that was asked for is in use.
    """
    if asked is None:
        if port_is_free(LOOPBACK, default_port):
            return f"{LOOPBACK}:{default_port}"
        port = free_port()
        _say(f"port     {default_port} is in use; taking {port} instead (choose one: {flag})")
        return f"{LOOPBACK}:{port}"
    host, _, port_text = asked.rpartition(":")
    if port_text == "0":
        return f"{host}:{free_port()}"  # chosen here, so that the guide can name it
    is_port = port_text.isdecimal() and int(port_text) <= PORT_MAX
    if is_port and not port_is_free(host.strip("[]"), int(port_text)):
        raise EngineError(f"port {port_text} on {host} is in use: choose another with {flag}")
    return asked  # a text that is no address is refused by the settings, with the reason


def _use_local_credentials() -> None:
    """Sign with made-up credentials unless some are set: an engine on this machine checks none.

    Otherwise a profile that has expired, or none at all, would stand in the demo's way.
    """
    if "AWS_ACCESS_KEY_ID" not in os.environ:
        os.environ.pop("AWS_PROFILE", None)
        os.environ |= {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}


def _say(text: str) -> None:
    """Print at once, also into a pipe."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
