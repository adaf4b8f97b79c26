"""Claims about children that cannot outlive their parent."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.embedded.process import (
    Child,
    EngineEndedError,
    EngineError,
    free_port,
    new_folder,
    on_free_port,
    port_is_free,
    spawn,
)

ROOT = Path(__file__).parents[3]
DEATH_TIMEOUT_MS = 10_000
PARENT = """
import sys
from proxy.embedded.valkey import start_valkey
print(start_valkey().child.pid, flush=True)
sys.stdin.read()
"""
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True)"
"""A program that shrugs SIGTERM off."""


def python(name: str, program: str, **environ: str) -> Child:
    """Start a Python program as a tied child."""
    return spawn(name, [sys.executable, "-c", program], folder=new_folder(), environ=environ)


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[str]]:
    """Run another process that starts an embedded Valkey, prints its id and waits."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def has_ended(pidfd: int) -> bool:
    """Wait, bounded, for the kernel's word that the process behind `pidfd` has ended."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(DEATH_TIMEOUT_MS))


@pytest.mark.store
def test_child_dies_when_its_parent_is_killed(parent: subprocess.Popen[str]) -> None:
    """SIGKILL of the parent, which no code of ours sees, ends the engine it had started."""
    assert parent.stdout is not None
    pidfd = os.pidfd_open(int(parent.stdout.readline()))
    try:
        parent.send_signal(signal.SIGKILL)
        assert has_ended(pidfd)
    finally:
        os.close(pidfd)


def test_only_the_main_thread_may_spawn() -> None:
    """A thread that ends takes its children with it, so starting one from a thread is refused."""
    problems: list[RuntimeError] = []

    def try_it() -> None:
        try:
            python("orphan", "")
        except RuntimeError as problem:
            problems.append(problem)

    thread = threading.Thread(target=try_it)
    thread.start()
    thread.join()
    assert "main thread" in str(problems[0])


def test_child_sees_the_variables_it_was_given() -> None:
    """`environ` is added to our own environment."""
    child = python("greeter", "import os; print(os.environ['GREETING'])", GREETING="hello")
    child.process.wait()
    assert child.log_tail() == "hello"
    child.stop()


def test_child_that_ends_early_is_reported_with_its_log() -> None:
    """A child that ends before it is ready raises with its status and its last words."""
    child = python("broken", "raise SystemExit('no such disk')")
    with pytest.raises(EngineEndedError, match=r"(?s)broken ended with status 1.*no such disk"):
        child.wait_until(lambda: False)
    assert not child.folder.exists()


def test_child_that_never_answers_is_stopped() -> None:
    """A child that is not ready in time is ended and the error names the time."""
    child = python("silent", "import time; time.sleep(3600)")
    with pytest.raises(EngineError, match="silent did not answer within 0 s"):
        child.wait_until(lambda: False, timeout_s=0)
    assert child.process.returncode == -signal.SIGTERM


def test_child_deaf_to_sigterm_is_killed() -> None:
    """`stop` does not wait for ever: after its grace it kills."""
    child = python("deaf", f"{STUBBORN}; time.sleep(3600)")
    child.wait_until(lambda: child.log_tail() == "deaf")
    child.stop(grace_s=0)
    assert child.process.returncode == -signal.SIGKILL


def test_child_is_out_of_reach_of_our_ctrl_c() -> None:
    """A child has a session of its own, so that Ctrl-C reaches this process only."""
    child = python("apart", "import time; time.sleep(3600)")
    assert os.getsid(child.pid) != os.getsid(0)
    child.stop()


def test_taken_port_is_not_free() -> None:
    """A port somebody listens on is not free, and is again once they are gone."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not port_is_free("127.0.0.1", port)
    assert port_is_free("127.0.0.1", port)


def test_ipv6_addresses_are_understood() -> None:
    """An address with colons is looked up as IPv6."""
    assert port_is_free("::1", free_port())


def test_engine_that_lost_its_port_is_started_on_another() -> None:
    """An engine that ends at once gets another port, and not for ever."""
    tried: list[int] = []

    def start(port: int) -> int:
        tried.append(port)
        if len(tried) < 2:
            raise EngineEndedError("address in use")
        return port

    assert on_free_port(start) == tried[1]

    def never(port: int) -> int:
        raise EngineEndedError("address in use")

    with pytest.raises(EngineEndedError):
        on_free_port(never)
