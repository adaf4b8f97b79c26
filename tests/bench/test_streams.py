"""The benchmark of streams still runs, and its result has the shape that documents rely on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxy.embedded.dynamodb import ministack_python
from tests.bench.streams import main
from tests.support.tools import missing

RESULT = Path(__file__).parent / "results" / "streams.json"


@pytest.mark.store
@pytest.mark.engine
def test_a_tiny_run_measures_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each result of a record, each pace; the file says where and with what it was measured."""
    if ministack_python() is None:
        missing(".venv-dynamodb", install="make setup")
    out = tmp_path / "result.json"
    main(["--out", str(out), "--rounds", "1", "--writes", "2"])
    result, kept = json.loads(out.read_text()), json.loads(RESULT.read_text())
    assert len(capsys.readouterr().out.splitlines()) == 5
    assert result.keys() == kept.keys()
    for name in ("applied", "until_fresh_by_idle_poll_s"):
        assert result[name].keys() == kept[name].keys()
        assert all(each > 0 for figures in result[name].values() for each in figures.values())
