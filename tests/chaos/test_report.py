"""The report: counts per fault and guarantee, the same in text and JSON."""

from __future__ import annotations

import json
from collections import Counter

from tests.chaos.judge import Violation
from tests.chaos.report import Report, Round


def report() -> Report:
    bad = Violation("G1", "read 7 showed ''", ("line of call 7",))
    excused = Violation("G1", "read 8 showed ''", (), "write 3 took effect 9.0 s after")
    rounds = [
        Round("everything", {"G1": "…"}, Counter({"store stopped": 2}), ["12.0 broken"], 100),
        Round("everything", {"G1": "…"}, Counter({"store stopped": 1, "proxy killed": 1}), [], 50),
        Round("forgetful", {"G4": "…"}, Counter({"proxy killed": 1}), [], 7),
    ]
    rounds[1].violations = [bad, excused]
    return Report({"seed": 5, "topology": "cluster", "settings": {"a": 1}}, rounds)


def test_rows_count_histories_reads_and_violations_of_each_fault() -> None:
    """A guarantee is counted only where it was claimed, and excused violations are not."""
    table = {row["fault"]: row for row in json.loads(report().as_json())["table"]}
    assert table["store stopped"] | {"G1": "1/2", "G4": "–"} == table["store stopped"]
    assert table["store stopped"] | {"times": "3", "reads": "150"} == table["store stopped"]
    assert table["proxy killed"] | {"G1": "1/1", "G4": "0/1"} == table["proxy killed"]
    assert table["all"] | {"histories": "3", "reads": "157"} == table["all"]
    assert {row["topology"] for row in table.values()} == {"cluster"}


def test_hits_of_all_rounds_are_counted() -> None:
    """Fresh, negative and stale ones: without any, nothing of the cache was tried."""
    tried = report()
    assert tried.hits == 0
    tried.rounds[0].outcomes = Counter({"read hit": 2, "read hit detail=negative": 1})
    near = {"read hit detail=near": 4, "read hit detail=near-negative": 1}
    tried.rounds[2].outcomes = Counter({"read fwd=miss": 4, "read hit": 3, "write": 1, **near})
    assert (tried.hits, tried.near_hits) == (11, 5)


def test_text_shows_a_violation_with_its_history_and_the_seed() -> None:
    """Whoever reads it can look for the reason and run the same faults again."""
    text = report().text()
    assert "violations: 1, excused: 1" in text
    assert "line of call 7" in text
    assert "seed 5: the same faults" in text
    assert "read 8" not in text


def test_json_has_every_round_with_its_violations() -> None:
    """Excused ones too, with the reason."""
    rounds = json.loads(report().as_json())["rounds"]
    assert rounds[0]["struck"] == {"store stopped": 2}
    assert rounds[1]["violations"][1]["excused"].startswith("write 3")
