"""Claims about `dynaside demo`, run as a newcomer runs it: as a process, with lines pasted."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 30.0
# Nobody listens there: whoever asked this HTTP proxy for something on this machine would fail.
NOBODY = "http://127.0.0.1:9"
BEHIND_PROXY = {"HTTP_PROXY": NOBODY, "http_proxy": NOBODY, "NO_PROXY": "", "no_proxy": ""}
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)

pytestmark = [pytest.mark.engine, pytest.mark.store]


@dataclass(frozen=True)
class Demo:
    """A running demo and what it printed up to the end of its lines to paste."""

    process: subprocess.Popen[str]
    text: str

    @property
    def script(self) -> str:
        """The lines a newcomer pastes."""
        return self.text[self.text.index("export AWS_ENDPOINT_URL") :]

    def children(self) -> list[int]:
        """Return the process ids of the engines."""
        pid = self.process.pid
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def start(*flags: str, **environ: str) -> subprocess.Popen[str]:
    """Start the demo as its own process."""
    return subprocess.Popen(
        [sys.executable, "-m", "proxy", "demo", *flags],
        cwd=ROOT,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """Run a demo on free ports until it has printed its guide."""
    listen = ["--listen", f"127.0.0.1:{free_port()}", "--ops-listen", f"127.0.0.1:{free_port()}"]
    with start(*listen, TMPDIR=str(tmp_path), **BEHIND_PROXY) as process:
        assert process.stdout is not None
        alarm = threading.Timer(START_TIMEOUT_S, process.kill)  # ends the reading below
        alarm.start()
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if line == "EOF\n":
                break
        alarm.cancel()
        text = "".join(lines)
        if not text.endswith("EOF\n"):
            process.kill()
            pytest.fail(f"the demo did not start: {text}{process.communicate()[1]}")
        yield Demo(process, text)
        process.kill()


def test_pasted_lines_show_miss_hit_and_fresh_read(demo: Demo, tmp_path: Path) -> None:
    """The printed lines, pasted whole, show a miss, a hit, and a write that is read at once.

    In any folder, and where the environment names an HTTP proxy.
    """
    pasted = subprocess.run(
        ["bash", "-c", demo.script],
        cwd=tmp_path,
        env={**os.environ, **BEHIND_PROXY},
        capture_output=True,
        text=True,
        check=True,
    )
    cli_first, cli_second, *boto3_lines = pasted.stdout.splitlines()
    assert "fwd=miss" in cli_first
    assert "hit" in cli_second
    first, second, after_write, _once_more = boto3_lines
    assert "stock=100" in first
    assert "fwd=miss" in first
    assert "stock=100" in second
    assert "hit" in second
    assert "stock=99" in after_write


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_process_ends_with_the_demo(demo: Demo, ending: signal.Signals) -> None:
    """Ctrl-C, SIGTERM, a closed terminal and SIGKILL end the engines; all but the last exit 0."""
    engines = demo.children()
    assert len(engines) == 2
    with ExitStack() as opened:
        ends = {os.pidfd_open(engine) for engine in engines}
        for end in ends:
            opened.callback(os.close, end)
        demo.process.send_signal(ending)
        while ends:
            ended, _, _ = select.select(ends, [], [], END_TIMEOUT_S)
            assert ended, "an engine outlived the demo"
            ends -= set(ended)
    assert demo.process.wait() == (-signal.SIGKILL if ending is signal.SIGKILL else 0)


def test_taken_port_is_named() -> None:
    """When the port that was asked for is in use, the demo says which and starts nothing."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with start("--listen", f"127.0.0.1:{port}") as process:
            printed, problem = process.communicate()
    assert process.returncode == 2
    assert f"port {port} on 127.0.0.1 is in use" in problem
    assert printed == ""
