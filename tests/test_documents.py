"""Documents are tested: every name they use exists, every table they print is the code's own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proxy.core.catalogue import operations_document
from proxy.core.values import (
    AuditResult,
    BypassReason,
    FenceResult,
    Layout,
    Level,
    Mode,
    ShadowResult,
    WriteMode,
)
from proxy.settings import load_settings, setting_names, settings_table
from proxy.version import VERSION

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
DOCUMENTS = {"README.md": README, "ARCHITECTURE.md": ARCHITECTURE, "CHANGELOG.md": CHANGELOG}


def test_readme_shows_the_settings_of_the_code() -> None:
    """The table in README is exactly the one that the settings' model renders."""
    shown = README.partition("`python -m proxy.configuration table` -->\n")[2]
    shown = shown.partition("<!-- end of settings -->")[0]
    assert shown.strip() == settings_table().strip()


def test_document_of_operations_is_the_codes_own() -> None:
    """docs/operations.md is exactly what the catalogue renders."""
    assert (ROOT / "docs" / "operations.md").read_text() == operations_document()


@pytest.mark.parametrize("name", setting_names())
def test_setting_is_documented(name: str) -> None:
    """Each setting stands in README."""
    assert f"`{name}`" in README


WORDS = {*BypassReason, *Layout, *Level, *WriteMode, *Mode, *AuditResult, *ShadowResult}


@pytest.mark.parametrize("word", sorted(WORDS))
def test_word_of_an_enum_is_documented(word: str) -> None:
    """Each reason, level and mode that users meet stands in README."""
    assert f"`{word}`" in README


@pytest.mark.parametrize("result", list(FenceResult))
def test_effect_of_a_write_is_documented(result: FenceResult) -> None:
    """Each word that Cache-Status may say of a write stands in README."""
    assert f"`{result}`" in README or f"write-{result}" in README


@pytest.mark.parametrize("document", DOCUMENTS)
def test_paths_named_in_a_document_exist(document: str) -> None:
    """Every path of this repository that a document names is there."""
    named = re.findall(
        r"`((?:proxy|tests|config|deploy|docs|requirements)(?:/[\w.\-]+)+)`", DOCUMENTS[document]
    )
    linked = re.findall(r"\]\(([\w./\-]+)\)", DOCUMENTS[document])
    missing = [path for path in [*named, *linked] if not (ROOT / path).exists()]
    assert not missing


def test_metrics_named_in_architecture_exist() -> None:
    """Every metric in the failure matrix is one that the proxy exposes."""
    source = "".join(path.read_text() for path in (ROOT / "proxy" / "edge").glob("*metrics.py"))
    named = set(re.findall(r"dynaside_[a-z_]+", ARCHITECTURE))
    missing = {
        name
        for name in named
        if name.removeprefix("dynaside_").removesuffix("_total") not in source
    }
    assert not missing


def test_make_targets_named_in_readme_exist() -> None:
    """Every `make` target in README is one of the Makefile's."""
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"make ([a-z-]+)", README)) - {"sure"}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_changelog_knows_this_version_or_has_unreleased_changes() -> None:
    """A version is released with its changes written down."""
    assert "## [Unreleased]" in CHANGELOG or f"## [{VERSION}]" in CHANGELOG


def test_every_guarantee_names_its_checker() -> None:
    """Each row G1… of ARCHITECTURE.md names a test that exists."""
    rows = re.findall(r"^\| (G\d+) \|.*\| ([^|]+) \|$", ARCHITECTURE, re.MULTILINE)
    assert [row[0] for row in rows] == [f"G{number}" for number in range(1, len(rows) + 1)]
    for _, checkers in rows:
        assert re.findall(r"`tests/[\w./]+`", checkers)


def test_settings_shown_in_readme_are_valid(tmp_path: Path) -> None:
    """What a newcomer copies from README loads."""
    shown = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert shown
    file = tmp_path / "dynaside.yaml"
    for text in shown:
        file.write_text(text)
        assert load_settings(config_path=file, environ={}).store.is_named
