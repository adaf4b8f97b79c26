"""Wait until a proxy reports that it is ready; the container's health check.

Standard library only, so that a check costs little start time.
"""

from __future__ import annotations

import http.client
import sys
import time
from typing import Final
from urllib.parse import urlsplit

from proxy.core.errors import SettingsInvalid

POLL_S: Final = 0.1
ATTEMPT_TIMEOUT_S: Final = 1.0
OPS_PORT: Final = 8112


def wait_ready(url: str, timeout_s: float) -> int:
    """Ask `/readyz` until it answers 200; at least once, whatever the time-out.

    Args:
        url: `http://HOST[:PORT]` of the ops listener; HTTP_PROXY is not used.
        timeout_s: seconds on the monotonic clock to keep trying.

    Returns:
        0 when ready, 1 when the time is over, with the last answer on standard error.

    Raises:
        SettingsInvalid: the URL is not `http://HOST[:PORT]`.
    """
    host, port = _address(url)
    deadline_s = time.monotonic() + timeout_s
    while (answer := _ask(host, port, deadline_s)) is not None:
        if time.monotonic() + POLL_S >= deadline_s:
            sys.stderr.write(f"dynaside: not ready at {url}: {answer}\n")
            return 1
        time.sleep(POLL_S)
    return 0


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    try:
        if parts.scheme == "http" and parts.hostname and parts.path in {"", "/"}:
            return parts.hostname, OPS_PORT if parts.port is None else parts.port
    except ValueError:  # reading a port that is no number up to 65535
        pass
    raise SettingsInvalid(["url: must be http://HOST[:PORT] of the ops listener (flag --url)"])


def _ask(host: str, port: int, deadline_s: float) -> str | None:
    """Return None when ready, otherwise what came back instead."""
    left_s = max(deadline_s - time.monotonic(), POLL_S)
    connection = http.client.HTTPConnection(host, port, timeout=min(left_s, ATTEMPT_TIMEOUT_S))
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        reason = response.read(200).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()
    return None if response.status == http.HTTPStatus.OK else f"{response.status} {reason}"
