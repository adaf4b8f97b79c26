"""The benchmark of layouts still runs, and its result has the shape that documents rely on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.layouts import QUESTIONS, SHAPES, WAYS, Shape, body_of, main

RESULT = Path(__file__).parent / "results" / "layouts.json"


@pytest.mark.store
def test_a_tiny_run_writes_every_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each way answers each question; the file says where and with what it was measured."""
    out = tmp_path / "result.json"
    main(["--out", str(out), "--reads", "2", "--rounds", "1", "--shapes", "1"])
    result = json.loads(out.read_text())
    cells = result["cells"]
    assert {(cell["question"], cell["way"]) for cell in cells} == {
        (question, way) for question in QUESTIONS for way in WAYS
    }
    assert all(cell["store_bytes"] > 0 for cell in cells)
    assert len(capsys.readouterr().out.splitlines()) == len(cells) + 1
    kept = json.loads(RESULT.read_text())
    assert result.keys() == kept.keys()
    assert result["versions"].keys() == kept["versions"].keys()
    assert {tuple(cell) for cell in cells} == {tuple(cell) for cell in kept["cells"]}
    assert len(kept["cells"]) == len(SHAPES) * len(QUESTIONS) * len(WAYS)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_item_has_the_shape_it_is_named_after(shape: Shape) -> None:
    """Sizes are near enough for what is said about them."""
    body = body_of(shape)
    assert len(json.loads(body)["Item"]) == shape.attributes
    assert 0.9 < len(body) / shape.body_bytes < 1.1
