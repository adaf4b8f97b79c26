"""Start an engine as a child process that cannot outlive this one.

Each child is tied to us by `proxy.embedded.tether`, writes its log into a folder of its own, sits
in a process session of its own (Ctrl-C reaches us alone, so that we drain before engines go), and
is stopped by `Child.stop`, which may be called twice.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from proxy.embedded import tether

LOOPBACK: Final = "127.0.0.1"
POLL_S: Final = 0.02
LOG_TAIL_LINES: Final = 12
PORT_ATTEMPTS_MAX: Final = 3

T = TypeVar("T")


class EngineError(RuntimeError):
    """An engine could not be started: the person at the terminal must act on the message."""


class EngineEndedError(EngineError):
    """An engine ended before it answered; starting it once more on another port may help."""


def free_port() -> int:
    """Return a loopback TCP port that nobody uses now."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        port: int = listener.getsockname()[1]
        return port


def port_is_free(host: str, port: int) -> bool:
    """Tell whether a server could listen on `host:port` now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        # As servers do: connections of a server that has just ended do not count.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError:
            return False
    return True


def on_free_port(start: Callable[[int], T]) -> T:
    """Call `start` with a free port, and with another one when the engine ended at once.

    Between our look at a port and the engine's bind somebody else may take it.
    """
    for _ in range(PORT_ATTEMPTS_MAX - 1):
        try:
            return start(free_port())
        except EngineEndedError:
            continue
    return start(free_port())


class Child:
    """One engine process, from `spawn` to `stop`.

    Args:
        name: what messages call it.
        process: the tether, which becomes the engine under the same process id.
        folder: private to this child; removed by `stop`.
    """

    def __init__(self, name: str, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.name = name
        self.process = process
        self.folder = folder

    @property
    def pid(self) -> int:
        """The engine's process id."""
        return self.process.pid

    def log_tail(self) -> str:
        """Return the last lines that the engine wrote."""
        lines = log_path(self.folder).read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])

    def wait_until(self, ready: Callable[[], bool], *, timeout_s: float = 30.0) -> None:
        """Return as soon as `ready()` holds; stop the child when it never does.

        Raises:
            EngineEndedError: the child ended first.
            EngineError: `timeout_s` passed.
        """
        deadline_s = time.monotonic() + timeout_s
        while not ready():
            status = self.process.poll()
            if status is None and time.monotonic() < deadline_s:
                time.sleep(POLL_S)
                continue
            problem = f"{self.name} did not answer within {timeout_s:g} s; its log ends:"
            tail = self.log_tail()
            self.stop()
            if status is None:
                raise EngineError(f"{problem}\n{tail}")
            raise EngineEndedError(f"{self.name} ended with status {status}; its log ends:\n{tail}")

    def stop(self, *, grace_s: float = 5.0) -> None:
        """End the child, by force after `grace_s`, and remove its folder."""
        self.process.terminate()
        try:
            self.process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def log_path(folder: Path) -> Path:
    """Return where a child of this folder writes what it has to say."""
    return folder / "engine.log"


def new_folder() -> Path:
    """Create a folder for one child, readable by nobody else."""
    return Path(tempfile.mkdtemp(prefix="dynaside-"))


def spawn(
    name: str,
    command: Sequence[str],
    *,
    folder: Path,
    environ: Mapping[str, str] | None = None,
) -> Child:
    """Start `command` so that the kernel kills it when this process dies, even by SIGKILL.

    Args:
        name: what messages call it.
        command: program and arguments; the program must not fork (see `proxy.embedded.tether`).
        folder: from `new_folder`; the child's working directory, holds its log.
        environ: variables added to our own.

    Raises:
        RuntimeError: called outside the main thread: the tie would break when that thread ends.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(f"{name} must be started by the main thread, which outlives it")
    tethered = [sys.executable, "-I", "-S", tether.__file__, str(os.getpid())]
    with log_path(folder).open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - a list, no shell, commands of our own
            [*tethered, str(int(signal.SIGKILL)), *command],
            cwd=folder,
            env={**os.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Child(name, process, folder)
