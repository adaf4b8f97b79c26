"""List the settings that have a flag of their own; read by the command line and by messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag of the command line: its name, the placeholder of its value, what it sets."""

    name: str
    placeholder: str
    meaning: str


FLAGS: Final[Mapping[str, Flag]] = {
    "listen.data": Flag("--listen", "HOST:PORT", "address for SDKs"),
    "listen.ops": Flag("--ops-listen", "HOST:PORT", "address of metrics and probes"),
    "store.url": Flag("--redis-url", "URL", "the shared Redis/Valkey"),
    "upstream.endpoint": Flag("--upstream-endpoint", "URL", "DynamoDB, if not AWS's own"),
    "upstream.region": Flag("--region", "NAME", "AWS region"),
    "workers": Flag("--workers", "N", "processes that share the data port"),
    "log.level": Flag("--log-level", "LEVEL", "debug, info, warning or error"),
}
"""By the setting's dotted name."""

DEMO_FLAGS: Final[Mapping[str, str]] = {
    "redis_url": "store.url",
    "upstream_endpoint": "upstream.endpoint",
    "listen": "listen.data",
    "ops_listen": "listen.ops",
}
"""The settings that `dynaside demo` takes, by the name of `run_demo`'s argument."""
