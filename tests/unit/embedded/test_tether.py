"""Claims about the tie between a command and the process that started it."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys

import pytest

from proxy.embedded import tether
from proxy.embedded.tether import main, tie_to_parent

NO_SIGNAL = "0"
"""Clears the tie: these tests leave their own process as it was."""


def test_tether_refuses_to_start_for_a_dead_parent() -> None:
    """When the parent died before the tie was made, the command is not run at all."""
    somebody_else = 1
    ended = subprocess.run(
        [sys.executable, "-I", "-S", tether.__file__, str(somebody_else), "9", "echo", "ran"],
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (tether.PARENT_GONE_STATUS, b"")


def test_tether_reports_a_signal_the_kernel_refuses() -> None:
    """A signal number the kernel does not know is an error, not a missing tie."""
    with pytest.raises(OSError, match="refused"):
        tie_to_parent(os.getppid(), 4096)


def test_tether_becomes_the_command() -> None:
    """The command runs under the tether's process id, with its arguments as given."""
    program = "import os, sys; print(os.getpid(), sys.argv[1])"
    command = [sys.executable, tether.__file__, str(os.getpid()), "9"]
    with subprocess.Popen(
        [*command, sys.executable, "-c", program, "two words"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.communicate()[0].split(maxsplit=1) == [str(process.pid), "two words\n"]


def test_tie_to_somebody_else_ends_the_process() -> None:
    """A process whose parent is not the one it was told gives up with its own status."""
    with pytest.raises(SystemExit) as ended:
        tie_to_parent(os.getpid(), int(NO_SIGNAL))
    assert ended.value.code == tether.PARENT_GONE_STATUS


def test_other_systems_run_the_command_untied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no prctl, a tie to the living parent succeeds without one."""
    monkeypatch.setattr(sys, "platform", "darwin")
    tie_to_parent(os.getppid(), 4096)


def test_command_is_executed_as_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file, run as a script, hands program and arguments to exec unchanged."""
    executed: list[list[str]] = []
    monkeypatch.setattr(os, "execvp", lambda _program, command: executed.append(command))
    arguments = [str(os.getppid()), NO_SIGNAL, "echo", "two words"]
    main(arguments)
    monkeypatch.setattr(sys, "argv", ["tether.py", *arguments])
    runpy.run_path(tether.__file__, run_name="__main__")
    assert executed == [["echo", "two words"]] * 2
