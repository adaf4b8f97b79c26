"""Claims about `dynaside check-config` as a process."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def check_config(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command in an environment without settings of its own."""
    clean = {name: text for name, text in os.environ.items() if "DYNASIDE" not in name}
    return subprocess.run(
        [sys.executable, "-m", "proxy", "check-config", *arguments],
        cwd=ROOT,
        env=clean | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_problems_of_all_sources_are_listed(tmp_path: Path) -> None:
    """Exit code 2 and one line per problem, each with its source; no traceback."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "store__passwd").write_text("hidden")
    config = tmp_path / "config.yaml"
    config.write_text("store: {lanes: 99}\nfence: {marker_s: 5}\n")
    result = check_config(
        "--config",
        str(config),
        "--redis-url",
        "http://:hidden@h",
        DYNASIDE__LOG__LEVEL="loud",
        DYNASIDE_SECRETS_DIR=str(secrets),
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert "hidden" not in result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) == 5
    for name, source in {
        "store.passwd": f"secret file {secrets / 'store__passwd'}",
        "store.lanes": f"{config}: store.lanes",
        "store.url": "flag --redis-url",
        "log.level": "environment DYNASIDE__LOG__LEVEL",
        "fence.marker_s": f"{config}: fence.marker_s; upstream.connect_timeout_s by default",
    }.items():
        assert [source in line for line in lines if line.startswith(f"dynaside: {name}: ")] == [
            True
        ]


def test_printed_settings_can_be_used_again(tmp_path: Path) -> None:
    """`--print` gives YAML that is itself a valid configuration with the same effect."""
    arguments = ("--config", "config/example.yaml", "--print", "--workers", "2")
    first = check_config(*arguments, DYNASIDE__STORE__PASSWORD="hidden")
    assert first.returncode == 0
    assert "hidden" not in first.stdout
    assert "workers: 2  # flag --workers" in first.stdout
    config = tmp_path / "printed.yaml"
    config.write_text(first.stdout)
    second = check_config("--config", str(config), "--print")
    assert second.returncode == 0
    assert yaml.safe_load(second.stdout) == yaml.safe_load(first.stdout)
