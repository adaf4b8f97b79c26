"""Run the proxy with everything it needs on this machine alone: `dynaside demo`, `make run`.

Starts an embedded Valkey and an embedded DynamoDB unless others are named, fills a small table,
serves in this process and prints lines to paste. The engines end with this process, however it
ends (`proxy.embedded.process`).
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, closing
from typing import Final
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from proxy.app import run
from proxy.embedded.dynamodb import start_ministack
from proxy.embedded.guide import Addresses, guide
from proxy.embedded.process import LOOPBACK, EngineError, free_port, port_is_free
from proxy.embedded.sample import TABLE, fill_sample_table
from proxy.embedded.valkey import start_valkey
from proxy.settings import load_settings

DATA_PORT: Final = 8111
OPS_PORT: Final = 8112
DEFAULT_REGION: Final = "us-east-1"
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
        data = _address(listen, DATA_PORT, flag="--listen")
        ops = _address(ops_listen, OPS_PORT, flag="--ops-listen")
        with ExitStack() as engines:
            store_url = redis_url or _start_store(engines)
            endpoint = upstream_endpoint or _start_dynamodb(engines)
            addresses = Addresses(data, ops, _region())
            return _serve(
                addresses,
                store_url=store_url,
                store_is_ours=redis_url is None,
                endpoint=endpoint,
            )
    except (EngineError, BotoCoreError, ClientError) as error:
        sys.stderr.write(f"dynaside: {error}\n")
        return EXIT_OPERATOR


def _serve(addresses: Addresses, *, store_url: str, store_is_ours: bool, endpoint: str) -> int:
    """Fill the table where that is allowed, then run the proxy until a signal comes."""
    is_local = urlsplit(endpoint).hostname in LOCAL_HOSTS
    if is_local:
        _use_local_credentials()
        count = fill_sample_table(endpoint, addresses.region)
        _say(f"table    {TABLE} with {count} items")
    flags: dict[str, object] = {
        "listen.data": addresses.data,
        "listen.ops": addresses.ops,
        "store.url": store_url,
        "upstream.endpoint": endpoint,
        "upstream.region": addresses.region,
        "log.level": "warning",
    }
    if store_is_ours:
        # The quarantine protects against writers whose markers a store lost: ours had none.
        flags["store.quarantine_s"] = 0
    return run(
        load_settings(flags=flags), on_ready=lambda: _say(guide(addresses, has_table=is_local))
    )


def _start_store(engines: ExitStack) -> str:
    store = engines.enter_context(closing(start_valkey()))
    _say(f"store    embedded Valkey at {store.url}")
    return store.url


def _start_dynamodb(engines: ExitStack) -> str:
    _say("upstream embedded DynamoDB, starting (about 2 s)")
    engine = engines.enter_context(closing(start_ministack()))
    _say(f"upstream embedded DynamoDB at {engine.endpoint}")
    return engine.endpoint


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
    if port_text.isdecimal() and not port_is_free(host.strip("[]"), int(port_text)):
        raise EngineError(f"port {port_text} on {host} is in use: choose another with {flag}")
    return asked  # a text that is no address is refused by the settings, with the reason


def _region() -> str:
    """Return the region that AWS's own tools would use here, or a common one."""
    environ = os.environ
    return environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or DEFAULT_REGION


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
