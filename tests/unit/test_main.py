"""Claims about `proxy.__main__`; what it starts is replaced by small modules that record."""

import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from proxy.__main__ import main
from proxy.core.errors import ProxyError
from proxy.version import VERSION

ROOT = Path(__file__).parents[2]


def installed(
    monkeypatch: pytest.MonkeyPatch, module: str, function: str, outcome: Any
) -> list[Any]:
    """Put a module with one function in place; returns the list of what it is called with."""
    calls: list[Any] = []

    def call(*args: Any, **kwargs: Any) -> int:
        calls.append(kwargs or args[0])
        if isinstance(outcome, BaseException):
            raise outcome
        return int(outcome)

    replacement = ModuleType(module)
    setattr(replacement, function, call)
    monkeypatch.setitem(sys.modules, module, replacement)
    return calls


def test_serve_runs_with_the_flags_as_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every flag of `serve` ends in its setting, and the exit code is the proxy's."""
    calls = installed(monkeypatch, "proxy.app", "run", 7)
    flags = {
        "--listen": "127.0.0.1:1",
        "--ops-listen": "127.0.0.1:2",
        "--redis-url": "redis://h",
        "--upstream-endpoint": "http://d:8000",
        "--region": "eu-west-1",
        "--workers": "1",
        "--log-level": "debug",
    }
    assert main(["serve", *(part for flag in flags.items() for part in flag)]) == 7
    (settings,) = calls
    assert [
        settings.listen.data,
        settings.listen.ops,
        settings.store.url,
        settings.upstream.endpoint,
        settings.upstream.region,
        str(settings.workers),
        settings.log.level,
    ] == list(flags.values())


def test_serve_reads_the_configuration_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`--config` names the file; a flag without text counts as not given."""
    calls = installed(monkeypatch, "proxy.app", "run", 0)
    path = tmp_path / "config.yaml"
    path.write_text("store: {url: 'redis://from-file'}")
    assert main(["serve", "--config", str(path), "--redis-url", ""]) == 0
    assert calls[0].store.url == "redis://from-file"


def test_several_workers_run_under_the_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one worker needs the supervisor."""
    calls = installed(monkeypatch, "proxy.supervisor", "run", 0)
    assert main(["serve", "--workers", "2"]) == 0
    assert calls[0].workers == 2


def test_demo_takes_its_four_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not given to the demo is None."""
    calls = installed(monkeypatch, "proxy.demo", "run_demo", 0)
    assert main(["demo", "--redis-url", "redis://h", "--listen", "127.0.0.1:1"]) == 0
    assert calls == [
        {
            "redis_url": "redis://h",
            "upstream_endpoint": None,
            "listen": "127.0.0.1:1",
            "ops_listen": None,
        }
    ]


def test_check_config_passes_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """`check-config` takes the flags of `serve`, and `--print`."""
    calls = installed(monkeypatch, "proxy.check_config", "check_config", 0)
    assert main(["check-config", "--print", "--config", "f", "--workers", "3"]) == 0
    assert calls == [{"flags": {"workers": "3"}, "config_path": Path("f"), "print_effective": True}]


def test_wait_ready_asks_the_default_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """`wait-ready` gives its own exit code."""
    calls = installed(monkeypatch, "proxy.wait_ready", "wait_ready", 1)
    assert main(["wait-ready", "--timeout", "2"]) == 1
    assert calls == ["http://127.0.0.1:8112"]


def test_settings_problems_are_lines_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Every problem is one line, the exit code is 2 and nothing starts."""
    assert main(["serve", "--workers", "0", "--listen", "x"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[:2] for line in lines] == [
        ["dynaside", " listen.data"],
        ["dynaside", " workers"],
    ]


@pytest.mark.parametrize(
    ("error", "code", "shown"),
    [
        (ProxyError("no credentials"), 2, "dynaside: no credentials\n"),
        (OSError(98, "address in use"), 2, "dynaside: [Errno 98] address in use\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_failed_start_shows_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    shown: str,
) -> None:
    """What the operator can correct is a line without traceback; Ctrl-C is silent."""
    installed(monkeypatch, "proxy.app", "run", error)
    assert main(["serve"]) == code
    assert capsys.readouterr().err == shown


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["serve", "--work", "2"], ["demo", "--config", "f"]]
)
def test_wrong_command_line_shows_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Unknown commands and flags, abbreviated ones too, exit with 2."""
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage: dynaside" in capsys.readouterr().err


def test_module_run_shows_the_version(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m proxy --version` prints the version and exits with 0."""
    monkeypatch.setattr(sys, "argv", ["dynaside", "--version"])
    monkeypatch.delitem(sys.modules, "proxy.__main__")
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("proxy", run_name="__main__")
    assert capsys.readouterr().out == f"dynaside {VERSION}\n"


def test_optimised_python_is_refused() -> None:
    """Under `python -O` assertions would be gone: the process does not start."""
    command = [sys.executable, "-O", "-m", "proxy", "check-config"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr == "dynaside: refuses python -O: its assertions guard the cache\n"


def test_health_check_imports_no_third_party_library() -> None:
    """`wait-ready` starts without pydantic, YAML or aiohttp."""
    code = (
        "import sys, proxy.__main__, proxy.wait_ready;"
        "print({'pydantic', 'yaml', 'aiohttp', 'redis'} & sys.modules.keys())"
    )
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


def test_streams_are_read_without_serving(monkeypatch: pytest.MonkeyPatch) -> None:
    """By an application of its own, with the settings of `serve`."""
    calls = installed(monkeypatch, "proxy.stream_app", "run", 3)
    assert main(["streams", "--redis-url", "redis://h"]) == 3
    assert calls[0].store.url == "redis://h"


@pytest.mark.parametrize(("action", "function"), [("parked", "show"), ("replay", "replay")])
def test_parked_records_are_seen_to(
    monkeypatch: pytest.MonkeyPatch, action: str, function: str
) -> None:
    """Of one table or of all, in the store that is named."""
    calls = installed(monkeypatch, "proxy.parked", function, 1)
    assert main(["streams", action, "--table", "orders", "--redis-url", "redis://h"]) == 1
    assert calls[0].store.url == "redis://h"
