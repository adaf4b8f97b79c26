"""Make `proxy` and `tests` importable from anywhere, and offer the engines to every test."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
UNIT = ROOT / "tests" / "unit"
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

# No test, and no process that a test starts, asks the machine's cloud for real credentials: a
# test that forgets its fixed ones fails instead. Tests of that source name an endpoint of theirs.
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"

pytest_plugins = ["tests.support.engines"]


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Let coverage trace once in a worker of pytest-xdist.

    pytest-cov starts it there twice, when it reads its options and again when the session starts;
    `no_cover` stops the second only, and the first, which nobody reads, would go on.
    """
    plugin = session.config.pluginmanager.getplugin("_cov")
    if hasattr(session.config, "workerinput") and plugin and plugin._started:
        plugin.cov_controller.pause()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let coverage trace unit tests only.

    They cover each module by themselves; elsewhere tracing would take as long again as the test.
    """
    for item in items:
        if UNIT not in item.path.parents:
            item.add_marker("no_cover")
