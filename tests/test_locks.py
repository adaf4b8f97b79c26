"""Claims about the lock files in `requirements/`: complete, of one mind, and free of hosts."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
GROUPS = PYPROJECT["dependency-groups"]


def locked(name: str) -> dict[str, str]:
    """Return the versions that one lock file pins, by package."""
    text = (ROOT / "requirements" / f"{name}.lock").read_text()
    return dict(re.findall(r"^([a-z0-9.-]+)==([^ ;]+)", text, re.MULTILINE))


def required(*requirements: object) -> list[Requirement]:
    """Parse requirement lines; an included group stands in `GROUPS` and is named there."""
    return [Requirement(line) for line in requirements if isinstance(line, str)]


@pytest.mark.parametrize(
    ("lock", "requirements"),
    [
        ("runtime", required(*PYPROJECT["project"]["dependencies"])),
        ("build", required(*PYPROJECT["build-system"]["requires"])),
        ("demo", required(*PYPROJECT["project"]["dependencies"], *GROUPS["demo"])),
        ("dev", required(*PYPROJECT["project"]["dependencies"], *GROUPS["demo"], *GROUPS["dev"])),
    ],
)
def test_lock_satisfies_pyproject(lock: str, requirements: list[Requirement]) -> None:
    """Every dependency named in pyproject.toml is locked at a version it allows."""
    versions = locked(lock)
    unmet = [
        str(requirement)
        for requirement in requirements
        if (version := versions.get(canonicalize_name(requirement.name))) is None
        or not requirement.specifier.contains(version)
    ]
    assert unmet == [], "run `make lock`"


@pytest.mark.parametrize("part", ["runtime", "build", "demo", "lambda"])
def test_locks_of_one_environment_agree(part: str) -> None:
    """What runs in production and in the demo is what the tests ran with, to the version."""
    everything = locked("dev")
    assert {name: everything.get(name) for name in locked(part)} == locked(part)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_package_is_pinned_by_hash_and_from_nowhere_special(lock: Path) -> None:
    """Each package carries hashes, and no line names an index, a host or a path."""
    text = lock.read_text()
    assert not re.search(
        r"://|^\s*-|@ |/\w", re.sub(r"^ +--hash=sha256:.*|^#.*", "", text, flags=re.MULTILINE)
    )
    for package in re.split(r"\n(?=[a-z0-9])", text.partition("make lock\n")[2]):
        assert "--hash=sha256:" in package


def test_javascript_lock_names_no_registry() -> None:
    """The npm lock holds integrity hashes and no address to fetch from."""
    text = (ROOT / "tests" / "e2e" / "js" / "package-lock.json").read_text()
    assert '"resolved"' not in text
    assert '"integrity"' in text


@pytest.mark.parametrize(
    "installer", ["requirements/install.sh", "Dockerfile", "deploy/lambda/package.sh"]
)
def test_only_what_is_locked_is_looked_for(installer: str) -> None:
    """Or a newer release of a package that another one wants as `name[extra]` stops pip."""
    text = (ROOT / installer).read_text()
    assert 0 < text.count("--require-hashes") == text.count("--require-hashes --no-deps")
