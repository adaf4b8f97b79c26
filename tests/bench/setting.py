"""What a result of any benchmark says of where it was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]


def setting(*packages: str) -> dict[str, Any]:
    """Return commit, machine and versions, for the head of a result file.

    Args:
        packages: installed distributions whose version matters.
    """
    return {
        "commit": _commit(),
        "machine": {
            "cpu": _cpu_model(),
            "cpus": os.cpu_count(),
            "architecture": platform.machine(),
            "kernel": platform.release(),
        },
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in packages},
        },
    }


def _commit() -> str:
    """Return the commit that was measured, with a mark if files differ from it."""
    command = ["git", "-C", str(_ROOT), "describe", "--always", "--dirty", "--abbrev=40"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else "unknown"
