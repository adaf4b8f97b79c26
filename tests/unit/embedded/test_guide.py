"""Claims about the text that the demo prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from proxy.embedded.guide import PASTE, Addresses, guide

ADDRESSES = Addresses(data="127.0.0.1:8111", ops="127.0.0.1:8112", region="eu-north-1")


def test_guide_names_every_address() -> None:
    """The text says where SDKs connect and where metrics and readiness are."""
    text = guide(ADDRESSES, has_table=True)
    assert "AWS_ENDPOINT_URL_DYNAMODB=http://127.0.0.1:8111" in text
    assert "AWS_DEFAULT_REGION=eu-north-1" in text
    assert "http://127.0.0.1:8112/metrics" in text
    assert "http://127.0.0.1:8112/readyz" in text


def test_lines_to_paste_are_a_valid_script() -> None:
    """What follows the invitation to paste is correct shell, heredoc included."""
    script = guide(ADDRESSES, has_table=True).partition(PASTE)[2]
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    program = script.partition("<<'EOF'\n")[2].partition("EOF\n")[0]
    compile(program, "pasted", "exec")


def test_guide_without_table_has_nothing_to_paste_for_it() -> None:
    """At an endpoint that is not ours the text only says how to point an SDK at the proxy."""
    text = guide(ADDRESSES, has_table=False)
    assert "demo-products" not in text
    assert "AWS_ENDPOINT_URL_DYNAMODB=http://127.0.0.1:8111" in text


def test_programs_are_named_shortly_where_possible(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Programs below the current folder are named relative to it, others in full."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    monkeypatch.chdir(tmp_path)
    assert "\n.venv/bin/python - <<" in guide(ADDRESSES, has_table=True)
    monkeypatch.chdir("/")
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    assert "\nusr/bin/python - <<" in guide(ADDRESSES, has_table=True)
    monkeypatch.chdir(tmp_path)
    assert "\n/usr/bin/python - <<" in guide(ADDRESSES, has_table=True)
