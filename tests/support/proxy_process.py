"""Start real proxy processes, `python -m proxy serve` and others, each on ports of its own.

Each is tied to the test process and ends with it. Processes of one store share entries only when
they are given the same `store.namespace`; without one every process gets its own.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from proxy.embedded.process import (
    LOOPBACK,
    POLL_S,
    Child,
    log_path,
    new_folder,
    on_free_port,
    spawn,
)
from tests.support.ports import free_port

ROOT: Final = Path(__file__).parents[2]
REGION: Final = "us-east-1"
ACCESS_KEY: Final = "AKIDEXAMPLE"
SECRET_KEY: Final = "secret"

# Nothing of the machine's own AWS set-up may take part.
ENVIRON: Final[Mapping[str, str]] = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_REGION": REGION,
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "PYTHONPATH": str(ROOT),
}

SERVE: Final = ("serve",)
READ: Final = ("streams",)


@dataclass
class RunningProxy:
    """A proxy that is ready: `endpoint` for SDKs, `ops_url` for probes and metrics."""

    endpoint: str
    ops_url: str
    child: Child
    last_words: str | None = None  # the whole log, kept by `stop`

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the data listener."""
        return LOOPBACK, urlsplit(self.endpoint).port or 0

    def log(self) -> list[dict[str, Any]]:
        """Return what the process has logged so far, one dict a line; after `stop` too."""
        text = self.last_words
        if text is None:
            text = log_path(self.child.folder).read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def ops(self, path: str) -> tuple[int, str]:
        """Ask the ops listener; return status and body."""
        return _get(self.ops_url, path)

    def status(self) -> dict[str, Any]:
        """Return what `/status` shows."""
        shown: dict[str, Any] = json.loads(self.ops("/status")[1])
        return shown

    def wait_serving(self, *, timeout_s: float = 10.0) -> None:
        """Return once the store answers and may serve; readiness alone does not promise that."""
        self.child.wait_until(lambda: bool(self.status()["store"]["serving"]), timeout_s=timeout_s)

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of all samples of a metric that carry at least these labels."""
        wanted = [f'{label}="{text}"' for label, text in labels.items()]
        shown = self.ops("/metrics")[1]
        assert f"# TYPE {name} " in shown, f"there is no metric {name}"
        lines = (line for line in shown.splitlines() if not line.startswith("#"))
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.partition(" ")[0].partition("{")[0] == name
            and all(each in line for each in wanted)
        )

    def stop(self, *, grace_s: float = 10.0) -> int:
        """End the process by SIGTERM, by force after `grace_s`; return its exit status."""
        self.child.process.terminate()
        deadline_s = time.monotonic() + grace_s
        while self.child.process.poll() is None and time.monotonic() < deadline_s:
            time.sleep(POLL_S)
        self.last_words = log_path(self.child.folder).read_text()
        self.child.stop()
        status = self.child.process.returncode
        assert status is not None, "a stopped process has a status"
        return status


def start_proxy(
    *,
    upstream: str,
    store: str | None,
    settings: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    command: Sequence[str] = SERVE,
) -> RunningProxy:
    """Start a proxy and return once `/readyz` says 200 and its store, if any, serves.

    Args:
        upstream: DynamoDB's endpoint.
        store: URL of the store; None runs without one.
        settings: by dotted name, as `{"defaults.write_mode": "through", "tables": {"t": {…}}}`;
            they overrule `store.quarantine_s` 0, accepted as such, `audit.share` 0 and the random
            `store.namespace` given here.
        environ: further variables, which overrule the fixed credentials and region.
        command: what to run of `dynaside`; its data port is for `serve` only.

    Raises:
        EngineError: it would not start; the message ends with its log.
    """
    given: dict[str, Any] = {
        "upstream.endpoint": upstream,
        "store.url": store,
        "store.namespace": f"test-{uuid.uuid4().hex[:8]}",
        "store.quarantine_s": 0,
        "store.accept_unfit": True,
        "audit.share": 0,  # tests count what goes upstream
        "store.timeout_s": 2.0,  # a busy machine is not what tests are about
        **(settings or {}),
    }
    variables = {**ENVIRON, **(environ or {})}
    proxy = on_free_port(lambda port: _launch(port, given, variables, command))
    if given["store.url"] is not None:
        proxy.wait_serving()
    return proxy


@contextmanager
def running_proxy(**arguments: Any) -> Iterator[RunningProxy]:
    """Run a proxy for as long as the block lasts; arguments as of `start_proxy`."""
    proxy = start_proxy(**arguments)
    try:
        yield proxy
    finally:
        proxy.child.stop()


def spawn_proxy(
    port: int,
    given: Mapping[str, Any],
    environ: Mapping[str, str],
    command: Sequence[str] = SERVE,
) -> RunningProxy:
    """Start a proxy with exactly these settings and do not wait for it; see `is_ready`."""
    ops_port = free_port()
    given = {"listen.data": f"{LOOPBACK}:{port}", "listen.ops": f"{LOOPBACK}:{ops_port}", **given}
    variables = {
        "DYNASIDE__" + name.upper().replace(".", "__"): _text(content)
        for name, content in given.items()
        if content is not None
    }
    words = [sys.executable, "-m", "proxy", *command]
    child = spawn("dynaside", words, folder=new_folder(), environ={**environ, **variables})
    return RunningProxy(f"http://{LOOPBACK}:{port}", f"http://{LOOPBACK}:{ops_port}", child)


def is_ready(proxy: RunningProxy) -> bool:
    """Tell whether `/readyz` says 200 now."""
    try:
        return proxy.ops("/readyz")[0] == http.client.OK
    except (OSError, http.client.HTTPException):
        return False


def _launch(
    port: int, given: Mapping[str, Any], environ: Mapping[str, str], command: Sequence[str]
) -> RunningProxy:
    proxy = spawn_proxy(port, given, environ, command)
    proxy.child.wait_until(lambda: is_ready(proxy))
    return proxy


def _text(content: object) -> str:
    return content if isinstance(content, str) else json.dumps(content)  # YAML reads JSON


def _get(url: str, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10.0)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()
