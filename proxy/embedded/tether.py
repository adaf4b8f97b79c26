"""Run a command that the kernel ends when its parent dies: tether.py PARENT_PID SIGNAL COMMAND...

Run as a file by `proxy.embedded.process` and by `make run`; standard library only, so that it
starts in an isolated interpreter. The tie survives exec, but it is not inherited: a command that
forks leaves its own children untied. It is a tie to the parent's *thread*: a thread that starts a
command and then ends takes the command with it.

Source: prctl(2), PR_SET_PDEATHSIG.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1
PARENT_GONE_STATUS: Final = 70


def tie_to_parent(parent_pid: int, signal_number: int) -> None:
    """Ask the kernel to send `signal_number` to this process when its parent dies.

    Raises:
        SystemExit: the parent had died already, so no signal would ever come.
        OSError: the kernel refused.
    """
    if sys.platform == "linux":  # elsewhere only a clean stop ends the command
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) refused")
    # The parent may have died between its fork and our prctl: then init is our parent now.
    if os.getppid() != parent_pid:
        raise SystemExit(PARENT_GONE_STATUS)


def main(arguments: list[str]) -> None:
    """Tie this process to its parent, then become the command."""
    parent_pid, signal_number, *command = arguments
    tie_to_parent(int(parent_pid), int(signal_number))
    os.execvp(command[0], command)  # noqa: S606 - no shell is wanted: the caller gives a list


if __name__ == "__main__":
    main(sys.argv[1:])
