"""The atomic steps of the coherence protocol, as Lua for the store.

Each file is one step; `common.lua` goes in front of every one. All but fill run even when the
store is full (`allow-oom`): a full store must not refuse an invalidation. The `#!lua` line makes
the store refuse them on replicas. Needs Redis ≥ 7.0 or Valkey ≥ 7.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Final

STEPS: Final = (
    "lease",
    "fill",
    "release",
    "begin",
    "end",
    "invalidate",
    "scope",
    "heartbeat",
    "stream",
    "parked",
)
_REFUSED_WHEN_FULL: Final = frozenset({"fill"})


@dataclass(frozen=True, slots=True)
class Script:
    """One step: its whole text, and the sha1 by which the store knows it."""

    text: bytes
    sha: bytes


@cache
def load_script(step: str) -> Script:
    """Return a step's script, put together from the files beside this module."""
    folder = files(__name__)
    flags = "" if step in _REFUSED_WHEN_FULL else " flags=allow-oom"
    text = "\n".join(
        [
            f"#!lua{flags}",
            folder.joinpath("common.lua").read_text(),
            folder.joinpath(f"{step}.lua").read_text(),
        ]
    ).encode()
    return Script(text, sha1(text, usedforsecurity=False).hexdigest().encode())
