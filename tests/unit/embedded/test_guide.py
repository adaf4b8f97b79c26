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


def test_sdks_are_told_to_use_no_http_proxy() -> None:
    """With or without a table, the exports keep SDKs from asking a proxy for this machine."""
    for has_table in (True, False):
        text = guide(ADDRESSES, has_table=has_table)
        assert "export NO_PROXY=127.0.0.1,localhost no_proxy=127.0.0.1,localhost" in text


def test_programs_are_named_in_full_and_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines work in any folder, and with an interpreter whose path has spaces."""
    monkeypatch.setattr(sys, "executable", "/my clone/.venv/bin/python")
    text = guide(ADDRESSES, has_table=True)
    assert "'/my clone/.venv/bin/python' -m awscli dynamodb" in text
    assert "\n'/my clone/.venv/bin/python' - <<'EOF'" in text


def test_read_without_cache_status_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A pasted read that gets no answer prints the last words of the aws CLI."""
    cli = tmp_path / "a python"
    cli.write_text("#!/bin/sh\necho first\necho out of order\n")
    cli.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(cli))
    script = guide(ADDRESSES, has_table=True).partition(PASTE)[2].partition("# boto3")[0]
    pasted = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert pasted.stdout == "no answer: out of order\n" * 2
    assert pasted.stderr == ""
