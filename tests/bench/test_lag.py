"""The measurement of what large items do to small ones still runs; its result keeps its shape."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.lag import CASES, main, share

RESULT = Path(__file__).parent / "results" / "lag.json"


@pytest.mark.store
@pytest.mark.parametrize("case", ["near hits", "small values", "in a batch"])
def test_a_tiny_run_measures_a_case(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Large answers came whole beside small ones; the file says where and with what."""
    out = tmp_path / "result.json"
    main(["--out", str(out), "--seconds", "0.5", "--cases", case])
    result = json.loads(out.read_text())
    kept = json.loads(RESULT.read_text())
    assert result.keys() == kept.keys()
    assert result["versions"].keys() == kept["versions"].keys()
    (cell,) = result["cases"]
    assert cell.keys() == kept["cases"][0].keys()
    assert cell["large_bytes"] > 300_000
    assert cell["large_per_s"] > 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_the_kept_result_has_every_case() -> None:
    """In their order."""
    kept = json.loads(RESULT.read_text())
    assert [cell["case"] for cell in kept["cases"]] == [case.name for case in CASES]


def test_a_share_of_the_values_lies_below() -> None:
    """The largest of them for all of it."""
    assert share([3.0, 1.0, 2.0], 0.5) == 2
    assert share([3.0, 1.0, 2.0], 1) == 3
