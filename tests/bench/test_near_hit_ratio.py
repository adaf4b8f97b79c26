"""The measurement of the near cache still runs, and its result says what documents rely on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.near_hit_ratio import CACHES, GROWTH_BYTES, main, polluted, zipf

RESULT = Path(__file__).parent / "results" / "near_hit_ratio.json"


def test_a_tiny_run_measures_every_cache(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file says where and with what it was made, and has the kept one's shape."""
    out = tmp_path / "result.json"
    tiny = ["--items", "2000", "--length", "20000", "--rooms", "200", "--budget", "2000000"]
    main(["--out", str(out), *tiny])
    result, kept = json.loads(out.read_text()), json.loads(RESULT.read_text())
    assert result.keys() == kept.keys()
    assert result["versions"].keys() == kept["versions"].keys()
    assert {tuple(cell) for cell in result["cells"]} == {tuple(cell) for cell in kept["cells"]}
    assert [cell["cache"] for cell in result["cells"]] == [*CACHES, *CACHES]
    assert result["growth"].keys() == {str(size) for size in GROWTH_BYTES}
    assert len(capsys.readouterr().out.splitlines()) == len(result["cells"]) + 1


def test_the_kept_result_meets_its_targets() -> None:
    """95 % of W-TinyLFU's hits at least; a process that grows by 115 % of the budget at most."""
    kept = json.loads(RESULT.read_text())
    ours = [cell["of_theine"] for cell in kept["cells"] if cell["cache"] == "near"]
    assert len(ours) == 4
    assert min(ours) >= 0.95
    assert max(kept["growth"].values()) <= 1.15
    assert kept["steps_ns"]["hit"] <= 1000


def test_scans_are_of_items_that_are_asked_for_once() -> None:
    """The trace is Zipf's, with strangers in between."""
    trace = polluted(100, 70_000)
    asked = [number for number in trace if number < 100]
    strangers = [number for number in trace if number >= 100]
    assert asked == zipf(100, 70_000)[: len(asked)]
    assert len(set(strangers)) == len(strangers) == 20_000
