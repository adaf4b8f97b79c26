"""The measurement of the fast door still runs, and its result has the shape that is relied on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxy.core.head_layout import HeadLayout
from proxy.core.request_head import read_head
from tests.bench import door
from tests.bench.door import DOOR, LONG, NGINX, VARIANTS, has, lua_text, main, missing, requests
from tests.support.tools import missing as skip_for

RESULT = Path(__file__).parent / "results" / "door.json"


def test_a_tiny_run_tells_ratios(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every variant that can run has its ratio, every tool that is missing its name."""
    if not has("wrk"):
        skip_for("wrk", install="Debian and Ubuntu: apt install wrk")
    out = tmp_path / "result.json"
    main(["--out", str(out), "--rounds", "1", "--seconds", "1", "--keys", "10"])
    result, kept = json.loads(out.read_text()), json.loads(RESULT.read_text())
    assert result.keys() == kept.keys()
    ratios = result["cpu_per_request_to_floor"]
    assert set(ratios) == set(VARIANTS) - ({NGINX} if result["missing"] else set())
    assert set(kept["cpu_per_request_to_floor"]) == set(VARIANTS)
    told = capsys.readouterr().out
    assert all(name in told for name in ratios)


def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any tool nothing is measured, and the result says why."""
    monkeypatch.setattr(door, "has", lambda _: False)
    result = door.run(door.Load(1, 1, 1, 1), rounds=1)
    assert result["cpu_per_request_to_floor"] == {}
    assert result["missing"] == missing() == ["wrk (Debian: wrk)", "nginx (Debian: nginx)"]


def test_requests_are_what_they_claim_to_be() -> None:
    """Alike, all fit the layout of the first; unlike, not even the next one does."""
    for alike in (True, False):
        first, *others = requests(3, alike=alike)
        head = read_head(first)
        assert head is not None
        assert head.is_plain_get
        layout = HeadLayout(head)
        assert {layout.fits(other) for other in others} == {alike}


def test_lua_reads_the_same_bytes() -> None:
    """Quotes, backslashes and line ends are spelled by number."""
    assert lua_text(b'a"\\\r\n') == "a\\034\\092\\013\\010"


def test_ways_have_names() -> None:
    """The result speaks of the door and of the way around it."""
    assert {DOOR, LONG} < set(VARIANTS)
