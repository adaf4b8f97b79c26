"""The measurement of the way to DynamoDB still runs, and its result has the shape told of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.upstream import BOTOCORE, WAYS, main

RESULT = Path(__file__).parent / "results" / "upstream.json"


@pytest.mark.store
def test_a_tiny_run_measures_every_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each way answers; the file says where and with what it was made."""
    out = tmp_path / "result.json"
    main(["--out", str(out), "--reads", "16", "--rounds", "1"])
    result = json.loads(out.read_text())
    assert [cell["way"] for cell in result["cells"]] == list(WAYS)
    assert len(capsys.readouterr().out.splitlines()) == len(WAYS) + 1
    kept = json.loads(RESULT.read_text())
    assert result.keys() == kept.keys()
    assert result["versions"].keys() == kept["versions"].keys()
    assert result["start"].keys() == kept["start"].keys()
    assert {tuple(cell) for cell in result["cells"]} == {tuple(cell) for cell in kept["cells"]}
    assert [cell["way"] for cell in kept["cells"]] == list(WAYS)
    ratios = {cell["way"]: cell["botocore_ratio"] for cell in kept["cells"]}
    assert ratios[BOTOCORE] == 1.0
