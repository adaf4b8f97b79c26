"""The count of what levels cost still runs, and its result has the shape that documents rely on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.bench.levels import WAYS, commands, main, read_units, requests
from tests.fakes.fake_upstream_script import Received

RESULT = Path(__file__).parent / "results" / "levels.json"
REQUESTS = {name for name, _, _ in requests("any")}


def costs(cells: Iterable[dict[str, Any]], request: str) -> set[tuple[int, int, float]]:
    """Return round trips, upstream requests and read units of one request, in all ways."""
    found = [cell for cell in cells if cell["request"] == request]
    return {(cell["round_trips"], cell["upstream"], cell["read_units"]) for cell in found}


@pytest.mark.store
def test_a_tiny_run_counts_every_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A hit is one round trip and nothing else; the file says where and with what it was made."""
    out = tmp_path / "result.json"
    main(["--out", str(out), "--samples", "1", "--ways", "1"])
    result = json.loads(out.read_text())
    cells = result["cells"]
    assert {cell["request"] for cell in cells} == REQUESTS
    for hit in ("GetItem, hit", "BatchGetItem of 25, hits", "Query, hit"):
        assert costs(cells, hit) == {(1, 0, 0.0)}
    assert len(capsys.readouterr().out.splitlines()) == len(cells) + 1
    kept = json.loads(RESULT.read_text())
    assert result.keys() == kept.keys()
    assert result["versions"].keys() == kept["versions"].keys()
    assert {tuple(cell) for cell in cells} == {tuple(cell) for cell in kept["cells"]}
    assert {(cell["level"], cell["write_mode"]) for cell in kept["cells"]} == set(WAYS)
    assert len(kept["cells"]) == len(WAYS) * len(REQUESTS)


def test_commands_are_counted_across_pieces() -> None:
    """A command may begin in one piece and end in the next."""
    one = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n"
    assert commands([]) == 0
    assert commands([one * 3]) == 3
    assert commands([one + one[:9], one[9:] + one]) == 3


@pytest.mark.parametrize(
    ("operation", "body", "units"),
    [
        ("GetItem", {"ConsistentRead": True}, 1.0),
        ("GetItem", {}, 0.5),
        ("Query", {"ConsistentRead": False}, 0.5),
        ("BatchGetItem", {"RequestItems": {"t": {"Keys": [1, 2], "ConsistentRead": True}}}, 2.0),
        ("PutItem", {}, 0.0),
        ("DescribeTable", {}, 0.0),
    ],
)
def test_read_units_are_those_of_small_items(
    operation: str, body: dict[str, Any], units: float
) -> None:
    """One for a consistent read of up to 4 KB, half of it for another."""
    received = Received(operation, "POST", "/", (), json.dumps(body).encode(), 0)
    assert read_units(received) == units
