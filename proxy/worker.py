"""One of several workers: `python -m proxy.worker SUPERVISOR_PID OPS_SOCKET`, settings on stdin.

Started by `proxy.supervisor` only. The settings come through a pipe, for they hold secrets that
a command line or a file would show to others.
"""

from __future__ import annotations

import pickle
import signal
import sys
from pathlib import Path

from proxy.__main__ import exit_code
from proxy.app import run
from proxy.embedded.tether import tie_to_parent
from proxy.settings import Settings


def main() -> int:
    """Serve until a signal comes or the supervisor dies, which drains as SIGTERM does."""
    supervisor_pid, ops_socket = int(sys.argv[1]), Path(sys.argv[2])
    tie_to_parent(supervisor_pid, signal.SIGTERM)
    settings = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started us
    assert isinstance(settings, Settings), "the supervisor sends settings"
    return exit_code(lambda: run(settings, ops_socket=ops_socket))


if __name__ == "__main__":
    sys.exit(main())
