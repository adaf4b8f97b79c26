"""Launch a DynamoDB engine of our own on loopback: ministack (Python) or dynalite (node).

Both keep everything in memory. ministack lives in a virtual environment of its own because it
pins another botocore than the proxy's; it knows Streams. dynalite, for tests only, has the more
faithful error messages.
"""

from __future__ import annotations

import http.client
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.embedded.process import LOOPBACK, Child, EngineError, new_folder, on_free_port, spawn

ANSWER_TIMEOUT_S: Final = 5.0
START_TIMEOUT_S: Final = 60.0  # ministack takes 1 s; 60 at a tenth of a core


@dataclass(frozen=True, slots=True)
class RunningDynamoDB:
    """A DynamoDB engine that answers at `endpoint`, `http://127.0.0.1:PORT`."""

    endpoint: str
    child: Child

    def close(self) -> None:
        """End the engine; may be called twice."""
        self.child.stop()


def ministack_python() -> Path | None:
    """Return the interpreter of `.venv-dynamodb` beside our own environment, or None."""
    found = Path(sys.prefix).parent / ".venv-dynamodb" / "bin" / "python"
    return found if found.exists() else None


def start_ministack(python: Path | None = None) -> RunningDynamoDB:
    """Start ministack and return once it answers.

    Args:
        python: interpreter of the environment it is installed in; `ministack_python` when None.

    Raises:
        EngineError: not installed, or it would not start.
    """
    interpreter = python or ministack_python()
    if interpreter is None:
        raise EngineError(
            "no embedded DynamoDB: there is no .venv-dynamodb beside this environment; `make run` "
            "creates it, or name an endpoint of your own with UPSTREAM_ENDPOINT="
        )
    environ = {
        "BIND_HOST": LOOPBACK,
        "SERVICES": "dynamodb,dynamodbstreams",
        # It would look after containers on a Docker daemon; it is to leave that alone.
        "DOCKER_HOST": "unix:///nonexistent",
    }
    command = [str(interpreter), "-m", "ministack"]
    return on_free_port(
        lambda port: _launch(
            "ministack", command, port=port, environ={**environ, "GATEWAY_PORT": str(port)}
        )
    )


def start_dynalite(node_modules: Path) -> RunningDynamoDB:
    """Start dynalite from an npm folder and return once it answers.

    Raises:
        EngineError: no node, not installed there, or it would not start.
    """
    node, script = shutil.which("node"), node_modules / "dynalite" / "cli.js"
    if node is None or not script.exists():
        raise EngineError(f"no dynalite: needs node and {script.name} of dynalite in node_modules")
    waits = [f"--{step}TableMs=0" for step in ("create", "update", "delete")]
    command = [node, str(script.resolve()), "--host", LOOPBACK, *waits]
    return on_free_port(
        lambda port: _launch("dynalite", [*command, "--port", str(port)], port=port, environ={})
    )


def _launch(
    name: str, command: Sequence[str], *, port: int, environ: Mapping[str, str]
) -> RunningDynamoDB:
    folder = new_folder()
    # ministack leaves a file with its process id in the temporary folder: give it ours.
    child = spawn(name, command, folder=folder, environ={**environ, "TMPDIR": str(folder)})
    child.wait_until(lambda: lists_tables(port), timeout_s=START_TIMEOUT_S)
    return RunningDynamoDB(f"http://{LOOPBACK}:{port}", child)


def lists_tables(port: int) -> bool:
    """Tell whether ListTables succeeds on this loopback port."""
    scope = "local/20260101/us-east-1/dynamodb/aws4_request"
    headers = {
        "Content-Type": "application/x-amz-json-1.0",
        "X-Amz-Target": "DynamoDB_20120810.ListTables",
        "X-Amz-Date": "20260101T000000Z",
        # dynalite wants the shape of a signature; neither engine checks it.
        "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
    }
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=ANSWER_TIMEOUT_S)
    try:
        connection.request("POST", "/", b"{}", headers)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
