"""Ports for the servers of tests, of which many run at the same time in several processes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from random import SystemRandom
from typing import Final

from proxy.embedded.process import LOOPBACK, port_is_free

_RANGE: Final = range(10_000, 20_000)
"""Above them are the cluster buses of servers on them, and from 32768 on what Linux hands out to
whoever connects, or listens on any port: one of these gets only who names it."""


def free_port() -> int:
    """Return a loopback TCP port that nobody uses now, and nobody else is given before long."""
    return next(port for port in _PORTS if port_is_free(LOOPBACK, port))


def _ports() -> Iterator[int]:
    """Give those of this worker of pytest-xdist, one after the other, from anywhere on.

    Anywhere but where `random` says: pytest-randomly seeds that alike in all processes.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = _RANGE[worker::workers]
    start = SystemRandom().randrange(len(ports))
    return itertools.cycle([*ports[start:], *ports[:start]])


_PORTS: Final = _ports()
