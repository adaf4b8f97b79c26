"""An upstream that takes requests and never answers, in a thread: for proxies run by a test."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class SilentUpstream:
    """`endpoint` for the proxy; `asked` is set once a request has come."""

    endpoint: str
    asked: threading.Event = field(default_factory=threading.Event)


@contextmanager
def silent_upstream() -> Iterator[SilentUpstream]:
    """Listen on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        silent = SilentUpstream(f"http://127.0.0.1:{listener.getsockname()[1]}")
        connections: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return  # closed: the test is over
                connections.append(connection)
                connection.recv(1)
                silent.asked.set()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield silent
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in connections:
                connection.close()
