"""Conducts a proxy that runs in the test's own main thread: from a second thread, over its ports.

`proxy.app.run` and `proxy.supervisor.run` take the main thread and its signals until they end.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from proxy.configuration.model import Settings
from proxy.embedded.process import LOOPBACK
from proxy.settings import load_settings
from tests.support.ports import free_port
from tests.support.serving import key, post

TIMEOUT_S: Final = 30.0


class Conductor:
    """What a test's second thread may do to the proxy in the first one."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.problems: list[BaseException] = []

    def get(self, path: str) -> tuple[int, str]:
        """Ask the ops port; status 0 while nobody listens."""
        connection = http.client.HTTPConnection(*self.settings.listen.ops_address, timeout=10)
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while not holds():
            assert time.monotonic() < deadline_s, "the proxy never got there"
            time.sleep(0.01)

    def until_status(self, path: str, status: int) -> None:
        """Wait until a page has a status."""
        self.until(lambda: self.get(path)[0] == status)

    def begin_request(self) -> socket.socket:
        """Send a GetItem and do not wait for its answer; the caller closes the connection."""
        connection = socket.create_connection(self.settings.listen.data_address, timeout=10)
        connection.sendall(post("GetItem", key("a")))
        return connection

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send the proxy a signal."""
        os.kill(os.getpid(), number)


@contextmanager
def conducted(conductor: Conductor, score: Callable[[Conductor], None]) -> Iterator[None]:
    """Run `score` in a second thread while the block runs; fail if it failed."""

    def play() -> None:
        try:
            score(conductor)
        except BaseException as problem:  # noqa: BLE001 - raised again by the first thread
            conductor.problems.append(problem)
            conductor.signal()
            conductor.signal()

    thread = threading.Thread(target=play)
    thread.start()
    yield
    thread.join()
    for problem in conductor.problems:
        raise problem


def conductor_of(upstream: str, settings: Mapping[str, Any] | None = None) -> Conductor:
    """Return a conductor with settings on free ports, without a store."""
    flags = {
        "listen.data": f"{LOOPBACK}:{free_port()}",
        "listen.ops": f"{LOOPBACK}:{free_port()}",
        "upstream.endpoint": upstream,
        **(settings or {}),
    }
    return Conductor(load_settings(flags=flags, environ={}))
