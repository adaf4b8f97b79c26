"""What a test does when a tool of the machine is missing."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(tool: str, *, install: str) -> NoReturn:
    """Skip the test because `tool` is missing; in CI (`CI=true`) fail it instead.

    Args:
        tool: what is missing.
        install: how to get it, in a few words.
    """
    reason = f"{tool} is missing: {install}"
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason} (CI skips nothing)")
    pytest.skip(reason)
