"""The benchmark of lanes still runs, and its result has the shape that documents rely on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.lanes import AT_ONCE, main

RESULT = Path(__file__).parent / "results" / "lanes.json"


@pytest.mark.store
def test_a_tiny_run_measures_every_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Either lane, bare and as a lookup; the file says where and with what it was measured."""
    out = tmp_path / "result.json"
    main(["--out", str(out), "--reads", str(AT_ONCE), "--rounds", "1"])
    result, kept = json.loads(out.read_text()), json.loads(RESULT.read_text())
    assert all(each > 0 for each in result["cpu_us"].values())
    assert len(capsys.readouterr().out.splitlines()) == len(result["cpu_us"]) + 2
    assert result.keys() == kept.keys()
    assert result["versions"].keys() == kept["versions"].keys()
    assert result["cpu_us"].keys() == kept["cpu_us"].keys()
