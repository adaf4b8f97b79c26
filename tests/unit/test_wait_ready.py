"""Claims about `proxy.wait_ready`, against a real HTTP server in a thread."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from proxy.core.errors import SettingsInvalid
from proxy.wait_ready import wait_ready


@contextmanager
def ops_listener(*statuses: int) -> Iterator[str]:
    """Serve these statuses, one per request, the last one for ever; gives the URL."""
    left = list(statuses)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()
            self.wfile.write(b"draining\n")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
            """Keep the test's output clean."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("slash", ["", "/"])
def test_ready_proxy_is_reported_at_once(slash: str) -> None:
    """A ready proxy gives 0 even without time to wait."""
    with ops_listener(200) as url:
        assert wait_ready(url + slash, 0) == 0


def test_waiting_lasts_until_the_proxy_is_ready() -> None:
    """A proxy that is not ready yet is asked again."""
    with ops_listener(503, 503, 200) as url:
        assert wait_ready(url, 60) == 0


def test_proxy_that_is_not_ready_gives_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """When the time is over, the exit code is 1 and the last answer is shown."""
    with ops_listener(503) as url:
        assert wait_ready(url, 0) == 1
        assert capsys.readouterr().err == f"dynaside: not ready at {url}: 503 draining\n"


def test_absent_proxy_is_not_ready(capsys: pytest.CaptureFixture[str]) -> None:
    """A refused connection is an answer like any other."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    assert wait_ready(f"http://127.0.0.1:{port}", 0) == 1
    assert "refused" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8112", "https://h", "http://", "http://h/p", "http://h:x"]
)
def test_wrong_url_is_for_the_operator(url: str) -> None:
    """Only http://HOST[:PORT] is accepted."""
    with pytest.raises(SettingsInvalid, match="--url"):
        wait_ready(url, 0)
